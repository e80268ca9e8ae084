"""The language between the key agent and those who ask it, as bytes and values.

A frame is a length of four bytes, most significant first, and a payload: one flat JSON object with
binary values in base64. Only what every mail needs is shorter. A request to sign is the octet 1, then
name of the key, address and scheme, each in UTF-8 behind its length in two bytes, and the data; a
signature is the octet 2 and the signature. Either side may be hostile to the other, so every size is
bounded before it is believed.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from enum import Enum

from mailsigil.folding import is_key
from mailsigil.keys.errors import KeyAgentRefused, ProtocolError, Refusal
from mailsigil.keys.frames import MAX_TEXT, answer_fields, dump, load, text_of

MAX_FRAME = 262_144
"""Octets of JSON that one frame may carry."""
HEADER_SIZE = 4
_SIGN = b"\x01"
_SIGNATURE = b"\x02"
_LENGTH_SIZE = 2
MAX_BRACKETS = 64
"""Opening brackets in a request, which is flat: a bound that keeps the JSON reader from recursing."""
MAX_CREDENTIALS = 32
MAX_INTERMEDIATES = 30
MAX_DOMAINS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """What can sign for an address: the certificate, and the name of a key that stays elsewhere."""

    key_id: str
    certificate: bytes
    """DER."""
    intermediates: tuple[bytes, ...]
    """DER, from the issuer of the certificate upwards, without the root."""
    schemes: tuple[str, ...]
    """Names of :class:`mailsigil.cms.algorithms.Scheme`, the preferred one first."""
    source: str = ""
    """Name of the [[source]] that the key comes from; empty for the folder of [keyd]."""
    domains: tuple[str, ...] = ()
    """Mail domains whose every sender the certificate may sign for, besides the addresses that it names."""

    def speaks_for(self, address: str) -> bool:
        """Tells whether it may sign for an address as one of these domains."""
        return address.rpartition("@")[2] in self.domains


class Operation(Enum):
    """What can be asked of the agent."""

    FIND = "find"
    SIGN = "sign"
    PING = "ping"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One question. Values that an operation does not use are empty."""

    operation: Operation
    address: str = ""
    key_id: str = ""
    scheme: str = ""
    data: bytes = b""
    source: str = ""
    """To find: the one source to ask; empty for all."""
    without: str = ""
    """To find: a source that is not asked."""
    at_hand: bool = False
    """To find: what is there already; nothing is enrolled for it."""


def frame(payload: bytes) -> bytes:
    """Puts the length before a payload; raises ProtocolError when it is too long for a frame."""
    if len(payload) > MAX_FRAME:
        raise ProtocolError(f"a frame of {len(payload)} octets exceeds the limit of {MAX_FRAME}")
    return len(payload).to_bytes(HEADER_SIZE, "big") + payload


def frame_size(header: bytes) -> int:
    """Reads the length; raises ProtocolError when the frame would be empty or too long."""
    size = int.from_bytes(header, "big")
    if not 0 < size <= MAX_FRAME:
        raise ProtocolError(f"a frame announces {size} octets, and the limit is {MAX_FRAME}")
    return size


def encode_request(request: Request) -> bytes:
    """Writes a request as a payload."""
    match request.operation:
        case Operation.FIND:
            choice = {"source": request.source, "without": request.without}
            # Mail never says it, and its requests stay as short as they were.
            at_hand = {"at_hand": True} if request.at_hand else {}
            return dump({"op": "find", "address": request.address, **choice, **at_hand})
        case Operation.SIGN:
            texts = map(_counted, (request.key_id, request.address, request.scheme))
            return b"".join((_SIGN, *texts, request.data))
        case Operation.PING:
            return dump({"op": "ping"})


def decode_request(payload: bytes) -> Request:
    """Reads a request; raises KeyAgentRefused with MALFORMED for everything that is none."""
    try:
        if payload.startswith(_SIGN):
            return _sign_request(payload)
        if payload.count(b"{") + payload.count(b"[") > MAX_BRACKETS:
            raise ProtocolError("a request is one flat JSON object")
        fields = load(payload)
        operation = Operation(text_of(fields, "op"))
        if operation is Operation.PING:
            return Request(operation=operation)
        if operation is Operation.SIGN:
            raise ProtocolError("a request to sign is no JSON")
        return Request(
            operation=operation,
            address=text_of(fields, "address"),
            source=text_of({"source": "", **fields}, "source", empty=True),
            without=text_of({"without": "", **fields}, "without", empty=True),
            at_hand=fields.get("at_hand") is True,
        )
    except ValueError as error:
        raise KeyAgentRefused(Refusal.MALFORMED, "the request is malformed") from error


def check_address(address: str) -> None:
    """Refuses (KeyAgentRefused) an address that is not in key form.

    Whoever asks has compared it in that form; folded in any other way it could be somebody else's.
    """
    if not is_key(address):
        raise KeyAgentRefused(Refusal.MALFORMED, "the address is not in the form in which they are compared")


