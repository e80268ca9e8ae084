"""Reads messages with Python's email package: an independent parser to hold our results against.

Its known quirks are evened out here, each with its reason, so that tests compare meaning.
"""

from __future__ import annotations

import email
import email.message
import re
from dataclasses import dataclass

from mailsigil.message.fields import Field, parse_fields
from mailsigil.message.seven_bit import Entity, to_seven_bit
from mailsigil.message.spool import Spool


@dataclass(frozen=True)
class Node:
    """One part as the email package sees it: type, file name as octets, content or parts."""

    content_type: str
    filename: bytes | None
    payload: bytes
    children: tuple[Node, ...] = ()


def crlf(raw: bytes) -> bytes:
    return re.sub(rb"\r\n|\r|\n", b"\r\n", raw)


def split(raw: bytes) -> tuple[tuple[Field, ...], Spool]:
    """Cut a CRLF message into fields and body, as the milter gets it."""
    fields, start = parse_fields(raw)
    body = Spool()
    body.write(raw[start:])
    return fields, body


def convert(raw: bytes) -> bytes:
    return octets(to_seven_bit(*split(raw)))


def octets(entity: Entity) -> bytes:
    data = b"".join(entity.chunks())
    assert len(data) == entity.size
    return data


def tree(raw: bytes) -> Node:
    """Read the MIME part of a message: its Content fields and its body."""
    fields, start = parse_fields(raw)
    # The email package keeps the folds of a boundary parameter, so the fields come unfolded.
    header = b"".join(
        b"%b: %b\r\n" % (each.key, each.unfolded) for each in fields if each.key.startswith(b"content-")
    )
    # Latin-1 keeps each octet as a character; octets would make it wrap header fields in objects.
    return _node(email.message_from_string((header + b"\r\n" + raw[start:]).decode("latin-1")))


def _node(message: email.message.Message) -> Node:
    content_type = message.get_content_type()
    payload = message.get_payload()
    if isinstance(payload, list):
        return Node(content_type, _filename(message), b"", tuple(_node(child) for child in payload))
    content = message.get_payload(decode=True)
    assert isinstance(content, bytes)
    if message.get_content_maintype() in ("text", "message", "multipart"):
        content = re.sub(rb"\r?\n", b"\r\n", content)
        # base64 and quoted-printable of a part may end with a line end that identity does not have.
        content = content.removesuffix(b"\r\n")
    return Node(content_type, _filename(message), content)


def _filename(message: email.message.Message) -> bytes | None:
    for header, name in (("content-disposition", "filename"), ("content-type", "name")):
        value = message.get_param(name, None, header)
        if isinstance(value, tuple):  # RFC 2231: the octets stand in it as Latin-1
            return value[2].encode("latin-1")
        if value is not None:
            return str(value).encode("latin-1", "replace")
    return None
