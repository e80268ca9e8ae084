"""A mail site whose people are in LDAP alone: no key, no certificate, and nobody who makes any."""

from __future__ import annotations

import os
import re
import smtplib
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from integration.mailroom import Mailroom
from mailsigil.cli.sync import command as sync
from mailsigil.config.loading import load_settings
from mailsigil.demo.bank_site import BankSite
from mailsigil.demo.organisation import DOMAIN
from mailsigil.demo.programs import DemoError
from mailsigil.directory.opening import open_directory
from mailsigil.lifecycle.run import begin, open_house

PEOPLE = tuple(f"{name}@{DOMAIN}" for name in ("alice", "bob", "carol", "dave", "erin", "frank"))


@dataclass(frozen=True)
class Signed:
    """A mail as it arrived outside, verified by openssl."""

    content: bytes
    subject: dict[str, str]
    serial: str
    level: str
    certificate: x509.Certificate


class LifecycleHouse:
    """Looks after certificates, sends mail and looks at it from outside."""

    def __init__(self, bank: BankSite) -> None:
        self.mailroom = Mailroom(bank.site)
        self.personnel = bank.personnel
        self.config = bank.site.organisation.config
        self.keys = bank.keys
        self.ca = bank.authority
        self.sent = Counter[str]()
        """Mails that arrived, by sender."""

    # The lifecycle

    def sync(self) -> str:
        """What an administrator runs."""
        done = CliRunner().invoke(sync, ["--config", str(self.config)])
        assert done.exit_code == 0, done.output
        return done.output

    def sync_in_the_past(self, address: str, *, days: int) -> None:
        """A run for one address as it was so many days ago."""
        settings = load_settings(self.config)
        past = datetime.now(UTC) - timedelta(days=days)
        house = open_house(settings, open_directory(settings), now=lambda: past)
        try:
            with begin(house, who="a timer of then") as run:
                assert run.carry_out(run.plan(only=address)).is_whole
        finally:
            house.close()

    # Mail

    def signed(self, address: str, until: Callable[[Signed], object] = lambda signed: True) -> Signed:
        """A mail from submission to the outside; openssl looks at its signature and its signer.

        The agent finds what a run changed within seconds: with ``until``, mails are sent until it did.
        """
        deadline = time.monotonic() + 40
        while True:
            try:
                signed = self._signed(address)
                if until(signed):
                    return signed
                found = str(signed.subject)
            except smtplib.SMTPDataError as error:
                # Deferred, as mail is while the agent does not know yet: clients try again.
                if error.smtp_code != 451:
                    raise
                found = str(error)
            assert time.monotonic() < deadline, found
            time.sleep(0.3)

    def _signed(self, address: str) -> Signed:
        content = self._sent(address)
        with tempfile.TemporaryDirectory() as name:
            mail, signer = Path(name) / "mail.eml", Path(name) / "signer.pem"
            mail.write_bytes(content)
            command = [
                "openssl",
                "cms",
                "-verify",
                "-in",
                mail,
                "-CAfile",
                self.ca / "root.pem",
                "-purpose",
                "smimesign",
            ]
            done = subprocess.run([*command, "-signer", signer, "-out", "/dev/null"], capture_output=True)
            assert done.returncode == 0, done.stderr.decode()
            show = ["openssl", "x509", "-noout", "-in", signer, "-subject", "-serial", "-nameopt"]
            told = subprocess.run([*show, "sep_multiline,utf8,sname"], check=True, capture_output=True)
            certificate = x509.load_pem_x509_certificate(signer.read_bytes())
        lines = told.stdout.decode().splitlines()
        subject = dict(line.strip().split("=", 1) for line in lines if line.startswith("    "))
        (serial,) = (line.removeprefix("serial=") for line in lines if line.startswith("serial="))
        return Signed(content, subject, serial.lower().lstrip("0"), self.level_shown(content), certificate)

    def level_shown(self, content: bytes) -> str:
        """What a reader is told about a mail that comes in again."""
        shown = self.mailroom.bring(content, mail_from=PEOPLE[0])
        (text,) = re.findall(rb"^Verified-Identity: ([A-Za-z0-9]+)", shown, re.MULTILINE)
        return str(text.decode())

    def refused(self, address: str) -> int:
        """The code with which mails are refused, from a few seconds on."""
        deadline = time.monotonic() + 40
        while time.monotonic() < deadline:
            try:
                self._sent(address)
            except smtplib.SMTPResponseException as error:
                return error.smtp_code
            time.sleep(0.3)
        raise AssertionError("the mails were taken")

    def _sent(self, address: str) -> bytes:
        content = f"From: <{address}>\r\nTo: bob@customer.example\r\nSubject: Hello\r\n\r\nText\r\n".encode()
        arrived = self.mailroom.send(content, address).content
        self.sent[address] += 1
        return arrived

    def is_revoked(self, signed: Signed) -> bool:
        """Ask openssl and the authority's list about the certificate of a mail that was sent before."""
        with tempfile.TemporaryDirectory() as name:
            leaf, bundle = Path(name) / "leaf.pem", Path(name) / "bundle.pem"
            leaf.write_bytes(_pem(signed.certificate))
            crl = self.ca / "issuing.crl"
            bundle.write_bytes((self.ca / "root.pem").read_bytes() + _crl_pem(crl.read_bytes()))
            command = ["openssl", "verify", "-crl_check", "-CAfile", bundle]
            done = subprocess.run(
                [*command, "-untrusted", self.ca / "issuing.pem", leaf], capture_output=True, check=False
            )
        said = (done.stdout + done.stderr).decode()
        assert ("certificate revoked" in said) is (done.returncode != 0), said
        return done.returncode != 0


@contextmanager
def lifecycle_house() -> Iterator[LifecycleHouse]:
    """Start slapd, Postfix and `mailsigil run`: the key folder is empty, and stays so.

    People log in by passwords of Postfix's own: who left the directory is stopped by mailsigil alone.
    """
    if os.geteuid() != 0:
        pytest.skip("only root can start a private Postfix")
    lifecycle = {"every_minutes": 0, "clock_days": 1000, "max_revoked": 100, "provision_seconds": 4}
    # Not pytest's folder: Postfix's own user has to reach the socket.
    with tempfile.TemporaryDirectory(prefix="mailsigil-life-") as name:
        try:
            with BankSite(
                Path(name),
                logins=PEOPLE,
                # It is old enough to have issued what is to be renewed now.
                founded=datetime.now(UTC) - timedelta(days=400),
                lifecycle=lifecycle,
                directory={"cache_seconds": 0},
                settings={"usage": "flush_seconds = 0.5\n"},
            ) as bank:
                yield LifecycleHouse(bank)
        except DemoError as error:
            if "is missing" in str(error):
                pytest.skip(str(error))
            raise


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def _crl_pem(der: bytes) -> bytes:
    return x509.load_der_x509_crl(der).public_bytes(Encoding.PEM)
