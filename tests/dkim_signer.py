"""A DKIM signer for tests that writes whatever it is told, right or wrong.

It shares no code with the verifier or with dkimpy: canonical forms are made in the most direct way.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from mailsigil.dkim.verdict import DkimResult, verify_dkim
from mailsigil.message.fields import parse_fields
from mailsigil.message.spool import Spool
from spare_keys import rsa_key

AT = datetime(2026, 11, 22, 2, 15, 16, tzinfo=UTC)
DOMAIN, SELECTOR = "bank.example", "s1"
MESSAGE = (
    b"Received: from a.example by b.example;\r\n\tSun, 22 Nov 2026 02:15:00 +0000\r\n"
    b"From: Alice  Example <alice@bank.example>\r\n"
    b"To: bob@example.net\r\n"
    b"Subject: Lunch \r\n  and   more\r\n"
    b"\r\n"
    b"Hello \t Bob,\r\n\r\nlunch?  \r\n\r\n\r\n"
)

Key = rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


@cache
def ed_key() -> ed25519.Ed25519PrivateKey:
    """One Ed25519 key, made once a run."""
    return ed25519.Ed25519PrivateKey.generate()


def record(key: Key, **tags: str) -> bytes:
    """The key record; ``tags`` replace or add, an empty text leaves one out."""
    if isinstance(key, rsa.RSAPrivateKey):
        kind = "rsa"
        data = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    else:
        kind, data = "ed25519", key.public_key().public_bytes_raw()
    all_tags = {"v": "DKIM1", "k": kind, "p": base64.b64encode(data).decode()} | tags
    return "; ".join(f"{tag}={text}" for tag, text in all_tags.items() if text or tag == "p").encode()


def sign(
    message: bytes = MESSAGE,
    *,
    key: Key | None = None,
    canonical: str = "relaxed/relaxed",
    names: Sequence[str] = ("from", "to", "subject"),
    **tags: str,
) -> bytes:
    """Put a DKIM-Signature on top of a message. ``tags`` replace or add; "-" leaves one out."""
    key = key or rsa_key()
    header, _, body = message.partition(b"\r\n\r\n")
    header_way, _, body_way = canonical.partition("/")
    text = _canonical_body(body, body_way or "simple")
    length = tags.get("l", "")
    signed_text = text[: int(length)] if length.isdigit() else text
    all_tags = {
        "v": "1",
        "a": "rsa-sha256" if isinstance(key, rsa.RSAPrivateKey) else "ed25519-sha256",
        "c": canonical,
        "d": DOMAIN,
        "s": SELECTOR,
        "t": str(int(AT.timestamp()) - 60),
        "h": ":".join(names),
        "bh": base64.b64encode(hashlib.sha256(signed_text).digest()).decode(),
    } | tags
    value = ";\r\n ".join(f"{tag}={text}" for tag, text in all_tags.items() if text != "-")
    unsigned = f"DKIM-Signature: {value};\r\n b=".encode()
    fields = [line for line in re.split(rb"\r\n(?![ \t])", header) if line]
    data = b"".join(_canonical_field(line, header_way) + b"\r\n" for line in _select(fields, names))
    data += _canonical_field(unsigned, header_way)
    signature = base64.b64encode(_raw(key, hashlib.sha256(data).digest()))
    return unsigned + signature + b"\r\n" + message


def check(
    message: bytes,
    found: bytes | None = None,
    *,
    max_bytes: int = 1_000_000,
    max_signatures: int = 5,
    at: datetime = AT,
) -> tuple[DkimResult, ...]:
    """Verify a whole message with one key record for every name."""
    fields, start = parse_fields(message)
    with Spool() as body:
        body.write(message[start:])
        return verify_dkim(
            fields,
            body,
            txt=lambda name: found,
            max_bytes=max_bytes,
            max_signatures=max_signatures,
            at=at,
        )


def _raw(key: Key, digest: bytes) -> bytes:
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(digest, padding.PKCS1v15(), Prehashed(hashes.SHA256()))
    return key.sign(digest)


def _select(fields: list[bytes], names: Sequence[str]) -> list[bytes]:
    left = list(fields)
    chosen = []
    for name in names:
        for position in reversed(range(len(left))):
            if left[position].partition(b":")[0].strip().lower() == name.encode():
                chosen.append(left.pop(position))
                break
    return chosen


def _canonical_field(line: bytes, way: str) -> bytes:
    if way == "simple":
        return line
    name, _, value = line.partition(b":")
    return name.strip().lower() + b":" + re.sub(rb"[ \t\r\n]+", b" ", value).strip(b" ")


def _canonical_body(body: bytes, way: str) -> bytes:
    lines = body.split(b"\r\n")
    if way == "relaxed":
        lines = [re.sub(rb"[ \t]+", b" ", line).rstrip(b" ") for line in lines]
    while lines and not lines[-1]:
        lines.pop()
    if not lines and way == "relaxed":
        return b""
    return b"\r\n".join(lines) + b"\r\n"
