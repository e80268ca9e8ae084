"""A frame of the key agent's protocols: a JSON object, read without trust in who wrote it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from mailsigil.keys.errors import KeyAgentRefused, ProtocolError, Refusal

MAX_TEXT: Final = 512
"""Characters of one text value: an address has at most 320."""


def answer_fields(payload: bytes) -> Mapping[str, object]:
    """Read an answer. Raises KeyAgentRefused when it is a refusal, ProtocolError when it is none."""
    fields = load(payload)
    if "refused" in fields:
        try:
            refusal = Refusal(fields["refused"])
        except ValueError:
            refusal = Refusal.FAILED
        raise KeyAgentRefused(refusal, text_of(fields, "sentence"))
    return fields


def dump(fields: Mapping[str, object]) -> bytes:
    """Write a frame."""
    return json.dumps(fields, separators=(",", ":")).encode("ascii")


def load(payload: bytes) -> Mapping[str, object]:
    """Read a frame. Raises ProtocolError."""
    try:
        fields = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("a frame holds no JSON") from error
    if not isinstance(fields, dict):
        raise ProtocolError("a frame holds JSON that is no object")
    return fields


def text_of(fields: Mapping[str, object], name: str, *, empty: bool = False) -> str:
    """Give a short text of a frame, which may be empty only where that is said. Raises ProtocolError."""
    value = fields.get(name)
    if not isinstance(value, str) or not (value or empty) or len(value) > MAX_TEXT:
        raise ProtocolError(f"{name} is missing, or is no short text")
    return value
