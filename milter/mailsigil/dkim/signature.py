"""Reading and checking one DKIM-Signature field before any key is asked for (RFC 6376 3.5, 6.1.1)."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import idna
from dkim.util import InvalidTagValueList, parse_tag_value

from mailsigil.dkim.words import DkimFault, DkimWord

Tags = Mapping[bytes, bytes]

MAX_FIELD = 16384
"""Octets of a DKIM-Signature field; real ones stay below 4,000."""
MAX_SIGNED_FIELDS = 300
"""Names in ``h=``; each costs a search through the header."""
CLOCK_SKEW = 300
"""Seconds that the clocks of two hosts may differ."""

# dkimpy's patterns take quadratic time on long runs of white space; no signer writes such runs.
_LONG_GAP = re.compile(rb"\s{128}")
_DIGITS = re.compile(rb"[0-9]{1,15}")
_SELECTOR = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*")
_CANONICAL = frozenset({b"simple", b"relaxed"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """What one DKIM-Signature field says."""

    key_type: bytes
    """``rsa`` or ``ed25519``."""
    header_relaxed: bool
    body_relaxed: bool
    signed_names: tuple[bytes, ...]
    """Names in ``h=``, lower case."""
    body_hash: bytes
    body_length: int | None
    """``l=``: octets of the canonical body that are signed; None for all."""
    value: bytes
    """``b=``, decoded."""
    identity_domain: str
    """Domain of ``i=``, which is ``d=`` or below it."""


def read_tags(value: bytes) -> dict[bytes, bytes]:
    """Cut a field value into its tags (RFC 6376 3.2). Raises :class:`DkimFault`."""
    if len(value) > MAX_FIELD:
        raise DkimFault(DkimWord.POLICY, "the signature field is too long")
    if _LONG_GAP.search(value):
        raise DkimFault(DkimWord.PERMERROR, "the signature field holds too much white space")
    try:
        tags: dict[bytes, bytes] = parse_tag_value(value)
    except (InvalidTagValueList, IndexError) as error:
        raise DkimFault(DkimWord.PERMERROR, "the signature field cannot be read") from error
    return tags


def read_domain(tags: Tags, tag: bytes = b"d") -> str:
    """Give the signing domain as lower-case A-labels. Raises :class:`DkimFault`."""
    domain = a_labels(_required(tags, tag))
    if not domain or "." not in domain:
        raise DkimFault(DkimWord.PERMERROR, "the signing domain is no domain name")
    return domain


def read_selector(tags: Tags) -> str:
    """Give the selector in lower case. Raises :class:`DkimFault`."""
    selector = _required(tags, b"s").decode("ascii", "replace").lower()
    if len(selector) > 200 or not _SELECTOR.fullmatch(selector):
        raise DkimFault(DkimWord.PERMERROR, "the selector is no part of a domain name")
    return selector


def read_signature(tags: Tags, *, domain: str, at: datetime) -> Signature:
    """Check the tags as RFC 6376 6.1.1 asks. Raises :class:`DkimFault`."""
    if _required(tags, b"v") != b"1":
        raise DkimFault(DkimWord.PERMERROR, "the signature has an unknown version")
    key_type = _key_type(_required(tags, b"a").lower())
    header_relaxed, body_relaxed = _canonicalisation(tags)
    _check_times(tags, int(at.timestamp()))
    if b"dns/txt" not in [way.strip() for way in tags.get(b"q", b"dns/txt").lower().split(b":")]:
        raise DkimFault(DkimWord.PERMERROR, "the key can be asked for in no known way")
    return Signature(
        key_type=key_type,
        header_relaxed=header_relaxed,
        body_relaxed=body_relaxed,
        signed_names=_signed_names(tags),
        body_hash=_decode(_required(tags, b"bh")),
        body_length=_number(tags, b"l"),
        value=_decode(_required(tags, b"b")),
        identity_domain=_identity_domain(tags, domain),
    )


def read_arc_signature(tags: Tags, *, domain: str, at: datetime) -> Signature:
    """Check the tags of an ARC-Message-Signature (RFC 8617 4.1.2). Raises :class:`DkimFault`."""
    if b"v" in tags:
        raise DkimFault(DkimWord.PERMERROR, "the signature has a version")
    signature = read_signature(
        {**tags, b"v": b"1", b"i": b"@" + domain.encode("ascii")}, domain=domain, at=at
    )
    if b"arc-seal" in signature.signed_names:
        raise DkimFault(DkimWord.PERMERROR, "the signature covers a seal")
    return signature


def read_arc_seal(tags: Tags, *, domain: str, at: datetime) -> Signature:
    """Check the tags of an ARC-Seal (RFC 8617 4.1.3). Raises :class:`DkimFault`."""
    key_type = _key_type(_required(tags, b"a").lower())
    if b"h" in tags:
        raise DkimFault(DkimWord.PERMERROR, "the seal names header fields")
    _check_times(tags, int(at.timestamp()))
    return Signature(
        key_type=key_type,
        header_relaxed=True,
        body_relaxed=True,
        signed_names=(),
        body_hash=b"",
        body_length=None,
        value=_decode(_required(tags, b"b")),
        identity_domain=domain,
    )


def _required(tags: Tags, tag: bytes) -> bytes:
    value = tags.get(tag, b"")
    if not value:
        raise DkimFault(DkimWord.PERMERROR, f"the signature has no {tag.decode('ascii')}= value")
    return value


def _key_type(algorithm: bytes) -> bytes:
    match algorithm:
        case b"rsa-sha256":
            return b"rsa"
        case b"ed25519-sha256":  # RFC 8463 3
            return b"ed25519"
        case b"rsa-sha1":  # RFC 8301 3.1: must not be taken as valid
            raise DkimFault(DkimWord.POLICY, "the signature uses SHA-1")
        case _:
            raise DkimFault(DkimWord.PERMERROR, "the signature uses an unknown algorithm")


def _canonicalisation(tags: Tags) -> tuple[bool, bool]:
    header, _, body = tags.get(b"c", b"simple/simple").lower().partition(b"/")
    body = body or b"simple"  # RFC 6376 3.5: the body's default, whatever the header's is
    if header not in _CANONICAL or body not in _CANONICAL:
        raise DkimFault(DkimWord.PERMERROR, "the signature uses an unknown canonicalisation")
    return header == b"relaxed", body == b"relaxed"


def _check_times(tags: Tags, now: int) -> None:
    signed = _number(tags, b"t")
    expires = _number(tags, b"x")
    if signed is not None and expires is not None and expires <= signed:  # RFC 6376 3.5
        raise DkimFault(DkimWord.PERMERROR, "the signature expires before it was made")
    # RFC 6376 3.5, 6.1.1: a verifier may refuse these. That is a choice of ours, so the word is "policy".
    if signed is not None and signed > now + CLOCK_SKEW:
        raise DkimFault(DkimWord.POLICY, "the signature was made in the future")
    if expires is not None and expires < now - CLOCK_SKEW:
        raise DkimFault(DkimWord.POLICY, "the signature has expired")


def _signed_names(tags: Tags) -> tuple[bytes, ...]:
    names = tuple(name.strip().lower() for name in _required(tags, b"h").split(b":"))
    if len(names) > MAX_SIGNED_FIELDS:
        raise DkimFault(DkimWord.POLICY, "the signature names too many header fields")
    if b"from" not in names:  # RFC 6376 5.4, 6.1.1
        raise DkimFault(DkimWord.PERMERROR, "the signature does not cover the From field")
    return names


def _identity_domain(tags: Tags, domain: str) -> str:
    if b"i" not in tags:
        return domain
    identity = a_labels(tags[b"i"].rpartition(b"@")[2])
    if identity != domain and not identity.endswith("." + domain):  # RFC 6376 6.1.1
        raise DkimFault(DkimWord.PERMERROR, "the signature's identity is outside of its domain")
    return identity


def a_labels(name: bytes) -> str:
    """Bring a domain to lower-case A-labels; empty when it is none. U-labels may come by RFC 8616."""
    try:
        text = name.decode("utf-8").lower().rstrip(".")
        if len(text) > 253:
            return ""
        if text.isascii():
            return text if _SELECTOR.fullmatch(text) else ""
        return idna.encode(text, uts46=True).decode("ascii")
    except (UnicodeError, idna.IDNAError):
        return ""


def _number(tags: Tags, tag: bytes) -> int | None:
    if tag not in tags:
        return None
    if not _DIGITS.fullmatch(tags[tag]):
        raise DkimFault(DkimWord.PERMERROR, f"the {tag.decode('ascii')}= value is no number")
    return int(tags[tag])


def _decode(value: bytes) -> bytes:
    try:
        return base64.b64decode(b"".join(value.split()), validate=True)
    except binascii.Error as error:
        raise DkimFault(DkimWord.PERMERROR, "a value of the signature is not base64") from error
