"""The demonstration, step by step, with what it found on the screen."""

from __future__ import annotations

import smtplib
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from email.utils import format_datetime, make_msgid
from io import BytesIO
from pathlib import Path
from typing import Final

from mailsigil.demo.bank import employee_entry
from mailsigil.demo.bank_site import BankSite
from mailsigil.demo.organisation import DOMAIN, PASSWORD
from mailsigil.demo.programs import DemoError, require
from mailsigil.demo.site import Site
from mailsigil.demo.slapd import ADMIN
from mailsigil.headers import IDENTITY, RESULTS, TEXT
from mailsigil.message.reader import read_message
from mailsigil.service import utc_now

Say = Callable[[str], None]

CAROL: Final = f"carol@{DOMAIN}"
ENTRIES: Final = (
    employee_entry("carol", "Carol", "Sample", title="Clerk"),
    employee_entry("dora", "Dora", "Muster", level="V2"),
    employee_entry("info", "Example", "Bank", level="V1"),
)
"""Who works for the bank already: with Alice, one for each level."""

_SHOWN = {name.lower().encode("ascii") for name in (RESULTS, IDENTITY, TEXT)}
_PATIENCE = 40.0
"""Seconds until the key agent has found what a run has changed; it looks every few."""


def demonstrate(bank: BankSite, say: Say) -> None:
    """Hires, signs, verifies, validates, dismisses and shows.

    Raises DemoError at the first step that does not succeed.
    """
    Demonstration(bank, say).run()


class Demonstration:
    """One way through a working life; each step checks what it shows."""

    def __init__(self, bank: BankSite, say: Say) -> None:
        self._bank = bank
        self._site = bank.site
        self._say = say

    def run(self) -> None:
        """All steps."""
        if list(self._bank.keys.iterdir()):
            raise DemoError(f"{self._bank.keys} should be empty")
        self._say(
            "A bank has a directory with three people, a certification authority, and not one key for mail."
        )
        carols = self._submit(CAROL, "Carol Sample")
        alice = self._is_hired()
        self._verified(alice)
        self._validated()
        self._left(carols)

    def _is_hired(self) -> bytes:
        alice = self._bank.personnel.hire("alice", "Alice", "Example", title="Account Manager")
        self._say("1. Alice Example is added to the directory. Nobody does anything else for her.")
        self._say(f"   She logs in and submits a mail at 127.0.0.1:{self._site.submission_port}.")
        start = time.monotonic()
        signed = self._submit(alice, "Alice Example")
        seconds = time.monotonic() - start
        path = self._site.folder / "signed.eml"
        path.write_bytes(signed)
        self._say(f"   It left the house as {path} ({len(signed)} octets),")
        self._say(f"   {seconds:.2f} s later: her key and her certificate were made meanwhile.")
        return signed

    def _verified(self, signed: bytes) -> None:
        self._say("2. openssl cms -verify, somebody else's verifier, says:")
        path = self._site.folder / "signed.eml"
        self._say(f"   {_openssl_says(path, self._site.organisation.anchor)}")
        self._say(f"3. The same mail arrives from outside at 127.0.0.1:{self._site.inbound_port}, and gets:")
        self._show(self._bring(signed), "V3 Example Bank, Identity Validated", "smime=pass", "dkim=pass")

    def _validated(self) -> None:
        self._bank.personnel.validate("alice")
        self._say("4. Somebody looks at her papers, and writes V4 into her entry. `mailsigil sync` says:")
        self._sync(wanted="V3 → V4")
        expected = "V4 Alice Example, Example Bank, Account Manager, Identity Validated and Trusted"
        start = time.monotonic()
        fields: list[str] = []
        while expected not in _unfolded(fields) and time.monotonic() - start < _PATIENCE:
            time.sleep(0.2)
            fields = self._bring(self._submit(f"alice@{DOMAIN}", "Alice Example"))
        self._say(f"   {time.monotonic() - start:.1f} s later her mail arrives as:")
        self._show(fields, expected, "smime=pass", "dkim=pass")

    def _left(self, sent_before: bytes) -> None:
        self._bank.personnel.dismiss("carol")
        self._say("5. Carol Sample leaves, and her entry is deleted. `mailsigil sync` says:")
        self._sync(wanted="revoke")
        try:
            self._submit(CAROL, "Carol Sample")
        except smtplib.SMTPAuthenticationError as error:
            self._say(f"   Her login is refused ({error.smtp_code}); a mail that she sent before arrives as:")
        else:
            raise DemoError("Carol, who has left, could still send mail")
        self._show(self._bring(sent_before), "reason=revoked")

    def _submit(self, address: str, name: str) -> bytes:
        before = len(self._site.sink.deliveries)
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                self._site.submit(_mail(address, name), login=address, mail_from=address)
            except smtplib.SMTPDataError as error:
                # Deferred, as mail is while a certificate is under way: clients try again.
                if error.smtp_code != 451 or time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
            else:
                return self._site.arrival(before + 1).content

    def _bring(self, content: bytes) -> list[str]:
        before = len(self._site.sink.deliveries)
        self._site.deliver(content)
        return identity_lines(self._site.arrival(before + 1).content)

    def _show(self, fields: Sequence[str], *expected: str) -> None:
        for line in fields:
            self._say(f"   {line}")
        text = _unfolded(fields)
        for wanted in expected:
            if wanted not in text:
                raise DemoError(f'the fields do not say "{wanted}"; the log is {self._site.log}')

    def _sync(self, *, wanted: str) -> None:
        command = [sys.executable, "-m", "mailsigil", "sync", "--config", self._site.organisation.config]
        deadline = time.monotonic() + _PATIENCE
        while True:
            done = subprocess.run([str(part) for part in command], capture_output=True, timeout=60)
            # The key agent's own look at the directory may be at work: one at a time on a machine.
            if done.returncode == 0 or time.monotonic() > deadline:
                break
            time.sleep(0.5)
        words = (done.stdout + done.stderr).decode("utf-8", "replace")
        for line in filter(str.strip, words.splitlines()):
            self._say(f"   {line.rstrip()}")
        if done.returncode != 0 or wanted not in " ".join(words.split()):
            raise DemoError(f'mailsigil sync did not say "{wanted}"; the log is {self._site.log}')


