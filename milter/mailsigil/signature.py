"""Where is the S/MIME signature of a message, and what does it cover?

A signature counts only if it covers everything that a client shows as the message (RFC 8551 3.5), and
only if every client finds the same structure. So a signed message has to be strict where mail may
otherwise be loose: what two readers could divide in two ways is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from mailsigil.cms import oids
from mailsigil.cms.parse import CmsLimits, CmsSyntaxError, SignedData, content_kind, parse_signed_data
from mailsigil.division import division_fault, has_text_before
from mailsigil.message.decoding import NOT_BASE64, decode_transfer
from mailsigil.message.fields import Field, named
from mailsigil.message.media_type import parse_media_type
from mailsigil.message.mime import IDENTITY_ENCODINGS, Part
from mailsigil.message.protection import (
    SMIME_SIGNATURE_TYPES,
    SMIME_TYPES,
    Protection,
    protection_of,
)
from mailsigil.message.spool import Spool
from mailsigil.verdict import Reason, Verdict


class Ended(Exception):
    """A step of the verification has come to a verdict."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.reason.token)
        self.verdict = verdict


def ended(reason: Reason, detail: str = "") -> Ended:
    """The end of a verification, to be raised."""
    return Ended(Verdict(word=reason.word, status=reason.status, reason=reason, detail=detail))


def _malformed(detail: str, reason: Reason = Reason.STRUCTURE) -> Ended:
    return ended(reason, detail)


@dataclass(frozen=True, slots=True)
class Signature:
    """The CMS structure of a message, and what it signs when that lies outside of it."""

    data: SignedData
    detached: tuple[Spool, Part] | None
    """The signed entity of a clear signature, and the body that it is a slice of."""

    def content(self) -> Iterable[bytes]:
        if self.detached is None:
            return self.data.content_chunks()
        spool, part = self.detached
        return spool.chunks(part.header_start, part.body_end)


def find_signature(
    fields: Sequence[Field], body: Spool, root: Part, store: Spool, limits: CmsLimits
) -> Signature:
    """Finds the signature of a message, or raises ``Ended`` with the verdict that there is none to judge.

    ``store`` takes the decoded CMS structure and must live as long as the result.
    """
    protection = protection_of(fields, body)
    if protection is Protection.CLEAR_SIGNED:
        return _clear_signature(body, root, store, limits)
    if protection is Protection.SMIME:
        return _opaque_signature(body, root, store, limits)
    if any(_is_signed_part(part) for part in shown_parts(root)):
        raise ended(Reason.PARTIAL)
    raise ended(Reason.UNSIGNED)


def shown_parts(root: Part) -> Iterator[Part]:
    """The parts of this message itself: a forwarded message inside has its own author."""
    yield root
    if root.media_type.type != "message":
        for child in root.children:
            yield from shown_parts(child)


# --- Clear: multipart/signed -----------------------------------------------------------------------------


def _clear_signature(body: Spool, root: Part, store: Spool, limits: CmsLimits) -> Signature:
    # RFC 1847 2.1: exactly two parts, the second the signature; RFC 2046 5.1.1: closed.
    if root.faults or not root.terminated or len(root.children) != 2:
        raise _malformed(", ".join(root.faults) or f"{len(root.children)} parts")
    _require_one_reading(root)
    signed, signature = root.children
    if signature.media_type.full not in SMIME_SIGNATURE_TYPES or signature.children or signature.faults:
        raise _malformed(", ".join(signature.faults) or signature.media_type.full)
    if not all(chunk.isspace() for chunk in body.chunks(*root.epilogue)):
        raise ended(Reason.TRAILING)
    _require_one_reading(signature)
    if fault := division_fault(body, root):
        raise _malformed(fault)
    # An empty message beside text that nobody signed: whoever shows the text shows nothing else.
    if has_text_before(body, root) and _is_blank(body, signed):
        raise ended(Reason.PARTIAL, "the signed part is empty")
    data = _parse(body, signature, store, limits)
    if data.content is not None:
        # Two contents, one inside and one outside: no way to tell which one is meant.
        raise _malformed("content inside a detached signature")
    return Signature(data, (body, signed))


def _is_blank(body: Spool, part: Part) -> bool:
    return all(chunk.isspace() for chunk in body.chunks(part.body_start, part.body_end))


# --- Opaque: application/pkcs7-mime ----------------------------------------------------------------------


def _opaque_signature(body: Spool, root: Part, store: Spool, limits: CmsLimits) -> Signature:
    if root.faults:
        raise _malformed(", ".join(root.faults))
    _require_one_reading(root)
    if root.media_type.full in SMIME_SIGNATURE_TYPES:
        raise _malformed(f"{root.media_type.full} without the content that it signs")
    data = _parse(body, root, store, limits)
    # RFC 8551 3.2.2: some clients believe smime-type and do not look.
    claimed = root.media_type.params.get("smime-type", "").lower()
    if data.content is None:
        if not data.signers:  # RFC 8551 3.8: certs-only
            raise ended(Reason.UNSIGNED, "certificates only")
        raise _malformed("an opaque signature without content")
    if claimed not in {"", "signed-data"}:
        raise _malformed(f"signed-data that calls itself {claimed[:40]}", Reason.CONTENT_TYPE)
    return Signature(data, None)


