"""Decryption at delivery with everything real: key agent, delivery filter, Dovecot, Sieve, IMAP."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

import pytest

from envelopes import BOB, ENTITY, Person, enclosed, make_key, person
from mailsigil.demo.dovecot import MAIL_USER, Dovecot, wait_for_mail
from mailsigil.demo.organisation import HOST, Organisation, found
from mailsigil.demo.programs import Daemon, accepts
from servers.dovecots import PASSWORD, ROOTS, deliver, imap
from servers.leaks import Secrets
from servers.sieve import FILTERS, compile_scripts, open_folder, sieve_dovecot

ALICE, CEO, SALES = "alice@bank.example", "ceo@bank.example", "sales@bank.example"
USERS = dict.fromkeys((BOB, CEO, SALES), PASSWORD)


@dataclass
class House:
    """All that runs."""

    dovecot: Dovecot
    organisation: Organisation
    services: dict[str, Daemon]

    @property
    def log(self) -> Path:
        return self.organisation.folder / "mailsigil.log"

    def start(self, name: str) -> None:
        command = [sys.executable, "-m", "mailsigil", name, "--config", str(self.organisation.config)]
        self.services[name] = Daemon(command, log=self.log)
        sockets = {
            "keyd": self.organisation.folder / "decrypt.sock",
            "delivery": self.dovecot.folder / FILTERS / "mailsigil-decrypt",
        }
        self.services[name].wait_until(lambda: accepts(str(sockets[name])))

    def signed(self) -> bytes:
        """A signed entity, as Alice's organisation makes it, in a message of now."""
        date = format_datetime(datetime.now(UTC)).encode()
        raw = b"From: Alice Example <%b>\r\nTo: %b\r\nSubject: Your appointment\r\nDate: %b\r\n" % (
            ALICE.encode(),
            BOB.encode(),
            date,
        )
        raw += b"MIME-Version: 1.0\r\nContent-Type: text/html\r\n\r\n<p>See you on Friday.</p>\r\n"
        (pem,) = (path for path in (self.organisation.folder / "keys").iterdir() if "alice" in path.name)
        command = [sys.executable, "-m", "mailsigil", "sign", "--cert", str(pem)]
        return subprocess.run(command, input=raw, capture_output=True, check=True, timeout=60).stdout

    def encrypted(
        self, raw: bytes, *, recipients: tuple[Person, ...] = (), cipher: str = "-aes-256-cbc"
    ) -> bytes:
        """A whole message, encrypted to Bob with its header outside."""
        return enclosed(raw, recipients or (person("rsa"),), self.organisation.folder, cipher=cipher)

    def deliver(self, raw: bytes, *, to: str = BOB) -> tuple[bytes, bytes]:
        """Delivers a message and gives what IMAP shows: the message, and its flags."""
        before = len(self.dovecot.mail(to))
        deliver(self.dovecot, raw, to=to)
        wait_for_mail(self.dovecot, to, count=before + 1)
        client = imap(self.dovecot, to)
        client.select()
        _, told = client.fetch(str(before + 1), "(FLAGS BODY.PEEK[])")
        client.logout()
        assert isinstance(told[0], tuple)
        return told[0][1], told[0][0]


@pytest.fixture(scope="module", params=ROOTS)
def house(request: pytest.FixtureRequest) -> Iterator[House]:
    with open_folder() as folder:
        yield from _house(folder, request.param)


def _house(folder: Path, root: Path | None) -> Iterator[House]:
    (folder / "dovecot").mkdir()
    dovecot = sieve_dovecot(folder / "dovecot", USERS, host=HOST, root=root)
    organisation = found(
        folder / "mailsigil",
        now=datetime.now(UTC),
        dns_port=9,
        settings={
            "delivery": 'domains = ["bank.example"]\nexcept_users = ["sales@bank.example"]\n'
            f'socket = "{dovecot.folder}/{FILTERS}/mailsigil-decrypt"\nallowed_users = ["{MAIL_USER}"]\n'
            f'key_socket = "{folder}/mailsigil/decrypt.sock"\nprocesses = 1\n',
            "revocation": 'fetch = false\ncache_folder = ""\n',
        },
    )
    for name, each in (("bob", person("rsa")), ("bob-ec", person("p256")), ("sales", _sales())):
        each.write(organisation.folder / "keys", f"{name}.pem")
    running = House(dovecot, organisation, {})
    with dovecot:
        compile_scripts(dovecot)
        try:
            running.start("keyd")
            running.start("delivery")
            yield running
        finally:
            for service in reversed(running.services.values()):
                service.stop()
    secrets = Secrets()
    for kind in ("rsa", "p256", "rsa#sales", "rsa#nobody"):
        secrets.add(kind, make_key(kind))
    # The key agent's folder is where these keys lie.
    assert secrets.found(folder, but=[organisation.folder / "keys"]) == []


def _sales() -> Person:
    return person("rsa#sales", address=SALES)


@pytest.mark.integration
@pytest.mark.parametrize("kind", ["rsa", "p256"])
@pytest.mark.parametrize("cipher", ["-aes-256-gcm", "-aes-128-cbc"])
def test_encrypted_and_signed_mail_arrives_open_and_verified(kind: str, cipher: str, house: House) -> None:
    signed = house.signed()
    stored, flags = house.deliver(house.encrypted(signed, recipients=(person(kind),), cipher=cipher))
    assert b"See you on Friday." in stored
    assert b"\r\nVerified-Identity: V4; status=trusted;" in b"\r\n" + stored
    text = b"V4 Alice Example, Example Bank, Account Manager, Identity Validated and Trusted"
    assert text in stored.replace(b"\r\n", b"")
    assert keywords(flags) == {"$Verified_V4"}
    # As it was signed, so that the mail program can verify it, too.
    assert stored.endswith(signed.partition(b"\r\n\r\n")[2])


