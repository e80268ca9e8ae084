"""The ways for those who cannot take the first one, each with a real Dovecot."""

from __future__ import annotations

import base64
import imaplib
import re
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12

from keys.employees import certificate
from mailsigil.demo.dovecot import Dovecot, wait_for_mail
from mailsigil.dovecot.passdb_keys import PasswordService
from mailsigil.keys.storage.key import StorageKeyKind, generate
from mailsigil.keys.storage.pins import PinFolder
from mailsigil.keys.storage.routes import StorageRoutes
from servers.dovecots import BOB, MASTER, PASSWORD, ROOTS, deliver, fetch, imap, masters
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
            dovecot.more = masters(tmp_path, version)
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
                # Who logs in as Bob reads nothing.
                client = imap(dovecot, f"{BOB}*{MASTER}")
                with pytest.raises((imaplib.IMAP4.error, AssertionError)):
                    fetch(client)
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


@pytest.mark.parametrize("root", ROOTS)
def test_keys_that_the_login_password_opens(root: Path | None, tmp_path: Path) -> None:
    version = Dovecot(tmp_path, {}, root=root).version
    release = ".".join(map(str, version[:2]))
    key = ec.generate_private_key(ec.SECP256R1())
    lock = BestAvailableEncryption(PASSWORD.encode())
    bag = pkcs12.serialize_key_and_certificates(b"bob", key, certificate(key, addresses=(BOB,)), None, lock)
    with KvServer(tmp_path) as kv:
        kv.entries[BOB] = {"pkcs12": base64.b64encode(bag).decode()}
        storage = kv.storage(opened_by="login", adopt=True)
        more = f'password_socket = "{tmp_path}/login-keys"\n'
        with StorageHouse(tmp_path, storage, version=version, more=more) as house:
            dovecot = house.dovecot(root, users={BOB: PASSWORD, "carol@bank.example": PASSWORD})
            script = tmp_path / "mailsigil-login-keys.lua"
            script.write_text(installed("fallback/mailsigil-login-keys.lua", tmp_path))
            dovecot.right_result = "continue-ok"
            dovecot.more = installed(f"fallback/login-keys-{release}.conf", tmp_path)
            with dovecot:
                # A wrong password opens nothing, and the key server hears of none.
                with pytest.raises(imaplib.IMAP4.error):
                    imap(dovecot, password="wrong")
                assert kv.asked == []
                # The first login takes the key over: from then on mail is encrypted.
                imap(dovecot).logout()
                deliver(dovecot, MAIL)
                (stored,) = wait_for_mail(dovecot, BOB)
                assert stored.read_bytes().startswith(b"CRYPTED")
                client = imap(dovecot)
                assert fetch(client).endswith(MAIL)
                client.logout()
                imap(dovecot, "carol@bank.example").logout()
                # A key that this password does not open, or a server that is away: no login.
                other = pkcs12.serialize_key_and_certificates(
                    b"bob", key, None, None, BestAvailableEncryption(b"another")
                )
                kv.entries[BOB] = {"pkcs12": base64.b64encode(other).decode()}
                with pytest.raises(imaplib.IMAP4.error):
                    imap(dovecot)
                kv.status = 503
                with pytest.raises(imaplib.IMAP4.error):
                    imap(dovecot)
                deliver(dovecot, MAIL)
                assert len(wait_for_mail(dovecot, BOB, count=2)) == 2
    said = house.log.read_text() + dovecot.log.read_text()
    assert PASSWORD not in said
    assert base64.b64encode(PASSWORD.encode()).decode() not in said


@pytest.mark.parametrize(
    "line", [b"open bob@bank.example\n", b"open bob@bank.example ?\n", b"open a b c\n", b"\xff\n", b"x" * 99]
)
def test_login_keys_take_no_other_request(line: bytes, tmp_path: Path) -> None:
    service = PasswordService(StorageRoutes([], PinFolder(tmp_path)))
    assert service.answer(line) == "later the request is none"
