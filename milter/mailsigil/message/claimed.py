"""Addresses that a header shows as its sender's, when it cannot be said whose mail it is.

Here every reading counts, also the wrong ones: the question is whose mail a reader might take it for.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
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
_COMMENT = re.compile(r"\([^()]*+\)?")


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
    found: dict[str, None] = {}
    for reading in _readings(_text(text[:MAX_TEXT])):
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


def _readings(text: str) -> Iterator[str]:
    """What different readers make of a text: with and without encoded words, comments, quotes, blanks."""
    for shown in dict.fromkeys((text, _decoded(text))):
        plain = _visible(shown)
        quoteless = plain.replace('"', "").replace("\\", "")
        for bare in dict.fromkeys((plain, _COMMENT.sub(" ", plain), quoteless)):
            yield bare
            # RFC 5322 4.4 lets white space stand around the full stops and the @.
            joined = " ".join(bare.split())
            for sign in "@.":
                joined = joined.replace(f" {sign}", sign).replace(f"{sign} ", sign)
            if joined != bare:
                yield joined


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
