"""Addresses that a header shows as its sender's, when it cannot be said whose mail it is.

Here every reading counts, also the wrong ones: the question is whose mail a reader might take it for.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from mailsigil.message.address import key_of
from mailsigil.message.author import reads_as_from
from mailsigil.message.encoded_words import EncodedWordError, decode_words
from mailsigil.message.fields import Field

MAX_TEXT = 4096
"""Octets of all such fields that are read."""
MAX_ADDRESSES = 20
SOMEBODY = "-"
"""Stands for a name in front of the @ that cannot be read."""

_SEPARATOR = re.compile(r"[\s<>()\[\],;:\"\\]+")  # RFC 5322 3.2.3, without @ and the full stop
_DOMAIN = re.compile(r"\.*([\w-]+(?:\.+[\w-]+)*)")
_DOTS = re.compile(r"\.+")
_SIGN = re.compile(r'\\.|["()]', re.DOTALL)
_READ_IN_MANY_WAYS = re.compile(r"[()\\]")


@dataclass(frozen=True, slots=True)
class Claimed:
    """Comparable addresses, each once. Not ``complete``: somebody may see yet another one."""

    addresses: tuple[str, ...]
    complete: bool


def claimed_senders(fields: Sequence[Field]) -> Claimed:
    """Read all addresses in the From and Sender fields, as generously as any reader."""
    values = [field.value for field in fields if field.key == b"sender" or reads_as_from(field.name)]
    text = b" , ".join(values)
    # A stray line break may hide another such field anywhere.
    rest = b"".join(field.value.replace(b"\r\n", b"") for field in fields)
    complete = len(text) <= MAX_TEXT and b"\r" not in rest and b"\n" not in rest
    shown = _shown(_text(text[:MAX_TEXT]))
    # No two readers agree on where comments end and what is escaped in them.
    complete = complete and not any(_READ_IN_MANY_WAYS.search(each) for each in shown)
    found: dict[str, None] = {}
    for reading in _readings(shown):
        for address in _addresses(reading):
            if len(found) == MAX_ADDRESSES and address not in found:
                return Claimed(tuple(found), complete=False)
            found[address] = None
    return Claimed(tuple(found), complete)


def _text(octets: bytes) -> str:
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return octets.decode("latin-1")


def _shown(text: str) -> tuple[str, ...]:
    """A text with and without its encoded words, as it looks."""
    return tuple(dict.fromkeys((_visible(text), _visible(_decoded(text)))))


def _readings(shown: Iterable[str]) -> Iterator[str]:
    """What different readers make of a text: with and without comments, quotes, blanks."""
    for text in shown:
        bare = (text, *(_without_comments(text, quotes=quotes) for quotes in (True, False)))
        quoteless = (each.replace('"', "").replace("\\", "") for each in bare)
        for reading in dict.fromkeys((*bare, *quoteless)):
            yield reading
            # RFC 5322 4.4 lets white space stand around the full stops and the @.
            joined = " ".join(reading.split())
            for sign in "@.":
                joined = joined.replace(f" {sign}", sign).replace(f"{sign} ", sign)
            if joined != reading:
                yield joined


def _without_comments(text: str, *, quotes: bool) -> str:
    """Put a space in the place of each comment, and of those in it (RFC 5322 3.2.2).

    A parenthesis without its other half is none, nor with ``quotes`` one inside a quoted string.
    """
    opened: list[int] = []
    comments: list[tuple[int, int]] = []
    quoted = False
    for match in _SIGN.finditer(text):
        sign = match[0]
        if sign == '"':
            quoted = quotes and not opened and not quoted
        elif quoted:
            continue
        elif sign == "(":
            opened.append(match.start())
        elif sign == ")" and opened:
            comments.append((opened.pop(), match.end()))
    kept: list[str] = []
    position = len(text)
    for start, end in reversed(comments):  # one around others ends after them
        if end <= position:
            kept.append(text[end:position])
            position = start
    return " ".join((text[:position], *reversed(kept)))


def _decoded(text: str) -> str:
    try:
        return decode_words(text) if "=?" in text else text
    except EncodedWordError:
        return text


def _visible(text: str) -> str:
    """Letters as they look: wide forms made narrow, and what cannot be seen taken out."""
    narrow = unicodedata.normalize("NFKC", text).replace("\u3002", ".")  # RFC 3490 3.1: also a full stop
    return "".join(sign for sign in narrow if sign.isprintable() or sign.isspace())


def _addresses(text: str) -> Iterator[str]:
    for word in _SEPARATOR.split(text):
        parts = word.split("@")
        for local, after in pairwise(parts):
            domain = _DOMAIN.match(after)
            if domain is None:
                continue
            name = _DOTS.sub(".", domain[1])
            address = key_of(f"{local.strip('.')}@{name}") or key_of(f"{SOMEBODY}@{name}")
            if address:
                yield address
