"""The one author of a message, or why there is none that every reader sees the same way.

Mail clients are generous and differ from each other. Here the From field has to be clear to the
strictest of them and must not mislead the most generous one; anything else is an :class:`AuthorFault`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from mailsigil.message.address import DOT_ATOM, QUOTED_STRING, Address, AddressError
from mailsigil.message.encoded_words import EncodedWordError, decode_words
from mailsigil.message.fields import Field

MAX_VALUE = 2048
"""Octets of a From value; some readers cut longer lines, and would then see another sender."""
MAX_COMMENT_DEPTH = 4
MAX_DECODING = 3
"""Encoded words inside encoded words are followed this deep."""


class AuthorFault(Enum):
    """Why a message has no one author; the value is a sentence for the log."""

    MISSING = "There is no From field."
    SEVERAL_FIELDS = "There is more than one From field, or some readers would see more than one."
    SEVERAL_ADDRESSES = "The From field has more than one address."
    GROUP = "The From field holds a group."
    MALFORMED = "The From field is not one that all readers understand in the same way."
    DECEPTIVE_NAME = "The name or a comment in the From field shows an address that is not the author's."


@dataclass(frozen=True, slots=True)
class Author:
    """Who wrote a message: the address, and the decoded name that clients show beside it (may be empty)."""

    address: Address
    display_name: str


class _Fault(Exception):
    """Carries a verdict out of the parser."""

    def __init__(self, fault: AuthorFault) -> None:
        super().__init__(fault.name)
        self.fault = fault


# The form of nearly all mail, free of anything that could mislead: no comment, escape or encoded word.
_ATOM = r"[A-Za-z0-9!#$%&'*+\-/=^_`{|}~]+"
_ADDR_SPEC = rf"({_ATOM}(?:\.{_ATOM})*@[A-Za-z0-9.-]+)"
_ORDINARY = re.compile(
    rf'(?:"([^"\\@\x00-\x1f\x7f-\U0010ffff]*)"[ \t]*<{_ADDR_SPEC}>'
    rf"|([A-Za-z0-9 .'_+&/-]*)<{_ADDR_SPEC}>"
    rf"|{_ADDR_SPEC})[ \t]*"
)

# RFC 5322 3.2: white space, quoted string, start of a comment, a special, or a run of anything else.
_TOKEN = re.compile(
    rf"(?P<space>[ \t]+)|(?P<quoted>{QUOTED_STRING})|(?P<special>[(),:;<>@\[\]\\\"])|[^ \t(),:;<>@\[\]\\\"]+"
)
_ADDRESS = re.compile(rf"(?:{DOT_ATOM}|{QUOTED_STRING})@[^ \t(),:;<>@\[\]\\\"]+")
_ANGLE = re.compile(rf"<[ \t]*({_ADDRESS.pattern})[ \t]*>")
_COMMENT_MARK = re.compile(r"\\.|[()]")
_ESCAPE = re.compile(r"\\(.)")
_DIVIDES = re.compile("[,;:<>]")

# With blanks, NUL, a BOM or other octets in it, some readers still take a name for From.
_READS_AS_FROM = re.compile(rb"[^!-~]*".join([b"", b"f", b"r", b"o", b"m", b""]), re.IGNORECASE)
# Possessive, and each line looked at from its own start alone: stray line breaks may come by the thousand.
_HIDDEN_FROM = re.compile(rb"[\r\n][^!-~\r\n]*+from[^!-~]*+:", re.IGNORECASE)
_BLANK_LINE = re.compile(rb"\r\n[ \t]*(?:\r\n|\Z)")
# C0 and C1 controls, line and paragraph separators, what changes the direction of text, surrogates.
_FORBIDDEN = re.compile(
    "[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
# The sign itself and what passes for it. Compatibility forms are added by NFKC.
_AT_SIGN = re.compile("[@\uff20\ufe6b\u24d0\u24b6\U0001f150\U000e0040]")
# Around an address that a name may repeat. Other white space stays, since it can be too thin to be seen.
_SEPARATOR = re.compile(r"[ \t\u00a0<>()\[\]\",;:]+")


def parse_author(fields: Iterable[Field]) -> Author | AuthorFault:
    """Find the one author of a message in its header fields (RFC 5322 3.6.2).

    Never raises, and takes bounded time for any input.
    """
    try:
        value = _only_value(tuple(fields))
        ordinary = _ORDINARY.fullmatch(value)
        if ordinary is None:
            return _parse(value)
        quoted, after_quoted, phrase, after_phrase, alone = ordinary.groups()
        if "=?" in (quoted or ""):
            return _parse(value)
        name = quoted or phrase or ""
        return Author(Address.parse(after_quoted or after_phrase or alone), " ".join(name.split()))
    except AddressError:
        return AuthorFault.MALFORMED
    except _Fault as found:
        return found.fault


def reads_as_from(name: bytes) -> bool:
    """Tell whether some reader takes a field name for From."""
    return _READS_AS_FROM.fullmatch(name) is not None


def _only_value(fields: Sequence[Field]) -> str:
    """Give the unfolded text of the one From field, as every reader of the header finds it."""
    found = [field for field in fields if reads_as_from(field.name)]
    if not found:
        raise _Fault(AuthorFault.MISSING)
    if len(found) > 1:  # RFC 5322 3.6: exactly one From field
        raise _Fault(AuthorFault.SEVERAL_FIELDS)
    field = found[0]
    value = field.value
    if field.name.lower() != b"from" or len(value) > MAX_VALUE:
        raise _Fault(AuthorFault.MALFORMED)
    if _hides_from(b" ".join([field.value for field in fields])):
        raise _Fault(AuthorFault.SEVERAL_FIELDS)
    if b"\r\n" in value:
        if _BLANK_LINE.search(value):  # some readers take this for the end of the header
            raise _Fault(AuthorFault.MALFORMED)
        value = _without_folds(value)
    try:
        text = value.decode("utf-8")  # RFC 6532 3.2
    except UnicodeDecodeError as error:
        raise _Fault(AuthorFault.MALFORMED) from error
    if _FORBIDDEN.search(text):
        raise _Fault(AuthorFault.MALFORMED)
    return text.lstrip(" \t")


def _hides_from(values: bytes) -> bool:
    """Tell whether a bare CR or LF makes a line of its own out of some value, and a From field of that."""
    rest = _without_folds(values)
    return (b"\n" in rest or b"\r" in rest) and _HIDDEN_FROM.search(rest) is not None


def _without_folds(data: bytes) -> bytes:
    return data.replace(b"\r\n ", b" ").replace(b"\r\n\t", b"\t")  # RFC 5322 2.2.3


def _parse(value: str) -> Author:
    """Read a value that is not of the ordinary form."""
    scan = _Scan()
    scan.run(value)
    start, end = scan.address_span
    name = "".join(scan.phrase)
    if start < 0:
        raise _Fault(AuthorFault.MALFORMED)
    address = _plain_address(value[start:end])
    # Some readers take the first address they find: it has to be the same one.
    if scan.name_address and not _is_own(address, scan.name_address):
        raise _Fault(AuthorFault.DECEPTIVE_NAME)
    shown = _check_texts(address, [name, *scan.comments, f"{value[:start]} {value[end:]}"])
    # RFC 5322 1.2.1 has no name without angle brackets; clients show the comment of the old form.
    first_comment = shown[1] if scan.comments else ""
    return Author(address, " ".join((shown[0] if name.strip() else first_comment).split()))


def _plain_address(text: str) -> Address:
    address = Address.parse(text)
    # A client that decodes before it parses would find another address here.
    if "=?" in text:
        raise _Fault(AuthorFault.MALFORMED)
    # A person reads "ceo@bank.example"@evil.example up to the first @ only.
    if _AT_SIGN.search(address.local):
        raise _Fault(AuthorFault.DECEPTIVE_NAME)
    return address


class _Scan:
    """One pass over a From value: where its address is, and every text that a client could show."""

    __slots__ = ("address_span", "angle", "comments", "name_address", "phrase", "worded")

    def __init__(self) -> None:
        self.phrase: list[str] = []
        self.comments: list[str] = []
        self.address_span = (-1, -1)
        self.angle = False
        self.name_address = ""  # an address without quotes where the name should be
        self.worded = False  # the name has begun, be it with an empty quoted string

    def run(self, value: str) -> None:
        """Fill the lists and the span. Raises _Fault."""
        position = 0
        while position < len(value):
            if value[position] == "(":
                position = self._comment(value, position)
                continue
            position = self._address(value, position) or self._word(value, position)

    def _address(self, value: str, position: int) -> int:
        """Take an address that stands here; gives the position behind it, or 0."""
        if value[position] == "<":
            match = _ANGLE.match(value, position)
            if match is None:
                raise _Fault(_angle_fault(value, position))
            if self.angle:
                raise _Fault(AuthorFault.SEVERAL_ADDRESSES)
            if self.address_span != (-1, -1):
                self.name_address = value[slice(*self.address_span)]
                self.phrase.append(self.name_address)
            self.angle = True
            self.address_span = match.span(1)
            return match.end()
        match = _ADDRESS.match(value, position)
        if match is None:
            return 0
        if self.address_span != (-1, -1):
            raise _Fault(AuthorFault.SEVERAL_ADDRESSES)
        if self.worded:
            raise _Fault(AuthorFault.MALFORMED)  # a name wants brackets around the address
        self.address_span = match.span()
        return match.end()

    def _word(self, value: str, position: int) -> int:
        """Take a word of the name or white space; gives the position behind it."""
        match = _TOKEN.match(value, position)
        if match is None:
            raise _Fault(AuthorFault.MALFORMED)
        token = match[0]
        if match["special"]:
            raise _Fault(_special_fault(value, token))
        if not match["space"] and self.address_span != (-1, -1):
            raise _Fault(AuthorFault.MALFORMED)  # RFC 5322 3.4: nothing but comments behind the address
        self.worded = self.worded or not match["space"]
        self.phrase.append(_ESCAPE.sub(r"\1", token[1:-1]) if match["quoted"] else token)
        return match.end()

    def _comment(self, value: str, position: int) -> int:
        """Take the comment that starts here, nested ones included (RFC 5322 3.2.2)."""
        depth = 0
        for mark in _COMMENT_MARK.finditer(value, position):
            if mark[0] == "(":
                depth += 1
                if depth > MAX_COMMENT_DEPTH:
                    break
            elif mark[0] == ")":
                depth -= 1
                if depth == 0:
                    inside = value[position + 1 : mark.start()]
                    # Readers that do not count parentheses see the end of an address there.
                    if "(" in inside and _DIVIDES.search(inside):
                        break
                    self.comments.append(_ESCAPE.sub(r"\1", inside))
                    return mark.end()
        raise _Fault(AuthorFault.MALFORMED)


def _special_fault(value: str, special: str) -> AuthorFault:
    if special == ":":
        return AuthorFault.GROUP  # RFC 5322 3.4
    if special in ",;" and value.count("@") > 1:  # some clients divide addresses with semicolons
        return AuthorFault.SEVERAL_ADDRESSES
    return AuthorFault.MALFORMED


def _angle_fault(value: str, position: int) -> AuthorFault:
    # Source routes (RFC 5322 4.4, obs-route) and everything else that is no plain address.
    inner = value[position + 1 : value.find(">", position)]
    return (
        AuthorFault.SEVERAL_ADDRESSES if "," in inner and not inner.startswith("@") else AuthorFault.MALFORMED
    )


def _check_texts(address: Address, texts: Sequence[str]) -> list[str]:
    """Decode texts as a client would, and refuse what shows an address that is not the author's."""
    try:
        return [_check_text(address, text) for text in texts]
    except EncodedWordError as error:
        raise _Fault(AuthorFault.MALFORMED) from error


