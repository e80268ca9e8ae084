"""Where is the S/MIME signature of a message, and what does it cover?

A signature counts only if it covers everything that a client shows as the message (RFC 8551 3.5).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mailsigil.cms.parse import CmsLimits, CmsSyntaxError, SignedData, content_kind, parse_signed_data
from mailsigil.message.decoding import decode_transfer
from mailsigil.message.fields import Field
from mailsigil.message.mime import Part
from mailsigil.message.protection import (
    SMIME_SIGNATURE_TYPES,
    SMIME_TYPES,
    Protection,
    protection_of,
)
from mailsigil.message.spool import Spool
from mailsigil.verdict import Reason, SmimeWord, Status, Verdict


class Ended(Exception):
    """A step of the verification has come to a verdict."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.reason.token)
        self.verdict = verdict


def ended(word: SmimeWord, status: Status, reason: Reason, detail: str = "") -> Ended:
    """The end of a verification, to be raised."""
    return Ended(Verdict(word=word, status=status, reason=reason, detail=detail))


@dataclass(frozen=True, slots=True)
class Signature:
    """The CMS structure of a message, and what it signs when that lies outside of it."""

    data: SignedData
    detached: tuple[Spool, int, int] | None
    """The signed entity of a clear signature: a slice of the message's body."""

    def content(self) -> Iterable[bytes]:
        if self.detached is None:
            return self.data.content_chunks()
        spool, start, end = self.detached
        return spool.chunks(start, end)


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
    if any(_is_signed_part(part) for part in _shown_parts(root)):
        raise ended(SmimeWord.POLICY, Status.INVALID, Reason.PARTIAL)
    raise ended(SmimeWord.NONE, Status.UNSIGNED, Reason.UNSIGNED)


def _clear_signature(body: Spool, root: Part, store: Spool, limits: CmsLimits) -> Signature:
    # RFC 1847 2.1: exactly two parts, the second the signature; RFC 2046 5.1.1: closed.
    if root.faults or not root.terminated or len(root.children) != 2:
        detail = ", ".join(root.faults) or f"{len(root.children)} parts"
        raise ended(SmimeWord.NEUTRAL, Status.INVALID, Reason.STRUCTURE, detail)
    signed, signature = root.children
    if signature.media_type.full not in SMIME_SIGNATURE_TYPES or signature.children:
        raise ended(SmimeWord.NEUTRAL, Status.INVALID, Reason.STRUCTURE, signature.media_type.full)
    if any(chunk.strip() for chunk in body.chunks(*root.epilogue)):
        raise ended(SmimeWord.POLICY, Status.INVALID, Reason.TRAILING)
    data = _parse(body, signature, store, limits)
    if data.content is not None:
        # Two contents, one inside and one outside: no way to tell which one is meant.
        raise ended(
            SmimeWord.NEUTRAL, Status.INVALID, Reason.STRUCTURE, "content inside a detached signature"
        )
    return Signature(data, (body, signed.header_start, signed.body_end))


def _opaque_signature(body: Spool, root: Part, store: Spool, limits: CmsLimits) -> Signature:
    if root.faults:
        raise ended(SmimeWord.NEUTRAL, Status.INVALID, Reason.STRUCTURE, ", ".join(root.faults))
    data = _parse(body, root, store, limits)
    if data.content is None:
        if not data.signers:  # RFC 8551 3.8: certs-only
            raise ended(SmimeWord.NONE, Status.UNSIGNED, Reason.UNSIGNED, "certificates only")
        raise ended(
            SmimeWord.NEUTRAL, Status.INVALID, Reason.STRUCTURE, "an opaque signature without content"
        )
    return Signature(data, None)


def _parse(body: Spool, part: Part, store: Spool, limits: CmsLimits) -> SignedData:
    for chunk in decode_transfer(body, part):
        store.write(chunk)
    kind = content_kind(store)
    if kind in {"enveloped-data", "auth-enveloped-data"}:
        raise ended(SmimeWord.NEUTRAL, Status.UNCHECKED, Reason.ENCRYPTED)
    if kind == "compressed-data":
        raise ended(SmimeWord.NEUTRAL, Status.UNCHECKED, Reason.STRUCTURE, "compressed")
    try:
        return parse_signed_data(store, limits=limits)
    except CmsSyntaxError as error:
        raise ended(SmimeWord.NEUTRAL, Status.INVALID, Reason.SYNTAX, str(error)) from error


def _shown_parts(root: Part) -> Iterable[Part]:
    """The parts of this message itself: a forwarded message inside has its own author."""
    yield root
    if root.media_type.type != "message":
        for child in root.children:
            yield from _shown_parts(child)


def _is_signed_part(part: Part) -> bool:
    full = part.media_type.full
    if full == "multipart/signed":
        return part.media_type.params.get("protocol", "").lower() in SMIME_SIGNATURE_TYPES
    return full in SMIME_TYPES | SMIME_SIGNATURE_TYPES
