"""A running site as tests use it: each mail by a recipient of its own, so that the right one is looked at."""

from __future__ import annotations

import base64
import email
import itertools
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import dkim
from mailsigil.demo.programs import DemoError
from mailsigil.demo.sink import Delivery
from mailsigil.demo.site import Site

_numbers = itertools.count(1)


@contextmanager
def site(**options: Any) -> Iterator[Site]:
    """A site in a folder of its own. Skips where the servers or the rights are missing."""
    if os.geteuid() != 0:
        pytest.skip("only root can start a private Postfix")
    # Not pytest's folder: Postfix's own user has to reach the socket.
    folder = Path(tempfile.mkdtemp(prefix="mailsigil-it-"))
    try:
        running = Site(folder, **options)
        with running:
            yield running
    except DemoError as error:
        if "is missing" in str(error):
            pytest.skip(str(error))
        raise
    finally:
        shutil.rmtree(folder)


class Mailroom:
    """Sends through a site and finds what arrived."""

    def __init__(self, running: Site) -> None:
        self.site = running

    def send(
        self,
        content: bytes,
        login: str | None,
        *,
        mail_from: str | None = None,
        recipients: tuple[str, ...] = (),
    ) -> Delivery:
        """Submits a message and waits for it; raises SMTPException when it is not taken."""
        recipient = new_recipient()
        sender = login or "" if mail_from is None else mail_from
        self.site.submit(content, login=login, mail_from=sender, recipients=recipients or (recipient,))
        return self.arrival((recipients or (recipient,))[0])

    def bring(self, content: bytes, *, mail_from: str = "x@partner.example") -> bytes:
        """Delivers a message from outside and gives what a mailbox would get."""
        recipient = new_recipient()
        self.site.deliver(content, mail_from=mail_from, recipients=(recipient,))
        return self.arrival(recipient).content

    def arrival(self, recipient: str, *, seconds: float = 30) -> Delivery:
        """Waits for the mail to a recipient."""
        return self.wait_for(lambda: next(iter(self.arrived(recipient)), None), recipient, seconds=seconds)

    def arrived(self, recipient: str) -> list[Delivery]:
        """All mail to a recipient so far."""
        return [delivery for delivery in self.site.sink.deliveries if recipient in delivery.recipients]

    def wait_for(self, found: Callable[[], Any], what: str, *, seconds: float = 20) -> Any:
        """Waits until something true comes."""
        end = time.monotonic() + seconds
        while not (result := found()):
            if time.monotonic() > end:
                pytest.fail(f"waited in vain for {what}; log:\n{self.log()[-3000:]}")
            time.sleep(0.02)
        return result

    def log(self) -> str:
        """What mailsigil has said so far."""
        return self.site.log.read_text(errors="replace")

    def dkim_holds(self, content: bytes) -> bool:
        """Tells whether the site's DKIM signature verifies, by dkimpy."""
        record = self.site.dkim.record.encode()
        return bool(dkim.verify(content, dnsfunc=lambda name, timeout=5: record))


def new_recipient(domain: str = "customer.example") -> str:
    """An address that no other mail goes to."""
    return f"r{next(_numbers)}.{os.getpid()}@{domain}"


def header_fields(content: bytes) -> list[bytes]:
    """The raw header fields of a message, by line ends alone."""
    return [line for line in re.split(rb"\r\n(?![ \t])", content.partition(b"\r\n\r\n")[0]) if line]


def values(content: bytes, name: str) -> list[str]:
    """The unfolded values of all fields of a name."""
    prefix = name.lower().encode() + b":"
    return [
        b" ".join(field[len(prefix) :].split()).decode(errors="replace")
        for field in header_fields(content)
        if field.lower().startswith(prefix)
    ]


def is_signed(content: bytes) -> bool:
    """Tells whether a message is S/MIME-signed, as far as its type says."""
    return email.message_from_bytes(content).get_content_type() in (
        "multipart/signed",
        "application/pkcs7-mime",
    )


def signed_parts(content: bytes) -> tuple[bytes, bytes | None]:
    """The CMS structure of a signed message, and the signed octets when they are outside of it."""
    parsed = email.message_from_bytes(content)
    if parsed.get_content_type() == "application/pkcs7-mime":
        return base64.b64decode(parsed.get_payload()), None
    boundary = parsed.get_boundary()
    if boundary is None:
        raise ValueError("no boundary")
    delimiter = b"--" + boundary.encode()
    body = content.partition(b"\r\n\r\n")[2]
    _, signed, signature, closing = body.split(delimiter)
    if not closing.startswith(b"--\r\n"):
        raise ValueError("not closed")
    # RFC 2046 5.1.1: the CRLF before a boundary line belongs to the boundary.
    encoded = signature.partition(b"\r\n\r\n")[2]
    return base64.b64decode(encoded), signed.removeprefix(b"\r\n").removesuffix(b"\r\n")