def encode_found(credentials: tuple[Credential, ...]) -> bytes:
    """Writes the answer to ``find``; what does not fit into one frame is left out from the end."""
    items: list[object] = []
    room = MAX_FRAME - 64
    for credential in credentials[:MAX_CREDENTIALS]:
        item = {
            "key_id": credential.key_id,
            "certificate": _to_text(credential.certificate),
            "intermediates": [_to_text(der) for der in credential.intermediates[:MAX_INTERMEDIATES]],
            "schemes": list(credential.schemes),
            "source": credential.source,
            "domains": list(credential.domains[:MAX_DOMAINS]),
        }
        room -= len(dump(item)) + 1
        if room < 0:
            break
        items.append(item)
    return dump({"credentials": items})


def encode_signature(signature: bytes) -> bytes:
    """Writes the answer to ``sign``."""
    return _SIGNATURE + signature


def encode_pong(keys: int) -> bytes:
    """Writes the answer to ``ping``: how many keys the agent holds."""
    return dump({"keys": keys})


def encode_refusal(refusal: Refusal, sentence: str) -> bytes:
    """Writes a refusal."""
    return dump({"refused": refusal.value, "sentence": sentence[:MAX_TEXT]})


def decode_found(payload: bytes) -> tuple[Credential, ...]:
    """Reads the answer to ``find``; raises KeyAgentRefused, or ProtocolError for nonsense."""
    items = answer_fields(payload).get("credentials")
    if not isinstance(items, list) or len(items) > MAX_CREDENTIALS:
        raise ProtocolError("the key agent's answer holds no list of credentials")
    return tuple(_credential(item) for item in items)


def decode_signature(payload: bytes) -> bytes:
    """Reads the answer to ``sign``; raises KeyAgentRefused, or ProtocolError for nonsense."""
    if payload.startswith(_SIGNATURE) and len(payload) > 1:
        return payload[1:]
    answer_fields(payload)
    raise ProtocolError("the key agent's answer holds no signature")


def decode_pong(payload: bytes) -> int:
    """Reads the answer to ``ping``; raises KeyAgentRefused, or ProtocolError for nonsense."""
    keys = answer_fields(payload).get("keys")
    if not isinstance(keys, int):
        raise ProtocolError("the key agent's answer holds no number of keys")
    return keys


def _counted(text: str) -> bytes:
    octets = text.encode("utf-8", "surrogatepass")  # The agent refuses what is no UTF-8.
    if len(octets) > MAX_TEXT * 4:
        raise ProtocolError("a text of a request is too long")
    return len(octets).to_bytes(_LENGTH_SIZE, "big") + octets


def _sign_request(payload: bytes) -> Request:
    texts = []
    position = 1
    for _ in range(3):
        start = position + _LENGTH_SIZE
        position = start + int.from_bytes(payload[position:start], "big")
        text = payload[start:position].decode()
        if not text or len(text) > MAX_TEXT or position > len(payload):
            raise ProtocolError("a text of a request is missing, broken off or too long")
        texts.append(text)
    if position == len(payload):
        raise ProtocolError("there is nothing to sign")
    key_id, address, scheme = texts
    return Request(
        operation=Operation.SIGN,
        key_id=key_id,
        address=address,
        scheme=scheme,
        data=payload[position:],
    )


def _credential(item: object) -> Credential:
    if not isinstance(item, dict):
        raise ProtocolError("a credential is a JSON object")
    intermediates, schemes = item.get("intermediates"), item.get("schemes")
    if not isinstance(intermediates, list) or len(intermediates) > MAX_INTERMEDIATES:
        raise ProtocolError("a credential has a list of intermediates")
    domains = item.get("domains", [])
    if not isinstance(domains, list) or len(domains) > MAX_DOMAINS:
        raise ProtocolError("a credential has a list of domains")
    if not all(isinstance(name, str) and len(name) <= MAX_TEXT for name in domains):
        raise ProtocolError("a domain is a text")
    if not isinstance(schemes, list) or not all(isinstance(name, str) for name in schemes) or not schemes:
        raise ProtocolError("a credential has a list of schemes")
    return Credential(
        key_id=text_of(item, "key_id"),
        certificate=_from_text(item.get("certificate")),
        intermediates=tuple(_from_text(text) for text in intermediates),
        schemes=tuple(schemes),
        # Agents before these two were added say neither.
        source=text_of({"source": "", **item}, "source", empty=True),
        domains=tuple(domains),
    )


def _to_text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _from_text(value: object) -> bytes:
    if not isinstance(value, str):
        raise ProtocolError("a binary value is missing")
    try:
        return base64.b64decode(value, validate=True)
    except (ValueError, binascii.Error) as error:
        raise ProtocolError("a binary value is no base64") from error