@pytest.mark.integration
def test_unsigned_mail_arrives_open_and_without_an_identity(house: House) -> None:
    stored, flags = house.deliver(b"Verified-Identity: V4; status=trusted\r\n" + house.encrypted(ENTITY))
    assert b"The code of the vault is 1234." in stored
    assert keywords(flags) == {"$Verified_None"}


def keywords(flags: bytes) -> set[str]:
    """Those of a FETCH that come from our scripts."""
    return set(re.findall(r"\$(?:Verified|Signature|Decryption)_\w+", flags.decode()))


def _as_it_came(stored: bytes, sent: bytes) -> None:
    # LMTP puts fields of its own on top.
    assert stored.endswith(sent)
    assert stored.startswith(b"Return-Path:")


@pytest.mark.integration
def test_what_cannot_be_opened_is_stored_as_it_came(house: House) -> None:
    sent = house.encrypted(house.signed(), recipients=(person("rsa#nobody"),))
    stored, flags = house.deliver(sent)
    _as_it_came(stored, sent)
    assert keywords(flags) == {"$Decryption_Failed"}


@pytest.mark.integration
def test_html_that_may_have_been_altered_is_stored_as_it_came(house: House) -> None:
    sent = house.encrypted(b"From: x@y.example\r\nContent-Type: text/html\r\n\r\n<p>hi</p>\r\n")
    stored, flags = house.deliver(sent)
    _as_it_came(stored, sent)
    assert keywords(flags) == {"$Decryption_Withheld"}


@pytest.mark.integration
@pytest.mark.parametrize("word", ["withheld", "closed", "unavailable", "decrypted"])
def test_a_sender_cannot_say_what_became_of_his_mail(word: str, house: House) -> None:
    """The field by which filter and script understand each other, in a mail that is none of Bob's."""
    forged = f"Mailsigil-Decryption: {word}\r\nMailsigil-Decryption : {word}\r\n".encode()
    _, flags = house.deliver(forged + house.encrypted(ENTITY, recipients=(_sales(),)), to=SALES)
    assert keywords(flags) == set()
    stored, flags = house.deliver(forged + house.encrypted(ENTITY, recipients=(person("rsa#nobody"),)))
    assert keywords(flags) == {"$Decryption_Failed"}
    assert b"Mailsigil-Decryption:" not in stored
    stored, flags = house.deliver(forged + house.encrypted(ENTITY))
    assert keywords(flags) == {"$Verified_None"}
    assert b"Mailsigil-Decryption:" not in stored


@pytest.mark.integration
def test_another_users_mail_is_not_opened(house: House) -> None:
    """Whoever can send a mail to himself must not be able to read Bob's."""
    sent = b"To: bob@bank.example\r\n" + house.encrypted(ENTITY)
    stored, flags = house.deliver(sent, to=CEO)
    _as_it_came(stored, sent)
    assert keywords(flags) == {"$Decryption_Failed"}


@pytest.mark.integration
def test_who_does_not_want_it_gets_it_as_it_came(house: House) -> None:
    sent = house.encrypted(ENTITY, recipients=(_sales(),))
    stored, flags = house.deliver(sent, to=SALES)
    _as_it_came(stored, sent)
    assert keywords(flags) == set()


@pytest.mark.integration
def test_large_mail(house: House) -> None:
    text = b"Content-Type: text/plain\r\n\r\n" + b"0123456789 abcdefghijklmnopqrstuvwxyz\r\n" * 200_000
    stored, _ = house.deliver(house.encrypted(text, cipher="-aes-256-gcm"))
    assert stored.endswith(text.partition(b"\r\n\r\n")[2])


@pytest.mark.integration
@pytest.mark.parametrize("service", ["keyd", "delivery"])
def test_a_service_that_is_down_costs_no_mail(service: str, house: House) -> None:
    house.services[service].stop()
    try:
        sent = house.encrypted(ENTITY)
        stored, flags = house.deliver(sent)
        _as_it_came(stored, sent)
        assert keywords(flags) == {"$Decryption_Unavailable"}
    finally:
        house.start(service)
    assert b"1234" in house.deliver(house.encrypted(ENTITY))[0]


@pytest.mark.integration
def test_reload(house: House) -> None:
    config = house.organisation.config
    text = config.read_text()
    mark = house.log.stat().st_size
    try:
        config.write_text(text.replace('except_users = ["sales@bank.example"]', "except_users = []"))
        house.services["delivery"].process.send_signal(1)
        end = time.monotonic() + 20
        while b"1234" not in house.deliver(house.encrypted(ENTITY, recipients=(_sales(),)), to=SALES)[0]:
            assert time.monotonic() < end, house.log.read_text()[mark:]
    finally:
        config.write_text(text)
        house.services["delivery"].process.send_signal(1)


@pytest.mark.integration
def test_the_log_has_no_content_and_no_key(house: House) -> None:
    assert b"1234" in house.deliver(house.encrypted(ENTITY))[0]
    for log in (house.log, house.dovecot.log):
        text = log.read_text(errors="replace")
        assert "vault" not in text
        assert "PRIVATE" not in text
    assert "decrypted user=bob@bank.example" in house.log.read_text()
    assert "unwrapped key=" in house.log.read_text()