# --- Both ------------------------------------------------------------------------------------------------

# Comments, escapes, encoded words and RFC 2231 forms are legal, and there are readers that know none of them.
_TWO_WAYS = re.compile(
    rb"[\\\x80-\xff]|=\?[^?\s]*\?[bq]\?|;\s*(?:boundary|protocol|smime-type|name)\*", re.IGNORECASE
)
_PLAIN_TYPE = re.compile(rb"[a-z]+/[a-z0-9.+-]+[ \t]*(?:;|\Z)", re.IGNORECASE)
_ODD_PARAMETER = re.compile(rb"\(|;[ \t]*;")
_PARAMETER_NAME = re.compile(r"[A-Za-z0-9!#$&+.^_`{|}~-]+")  # RFC 2045 5.1, RFC 2231 7
_QUOTED = re.compile(rb'"[^"]*"')
_REMEMBERED = 512
"""Octets of a Content-Type."""
_OTHER_BASE = (b"content-base", b"content-location")
_SMIME_SUFFIXES = (".p7s", ".p7m", ".p7c", ".p7z")


def _require_one_reading(part: Part) -> None:
    """The type of the whole, and of the signature part, must mean the same to every reader."""
    for field in named(part.fields, b"content-type"):
        value = field.unfolded
        read = _type_fault if len(value) <= _REMEMBERED else _type_fault.__wrapped__
        if fault := read(value, part.media_type.type, tuple(part.media_type.params)):
            raise _malformed(fault, Reason.CONTENT_TYPE)
    # RFC 2557 4: unsigned, these would send the relative links of the signed text elsewhere.
    if any(field.key in _OTHER_BASE for field in part.fields):
        raise _malformed("a Content-Base or Content-Location field that is not signed")


# Signature parts say the same in nearly all mail.
@lru_cache(maxsize=1024)
def _type_fault(value: bytes, main_type: str, parameters: tuple[str, ...]) -> str:
    bare = _QUOTED.sub(b'""', value)
    structural = _without_name(value) if main_type == "application" else value
    if not _PLAIN_TYPE.match(bare) or _TWO_WAYS.search(structural) or _ODD_PARAMETER.search(bare):
        return "a Content-Type that not all readers understand"
    if not all(_PARAMETER_NAME.fullmatch(name) for name in parameters):
        return "a parameter name that not all readers take"
    return ""


_NAME = re.compile(rb';\s*name\*?[0-9]*\*?\s*=\s*(?:"[^"]*"|[^;"]*)', re.IGNORECASE)


def _without_name(value: bytes) -> bytes:
    """A file name may have any letters, and decides nothing."""
    return _NAME.sub(b"", value)


def _parse(body: Spool, part: Part, store: Spool, limits: CmsLimits) -> SignedData:
    _require_honest_name(part)
    if part.encoding not in IDENTITY_ENCODINGS | {"base64", "quoted-printable"}:
        raise _malformed(f"the transfer encoding {part.encoding[:40]}")
    if part.encoding == "base64" and any(
        _strays(chunk) for chunk in body.chunks(part.body_start, part.body_end)
    ):
        raise _malformed("text among the base64 of the signature", Reason.SYNTAX)
    for chunk in decode_transfer(body, part):
        store.write(chunk)
    try:
        data = parse_signed_data(store, limits=limits)
    except CmsSyntaxError as error:
        kind = content_kind(store)
        if kind in {"enveloped-data", "auth-enveloped-data"}:
            raise ended(Reason.ENCRYPTED) from error
        if kind == "compressed-data":
            raise ended(Reason.COMPRESSED) from error
        raise _malformed(str(error), Reason.SYNTAX) from error
    # RFC 8551 2.4.1: mail is id-data. Time-stamps and receipts are signed with the same keys.
    if data.signers and data.content_type != oids.DATA:
        raise _malformed("something else than mail was signed")
    return data


def _strays(chunk: bytes) -> bytes:
    """What stands in base64 and is neither of its alphabet nor white space."""
    return chunk.translate(None, _BASE64_AND_SPACE)


_BASE64_AND_SPACE = bytes(octet for octet in range(256) if octet not in NOT_BASE64) + b" \t\r\n"


def _require_honest_name(part: Part) -> None:
    """A structure with room for any octets must not be opened as a file of another kind."""
    names = [part.media_type.params.get("name", "")]
    for field in named(part.fields, b"content-disposition"):
        disposition = parse_media_type(b"disposition/" + field.unfolded)
        if "given twice" in disposition.fault:
            raise _malformed("a signature with two file names")
        names += [disposition.params.get("filename", "")]
    for name in names:
        if name and not name.lower().rstrip().endswith(_SMIME_SUFFIXES):
            raise _malformed("a signature with the file name of something else")


def _is_signed_part(part: Part) -> bool:
    full = part.media_type.full
    if full == "multipart/signed":
        return part.media_type.params.get("protocol", "").lower() in SMIME_SIGNATURE_TYPES
    return full in SMIME_TYPES | SMIME_SIGNATURE_TYPES
