"""Reading BER from a long source: a bounded, forward-only cursor.

Mail carries CMS with definite and with indefinite lengths, and an opaque signature carries the whole mail
inside. The cursor reads headers through a small window, never holds the content, and charges every octet
outside the content to a budget, so hostile input costs little time and memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol

from mailsigil.cms import der


class CmsError(Exception):
    """What is wrong with a CMS structure: `reason` is a token for headers, `sentence` is for people."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.sentence = sentence


class CmsSyntaxError(CmsError):
    """The bytes are no CMS of the expected kind. Hint: the part was damaged on its way or made wrongly."""


class CmsLimitError(CmsError):
    """The structure is larger than we are willing to read. Hint: raise the limit that `reason` names."""

    def __init__(self, limit: str) -> None:
        super().__init__(limit, f"the signature is over the limit of {limit.replace('-', ' ')}")


class Source(Protocol):
    """Bytes that can be read from any place, a Spool for example. Reading must not move anything."""

    def __len__(self) -> int: ...

    def read(self, start: int, end: int, /) -> bytes:
        """The octets from `start` up to `end`."""
        ...


class BytesSource:
    """Bytes in memory as a Source."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __len__(self) -> int:
        return len(self._data)

    def read(self, start: int, end: int, /) -> bytes:
        """The octets from `start` up to `end`."""
        return self._data[start:end]


WINDOW: Final = 65536
CONSTRUCTED: Final = 0x20
CONSTRUCTED_OCTETS: Final = der.OCTET_STRING | CONSTRUCTED
_DEFAULT_DEPTH: Final = 32


class Cursor:
    """Walks the elements of a source from its beginning to its end, into and out of constructed ones.

    `budget` bounds the octets of headers and of everything that is read into memory; `depth` bounds nesting.
    Every method raises CmsSyntaxError for bytes that are no BER, CmsLimitError past a bound.
    """

    __slots__ = ("_budget", "_depth", "_ends", "_limits", "_window", "_window_start", "position", "source")

    def __init__(
        self,
        source: Source,
        *,
        budget: int,
        depth: int = _DEFAULT_DEPTH,
        start: int = 0,
        end: int | None = None,
    ) -> None:
        self.source = source
        self._budget = budget
        self._depth = depth
        self._window = b""
        self._window_start = 0
        self.position = start
        size = len(source) if end is None else end
        self._ends: list[int | None] = [size]  # end of each open element, None where its length is indefinite
        self._limits: list[int] = [size]  # the nearest known end around it

    @classmethod
    def over(cls, data: bytes) -> Cursor:
        """A cursor over bytes that are in memory already, so their size is their budget."""
        return cls(BytesSource(data), budget=len(data) + 1)

    def octets(self, start: int, end: int) -> bytes:
        """The octets from `start` to `end` of the source, through the window when they are few."""
        offset = start - self._window_start
        if offset < 0 or end - self._window_start > len(self._window):
            if end - start > WINDOW:
                return self._full(self.source.read(start, end), end - start)
            self._window = self.source.read(start, min(start + WINDOW, len(self.source)))
            self._window_start, offset = start, 0
        return self._full(self._window[offset : offset + end - start], end - start)

    @staticmethod
    def _full(data: bytes, size: int) -> bytes:
        if len(data) != size:
            raise CmsSyntaxError("truncated", "the signature ends in the middle of an element")
        return data

    def _charge(self, size: int) -> None:
        self._budget -= size
        if self._budget < 0:
            raise CmsLimitError("cms-bytes")

    def tag(self) -> int | None:
        """The identifier octet of the next element, or None at the end of the element we are in."""
        end = self._ends[-1]
        if end is None:
            limit = self._limits[-1]
            # X.690 8.1.5: two zero octets end an indefinite length
            if self.octets(self.position, min(self.position + 2, limit)) == b"\0\0":
                return None
            if self.position >= limit:
                raise CmsSyntaxError("truncated", "an element of indefinite length has no end")
        elif self.position >= end:
            return None
        offset = self.position - self._window_start
        if 0 <= offset < len(self._window):
            return self._window[offset]
        return self.octets(self.position, self.position + 1)[0]

    def element(self) -> tuple[int, int, int | None]:
        """Reads the next header: identifier octet, start of the content, its end (None: indefinite)."""
        limit = self._limits[-1]
        start = self.position
        offset = start - self._window_start
        if offset >= 0 and offset + 10 <= len(self._window) and start + 10 <= limit:
            head = self._window[offset : offset + 10]
        else:
            head = self.octets(start, min(start + 10, limit))
        if len(head) < 2:
            raise CmsSyntaxError("truncated", "the signature ends where an element should begin")
        tag, length = head[0], head[1]
        if tag & 0x1F == 0x1F or tag == 0:
            raise CmsSyntaxError("bad-tag", "the signature has a tag that CMS does not use")
        if length < 0x80:
            body, end = start + 2, start + 2 + length
        elif length == 0x80:
            if not tag & CONSTRUCTED:
                raise CmsSyntaxError("bad-length", "a primitive element has an indefinite length")
            return tag, start + 2, None
        else:
            count = length & 0x7F
            if count > 8 or len(head) < 2 + count:
                raise CmsSyntaxError("bad-length", "the length of an element cannot be true")
            body = start + 2 + count
            end = body + int.from_bytes(head[2 : 2 + count], "big")
        if end > limit:
            raise CmsSyntaxError("truncated", "an element is longer than what it stands in")
        return tag, body, end

    def enter(self, tag: int) -> None:
        """Steps into the next element, which must be constructed and have this identifier octet."""
        found, body, end = self.element()
        if found != tag or not tag & CONSTRUCTED:
            raise _unexpected(found, tag)
        if len(self._ends) > self._depth:
            raise CmsLimitError("cms-depth")
        self._charge(body - self.position)
        self._ends.append(end)
        self._limits.append(self._limits[-1] if end is None else end)
        self.position = body

    def leave(self) -> None:
        """Steps out of the element we are in, which must be at its end."""
        if self.tag() is not None:
            raise CmsSyntaxError("unexpected-element", "an element holds more than it should")
        self._limits.pop()
        if self._ends.pop() is None:
            self._charge(2)
            self.position += 2

    def inside(self, tag: int) -> _Inside:
        """Enters an element and leaves it at the end of the `with` block."""
        self.enter(tag)
        return _Inside(self)

    def finish(self) -> None:
        """Raises CmsSyntaxError unless everything has been read."""
        if self.tag() is not None:
            raise CmsSyntaxError("trailing-bytes", "bytes follow where the structure should end")

    def raw(self, tag: int | None = None) -> bytes:
        """The next element with its header, as it stands; indefinite lengths on its spine become definite."""
        found, _body, end = self.element()
        if tag is not None and found != tag:
            raise _unexpected(found, tag)
        if end is not None:
            start = self.position
            self._charge(end - start)
            self.position = end
            base = self._window_start
            if base <= start and end - base <= len(self._window):
                return self._window[start - base : end - base]
            return self.octets(start, end)
        if found == CONSTRUCTED_OCTETS:
            return der.octet_string(self.value(der.OCTET_STRING))
        parts: list[bytes] = []
        self.enter(found)
        while self.tag() is not None:
            parts.append(self.raw())
        self.leave()
        return der.tlv(found, *parts)

    def value(self, tag: int) -> bytes:
        """The content of the next element, which must be primitive (an OCTET STRING may be in pieces)."""
        if tag == der.OCTET_STRING and self.tag() == CONSTRUCTED_OCTETS:
            pieces: list[bytes] = []
            for start, stop in self.runs():
                self._charge(stop - start + 2)
                pieces.append(self.octets(start, stop))
            return b"".join(pieces)
        found, body, end = self.element()
        if found != tag or end is None:
            raise _unexpected(found, tag)
        self._charge(end - self.position)
        self.position = end
        return self.octets(body, end)

    def runs(self) -> Iterator[tuple[int, int]]:
        """Goes over one OCTET STRING and gives the places (start, end) of its pieces, also empty ones."""
        outside = len(self._ends)
        while True:
            tag = self.tag()
            if tag == CONSTRUCTED_OCTETS:
                self.enter(CONSTRUCTED_OCTETS)
                continue
            if tag is not None:
                found, body, end = self.element()
                if found != der.OCTET_STRING or end is None:
                    raise _unexpected(found, der.OCTET_STRING)
                self.position = end
                yield body, end
            elif len(self._ends) == outside:
                raise CmsSyntaxError("truncated", "the signature ends where an octet string should begin")
            else:
                self.leave()
            if len(self._ends) == outside:
                return


class _Inside:
    """The `with` block of `Cursor.inside`; an error in it goes on as it is."""

    __slots__ = ("_cursor",)

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._cursor.leave()


def _unexpected(found: int, wanted: int) -> CmsSyntaxError:
    return CmsSyntaxError(
        "unexpected-element", f"an element with tag {found:#04x} stands where {wanted:#04x} belongs"
    )
