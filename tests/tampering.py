"""What others may do to a signed message on its way."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable

from asn1crypto import cms

Change = Callable[[bytes], bytes]


def author_is(text: str) -> Change:
    """Replaces the From field, which no S/MIME signature covers."""
    return lambda raw: re.sub(rb"From: .*\r\n", f"From: {text}\r\n".encode(), raw, count=1)


def with_signature(raw: bytes, change: Callable[[cms.ContentInfo], None]) -> bytes:
    """A clear-signed message whose CMS structure was worked on."""
    head, marker, encoded = raw.partition(b"S/MIME Cryptographic Signature\r\n\r\n")
    blob, closing, rest = encoded.partition(b"\r\n--")
    info = cms.ContentInfo.load(base64.b64decode(blob))
    change(info)
    return head + marker + base64.encodebytes(info.dump(force=True)).replace(b"\n", b"\r\n") + closing + rest


def wrapped(raw: bytes, *, before: bytes = b"", after: bytes = b"") -> bytes:
    """A signed message inside of a multipart/mixed of somebody else."""
    head, _, body = raw.partition(b"\r\n\r\n")
    fields = re.split(rb"\r\n(?![ \t])", head)
    content = [field for field in fields if field.lower().startswith(b"content-")]
    outer = [field for field in fields if field not in content]
    outer.append(b"Content-Type: multipart/mixed; boundary=outer")
    parts = [before, b"\r\n".join(content) + b"\r\n\r\n" + body, after]
    return (
        b"\r\n".join(outer)
        + b"\r\n\r\n"
        + b"".join(b"--outer\r\n" + part + b"\r\n" for part in parts if part)
        + b"--outer--\r\n"
    )


def second_signer(info: cms.ContentInfo) -> None:
    """One more signer of the same content."""
    (signer,) = info["content"]["signer_infos"]
    info["content"]["signer_infos"] = [signer, signer.copy()]
