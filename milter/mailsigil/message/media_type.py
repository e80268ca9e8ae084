"""The value of Content-Type and its relatives (RFC 2045 5.1, RFC 2231)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from urllib.parse import unquote_to_bytes

from mailsigil.message.charsets import decode_charset

MAX_VALUE = 32768
"""A longer field value is not looked at."""
MAX_PARAMETERS = 200
_REMEMBERED_VALUE = 512
"""Octets; the same short values come with almost every mail, and longer ones are not worth the memory."""

_TOKEN = r"[^\x00-\x20()<>@,;:\\\"/\[\]?=\x7f-\U0010ffff]+"  # RFC 2045 5.1  # noqa: S105
_TYPE = re.compile(rf"\s*({_TOKEN})\s*/\s*({_TOKEN})\s*")
_PARAMETER = re.compile(r"\s*([^\s=;\"]+)\s*=\s*")
_QUOTED = re.compile(r'"([^"\\]*(?:\\.[^"\\]*)*)"\s*', re.DOTALL)
_ONLY_TOKEN = re.compile(_TOKEN)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_COMMENT_MARK = re.compile(r'\\.|["()]', re.DOTALL)
_SECTION = re.compile(r"([^*]+)(?:\*([0-9]{1,3}))?(\*)?")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class MediaType:
    """A media type with its parameters.

    ``type``, ``subtype`` and the names in ``params`` are lower case. Parameter values are decoded;
    octets that are no UTF-8 stand in them as Python's surrogate escapes, so that
    ``value.encode("utf-8", "surrogateescape")`` gives the octets back. ``fault`` says in words what
    breaks the syntax so that two readers may understand it differently, and is empty for a clean value.
    ``doubtful`` names the parameters that this is about; an empty name stands for everything.
    """

    type: str = "text"
    subtype: str = "plain"
    params: Mapping[str, str] = field(default_factory=dict)
    fault: str = ""
    doubtful: frozenset[str] = frozenset()

    @property
    def full(self) -> str:
        """Type and subtype, for example ``multipart/signed``."""
        return f"{self.type}/{self.subtype}"


_EVERYTHING = frozenset({""})


@dataclass(slots=True)
class _Faults:
    words: list[str] = field(default_factory=list)
    doubtful: set[str] = field(default_factory=set)

    def add(self, words: str, parameter: str = "") -> None:
        self.words.append(words)
        self.doubtful.add(parameter)


def parse_media_type(value: bytes | None) -> MediaType:
    """Read a Content-Type value; None, for an absent field, gives text/plain (RFC 2045 5.2).

    Never raises: it takes what real senders write (a semicolon at the end, spaces and comments
    anywhere, unquoted values with specials), and names in ``fault`` what it had to guess.
    """
    if value is None:
        return MediaType()
    if len(value) > MAX_VALUE:
        return MediaType(fault="value too long", doubtful=_EVERYTHING)
    return _parse_remembered(value) if len(value) <= _REMEMBERED_VALUE else _parse(value)


def _parse(value: bytes) -> MediaType:
    text = value.replace(b"\r\n", b"").decode("utf-8", "surrogateescape")
    faults = _Faults()
    if _CONTROL.search(text):
        faults.add("control characters")
    if "(" in text:
        text = _without_comments(text, faults)
    match = _TYPE.match(text)
    if match is None:
        # RFC 2045 5.2: what cannot be read counts as text/plain.
        return MediaType(fault="no type and subtype", doubtful=_EVERYTHING)
    params = _parameters(text, match.end(), faults)
    frozen = MappingProxyType(dict(params))
    return MediaType(
        match[1].lower(), match[2].lower(), frozen, "; ".join(faults.words[:5]), frozenset(faults.doubtful)
    )


_parse_remembered = lru_cache(maxsize=1024)(_parse)


def _without_comments(text: str, faults: _Faults) -> str:
    """Put a space in the place of each comment (RFC 5322 3.2.2), quoted strings left alone."""
    kept: list[str] = []
    depth = 0
    quoted = False
    start = 0
    for mark in _COMMENT_MARK.finditer(text):
        sign = mark[0]
        if sign == '"' and depth == 0:
            quoted = not quoted
        elif sign == "(" and not quoted:
            if depth == 0:
                kept.append(text[start : mark.start()])
            depth += 1
        elif sign == ")" and not quoted and depth:
            depth -= 1
            start = mark.end()
    if depth:
        faults.add("comment without end")
    else:
        kept.append(text[start:])
    return " ".join(kept)


def _parameters(text: str, position: int, faults: _Faults) -> Mapping[str, str]:
    raw: dict[str, str] = {}
    sectioned = False
    while position < len(text):
        if text[position] != ";":
            faults.add("text where a semicolon was due")
            position = text.find(";", position)
            if position < 0:
                break
        position += 1
        match = _PARAMETER.match(text, position)
        if match is None:
            end = text.find(";", position)
            end = len(text) if end < 0 else end
            if text[position:end].strip():
                faults.add("parameter without value")
            position = end
            continue
        name = match[1].lower()
        value, position = _parameter_value(text, match.end(), name, faults)
        if name in raw:
            faults.add(f"parameter {name[:40]} given twice", name.partition("*")[0])
            continue  # the first one counts
        if len(raw) >= MAX_PARAMETERS:
            faults.add("too many parameters")
            break
        sectioned = sectioned or "*" in name
        raw[name] = value
    return _join_sections(raw, faults) if sectioned else raw


def _parameter_value(text: str, position: int, name: str, faults: _Faults) -> tuple[str, int]:
    """Read the value at a position; gives it and the position behind it and its white space."""
    match = _QUOTED.match(text, position)
    if match is not None:
        inner = match[1]
        return (_ESCAPE.sub(r"\1", inner) if "\\" in inner else inner), match.end()
    if text.startswith('"', position):
        faults.add("quoted string without end")
        return text[position + 1 :], len(text)
    end = text.find(";", position)
    end = len(text) if end < 0 else end
    value = text[position:end].strip()
    if not _ONLY_TOKEN.fullmatch(value) and not _harmless(value):
        faults.add("parameter value not quoted", "" if _may_hold_another(value) else name.partition("*")[0])
    return value, end


def _harmless(value: str) -> bool:
    """Tell whether every reader takes an unquoted value with specials, such as ``=_1/2``, the same way."""
    return value != "" and not re.search(r"[\s\"\\(),;<>]", value)


def _may_hold_another(value: str) -> bool:
    """Tell whether a reader may find the beginning or end of something else in an unquoted value."""
    return re.search(r"[\"\\()=]", value) is not None


def _join_sections(raw: Mapping[str, str], faults: _Faults) -> Mapping[str, str]:
    """Undo the continuations and character sets of RFC 2231 3 and 4."""
    joined: dict[str, str] = {}
    sections: dict[str, dict[int, tuple[str, bool]]] = {}
    for name, value in raw.items():
        match = _SECTION.fullmatch(name)
        if match is None or "*" not in name:
            joined[name] = value
            continue
        numbered = sections.setdefault(match[1], {})
        number = int(match[2] or 0)
        if number in numbered:
            faults.add(f"parameter {match[1][:40]} given twice", match[1])
            continue
        numbered[number] = (value, match[3] is not None)
    for name, numbered in sections.items():
        if name in joined:
            faults.add(f"parameter {name[:40]} given twice", name)
        if sorted(numbered) != list(range(len(numbered))):
            faults.add(f"parameter {name[:40]} with a piece missing", name)
        joined[name] = _decode_sections([numbered[number] for number in sorted(numbered)])
    return joined


def _decode_sections(pieces: list[tuple[str, bool]]) -> str:
    charset = "utf-8"
    octets: list[bytes] = []
    for number, (value, extended) in enumerate(pieces):
        if extended and number == 0 and value.count("'") >= 2:
            charset, _, value = value.split("'", 2)
        octet = value.encode("utf-8", "surrogateescape")
        octets.append(unquote_to_bytes(octet) if extended else octet)
    data = b"".join(octets)
    text = decode_charset(data, charset)
    return data.decode("utf-8", "surrogateescape") if text is None else text
