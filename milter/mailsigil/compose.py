"""A signed entity as a mail: the edits that turn the message into ``multipart/signed`` or opaque.

RFC 8551 3.5.2 (opaque) and 3.5.3 (clear). Bodies are streamed, so memory does not grow with them.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Sequence

from mailsigil.message.fields import Field
from mailsigil.message.seven_bit import Entity
from mailsigil.plan import AppendField, ChangeField, DeleteField, Edit, ReplaceBody

_NOTE = b"This is an S/MIME signed message\r\n"
_BASE64_LINE = 57
"""Octets that fill one base64 line of 76 characters (RFC 2045 6.8)."""
_TEXT_LINE = 76
_BATCH = _BASE64_LINE * 1024


def clear_signed(
    fields: Sequence[Field], entity: Entity, *, signature: bytes, micalg: str, boundary: str
) -> tuple[Edit, ...]:
    """Edits for a clear-signed message; ``signature`` is the detached CMS in DER."""
    media_type = (
        f' multipart/signed; protocol="application/pkcs7-signature";\r\n'
        f' micalg={micalg}; boundary="{boundary}"'
    )
    delimiter = b"--" + boundary.encode("ascii")
    head = _NOTE + b"\r\n" + delimiter + b"\r\n"
    tail = (
        b"\r\n" + delimiter + b"\r\n"
        b'Content-Type: application/pkcs7-signature; name="smime.p7s"\r\n'
        b"Content-Transfer-Encoding: base64\r\n"
        b'Content-Disposition: attachment; filename="smime.p7s"\r\n'
        b"Content-Description: S/MIME Cryptographic Signature\r\n\r\n"
        + b"".join(base64_lines([signature]))
        + b"\r\n"
        + delimiter
        + b"--\r\n"
    )

    def chunks() -> Iterator[bytes]:
        yield head
        yield from entity.chunks()
        yield tail

    return (*content_edits(fields, {b"Content-Type": media_type.encode("ascii")}), ReplaceBody(chunks))


def opaque_signed(fields: Sequence[Field], entity: Entity, *, head: bytes, tail: bytes) -> tuple[Edit, ...]:
    """Edits for an opaque message; the CMS in DER is ``head``, the entity, ``tail``."""

    def pieces() -> Iterator[bytes]:
        yield head
        yield from entity.chunks()
        yield tail

    content = {
        b"Content-Type": b' application/pkcs7-mime; smime-type=signed-data; name="smime.p7m"',
        b"Content-Transfer-Encoding": b" base64",
        b"Content-Disposition": b' attachment; filename="smime.p7m"',
    }
    return (*content_edits(fields, content), ReplaceBody(lambda: base64_lines(pieces())))


def content_edits(fields: Sequence[Field], content: dict[bytes, bytes]) -> tuple[Edit, ...]:
    """Replaces the Content-* fields by ``content`` and makes sure of one ``MIME-Version: 1.0``.

    The first field of a name is changed where it stands; what is missing goes to the bottom, so
    that all other fields keep their bytes and their order.
    """
    # Outlook refuses a signed mail without MIME-Version; RFC 2045 4 wants exactly one.
    wanted = {name.lower(): value for name, value in content.items()} | {b"mime-version": b" 1.0"}
    spelling = {name.lower(): name for name in (*content, b"MIME-Version")}
    edits: list[Edit] = []
    seen: dict[bytes, int] = {}
    for field in fields:
        key = field.key
        if not key.startswith(b"content-") and key != b"mime-version":
            continue
        seen[key] = occurrence = seen.get(key, 0) + 1
        value = wanted.get(key)
        if value is None or occurrence > 1:
            edits.append(DeleteField(field.name, occurrence))
        elif value.strip() != field.unfolded:
            edits.append(ChangeField(field.name, occurrence, value))
    edits.extend(AppendField(Field(spelling[key], value)) for key, value in wanted.items() if key not in seen)
    return tuple(edits)


def base64_lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Encodes a stream as base64 in lines of 76 characters that end in CRLF."""
    pending = b""
    for piece in pieces:
        pending += piece
        whole = len(pending) - len(pending) % _BASE64_LINE
        for start in range(0, whole, _BATCH):
            yield _encode(pending[start : min(start + _BATCH, whole)])
        pending = pending[whole:]
    if pending:
        yield _encode(pending)


def _encode(data: bytes) -> bytes:
    text = base64.b64encode(data)
    lines = [text[start : start + _TEXT_LINE] for start in range(0, len(text), _TEXT_LINE)]
    return b"\r\n".join((*lines, b""))
