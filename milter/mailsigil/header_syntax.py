"""How our own header fields are put into characters: folding, MIME parameters, encoded-words.

Everything written here is US-ASCII, or UTF-8 where a caller asks for it by name. Nothing that comes
from a certificate is ever written without passing one of these functions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from mailsigil.message.fields import Field

WIDTH = 78
"""Characters of a line, its CRLF not counted (RFC 5322 2.1.1)."""

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+._`{|}~^-]+")  # RFC 2045 5.1
_ATTRIBUTE_CHARS = frozenset(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$&+-.^_`{|}~"
)  # RFC 2231 7
_Q_CHARS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/")  # RFC 2047 5 (3)
_WORD_START, _WORD_END = "=?utf-8?q?", "?="
_ENCODED_LINE = 76  # RFC 2047 2: a line with an encoded-word
_CHARSET = "utf-8''"
_PIECE = WIDTH - 2  # a line less the space before and the semicolon behind

# Characters that some parser somewhere gets wrong inside of quotes: quotes and backslashes confuse
# Python's own, semicolons those that split first, "=?" those that decode what they must not.
_NEVER_QUOTED = re.compile(r'["\\;]|=\?')


def fold(name: str, pieces: Sequence[str]) -> Field:
    """Write a field from pieces with one space between them, folded only there.

    A piece that does not fit into a line gets one to itself, and is folded at its own spaces, which no
    reader can tell from any other fold.
    """
    lines: list[str] = []
    line = ""
    room = WIDTH - len(name) - 1
    for piece in pieces:
        words = piece.split(" ") if len(piece) >= WIDTH else [piece]
        for word in words:
            if line and len(line) + 1 + len(word) > room:
                lines.append(line)
                line, room = "", WIDTH
            line += f" {word}"
    lines.append(line)
    return Field(name.encode("ascii"), "\r\n".join(lines).encode("utf-8"))


def quoted(text: str) -> str:
    """Write a quoted-string (RFC 5322 3.2.4). The text must be without controls."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def is_token(text: str) -> bool:
    """Tell whether a text can stand as a MIME token, without quotes (RFC 2045 5.1)."""
    return _TOKEN.fullmatch(text) is not None


def is_plain(text: str) -> bool:
    """Tell whether a text is printable US-ASCII, spaces included."""
    return text.isascii() and text.isprintable()


def parameter(name: str, text: str) -> list[str]:
    """Write a MIME parameter as one piece, or as several where it is long, without a last semicolon.

    Printable US-ASCII stands in quotes; everything else, and what a careless reader could take for
    something else, is percent-encoded UTF-8 by RFC 2231, in continuations where one line is too short.
    """
    if is_plain(text) and not _NEVER_QUOTED.search(text):
        plain = f"{name}={quoted(text)}"
        if len(plain) <= _PIECE:
            return [plain]
    single = f"{name}*={_CHARSET}{''.join(_percent(text))}"
    if len(single) <= _PIECE:
        return [single]
    sections = [
        f"{name}*{number}*={'' if number else _CHARSET}{section}"  # RFC 2231 3, 4.1
        for number, section in enumerate(_pack(_percent(text), _PIECE - len(f"{name}*00*={_CHARSET}")))
    ]
    return [*(f"{section};" for section in sections[:-1]), sections[-1]]


def unstructured(name: str, text: str) -> list[str]:
    """Write free text for a field: as it is where it is harmless, else as encoded-words (RFC 2047)."""
    if is_plain(text) and "=?" not in text and max(map(len, text.split(" "))) <= _PIECE:
        return text.split(" ")
    # Every word is short enough for the first line, which holds the field's name as well.
    room = _ENCODED_LINE - len(f"{name}: {_WORD_START}{_WORD_END}")
    words = _pack((_q_encode(character) for character in text), room)
    return [f"{_WORD_START}{word}{_WORD_END}" for word in words]


def _percent(text: str) -> Iterable[str]:
    """Percent-encode, character by character so that no character is torn apart."""
    return ("".join(_percent_octet(octet) for octet in _utf8(character)) for character in text)


def _percent_octet(octet: int) -> str:
    return chr(octet) if octet in _ATTRIBUTE_CHARS else f"%{octet:02X}"


def _q_encode(character: str) -> str:
    if character == " ":
        return "_"
    return "".join(chr(octet) if octet in _Q_CHARS else f"={octet:02X}" for octet in _utf8(character))


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "replace")  # a lone surrogate becomes a question mark


def _pack(pieces: Iterable[str], room: int) -> list[str]:
    """Join pieces to strings of at most ``room`` characters; at least one string."""
    packed = [""]
    for piece in pieces:
        if packed[-1] and len(packed[-1]) + len(piece) > room:
            packed.append("")
        packed[-1] += piece
    return packed
