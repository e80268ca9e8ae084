"""Encoded words (RFC 2047), decoded as generously as the most generous mail client does."""

from __future__ import annotations

import base64
import re

from mailsigil.message.charsets import decode_charset

MAX_WORDS = 100

# More than RFC 2047 2 allows: spaces and question marks inside, an empty character set.
_WORD = re.compile(r"=\?([^?]*)\?([bBqQ])\?(.*?)\?=", re.DOTALL)
_START = re.compile(r"=\?[^?]*\?[bBqQ]\?")
_HEX = re.compile(rb"=([0-9A-Fa-f]{2})")
_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,3}")


class EncodedWordError(ValueError):
    """A client may show something here that cannot be foreseen."""


def decode_words(text: str) -> str:
    """Replace each encoded word in a text by what it stands for, once.

    White space between two encoded words vanishes (RFC 2047 6.2). Octets of neighbours in the same
    character set are joined first, because senders cut characters in two. Raises EncodedWordError for
    an unknown character set, for octets that do not fit it, bad base64, or a word without end.
    """
    last = text.rfind("?=")
    shown: list[str] = []
    charset = ""
    octets = b""
    position = 0
    # Looking no further than the last end mark keeps the search linear.
    for number, match in enumerate(_WORD.finditer(text, 0, last + 2)):
        if number == MAX_WORDS:
            raise EncodedWordError("too many encoded words")
        between = text[position : match.start()]
        position = match.end()
        named = match[1].partition("*")[0].strip().lower()  # RFC 2231 5: a language may follow
        apart = number == 0 or between.strip() != ""
        if apart or named != charset:
            shown.append(_decode(octets, charset))
            octets = b""
        if apart:
            shown.append(_literal(between))
        charset = named
        octets += _octets(match[2], match[3])
    shown.append(_decode(octets, charset))
    shown.append(_literal(text[position:]))
    return "".join(shown)


def _literal(text: str) -> str:
    if "=?" in text and _START.search(text):
        raise EncodedWordError("encoded word without end")
    return text


def _octets(encoding: str, text: str) -> bytes:
    if encoding in "qQ":  # RFC 2047 4.2
        data = text.encode("utf-8").replace(b"_", b" ")
        return _HEX.sub(lambda match: bytes.fromhex(match[1].decode("ascii")), data)
    compact = "".join(text.split())
    bare = compact.rstrip("=")
    if not _BASE64.fullmatch(compact) or len(bare) % 4 == 1:
        raise EncodedWordError("bad base64")
    return base64.b64decode(bare + "=" * (-len(bare) % 4))


def _decode(octets: bytes, charset: str) -> str:
    if not octets:
        return ""
    text = decode_charset(octets, charset)
    if text is None:
        raise EncodedWordError("octets that do not fit a known character set")
    return text
