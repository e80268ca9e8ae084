"""What the delivery filter and the key agent say to each other, as bytes and values.

The frames are those of ``protocol.py``, each with one flat JSON object and binary values in base64. It is a
socket of its own: who may ask for signatures may not ask for decryption, nor the other way round.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from mailsigil.cms.recipients import KeyScheme, WrappedKey
from mailsigil.cms.unwrap import KEY_SIZES
from mailsigil.keys.errors import KeyAgentRefused, ProtocolError, Refusal
from mailsigil.keys.protocol import MAX_CREDENTIALS, MAX_FRAME, MAX_TEXT

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
    return _dump({"op": "find", "address": request.address})


def encode_unwrap(request: UnwrapRequest) -> bytes:
    """Writes a request to unwrap."""
    wrapped = request.wrapped
    return _dump(
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
        fields = _load(payload)
        address = _text(fields, "address")
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
        room -= len(_dump(item)) + 1
        if room < 0:
            break
        items.append(item)
    return _dump({"certificates": items})


def encode_key(key: bytes) -> bytes:
    """Writes the key of a content."""
    return _dump({"key": _to_text(key)})


def decode_found(payload: bytes) -> tuple[DecryptionCertificate, ...]:
    """Reads certificates; raises KeyAgentRefused, or ProtocolError for nonsense."""
    items = _answer(payload).get("certificates")
    if not isinstance(items, list) or len(items) > MAX_CREDENTIALS:
        raise ProtocolError("the key agent's answer holds no list of certificates")
    return tuple(_certificate(item) for item in items)


def decode_key(payload: bytes) -> bytes:
    """Reads the key of a content; raises KeyAgentRefused, or ProtocolError for nonsense."""
    return _octets(_answer(payload), "key")


def _unwrap_request(fields: Mapping[str, object], address: str) -> UnwrapRequest:
    size, wrap_size = fields.get("size"), fields.get("wrap_size")
    if not isinstance(wrap_size, int) or wrap_size not in (0, *KEY_SIZES):
        raise ProtocolError("wrap_size is no size of a key")
    if not isinstance(size, int) or size not in KEY_SIZES:
        raise ProtocolError("size is no size of a key")
    wrapped = WrappedKey(
        scheme=KeyScheme(_text(fields, "scheme")),
        encrypted=_octets(fields, "encrypted"),
        digest=_text(fields, "digest", empty=True),
        mask_digest=_text(fields, "mask_digest", empty=True),
        label=_octets(fields, "label"),
        ephemeral=_octets(fields, "ephemeral"),
        shared_info=_octets(fields, "shared_info"),
        wrap_size=wrap_size,
    )
    return UnwrapRequest(address=address, key_id=_text(fields, "key_id"), wrapped=wrapped, size=size)


def _certificate(item: object) -> DecryptionCertificate:
    if not isinstance(item, dict):
        raise ProtocolError("a certificate is a JSON object")
    return DecryptionCertificate(_text(item, "key_id"), _octets(item, "certificate"))


def _answer(payload: bytes) -> Mapping[str, object]:
    fields = _load(payload)
    if "refused" in fields:
        try:
            refusal = Refusal(fields["refused"])
        except ValueError:
            refusal = Refusal.FAILED
        raise KeyAgentRefused(refusal, _text(fields, "sentence"))
    return fields


def _dump(fields: Mapping[str, object]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode("ascii")


def _load(payload: bytes) -> Mapping[str, object]:
    try:
        fields = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("a frame holds no JSON") from error
    if not isinstance(fields, dict):
        raise ProtocolError("a frame holds JSON that is no object")
    return fields


def _text(fields: Mapping[str, object], name: str, *, empty: bool = False) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not (value or empty) or len(value) > MAX_TEXT:
        raise ProtocolError(f"{name} is missing, or is no short text")
    return value


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
