"""The MIME structure of a message as offsets into its spool (RFC 2045, RFC 2046).

Nothing is decoded and nothing is copied: a tree of parts says where each one lies. The walk is one
pass, in time linear to the body and in memory that grows with the number of parts only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache

from mailsigil.message.delimiters import Delimiter, DelimiterFinder, DelimiterTooLong
from mailsigil.message.fields import Field, named
from mailsigil.message.media_type import MediaType, parse_media_type
from mailsigil.message.part_header import REMEMBERED_BLOCK, HeaderTooLong, read_header
from mailsigil.message.spool import Spool

MAX_BOUNDARY = 900
"""RFC 2046 5.1.1 allows 70; real senders write more. A line must still hold it."""

IDENTITY_ENCODINGS = frozenset(
    {"7bit", "8bit", "binary", "7-bit", "8-bit", "7 bit", "8 bit", "7bits", "8bits", ""}
)
"""RFC 2045 6.2, with the misspellings that real senders use."""

_COMMENT = re.compile(rb"\([^()]*\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class MimeLimits:
    """Bounds on what a hostile message may make us keep. Sizes in octets."""

    depth: int = 20
    """Containers within containers; the message itself is the first."""
    parts: int = 1000
    header_bytes: int = 65536
    """For the header block of each part."""
    all_header_bytes: int = 1048576
    """For the header blocks of all parts together."""


class MimeLimitError(Exception):
    """The message passes one of :class:`MimeLimits`; ``limit`` is its name."""

    def __init__(self, limit: str) -> None:
        super().__init__(f"the MIME structure of the message passes the limit {limit}")
        self.limit = limit


class Fault(StrEnum):
    """What is wrong with a part, in words that can follow "the part has ..."."""

    SEVERAL_TYPES = "Content-Type fields that contradict each other"
    SEVERAL_ENCODINGS = "Content-Transfer-Encoding fields that contradict each other"
    SPACED_NAME = "white space before the colon of a Content field"
    NO_SEPARATOR = "no empty line between header and body"
    ENCODED_CONTAINER = "a transfer encoding that a multipart must not have"
    NO_BOUNDARY = "no boundary parameter"
    BAD_BOUNDARY = "a boundary parameter that cannot stand in a boundary line"
    SAME_BOUNDARY = "the boundary of a multipart around it"
    BOUNDARY_ABSENT = "a boundary that never appears"
    UNTERMINATED = "no closing boundary"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part: the message itself, a body part of a multipart, or a message inside ``message/rfc822``.

    All positions are offsets into the spool of the body. The header block with its empty line is
    ``header_start`` to ``body_start``; the message itself has its fields elsewhere, so its
    ``header_start`` is -1. ``body_end`` leaves out the line end that belongs to the boundary line after
    the part (RFC 2046 5.1.1). A part without body, whose last line end belongs to the boundary, has
    ``body_start == body_end`` before that line end. So ``header_start`` to ``body_end`` are exactly the
    octets that a signature over the part covers (RFC 1847 2.1).

    ``preamble`` runs to before the line end of the first boundary line, ``epilogue`` starts after the
    line end of the closing one; both are empty ranges where there is nothing. ``faults`` holds
    :class:`Fault` words and the fault of the media type.
    """

    fields: tuple[Field, ...]
    media_type: MediaType
    encoding: str
    header_start: int
    body_start: int
    body_end: int
    children: tuple[Part, ...]
    boundary: bytes
    terminated: bool
    preamble: tuple[int, int]
    epilogue: tuple[int, int]
    faults: tuple[str, ...]


def parse_mime(fields: Sequence[Field], body: Spool, *, limits: MimeLimits | None = None) -> Part:
    """Find the parts of a message, given its header fields and the spool of its body.

    Boundary lines may carry white space at their end; a boundary line of an outer multipart ends the
    inner ones. Messages inside ``message/rfc822`` and ``message/global`` are looked into when they are
    not base64 or quoted-printable. Lines may end in LF alone here. A multipart whose boundary is
    missing, unusable or never there has no children and a fault. Raises MimeLimitError.
    """
    return _Walk(body, limits or MimeLimits()).run(tuple(fields))