def _check_text(address: Address, text: str) -> str:
    _check_level(address, text)
    shown = text
    for depth in range(MAX_DECODING + 1):
        decoded = decode_words(text) if "=?" in text else text
        if decoded == text:
            return shown
        _check_level(address, decoded)
        text = decoded
        if depth == 0:
            shown = decoded  # RFC 2047 knows one round; the others are for careless clients
    raise _Fault(AuthorFault.DECEPTIVE_NAME)


def _check_level(address: Address, text: str) -> None:
    if _FORBIDDEN.search(text):
        raise _Fault(AuthorFault.MALFORMED)
    plain = text if text.isascii() else unicodedata.normalize("NFKC", text)
    if "@" not in plain and not _AT_SIGN.search(text):
        return
    for word in _SEPARATOR.split(text):
        is_own = _is_own(address, _without_apostrophes(word))
        if not is_own and (_AT_SIGN.search(word) or "@" in unicodedata.normalize("NFKC", word)):
            raise _Fault(AuthorFault.DECEPTIVE_NAME)


def _without_apostrophes(word: str) -> str:
    # Outlook and mailing lists write 'alice@bank.example' with one of them on each side.
    return word[1:-1] if word.startswith("'") and word.endswith("'") else word


def _is_own(address: Address, word: str) -> bool:
    try:
        return "@" in word and Address.parse(word).same_mailbox(address)
    except AddressError:
        return False
