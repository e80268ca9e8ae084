"""A real Dovecot of each release, a key server that is slow, and callers who want more than they may."""

from __future__ import annotations

import base64
import functools
import imaplib
import smtplib
import ssl
import statistics
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mailsigil.demo.dovecot import Dovecot, wait_for_mail
from mailsigil.demo.programs import run
from mailsigil.keys.storage.key import StorageKey, StorageKeyKind, generate
from mailsigil.keys.storage.pins import PinFolder
from servers.dovecots import BOB, MASTER, PASSWORD, ROOTS, deliver, fetch, imap, masters
from servers.kv import KvServer
from servers.leaks import Secrets
from servers.sieve import open_folder
from servers.storage_house import StorageHouse

pytestmark = pytest.mark.integration
MAIL = b"From: alice@bank.example\r\nSubject: hello\r\n\r\nThe vault is behind the picture.\r\n"
MANY = 200
STRANGE = ("..x@bank.example", "x" * 200 + "@bank.example")

_DEBUG = {
    (2, 3): "auth_debug = yes\nauth_verbose = yes\nmail_debug = yes\nverbose_proctitle = yes\n",
    (2, 4): "log_debug = category=auth or category=mail or category=storage\nauth_verbose = yes\n"
    "mail_debug = yes\nverbose_proctitle = yes\n",
}


@dataclass
class Site:
    """One Dovecot, its agent, and the key server beside."""

    kv: KvServer
    house: StorageHouse
    dovecot: Dovecot
    pins: PinFolder
    secrets: Secrets

    def give(self, address: str, *keys: StorageKey) -> None:
        """Gives a user keys, the newest first."""
        self.pins.write(address, [key.public for key in keys])
        pem = b"".join(key.private_pem for key in keys).decode()
        self.kv.entries[address] = {"user": address, "private_key": pem}
        self.secrets.add_pem(f"a key of {address}", pem)


@pytest.fixture(scope="module", params=ROOTS)
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    with open_folder() as folder:
        yield from _site(folder, request.param)


def _site(folder: Path, root: Path | None) -> Iterator[Site]:
    version = Dovecot(folder, {}, root=root).version
    people = [BOB, "many@bank.example", "alarm@bank.example", *STRANGE]
    people += [f"user{number}@bank.example" for number in range(MANY)]
    run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-subj", "/CN=localhost", "-days", "2"),
            *("-keyout", folder / "tls.key", "-out", folder / "tls.pem"),
        ]
    )
    with KvServer(folder) as kv:
        storage = kv.storage(key_seconds=60.0, pause_seconds=0.0, calls=256)
        with StorageHouse(folder, storage, version=version) as house:
            dovecot = house.dovecot(
                root,
                users=dict.fromkeys(people, PASSWORD),
                more=masters(folder, version),
                tls=(folder / "tls.pem", folder / "tls.key"),
            )
            with dovecot:
                site = Site(kv, house, dovecot, PinFolder(house.public_keys), Secrets())
                yield site
            # After all that happened to them: no key of anybody is in any file or log of these servers.
            assert site.secrets.found(folder) == []


@pytest.fixture(autouse=True)
def _a_willing_key_server(site: Site) -> Iterator[None]:
    yield
    site.kv.delay, site.kv.status = 0.0, 200


def test_a_wrong_password_never_reaches_the_key_server(site: Site) -> None:
    site.give(BOB, generate(StorageKeyKind.P256))
    before = list(site.kv.asked)
    with pytest.raises(imaplib.IMAP4.error):
        imap(site.dovecot, password="wrong")
    assert site.kv.asked == before


def test_a_master_user_gets_no_private_key(site: Site) -> None:
    site.give("alarm@bank.example", generate(StorageKeyKind.P256))
    deliver(site.dovecot, MAIL, to="alarm@bank.example")
    wait_for_mail(site.dovecot, "alarm@bank.example")
    client = imap(site.dovecot, f"alarm@bank.example*{MASTER}")
    with pytest.raises((imaplib.IMAP4.error, AssertionError, TypeError)):
        fetch(client)
    assert "master login user=alarm@bank.example" in site.house.log.read_text()
    owner = imap(site.dovecot, "alarm@bank.example")
    assert fetch(owner).endswith(MAIL)
    owner.logout()