def serve(bank: BankSite, say: Say) -> None:
    """Stays up until KeyboardInterrupt: what employees submit leaves signed, comes back and is shown."""
    site = bank.site
    newcomer = site.folder / "newcomer.ldif"
    newcomer.write_text(employee_entry("erin", "Erin", "Newcomer", title="Trader"))
    say("")
    say("Hire somebody, with this entry or one like it (the key agent looks at the directory every minute):")
    say(f"   ldapadd -x -H {bank.server.url} -D {ADMIN} -w {PASSWORD} -f {newcomer}")
    say("Send a mail; a message file can be a plain text with From and Subject:")
    say(
        f"   curl smtp://127.0.0.1:{site.submission_port} -u erin@{DOMAIN}:{PASSWORD} "
        f"--mail-from erin@{DOMAIN} --mail-rcpt bob@customer.example -T YOUR.eml"
    )
    say(f"   (From: must be the one who logs in; all have the password {PASSWORD})")
    say("See who has what certificate:")
    say(f"   {Path(sys.executable).parent}/mailsigil keys list --config {site.organisation.config}")
    say("Ctrl-C ends it.")
    seen = len(site.sink.deliveries)
    while True:
        for number, delivery in enumerate(site.sink.deliveries[seen:], start=seen + 1):
            seen = number
            _show_arrival(site, number, delivery.content, delivery.mail_from, say)
        time.sleep(0.2)


def identity_lines(message: bytes) -> list[str]:
    """The lines of the three identity fields of a message."""
    fields = read_message(BytesIO(message)).fields
    return [
        line
        for field in fields
        if field.key in _SHOWN
        for line in field.raw.decode("utf-8", "replace").splitlines()
    ]


def _unfolded(fields: Sequence[str]) -> str:
    return " ".join(" ".join(fields).split())


def _show_arrival(site: Site, number: int, content: bytes, mail_from: str, say: Say) -> None:
    path = site.folder / f"mail-{number}.eml"
    path.write_bytes(content)
    lines = identity_lines(content)
    if lines:
        say(f"Received as {path}:")
        for line in lines:
            say(f"   {line}")
        return
    say(f"Left the house as {path}; it is now delivered at the inbound port.")
    try:
        site.deliver(content, mail_from=mail_from)
    except (smtplib.SMTPException, OSError) as error:
        say(f"   which did not take it: {error}")


def _mail(address: str, name: str) -> bytes:
    return (
        f"From: {name} <{address}>\r\n"
        "To: Bob Customer <bob@customer.example>\r\n"
        "Subject: Your appointment\r\n"
        f"Date: {format_datetime(utc_now())}\r\n"
        f"Message-ID: {make_msgid(domain=DOMAIN)}\r\n"
        "MIME-Version: 1.0\r\n"
        "Content-Type: text/plain; charset=utf-8\r\n"
        "Content-Transfer-Encoding: 8bit\r\n"
        "\r\n"
        f"Dear Bob,\r\n\r\nsee you on Friday, with best regards (mit freundlichen Grüßen)\r\n\r\n{name}\r\n"
    ).encode()


def _openssl_says(message: Path, anchor: Path) -> str:
    command = require("openssl", package="openssl")
    arguments = ["cms", "-verify", "-in", message, "-CAfile", anchor, "-purpose", "smimesign"]
    done = subprocess.run([command, *map(str, arguments)], capture_output=True, timeout=60)
    words = done.stderr.decode("utf-8", "replace").strip()
    if done.returncode != 0:
        raise DemoError(f"openssl does not accept the mail: {words}")
    return words.splitlines()[-1]
