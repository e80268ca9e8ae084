"""The same with a real private Postfix: what it does with our edits, and load while workers come and go."""

from __future__ import annotations

import os
import shutil
import smtplib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mailsigil.demo.postfix import Listener, Postfix
from mailsigil.demo.programs import free_port, require, run
from mailsigil.demo.sink import Sink
from wire.conftest import Service
from wire.report import read_report

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a private Postfix"),
    pytest.mark.skipif(not Path("/usr/sbin/postfix").exists(), reason="Postfix is not installed"),
]


@dataclass
class Chain:
    """Postfix with the echo service as its milter, and where its mail arrives."""

    service: Service
    postfix: Postfix
    sink: Sink
    port: int

    def send(self, session: smtplib.SMTP, message: bytes) -> bytes:
        """One mail in, and what came out."""
        before = len(self.sink.deliveries)
        session.sendmail("alice@bank.example", ["bob@shop.example"], message)
        return self.sink.wait_for(before + 1)[-1].content

    def session(self) -> smtplib.SMTP:
        return smtplib.SMTP("127.0.0.1", self.port, local_hostname="me.example", timeout=30)


@pytest.fixture(scope="module")
def chain() -> Iterator[Chain]:
    # Not pytest's folder: Postfix's own user has to reach the socket.
    folder = Path(tempfile.mkdtemp(prefix="mailsigil-wire-"))
    folder.chmod(0o755)
    service = Service(folder, workers=2, recycle_after=10, socket_mode=0o666)
    try:
        service.wait_for(service.answers, "the service")
        port = free_port()
        listener = Listener(port=port, name="inbound", milters=(f"unix:{service.address}",))
        with Sink() as sink:
            (folder / "postfix").mkdir()
            with Postfix(folder / "postfix", (listener,), next_hop=f"127.0.0.1:{sink.port}") as postfix:
                yield Chain(service, postfix, sink, port)
    finally:
        service.close()
        shutil.rmtree(folder)


HEADER = b"From: alice@bank.example\r\nDate: Sun, 22 Nov 2026 02:15:16 +0000\r\nMessage-ID: <a@b>\r\n"


def test_inserted_fields_are_above_all_others_and_the_rest_keeps_its_bytes(chain: Chain) -> None:
    odd = b"SUBJECT:\t  tight \r\n\tfolded\r\n  twice\r\n"
    long = b"X-Long: " + b"x" * 50_000 + b"\r\n"
    orders = b"X-Do: insert\r\nX-Do: append\r\n"
    with chain.session() as session:
        out = chain.send(session, HEADER + odd + orders + long + b"\r\nbody\r\n")
    head, _, body = out.partition(b"\r\n\r\n")
    report, _, rest = head.partition(b"\r\nX-First:")
    assert rest.startswith(b" one\r\n two\r\nX-Second: 2\r\nReceived: from me.example")
    assert b"\r\n" + HEADER + odd + orders + b"X-Long: xxx" in rest
    assert rest.endswith(b"\r\nX-Last: last")
    assert body == b"body\r\n"
    # What the milter saw is what was sent. (Postfix folds the long lines on their way out.)
    seen = read_report(report.removeprefix(b"X-Report: "))
    assert seen.headers == HEADER + odd + orders + long


def test_deleting_and_changing_count_as_before_any_edit(chain: Chain) -> None:
    fields = b"X-A: 1\r\nX-B: 1\r\nx-a: 2\r\nX-A: 3\r\nX-A: 4\r\n"
    orders = b"X-Do: delete X-A 1\r\nX-Do: delete X-A 3\r\nX-Do: change X-A 2 two\r\n"
    with chain.session() as session:
        out = chain.send(session, HEADER + fields + orders + b"\r\nbody\r\n")
    assert b"X-B: 1\r\nX-A: two\r\nX-A: 4\r\nX-Do:" in out


@pytest.mark.parametrize(
    ("order", "body"),
    [pytest.param(b"empty-body", b"", id="empty"), pytest.param(b"echo-body", b"a\r\n..b\r\n", id="same")],
)
def test_body_is_replaced(chain: Chain, order: bytes, body: bytes) -> None:
    with chain.session() as session:
        out = chain.send(session, HEADER + b"X-Do: " + order + b"\r\n\r\na\r\n..b\r\n")
    assert out.partition(b"\r\n\r\n")[2] == body


def test_refusal_reaches_the_client(chain: Chain) -> None:
    with chain.session() as session, pytest.raises(smtplib.SMTPDataError) as refusal:
        chain.send(session, HEADER + b"X-Do: outcome REFUSE_SENDER\r\n\r\nbody\r\n")
    assert refusal.value.smtp_code == 550
    assert refusal.value.smtp_error == b"5.7.1 Sender is not allowed to send as this author"


def test_open_session_outlives_reload_and_retirement(chain: Chain) -> None:
    with chain.session() as session:
        first = chain.send(session, HEADER + b"\r\none\r\n")
        chain.service.reload()
        for pid in chain.service.workers():
            os.kill(pid, 15)
        assert first.endswith(b"one\r\n")
        chain.service.wait_for(lambda: "another takes its place" in chain.service.log(), "retirement")
        assert chain.send(session, HEADER + b"\r\ntwo\r\n").endswith(b"two\r\n")


def test_load_while_workers_are_recycled_and_reloaded_loses_nothing(chain: Chain) -> None:
    source = require("smtp-source", package="postfix")
    before = len(chain.sink.deliveries)
    for _ in range(3):
        # Ends with an error as soon as one mail is answered with 4xx or 5xx.
        load = ["-s", "4", "-m", "60", "-l", "2000", "-f", "a@b.example", "-t", "c@d.example"]
        run([source, *load, "-d", f"127.0.0.1:{chain.port}"])
        chain.service.reload()
    chain.sink.wait_for(before + 180)
    assert "ended by" not in chain.service.log()