@pytest.mark.parametrize("user", STRANGE, ids=["two dots", "too long"])
def test_a_strange_name_is_refused_and_asked_for_nowhere(site: Site, user: str) -> None:
    before = list(site.kv.asked)
    with pytest.raises(imaplib.IMAP4.error, match=r"\[CONTACTADMIN\]"):
        imap(site.dovecot, user)
    with pytest.raises(smtplib.SMTPRecipientsRefused) as caught:
        deliver(site.dovecot, MAIL, to=user)
    assert {code for code, _ in caught.value.recipients.values()} == {451}
    assert site.kv.asked == before


def test_the_sentence_arrives_under_tls(site: Site) -> None:
    site.give("user1@bank.example", generate(StorageKeyKind.P256))
    site.kv.status = 503
    with imaplib.IMAP4("127.0.0.1", site.dovecot.imap_port, timeout=30) as client:
        client.starttls(ssl._create_unverified_context())
        with pytest.raises(imaplib.IMAP4.error, match=r"\[UNAVAILABLE\] Your stored mail"):
            client.login("user1@bank.example", PASSWORD)


def test_100_kilobytes_of_keys_and_the_oldest_mail_is_readable(site: Site) -> None:
    keys = _large_keys()
    site.give("many@bank.example", keys[-1])
    deliver(site.dovecot, MAIL, to="many@bank.example")
    site.give("many@bank.example", *keys)
    deliver(site.dovecot, MAIL, to="many@bank.example")
    wait_for_mail(site.dovecot, "many@bank.example", count=2)
    assert sum(len(base64.b64encode(key.private_pem)) for key in keys) > 98_000
    client = imap(site.dovecot, "many@bank.example")
    assert fetch(client, 1).endswith(MAIL)
    assert fetch(client, 2).endswith(MAIL)
    client.logout()


def test_200_logins_at_once_with_a_slow_key_server(site: Site) -> None:
    key = generate(StorageKeyKind.P256)
    people = [f"user{number}@bank.example" for number in range(MANY)]
    for address in people:
        site.give(address, key)
    site.kv.delay = 0.5
    took: list[float] = []
    start = threading.Barrier(MANY)

    def log_in(address: str) -> None:
        with imaplib.IMAP4("127.0.0.1", site.dovecot.imap_port, timeout=60) as client:
            start.wait(60)
            begun = time.monotonic()
            client.login(address, PASSWORD)
            client.select()
            took.append(time.monotonic() - begun)

    threads = [threading.Thread(target=log_in, args=(address,)) for address in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(took) == MANY, site.dovecot.log.read_text()[-2000:]
    # One after the other they would take 100 seconds.
    assert statistics.median(took) < 20


def test_with_debug_settings_no_log_holds_a_key(site: Site) -> None:
    """What is set for the imap protocol in our configuration counts more than what is set for all."""
    key = generate(StorageKeyKind.P256)
    site.give(BOB, key)
    more = site.dovecot.more
    site.dovecot.more = more + _DEBUG[site.dovecot.version[:2]]
    site.dovecot.restart()
    try:
        deliver(site.dovecot, MAIL)
        client = imap(site.dovecot)
        fetch(client)
        client.append("INBOX", "", "", MAIL)
        client.logout()
    finally:
        site.dovecot.more = more
        site.dovecot.restart()
    assert b"Debug" in site.dovecot.log.read_bytes()
    assert site.secrets.found(site.dovecot.folder) == []
    assert b"behind the picture" not in b"".join(path.read_bytes() for path in site.dovecot.mail(BOB))


def test_after_all_this_no_key_is_on_the_disk(site: Site) -> None:
    """Without debug settings: no log, no index, no mail and no file of Dovecot's holds a private key."""
    site.dovecot.log.write_bytes(b"")
    key = generate(StorageKeyKind.RSA2048)
    site.give(BOB, key)
    deliver(site.dovecot, MAIL)
    client = imap(site.dovecot)
    client.select()
    client.search(None, "TEXT", "vault")
    client.logout()
    assert site.kv.entries[BOB]["private_key"].encode() == key.private_pem
    assert site.secrets.found(site.dovecot.folder) == []
    # The search finds what is there.
    planted = site.dovecot.folder / "planted"
    planted.write_bytes(b"x" * 5000 + base64.b64encode(key.private_pem))
    assert site.secrets.found(site.dovecot.folder) == [f"a key of {BOB} in {planted}"]
    planted.unlink()


@functools.cache
def _large_keys() -> list[StorageKey]:
    return [generate(StorageKeyKind.RSA3072) for _ in range(30)]
