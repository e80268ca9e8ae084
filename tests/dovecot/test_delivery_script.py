"""The conversation with Sieve's filter: what Dovecot sends, and what an enemy might."""

from __future__ import annotations

import contextlib
import io
import socket
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dovecot.opening import Keys, parts
from envelopes import BOB, ENTITY, encrypt, mail, person
from mailsigil.dovecot.filter import DeliveryFilter
from mailsigil.dovecot.script import Mailbox, ScriptError, read_mailbox, read_received
from mailsigil.message.spool import Spool
from mailsigil.process.callers import Callers

HEAD = (
    b"VERSION\tscript\t4\t0\nenv_USER=Bob@bank.example\nenv_HOME=/home/bob\nenv_SENDER=evil@x.example\n"
    b"env_RECIPIENT=sales@bank.example\nenv_ORIG_RECIPIENT=ceo@bank.example\n-\n"
)
MAIL = b"From: a@b.example\r\nSubject: x\r\n\r\nbody\r\n"


def test_dovecot_says_for_whom_it_is() -> None:
    stream = io.BufferedReader(io.BytesIO(HEAD + b"an argument\n\n" + MAIL))  # type: ignore[arg-type]
    mailbox = read_mailbox(stream)
    assert mailbox == Mailbox("Bob@bank.example", "sales@bank.example", "evil@x.example")
    # The original recipient is the sender's choice, and so none that is decrypted for.
    assert mailbox.addresses == ("bob@bank.example", "sales@bank.example")
    received = read_received(stream, Spool(), max_bytes=1000)
    assert received.head + b"".join(received.body.chunks()) == MAIL
    assert received.damage == ""


