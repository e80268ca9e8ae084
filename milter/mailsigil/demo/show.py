"""The demonstration, step by step, with what it found on the screen."""

from __future__ import annotations

import smtplib
import subprocess
import time
from collections.abc import Callable
from email.utils import format_datetime, make_msgid
from io import BytesIO
from pathlib import Path

from mailsigil.demo.organisation import DOMAIN, EMPLOYEES, PASSWORD
from mailsigil.demo.programs import DemoError, require
from mailsigil.demo.site import Site
from mailsigil.headers import IDENTITY, RESULTS, TEXT
from mailsigil.message.reader import read_message
from mailsigil.service import utc_now

Say = Callable[[str], None]

_SHOWN = {name.lower().encode("ascii") for name in (RESULTS, IDENTITY, TEXT)}


def demonstrate(site: Site, say: Say) -> None:
    """Signs, verifies, delivers and shows; raises DemoError at the first step that does not succeed."""
    alice = EMPLOYEES[0]
    say(f"1. {alice.display_name} logs in and submits a mail at 127.0.0.1:{site.submission_port}.")
    before = len(site.sink.deliveries)
    site.submit(_mail(alice.address, alice.display_name), login=alice.address, mail_from=alice.address)
    signed = site.arrival(before + 1).content
    path = site.folder / "signed.eml"
    path.write_bytes(signed)
    say(f"   It left the house as {path} ({len(signed)} octets).")

    say("2. openssl cms -verify, somebody else's verifier, says:")
    say(f"   {_openssl_says(path, site.organisation.anchor)}")

    say(f"3. The same mail arrives from outside at 127.0.0.1:{site.inbound_port}, and gets:")
    site.deliver(signed)
    received = site.arrival(before + 2).content
    fields = identity_lines(received)
    for line in fields:
        say(f"   {line}")
    text = " ".join(fields)
    expected = f"V4 {alice.display_name}, {alice.subject.organisation}, {alice.subject.title}"
    for wanted in (expected, "smime=pass", "dkim=pass"):
        if wanted not in text:
            raise DemoError(f'the fields do not say "{wanted}"; the log is {site.log}')


def serve(site: Site, say: Say) -> None:
    """Stays up until KeyboardInterrupt: what employees submit leaves signed, comes back and is shown."""
    alice = EMPLOYEES[0].address
    say("")
    say(
        "Send your own: "
        f"curl smtp://127.0.0.1:{site.submission_port} -u {alice}:{PASSWORD} --mail-from {alice} "
        "--mail-rcpt bob@customer.example -T YOUR.eml"
    )
    say(
        f"(From: must be {alice}; others: "
        + ", ".join(employee.address for employee in EMPLOYEES[1:])
        + f", password {PASSWORD}; a message file can be a plain text with From and Subject.) Ctrl-C ends it."
    )
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
        "Dear Bob,\r\n\r\nsee you on Friday, with best regards (mit freundlichen Grüßen)\r\n\r\nAlice\r\n"
    ).encode()


def _openssl_says(message: Path, anchor: Path) -> str:
    command = require("openssl", package="openssl")
    arguments = ["cms", "-verify", "-in", message, "-CAfile", anchor, "-purpose", "smimesign"]
    done = subprocess.run([command, *map(str, arguments)], capture_output=True, timeout=60)
    words = done.stderr.decode("utf-8", "replace").strip()
    if done.returncode != 0:
        raise DemoError(f"openssl does not accept the mail: {words}")
    return words.splitlines()[-1]
