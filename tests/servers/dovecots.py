"""Which Dovecots this machine has: the installed one, and that of another Debian in a folder.

``MAILSIGIL_DOVECOT24`` names a folder with an unpacked Debian 13 (a chroot) with dovecot-imapd,
dovecot-lmtpd, dovecot-sieve, dovecot-auth-lua and lua-socket.
"""

from __future__ import annotations

import imaplib
import os
import shutil
import smtplib
from pathlib import Path

import pytest

from mailsigil.demo.dovecot import Dovecot

BOB = "bob@bank.example"
PASSWORD = "sesame"
MASTER = "auditor"
OTHER_DEBIAN = os.environ.get("MAILSIGIL_DOVECOT24", "")

ROOTS = [
    pytest.param(
        None,
        id="installed",
        marks=pytest.mark.skipif(shutil.which("doveconf") is None, reason="there is no Dovecot installed"),
    ),
    pytest.param(
        Path(OTHER_DEBIAN or "/"),
        id="2.4",
        marks=pytest.mark.skipif(
            not OTHER_DEBIAN, reason="MAILSIGIL_DOVECOT24 names no folder with a Debian 13 and its Dovecot"
        ),
    ),
]
"""For ``parametrize``: the ``root`` of each Dovecot."""


def imap(dovecot: Dovecot, user: str = BOB, password: str = PASSWORD) -> imaplib.IMAP4:
    """A client that has logged in."""
    client = imaplib.IMAP4("127.0.0.1", dovecot.imap_port, timeout=30)
    client.login(user, password)
    return client


def fetch(client: imaplib.IMAP4, number: int = 1, *, folder: str = "INBOX") -> bytes:
    """A whole message, as the client gets it."""
    status, _ = client.select(folder)
    assert status == "OK"
    status, told = client.fetch(str(number), "(BODY.PEEK[])")
    assert status == "OK"
    assert isinstance(told[0], tuple)
    return told[0][1]


def deliver(dovecot: Dovecot, message: bytes, *, to: str = BOB, sender: str = "alice@bank.example") -> None:
    """Sends a message by LMTP; raises smtplib.SMTPException where it is not taken."""
    with smtplib.LMTP(str(dovecot.lmtp_socket), 0) as client:
        client.sendmail(sender, [to], message)


_MASTER_23 = """\
auth_master_user_separator = *
passdb {{
  driver = passwd-file
  args = scheme=PLAIN {folder}/masters
  master = yes
}}
"""
_MASTER_24 = """\
auth_master_user_separator = *
passdb passwd-file-master {{
  driver = passwd-file
  passwd_file_path = {folder}/masters
  default_password_scheme = plain
  master = yes
}}
"""


def masters(folder: Path, version: tuple[int, int, int]) -> str:
    """Lines that let ``MASTER`` log in as everybody, as ``USER*MASTER`` with the same password."""
    file = folder / "masters"
    file.write_text(f"{MASTER}:{{PLAIN}}{PASSWORD}\n")
    file.chmod(0o644)
    return (_MASTER_24 if version >= (2, 4, 0) else _MASTER_23).format(folder=folder)