def transfer_encoding(value: bytes) -> str:
    """Give the lower-case token of a Content-Transfer-Encoding value (RFC 2045 6.1)."""
    if b"(" in value:
        value = _COMMENT.sub(b"", value)
    return value.replace(b"\r\n", b"").strip(b' \t";').lower().decode("ascii", "backslashreplace")


@dataclass(slots=True)
class _Open:
    """A part whose end has not been reached yet."""

    fields: tuple[Field, ...]
    described: _Described
    header_start: int
    body_start: int
    faults: list[str]
    boundary: bytes = b""
    watched: bool = False
    terminated: bool = False
    preamble_end: int = -1
    epilogue_start: int = -1
    children: list[Part] = field(default_factory=list)


class _Walk:
    def __init__(self, body: Spool, limits: MimeLimits) -> None:
        self._body = body
        self._limits = limits
        self._finder = DelimiterFinder(body)
        self._stack: list[_Open] = []
        self._parts = 0
        self._delimiters = 0
        self._header_bytes = 0

    def run(self, fields: tuple[Field, ...]) -> Part:
        # Not remembered: the message itself has a new boundary each time.
        self._push(fields, _describe(fields, False), header_start=-1, body_start=0, separated=True)
        position = self._descend(0)
        try:
            while (delimiter := self._finder.find(position)) is not None:
                position = self._take(delimiter)
        except DelimiterTooLong:
            raise MimeLimitError("boundary_line") from None
        end = len(self._body)
        while len(self._stack) > 1:
            self._close_top(end)
        return self._finish(self._stack.pop(), end)

    def _take(self, delimiter: Delimiter) -> int:
        """End what a boundary line ends, start what it starts, and say where to go on."""
        self._delimiters += 1
        if self._delimiters > 2 * self._limits.parts:
            raise MimeLimitError("parts")  # a part has one boundary line before it, a multipart one more
        before = self._before(delimiter.start)
        while len(self._stack) > delimiter.level + 1:
            self._close_top(before)
        owner = self._stack[-1]
        if owner.preamble_end < 0:
            owner.preamble_end = max(before, owner.body_start)
        if delimiter.closing:
            owner.terminated = True
            owner.epilogue_start = delimiter.end
            self._forget(owner)
            return delimiter.end
        following = self._finder.at(delimiter.end)
        if following is not None:
            return delimiter.end  # two boundary lines in a row: no part between them
        return self._open_part(delimiter.end, in_digest=owner.described.media_type.full == "multipart/digest")

    def _before(self, line_start: int) -> int:
        """Give the end of what stands before a boundary line: its line end belongs to the boundary."""
        tail = self._body.read(line_start - 2, line_start) if line_start > 1 else b"\n" * line_start
        if tail == b"\r\n":
            return line_start - 2
        return line_start - 1 if tail.endswith(b"\n") else line_start

    def _open_part(self, start: int, *, in_digest: bool = False, is_message: bool = False) -> int:
        try:
            block = read_header(
                self._body,
                start,
                limit=self._limits.header_bytes,
                finder=self._finder,
                is_message=is_message,
            )
        except HeaderTooLong:
            raise MimeLimitError("header_bytes") from None
        size = block.body_start - start
        self._header_bytes += size
        if self._header_bytes > self._limits.all_header_bytes:
            raise MimeLimitError("all_header_bytes")
        self._push(
            block.fields,
            (_describe_remembered if size <= REMEMBERED_BLOCK else _describe)(block.fields, in_digest),
            header_start=start,
            body_start=block.body_start,
            separated=block.separated,
        )
        return self._descend(block.body_start)

    def _descend(self, position: int) -> int:
        """Look into the part on top of the stack when it is a container."""
        top = self._stack[-1]
        if top.described.media_type.type == "multipart":
            self._watch(top)
        elif _holds_message(top) and position < len(self._body) and self._finder.at(position) is None:
            return self._open_part(position, is_message=True)
        return position

    def _push(
        self,
        fields: tuple[Field, ...],
        described: _Described,
        *,
        header_start: int,
        body_start: int,
        separated: bool,
    ) -> None:
        self._parts += 1
        if self._parts > self._limits.parts:
            raise MimeLimitError("parts")
        if len(self._stack) >= self._limits.depth:
            raise MimeLimitError("depth")
        faults = list(described.faults) if separated else [Fault.NO_SEPARATOR, *described.faults]
        self._stack.append(_Open(fields, described, header_start, body_start, faults))

    def _watch(self, part: _Open) -> None:
        text = part.described.media_type.params.get("boundary")
        if part.described.encoding not in IDENTITY_ENCODINGS:
            part.faults.append(Fault.ENCODED_CONTAINER)  # RFC 2045 6.4
        # RFC 2046 5.1.1: a boundary may hold white space, but not at its end.
        text = text.rstrip(" \t") if text else text
        if not text:
            part.faults.append(Fault.NO_BOUNDARY)
        elif not (text.isascii() and text.isprintable()) or len(text) > MAX_BOUNDARY:
            part.faults.append(Fault.BAD_BOUNDARY)
        else:
            part.boundary = text.encode("ascii")
            part.watched = self._finder.watch(part.boundary, len(self._stack) - 1)
            if not part.watched:
                part.faults.append(Fault.SAME_BOUNDARY)

    def _forget(self, part: _Open) -> None:
        if part.watched:
            self._finder.forget(part.boundary)
            part.watched = False

    def _close_top(self, end: int) -> None:
        part = self._stack.pop()
        self._stack[-1].children.append(self._finish(part, end))

    def _finish(self, part: _Open, end: int) -> Part:
        self._forget(part)
        end = max(end, part.header_start, 0)
        start = min(part.body_start, end)
        preamble = (start, start) if part.preamble_end < 0 else (start, min(part.preamble_end, end))
        epilogue = (end, end) if part.epilogue_start < 0 else (min(part.epilogue_start, end), end)
        if part.boundary and not part.children and Fault.SAME_BOUNDARY not in part.faults:
            part.faults.append(Fault.BOUNDARY_ABSENT)
        elif part.children and part.boundary and not part.terminated:
            part.faults.append(Fault.UNTERMINATED)
        return Part(
            fields=part.fields,
            media_type=part.described.media_type,
            encoding=part.described.encoding,
            header_start=part.header_start,
            body_start=start,
            body_end=end,
            children=tuple(part.children),
            boundary=part.boundary,
            terminated=part.terminated,
            preamble=preamble,
            epilogue=epilogue,
            faults=tuple(part.faults),
        )