BAD = {
    "empty": b"",
    "http": b"GET / HTTP/1.1\r\n\r\n",
    "another-protocol": b"VERSION\tdoveadm-server\t1\t0\n-\n\n",
    "another-version": b"VERSION\tscript\t9\t0\n-\n\n",
    "no-end-of-line": b"VERSION\tscript\t4\t0",
    "long-line": b"VERSION\tscript\t4\t0\nenv_USER=" + b"x" * 100_000 + b"\n-\n\n",
    "many-lines": b"VERSION\tscript\t4\t0\n" + b"env_A=b\n" * 1000 + b"-\n\n",
    "many-arguments": b"VERSION\tscript\t4\t0\n-\n" + b"x\n" * 1000 + b"\n",
    "cut-off": b"VERSION\tscript\t4\t0\nenv_USER=bob\n-\n",
    "no-answer-wanted": b"VERSION\tscript\t4\t0\nnoreply\n\n",
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_request(name: str) -> None:
    with pytest.raises(ScriptError):
        read_mailbox(io.BytesIO(BAD[name]))


def test_escapes_are_undone_and_end_no_line() -> None:
    stream = io.BytesIO(b"VERSION\tscript\t4\t0\nenv_USER=a\x01nenv_USER=b\x01tc\x01\n-\n\n")
    assert read_mailbox(stream).user == "a\nenv_USER=b\tc"


def test_the_first_value_of_a_name_counts() -> None:
    stream = io.BytesIO(b"VERSION\tscript\t4\t0\nenv_USER=a@b.c\nenv_USER=ceo@b.c\n-\n\n")
    assert read_mailbox(stream).addresses == ("a@b.c",)


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_noise_is_refused_or_read(data: bytes) -> None:
    for stream in (io.BytesIO(data), io.BytesIO(HEAD + data)):
        with contextlib.suppress(ScriptError):
            read_mailbox(stream)
            read_received(stream, Spool(), max_bytes=100)  # type: ignore[arg-type]


def test_bounds_of_the_message() -> None:
    for message in (b"X: y\r\n" * 200_000, MAIL + b"x" * 10_000):
        stream = io.BufferedReader(io.BytesIO(message))  # type: ignore[arg-type]
        with pytest.raises(ScriptError):
            read_received(stream, Spool(), max_bytes=5000)


@contextlib.contextmanager
def serving(folder: Path, delivery: DeliveryFilter, **more: object):  # type: ignore[no-untyped-def]
    path = folder / "s"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    given = {"allowed_uids": {0, 1000, *range(70_000)}, "connections": 4} | more
    service = Callers("delivery", listener, lambda connected, _: delivery.converse(connected), **given)  # type: ignore[arg-type]
    service.start()
    try:
        yield path
    finally:
        service.stop()
        listener.close()


def ask(path: Path, request: bytes, *, end: bool = True) -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(str(path))
        client.sendall(request)
        if end:
            client.shutdown(socket.SHUT_WR)
        answer = b""
        while data := client.recv(65_536):
            answer += data
        return answer


def told(word: str, message: bytes) -> bytes:
    """A message that goes back as it came."""
    return b"Mailsigil-Decryption: %b\r\n%b+\n" % (word.encode(), message)


def test_the_answers(tmp_path: Path) -> None:
    keys = Keys(tmp_path, person("rsa"))
    delivery = DeliveryFilter(parts(keys), max_bytes=1_000_000)
    request = HEAD.replace(b"Bob@bank.example", BOB.encode()) + b"\n"
    cms = encrypt(ENTITY, (person("rsa"),), tmp_path, cipher="-aes-256-gcm")
    with serving(tmp_path, delivery) as path:
        opened = ask(path, request + mail(cms))
        assert opened.endswith(b"The code of the vault is 1234.\r\n+\n")
        assert opened.startswith(b"Mailsigil-Decryption: decrypted\r\nAuthentication-Results: ")
        # Unchanged, octet by octet.
        for untouched in (MAIL, MAIL + b"no line end", b"\r\nno header", b"no field\r\n" + MAIL, b""):
            answer = ask(path, request + untouched)
            assert answer in (told("kept", untouched), told("closed", untouched))
        assert ask(path, request + MAIL) == told("kept", MAIL)
        # It cannot be opened; it was, but stays closed; nobody could try.
        altered = mail(cms[:-1] + bytes([cms[-1] ^ 1]))
        assert ask(path, request + altered) == told("closed", altered)
        html = b"Content-Type: text/html\r\n\r\n<p>hi</p>\r\n"
        alterable = mail(encrypt(html, (person("rsa"),), tmp_path, cipher="-aes-256-cbc"))
        assert ask(path, request + alterable) == told("withheld", alterable)
        keys.away = True
        assert ask(path, request + mail(cms)) == told("unavailable", mail(cms))
        # No request, or too much.
        assert ask(path, b"GET / HTTP/1.1\r\n\r\n") == b"-\n"
        assert ask(path, request + MAIL + b"x" * 2_000_000) == b"-\n"


def test_an_unexpected_error_leaves_the_mail_as_it_came(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(address: str) -> None:
        raise RuntimeError("a mistake of ours")

    delivery = DeliveryFilter(parts(Keys(tmp_path), choice=broken), max_bytes=1_000_000)
    with serving(tmp_path, delivery) as path:
        assert ask(path, HEAD + b"\n" + MAIL) == b"-\n"
    assert "unexpected RuntimeError" in caplog.text


def test_who_may_not_ask_gets_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    delivery = DeliveryFilter(parts(Keys(tmp_path)), max_bytes=1000)
    gone = contextlib.suppress(BrokenPipeError, ConnectionResetError)
    with serving(tmp_path, delivery, allowed_uids={4242}) as path, gone:
        assert ask(path, HEAD + b"\n" + MAIL) == b""
    end = time.monotonic() + 10
    while "may not ask" not in caplog.text:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_slow_caller_keeps_nobody_waiting_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailsigil.dovecot.filter.IO_SECONDS", 0.2)
    delivery = DeliveryFilter(parts(Keys(tmp_path)), max_bytes=1000)
    with serving(tmp_path, delivery, connections=1) as path:
        answers: list[bytes] = []
        slow = threading.Thread(target=lambda: answers.append(ask(path, HEAD[:20], end=False)))
        slow.start()
        time.sleep(0.05)
        assert ask(path, HEAD + b"\n" + MAIL) == told("kept", MAIL)
        slow.join(20)
        assert answers == [b""]


def test_the_log_tells_what_happened_and_nothing_of_the_content(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "mailsigil")
    keys = Keys(tmp_path, person("rsa"))
    cms = encrypt(ENTITY, (person("rsa"),), tmp_path, cipher="-aes-256-gcm")
    delivery = DeliveryFilter(parts(keys), max_bytes=1_000_000)
    request = HEAD.replace(b"Bob@bank.example", BOB.encode()) + b"\n"
    with serving(tmp_path, delivery) as path:
        ask(path, request + mail(cms))
        ask(path, request.replace(BOB.encode(), b"bob@bank.example x=\x01n\xff") + mail(cms))
    assert f"decrypted user={BOB} message-id=<1@bank.example> reason=aes-gcm smime=none" in caplog.text
    assert (
        f"unwrapped key={keys.desk.find(BOB)[0].key_id} address={BOB} peer_uid=0 scheme=rsa-pkcs1"
        in caplog.text
    )
    assert "user=bob@bank.example_x=_" in caplog.text
    assert "vault" not in caplog.text
