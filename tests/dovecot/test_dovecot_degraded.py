"""Logins that are let in without their keys, and mail that an administrator stores, with a real Dovecot."""

from __future__ import annotations

import imaplib
from pathlib import Path

import pytest

from mailsigil.demo.dovecot import Dovecot, wait_for_mail
from mailsigil.keys.storage.key import StorageKeyKind, generate
from mailsigil.keys.storage.pins import PinFolder
from servers.dovecots import BOB, ROOTS, deliver, fetch, imap
from servers.kv import KvServer
from servers.storage_house import StorageHouse

MAIL = b"From: alice@bank.example\r\nSubject: hello\r\n\r\nThe vault is behind the picture.\r\n"


@pytest.mark.integration
@pytest.mark.parametrize("root", ROOTS)
def test_whatever_is_stored_without_the_private_key_is_encrypted(root: Path | None, tmp_path: Path) -> None:
    version = Dovecot(tmp_path, {}, root=root).version
    with KvServer(tmp_path) as kv:
        storage = kv.storage(on_failure="degraded", key_seconds=0.0, pause_seconds=0.0)
        with StorageHouse(tmp_path, storage, version=version) as house:
            key = generate(StorageKeyKind.P256)
            PinFolder(house.public_keys).write(BOB, [key.public])
            kv.entries[BOB] = {"user": BOB, "private_key": key.private_pem.decode()}
            with house.dovecot(root) as dovecot:
                deliver(dovecot, MAIL)
                dovecot.doveadm("save", "-u", BOB, stdin=MAIL)
                kv.status = 503
                client = imap(dovecot)
                assert client.append("INBOX", "", "", MAIL)[0] == "OK"
                assert client.select() == ("OK", [b"3"])
                assert client.fetch("1:*", "(FLAGS)")[0] == "OK"
                with pytest.raises((imaplib.IMAP4.error, AssertionError)):
                    fetch(client)
                stored = [path.read_bytes() for path in wait_for_mail(dovecot, BOB, count=3)]
                assert [content[:7] for content in stored] == [b"CRYPTED"] * 3
                # Another user's key is no key either.
                other = generate(StorageKeyKind.P256)
                kv.status = 200
                kv.entries[BOB]["private_key"] = other.private_pem.decode()
                imap(dovecot).logout()
                kv.entries[BOB]["private_key"] = key.private_pem.decode()
                client = imap(dovecot)
                assert all(b"behind the picture" in fetch(client, number) for number in (1, 2, 3))
                client.logout()
    assert "fits none of the public keys pinned here" in house.log.read_text()
