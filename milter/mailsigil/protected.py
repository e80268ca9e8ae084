"""Is a message really signed or encrypted already?

What only says so is ordinary mail: otherwise one word in the header would let mail leave unsigned that must
be signed. Nothing is verified here; the form has to be there, so that a reader finds no other text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from typing import Final

from mailsigil.cms.parse import ContentKind, content_kind
from mailsigil.message.decoding import decode_transfer
from mailsigil.message.fields import Field
from mailsigil.message.mime import Fault, MimeLimitError, MimeLimits, Part, parse_mime
from mailsigil.message.protection import (
    PGP_TYPES,
    SMIME_SIGNATURE_TYPES,
    SMIME_TYPES,
    Protection,
    file_names,
    protection_of,
)
from mailsigil.message.spool import Spool

_SMIME_SIGNATURES: Final = SMIME_SIGNATURE_TYPES | SMIME_TYPES
_PGP_SIGNATURE: Final = "application/pgp-signature"
_PGP_ENCRYPTED: Final = "application/pgp-encrypted"
_ARMOUR: Final = {
    b"-----BEGIN PGP MESSAGE-----": b"-----END PGP MESSAGE-----",
    b"-----BEGIN PGP SIGNED MESSAGE-----": b"-----END PGP SIGNATURE-----",
}
_SHOWN: Final = frozenset({"text", "message", "multipart"})
_LONG_LINE: Final = 65536
# RFC 5652: lists of certificates and compressed content protect nothing.
_PROTECTING: Final = frozenset(
    {ContentKind.SIGNED_DATA, ContentKind.ENVELOPED_DATA, ContentKind.AUTH_ENVELOPED_DATA}
)


def protected(
    fields: Sequence[Field], body: Spool, *, limits: MimeLimits, new_spool: Callable[[], Spool] = Spool
) -> Protection:
    """How a message is protected, NONE where readers may see something else than that."""
    claimed = protection_of(fields, body)
    if claimed is Protection.NONE:
        return Protection.NONE
    try:
        root = parse_mime(fields, body, limits=limits)
    except MimeLimitError:
        return Protection.NONE
    if _in_doubt(root):
        return Protection.NONE
    if root.media_type.full == "multipart/signed":
        return _signed(body, root, new_spool)
    if root.media_type.full == "multipart/encrypted":
        return _encrypted(body, root)
    if claimed is Protection.SMIME:
        kind = _cms_kind(body, root, new_spool)
        return Protection.SMIME if kind in _PROTECTING else Protection.NONE
    return _inline(body, root)


def _in_doubt(root: Part) -> bool:
    """Whether readers may find another type, protocol or boundary. What else is wrong protects no less."""
    faults = {*root.faults} - {Fault.UNTERMINATED}
    if root.encoding in {"base64", "quoted-printable"}:
        faults.discard(Fault.ENCODED_CONTAINER)
    if not root.media_type.doubtful & {"", "boundary", "protocol"}:
        faults.discard(root.media_type.fault)
    return bool(faults)


def _signed(body: Spool, root: Part, new_spool: Callable[[], Spool]) -> Protection:
    # RFC 1847 2.1: two parts, and the type of the second is the protocol.
    if len(root.children) != 2:
        return Protection.NONE
    signature = root.children[1]
    protocol = root.media_type.params.get("protocol", "").lower()
    if protocol in SMIME_SIGNATURE_TYPES and _is_called(signature, _SMIME_SIGNATURES, ".p7s"):
        kind = _cms_kind(body, signature, new_spool)
        return Protection.CLEAR_SIGNED if kind is ContentKind.SIGNED_DATA else Protection.NONE
    if protocol == _PGP_SIGNATURE and _is_called(signature, {_PGP_SIGNATURE}, ".asc"):
        armoured = _first_line(body, signature).startswith(b"-----BEGIN PGP ")
        return Protection.PGP if armoured else Protection.NONE  # RFC 3156 5
    return Protection.NONE


def _is_called(part: Part, types: Set[str], suffix: str) -> bool:
    """By its type, or by its name where a gateway took the type away (RFC 8551 3.9)."""
    if part.media_type.full == "application/octet-stream":
        return any(name.endswith(suffix) for name in file_names(part.media_type, part.fields))
    return part.media_type.full in types


def _encrypted(body: Spool, root: Part) -> Protection:
    # RFC 3156 4: two parts, the version and what is encrypted.
    if len(root.children) != 2:
        return Protection.NONE
    version, content = root.children
    kinds = {root.media_type.params.get("protocol", "").lower(), version.media_type.full}
    armoured = content.media_type.full == "application/octet-stream" and _first_line(body, content)
    if kinds == {_PGP_ENCRYPTED} and armoured and armoured.startswith(b"-----BEGIN PGP MESSAGE"):
        return Protection.PGP
    return Protection.NONE


def _inline(body: Spool, root: Part) -> Protection:
    """PGP in the text itself, which is nothing else; with it may come what is no text."""
    first, *others = _leaves(root)
    if first.media_type.full not in {"text/plain", *PGP_TYPES}:
        return Protection.NONE
    texts = (first, *(each for each in others if each.media_type.type in _SHOWN))
    return Protection.PGP if all(_is_armour(body, each) for each in texts) else Protection.NONE


def _leaves(part: Part) -> Iterator[Part]:
    """All that a reader may show; of anything but multipart/mixed he may choose, so that it stays whole."""
    if part.children and part.media_type.full in {"multipart/mixed", "message/rfc822", "message/global"}:
        for child in part.children:
            yield from _leaves(child)
    else:
        yield part


def _is_armour(body: Spool, part: Part) -> bool:
    """Whether a text is PGP from its first line to its last (RFC 9580 6.2 and 7)."""
    end = b""
    ended = False
    for line in _lines(decode_transfer(body, part)):
        if not end:
            end = _ARMOUR.get(line, b"")
            if not end:
                return False
        elif ended:
            return False
        ended = line == end
    return ended


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Lines that are not blank, without white space at their end. One that never ends is the last one."""
    held = b""
    for chunk in chunks:
        *lines, held = (held + chunk).split(b"\n")
        yield from filter(None, map(bytes.rstrip, lines))
        if len(held) > _LONG_LINE:
            yield held
            return
    if last := held.rstrip():
        yield last


def _cms_kind(body: Spool, part: Part, new_spool: Callable[[], Spool]) -> ContentKind:
    with new_spool() as store:
        for chunk in decode_transfer(body, part):
            store.write(chunk)
        return content_kind(store)


def _first_line(body: Spool, part: Part) -> bytes:
    """The first line that is not blank, and not far down."""
    start = next(decode_transfer(body, part), b"")
    return next((line for line in start.splitlines() if line.strip()), b"")
