"""Distinguished names (RFC 4514): how they are compared, and how they are shown."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

_PIECE: Final = re.compile(r"((?:[^\\,;+]|\\.?)*)([,;+]|\Z)", re.DOTALL)
"""An attribute with its value, and what ends it."""
_ESCAPES: Final = re.compile(rb"\\([0-9a-fA-F]{2}|.)", re.DOTALL)
_SPECIAL: Final = re.compile(r'[\\,;+"<>]')
_MAX_SHOWN: Final = 1000


@lru_cache(maxsize=4096)
def dn_key(dn: str) -> str:
    r"""The form in which names are compared; it is one that a directory takes, too.

    Case, spaces around separators and the order within ``a=1+b=2`` do not count, nor which of its ways an
    escape is written in: ``\2C`` and ``\,`` are one comma.
    """
    names: list[list[str]] = [[]]
    for piece, end in _PIECE.findall(dn):
        if piece.strip():
            names[-1].append(_attribute(piece))
        if end in {",", ";"}:
            names.append([])
    return ",".join("+".join(sorted(name)) for name in names if name)


def shown(dn: str) -> str:
    r"""A name for people, logs and tables: what would not print, or turn a line around, is escaped (``\1b``).

    A directory may hold anything in a name. What is compared and asked for is the name as it is.
    """
    return _printable(dn[:_MAX_SHOWN])


def _attribute(piece: str) -> str:
    kind, equals, value = piece.partition("=")
    return f"{_printable(kind.strip()).lower()}{equals}{_value(value)}"


def _value(text: str) -> str:
    text = text.lstrip()
    if "\\" not in text or text.startswith("#"):
        return _escaped(text.rstrip().lower(), text.startswith("#"))
    bare = text.rstrip()
    if bare.endswith("\\") and len(bare) < len(text):
        bare = text[: len(bare) + 1]  # The last space belongs to the value.
    return _escaped(_unescaped(bare).lower(), False)


def _unescaped(text: str) -> str:
    octets = _ESCAPES.sub(_meant, text.encode("utf-8", "surrogateescape"))
    return octets.decode("utf-8", "surrogateescape")


def _meant(escape: re.Match[bytes]) -> bytes:
    what = escape[1]
    return bytes.fromhex(what.decode("ascii")) if len(what) == 2 else what


def _escaped(value: str, is_hex: bool) -> str:
    if is_hex:
        return value
    text = _SPECIAL.sub(lambda found: "\\" + found[0], value)
    if text[:1] in {" ", "#"}:
        text = "\\" + text
    if text.endswith(" ") and len(value) > 1:
        text = text[:-1] + "\\ "
    return _printable(text)


def _printable(text: str) -> str:
    return text if text.isprintable() else "".join(s if s.isprintable() else _octets(s) for s in text)


def _octets(sign: str) -> str:
    return "".join(f"\\{octet:02x}" for octet in sign.encode("utf-8", "surrogateescape"))
