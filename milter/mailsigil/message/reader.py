"""Reads one message from a file or a pipe, for the command line."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import BinaryIO

from mailsigil.message.fields import Field, parse_fields
from mailsigil.message.spool import Spool

MAX_HEADER = 1048576
"""A header that is not over after this many octets is refused."""
_CHUNK = 65536

# The separator line of an mbox file; "From :" and "From:" are header fields.
_MBOX_LINE = re.compile(rb"From [ \t]*[^: \t\r\n][^\r\n]*\r?\n")


class MessageLimitError(Exception):
    """The message is larger than we take; the text is a sentence for the user."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message: its header fields and, in a spool that the caller closes, its body."""

    fields: tuple[Field, ...]
    body: Spool
    damage: str = ""
    """What is wrong with the border between header and body, so that readers may find it elsewhere."""


def read_message(stream: BinaryIO, *, max_bytes: int | None = None, spool: Spool | None = None) -> Message:
    """Read a message up to the end of the stream.

    A file whose first line ends in a bare LF is brought to CRLF throughout; any other is kept byte for
    byte. An mbox "From " line at its beginning is dropped. The body goes into ``spool``, by default a
    new one. Raises MessageLimitError past ``max_bytes`` octets of input, or for an endless header, and
    lets OSError of the stream through.
    """
    source = _Source(stream, max_bytes)
    head = source.read()
    mbox = _MBOX_LINE.match(head)
    if mbox is not None:
        head = head[mbox.end() :]
    searched = 0
    while not head.startswith(b"\r\n") and head.find(b"\r\n\r\n", max(searched - 3, 0)) < 0:
        searched = len(head)
        if searched > MAX_HEADER:
            break
        data = source.read()
        if not data:
            break
        head += data
    fields, offset = _cut(head)
    body = Spool() if spool is None else spool
    body.write(head[offset:])
    while data := source.read():
        body.write(data)
    return Message(fields, body, "" if _is_separated(head, offset) else _NOT_SEPARATED)


_NOT_SEPARATED = "the header ends at a line that is no field, without an empty line"


def _is_separated(head: bytes, offset: int) -> bool:
    """Tell whether an empty line, or nothing at all, follows the header (RFC 5322 2.1)."""
    return offset >= len(head) or head[max(offset - 4, 0) : offset] in {b"\r\n\r\n", b"\r\n"}


def _cut(head: bytes) -> tuple[tuple[Field, ...], int]:
    if len(head) <= MAX_HEADER or b"\r\n\r\n" in head:
        return parse_fields(head)
    # The header is over all the same if a whole line in these octets is no field: what follows is body.
    fields, offset = parse_fields(head)
    if offset > head.rfind(b"\r\n") + 1:
        raise MessageLimitError(f"The header of the message is larger than {MAX_HEADER} octets.")
    return fields, offset


class _Source:
    """A stream in chunks, counted, with CRLF line ends where its first line ends in a bare LF."""

    def __init__(self, stream: BinaryIO, max_bytes: int | None) -> None:
        self._stream = stream
        self._max_bytes = max_bytes
        self._count = 0
        self._bare_lf: bool | None = None  # not known before the first chunk
        self._held = b""

    def read(self) -> bytes:
        """Give the next octets; nothing more after an empty answer."""
        data = self._take()
        if self._bare_lf is None:
            # A pipe may give less than a line at a time.
            while b"\n" not in data and len(data) < _CHUNK and (more := self._take()):
                data += more
            first = data.find(b"\n")
            self._bare_lf = first >= 0 and not data.endswith(b"\r", 0, first)
        return self._normalised(data) if self._bare_lf else data

    def _take(self) -> bytes:
        data = self._stream.read(_CHUNK)
        self._count += len(data)
        if self._max_bytes is not None and self._count > self._max_bytes:
            raise MessageLimitError(f"The message is larger than {self._max_bytes} octets.")
        return data

    def _normalised(self, data: bytes) -> bytes:
        ended = not data
        data = self._held + data
        self._held = b""
        if not ended and data.endswith(b"\r"):
            # A CRLF may be cut in two by the chunks. Reading on keeps an answer from being empty.
            self._held = b"\r"
            data = data[:-1]
            if not data:
                return self.read()
        return data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
