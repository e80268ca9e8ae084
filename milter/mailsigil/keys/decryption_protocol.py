"""What the delivery filter and the key agent say to each other, as bytes and values.

The frames are those of ``protocol.py``, each with one flat JSON object and binary values in base64. It is a
socket of its own: who may ask for signatures may not ask for decryption, nor the other way round.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from mailsigil.cms.recipients import KeyScheme, WrappedKey
from mailsigil.cms.unwrap import KEY_SIZES
from mailsigil.keys.errors import KeyAgentRefused, ProtocolError, Refusal
from mailsigil.keys.frames import answer_fields, dump, load, text_of
from mailsigil.keys.protocol import MAX_CREDENTIALS, MAX_FRAME

MAX_REQUEST: Final = 16_384
"""Octets of a request: a wrapped key has at most 2048, the rest is short."""
_ROOM: Final = MAX_FRAME - 64


@dataclass(frozen=True, slots=True)
class DecryptionCertificate:
    """A certificate that mail may have been encrypted to, and the name of its key."""

    key_id: str
    certificate: bytes
    """DER."""


@dataclass(frozen=True, slots=True)
class FindRequest:
    """Which certificates can an address's mail be encrypted to?"""

    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UnwrapRequest:
    """Unwrap this key with that private key."""

    address: str
    key_id: str
    wrapped: WrappedKey
    size: int
    """Octets that the key of the content must have: its algorithm says it."""


def encode_find(request: FindRequest) -> bytes:
    """Writes a question for certificates."""
    return dump({"op": "find", "address": request.address})


def encode_unwrap(request: UnwrapRequest) -> bytes:
    """Writes a request to unwrap."""
    wrapped = request.wrapped
    return dump(
        {
            "op": "unwrap",
            "address": request.address,
            "key_id": request.key_id,
            "size": request.size,
            "scheme": wrapped.scheme.value,
            "encrypted": _to_text(wrapped.encrypted),
            "digest": wrapped.digest,
            "mask_digest": wrapped.mask_digest,
            "label": _to_text(wrapped.label),
            "ephemeral": _to_text(wrapped.ephemeral),
            "shared_info": _to_text(wrapped.shared_info),
            "wrap_size": wrapped.wrap_size,
        }
    )


def decode_request(payload: bytes) -> FindRequest | UnwrapRequest:
    """Reads a request; raises KeyAgentRefused with MALFORMED for everything that is none."""
    try:
        if len(payload) > MAX_REQUEST or payload.count(b"{") + payload.count(b"[") != 1:
            raise ProtocolError("a request is one flat and short JSON object")
        fields = load(payload)
        address = text_of(fields, "address")
        match fields.get("op"):
            case "find":
                return FindRequest(address)
            case "unwrap":
                return _unwrap_request(fields, address)
        raise ProtocolError("the request is none that the key agent knows")
    except ValueError as error:
        raise KeyAgentRefused(Refusal.MALFORMED, "the request is malformed") from error


def encode_found(found: tuple[DecryptionCertificate, ...]) -> bytes:
    """Writes the certificates; what does not fit into one frame is left out from the end."""
    items: list[dict[str, str]] = []
    room = _ROOM
    for each in found[:MAX_CREDENTIALS]:
        item = {"key_id": each.key_id, "certificate": _to_text(each.certificate)}
        room -= len(dump(item)) + 1
        if room < 0:
            break
        items.append(item)
    return dump({"certificates": items})


def encode_key(key: bytes) -> bytes:
    """Writes the key of a content."""
    return dump({"key": _to_text(key)})


def decode_found(payload: bytes) -> tuple[DecryptionCertificate, ...]:
    """Reads certificates; raises KeyAgentRefused, or ProtocolError for nonsense."""
    items = answer_fields(payload).get("certificates")
    if not isinstance(items, list) or len(items) > MAX_CREDENTIALS:
        raise ProtocolError("the key agent's answer holds no list of certificates")
    return tuple(_certificate(item) for item in items)


def decode_key(payload: bytes) -> bytes:
    """Reads the key of a content; raises KeyAgentRefused, or ProtocolError for nonsense."""
    return _octets(answer_fields(payload), "key")


def _unwrap_request(fields: Mapping[str, object], address: str) -> UnwrapRequest:
    size, wrap_size = fields.get("size"), fields.get("wrap_size")
    if not isinstance(wrap_size, int) or wrap_size not in (0, *KEY_SIZES):
        raise ProtocolError("wrap_size is no size of a key")
    if not isinstance(size, int) or size not in KEY_SIZES:
        raise ProtocolError("size is no size of a key")
    wrapped = WrappedKey(
        scheme=KeyScheme(text_of(fields, "scheme")),
        encrypted=_octets(fields, "encrypted"),
        digest=text_of(fields, "digest", empty=True),
        mask_digest=text_of(fields, "mask_digest", empty=True),
        label=_octets(fields, "label"),
        ephemeral=_octets(fields, "ephemeral"),
        shared_info=_octets(fields, "shared_info"),
        wrap_size=wrap_size,
    )
    return UnwrapRequest(address=address, key_id=text_of(fields, "key_id"), wrapped=wrapped, size=size)


def _certificate(item: object) -> DecryptionCertificate:
    if not isinstance(item, dict):
        raise ProtocolError("a certificate is a JSON object")
    return DecryptionCertificate(text_of(item, "key_id"), _octets(item, "certificate"))


def _octets(fields: Mapping[str, object], name: str) -> bytes:
    value = fields.get(name)
    if not isinstance(value, str):
        raise ProtocolError(f"{name} is missing")
    try:
        return base64.b64decode(value, validate=True)
    except (ValueError, binascii.Error) as error:
        raise ProtocolError(f"{name} is no base64") from error


def _to_text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
