"""The ways for those who cannot take the first one, each with a real Dovecot."""

from __future__ import annotations

import imaplib
import re
from pathlib import Path

import pytest

from mailsigil.demo.dovecot import Dovecot, wait_for_mail
from mailsigil.keys.storage.key import StorageKeyKind, generate
from mailsigil.keys.storage.pins import PinFolder
from servers.dovecots import BOB, PASSWORD, ROOTS, deliver, fetch, imap
from servers.kv import KvServer
from servers.storage_house import StorageHouse, installed

pytestmark = pytest.mark.integration
MAIL = b"From: alice@bank.example\r\nSubject: hello\r\n\r\nThe vault is behind the picture.\r\n"
_SERVICE_IMAP = re.compile(r"service imap \{.*?\n\}\n", re.DOTALL)


@pytest.mark.parametrize("root", ROOTS)
def test_script_login(root: Path | None, tmp_path: Path) -> None:
    version = Dovecot(tmp_path, {}, root=root).version
    with KvServer(tmp_path) as kv:
        key = generate(StorageKeyKind.P256)
        kv.entries[BOB] = {"user": BOB, "private_key": key.private_pem.decode()}
        with StorageHouse(tmp_path, kv.storage(key_seconds=0.0), version=version) as house:
            PinFolder(house.public_keys).write(BOB, [key.public])
            dovecot = house.dovecot(root)
            helper = tmp_path / "mailsigil-script-login"
            helper.write_text(installed("fallback/mailsigil-script-login", tmp_path))
            helper.chmod(0o755)
            replaced = _SERVICE_IMAP.sub(installed("fallback/script-login.conf", tmp_path), dovecot.before)
            assert "script-login" in replaced
            dovecot.before = replaced
            with dovecot:
                deliver(dovecot, MAIL)
                (stored,) = wait_for_mail(dovecot, BOB)
                assert stored.read_bytes().startswith(b"CRYPTED")
                client = imap(dovecot)
                assert fetch(client).endswith(MAIL)
                client.append("INBOX", "", "", MAIL)
                assert all(path.read_bytes().startswith(b"CRYPTED") for path in dovecot.mail(BOB))
                client.logout()
                # What the agent refuses is refused, with its sentence.
                kv.status = 503
                with pytest.raises(imaplib.IMAP4.error, match=r"\[UNAVAILABLE\]"):
                    imap(dovecot)
                # Where it is away, the user is let in, and sees no more than flags.
                house.stop()
                client = imap(dovecot)
                status, told = client.select()
                assert (status, told) == ("OK", [b"2"])
                assert client.fetch("1:*", "(FLAGS)")[0] == "OK"
                with pytest.raises((imaplib.IMAP4.error, AssertionError)):
                    fetch(client)
    assert PASSWORD not in house.log.read_text()
