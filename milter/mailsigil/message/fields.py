"""Header fields as bytes, exactly as they came."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

# RFC 5322 2.2: printable US-ASCII without the colon. RFC 5322 4.5 lets white space stand before the
# colon; Postfix takes such a line as a field as well, so we have to see it.
_FIELD_START = re.compile(rb"[!-9;-~]+[ \t]*:")
_LINE_BREAK = re.compile(rb"\r\n(?![ \t])")
_NAME = re.compile(r"[!-9;-~]+")
_PIECE = re.compile(r" *[^ ]+")


@dataclass(frozen=True, slots=True)
class Field:
    """One header field, byte for byte.

    ``name`` is what stands before the colon (with the white space that an odd sender put there),
    ``value`` everything after it: leading space included, folds as CRLF and white space, without the
    CRLF at its end.
    """

    name: bytes
    value: bytes
    key: bytes = field(init=False, repr=False, compare=False)
    """The name for comparisons: lower case, without white space before the colon."""

    def __post_init__(self) -> None:
        # Once and for all: each field of a message is compared a dozen times.
        object.__setattr__(self, "key", self.name.lower().rstrip(b" \t"))

    @property
    def raw(self) -> bytes:
        """The field as it stands in a message, CRLF at the end included."""
        return b"%b:%b\r\n" % (self.name, self.value)

    @property
    def unfolded(self) -> bytes:
        """The value without line breaks and without white space around it (RFC 5322 2.2.3)."""
        return self.value.replace(b"\r\n", b"").strip(b" \t")

    @classmethod
    def make(cls, name: str, text: str, *, width: int = 78) -> Field:
        """Write a new field, folded before spaces so that lines keep to ``width`` where they can.

        Raises ValueError for a bad name or a text that is not printable US-ASCII: encode it first.
        """
        if not _NAME.fullmatch(name):
            raise ValueError(f"not a header field name: {name!r}")
        if not (text.isascii() and text.isprintable()):
            raise ValueError(f"the text of {name} must be printable US-ASCII")
        lines: list[str] = []
        line = f"{name}: "
        empty = True  # a line of white space alone would end the field for some readers
        for piece in _PIECE.findall(text.strip(" ")):
            if not empty and len(line) + len(piece) > width:  # RFC 5322 2.1.1
                lines.append(line)
                line = ""
            line += piece
            empty = False
        lines.append(line)
        value = "\r\n".join(lines)[len(name) + 1 :]
        return cls(name.encode("ascii"), value.encode("ascii"))


def parse_fields(data: bytes) -> tuple[tuple[Field, ...], int]:
    """Cut a header block with CRLF line ends into fields; gives them and the offset of the body.

    The header ends at the first empty line, which belongs to neither side, or at the end of the data.
    It also ends before a line that is neither a field nor a continuation: that line is then the first
    one of the body, as Postfix has it.
    """
    fields: list[Field] = []
    position = 0
    size = len(data)
    while position < size:
        if data.startswith(b"\r\n", position):
            return tuple(fields), position + 2
        start = _FIELD_START.match(data, position)
        if start is None:
            return tuple(fields), position
        stop = _LINE_BREAK.search(data, start.end())
        end = stop.start() if stop else size
        fields.append(Field(data[position : start.end() - 1], data[start.end() : end]))
        position = stop.end() if stop else size
    return tuple(fields), position


def named(fields: Iterable[Field], key: bytes) -> list[Field]:
    """Give the fields whose :attr:`Field.key` is ``key`` (lower case), in their order."""
    return [each for each in fields if each.key == key]


def count_named(fields: Iterable[Field], key: bytes) -> int:
    """Tell how many fields have the :attr:`Field.key` ``key`` (lower case)."""
    return len(named(fields, key))
