"""The private Dovecot of tests and demonstrations: it takes mail, and shows it."""

from __future__ import annotations

import imaplib
import os
from pathlib import Path

import pytest

from mailsigil.demo.dovecot import Dovecot, wait_for_mail
from mailsigil.demo.programs import DemoError
from servers.dovecots import BOB, PASSWORD, ROOTS, deliver, fetch, imap

MAIL = b"From: alice@bank.example\r\nTo: bob@bank.example\r\nSubject: Lunch\r\n\r\nAt noon?\r\n"


@pytest.mark.integration
@pytest.mark.parametrize("root", ROOTS)
def test_it_takes_mail_and_shows_it(root: Path | None, tmp_path: Path) -> None:
    with Dovecot(tmp_path, {BOB: PASSWORD}, root=root) as dovecot:
        pid = dovecot.pid
        deliver(dovecot, MAIL)
        (stored,) = wait_for_mail(dovecot, BOB)
        assert b"At noon?" in stored.read_bytes()
        client = imap(dovecot)
        assert fetch(client).endswith(MAIL)
        client.logout()
        with pytest.raises(imaplib.IMAP4.error):
            imap(dovecot, password="wrong")
        assert dovecot.doveadm("user", BOB).startswith(b"field")
        assert f"base_dir = {tmp_path}/run".encode() in dovecot.doveconf("-n")
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.integration
def test_a_configuration_that_dovecot_refuses_is_told_in_its_words(tmp_path: Path) -> None:
    with (
        pytest.raises(DemoError, match="no_such_setting"),
        Dovecot(tmp_path, {BOB: PASSWORD}, more="no_such_setting = 1\n"),
    ):
        pass
