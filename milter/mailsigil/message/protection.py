"""Does a message say that it is signed or encrypted? S/MIME (RFC 8551 3.9) and PGP, in all spellings."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from mailsigil.message.fields import Field, named
from mailsigil.message.media_type import MediaType, parse_media_type
from mailsigil.message.spool import Spool

SMIME_TYPES = frozenset({"application/pkcs7-mime", "application/x-pkcs7-mime"})
SMIME_SIGNATURE_TYPES = frozenset({"application/pkcs7-signature", "application/x-pkcs7-signature"})
PGP_TYPES = frozenset({"application/pgp", "application/x-pgp", "application/pgp-encrypted"})
_SMIME_SUFFIXES = (".p7m", ".p7s", ".p7c", ".p7z")
INLINE_PGP = (b"-----BEGIN PGP MESSAGE", b"-----BEGIN PGP SIGNED MESSAGE")
_PGP_MARK = b"-----BEGIN PGP "
_INLINE_WINDOW = 4096
"""Inline PGP starts at the top of a text; octets that are looked at."""


class Protection(Enum):
    """What kind of protection a message carries, judged by its outermost layer."""

    NONE = "none"
    CLEAR_SIGNED = "clear-signed"
    """``multipart/signed`` with an S/MIME signature."""
    SMIME = "s/mime"
    """``application/pkcs7-mime``: opaque-signed, encrypted, compressed or certificates only."""
    PGP = "pgp"
    """PGP/MIME or inline PGP."""
    OTHER = "other"
    """``multipart/signed`` or ``multipart/encrypted`` of another protocol."""


def protection_of(fields: Sequence[Field], body: Spool) -> Protection:
    """Judges by the Content-Type fields (each of them, if there are several) and the first lines.

    Says nothing of whether it is true.
    """
    for field in named(fields, b"content-type"):
        found = _by_media_type(parse_media_type(field.value), fields)
        if found is not Protection.NONE:
            return found
    start = body.read(0, min(_INLINE_WINDOW, len(body)))
    if _PGP_MARK in start and any(line.startswith(INLINE_PGP) for line in start.split(b"\r\n")):
        return Protection.PGP
    return Protection.NONE


def _by_media_type(media_type: MediaType, fields: Sequence[Field]) -> Protection:
    protocol = media_type.params.get("protocol", "").lower()
    if media_type.full in {"multipart/signed", "multipart/encrypted"}:
        if "pgp" in protocol:
            return Protection.PGP
        if media_type.subtype == "signed" and protocol in SMIME_SIGNATURE_TYPES:
            return Protection.CLEAR_SIGNED
        return Protection.OTHER
    if media_type.full in SMIME_TYPES:
        return Protection.SMIME
    if media_type.full in PGP_TYPES or media_type.params.get("x-action", "").startswith("pgp"):
        return Protection.PGP
    # RFC 8551 3.9: gateways turn the type into octet-stream, and the file name still tells.
    named_only = media_type.full in {"application/octet-stream", *SMIME_SIGNATURE_TYPES}
    if named_only and any(name.endswith(_SMIME_SUFFIXES) for name in file_names(media_type, fields)):
        return Protection.SMIME
    return Protection.NONE


def file_names(media_type: MediaType, fields: Sequence[Field]) -> set[str]:
    """Give what a part's Content-Type and Content-Disposition call it, in lower case."""
    # A Content-Disposition value has the parameters of a media type behind another first token.
    names = [
        parse_media_type(b"disposition/" + field.unfolded).params.get("filename", "")
        for field in named(fields, b"content-disposition")
    ]
    return {name.lower() for name in (media_type.params.get("name", ""), *names)}