@dataclass(frozen=True, slots=True)
class _Described:
    """What the header of a part says about its content."""

    media_type: MediaType
    encoding: str
    faults: tuple[str, ...]


def _describe(fields: tuple[Field, ...], in_digest: bool) -> _Described:
    # RFC 2045 9: these are the fields that may say something.
    content = [each for each in fields if each.name[:8].lower() == b"content-"]
    faults: list[str] = []
    media_type = _media_type(content, in_digest, faults)
    encoding = _encoding(content, faults)
    return _Described(media_type, encoding, tuple(faults))


# The parts of most mail have the same few headers.
_describe_remembered = lru_cache(maxsize=1024)(_describe)


def _holds_message(part: _Open) -> bool:
    """Tell whether the part is a message in the open (RFC 2046 5.2.1, RFC 6532 3.7)."""
    described = part.described
    return (
        described.media_type.type == "message"
        and described.media_type.subtype in ("rfc822", "global")
        and described.encoding in IDENTITY_ENCODINGS
    )


def _media_type(content: Sequence[Field], in_digest: bool, faults: list[str]) -> MediaType:
    types = named(content, b"content-type")
    if len({each.unfolded for each in types}) > 1:
        faults.append(Fault.SEVERAL_TYPES)
    if any(each.name[-1:] in b" \t" for each in content):
        faults.append(Fault.SPACED_NAME)
    if not types:
        # RFC 2046 5.1.5: the parts of a digest are messages when they do not say otherwise.
        return MediaType("message", "rfc822") if in_digest else MediaType()
    media_type = parse_media_type(types[0].value)
    if media_type.fault:
        faults.append(media_type.fault)
    return media_type


def _encoding(content: Sequence[Field], faults: list[str]) -> str:
    encodings = named(content, b"content-transfer-encoding")
    if not encodings:
        return "7bit"  # RFC 2045 6.1
    tokens = [transfer_encoding(each.value) for each in encodings]
    if any(token != tokens[0] for token in tokens):
        faults.append(Fault.SEVERAL_ENCODINGS)
    return tokens[0]
