"""Finding the boundary lines of all multiparts that are open at one moment (RFC 2046 5.1.1)."""

from __future__ import annotations

from dataclasses import dataclass

from mailsigil.message.spool import Spool

WINDOW = 65536
MAX_DELIMITER_LINE = 8192
"""A boundary line that is longer, through the white space at its end, is past all reason."""


class DelimiterTooLong(Exception):
    """A boundary line goes on and on with white space."""


@dataclass(frozen=True, slots=True)
class Delimiter:
    """One boundary line: its range in the spool, line end included, and whose it is."""

    start: int
    end: int
    level: int
    """Which of the open multiparts owns it, by the number given to :meth:`DelimiterFinder.watch`."""
    closing: bool


class DelimiterFinder:
    """Walks forward through a spool from boundary line to boundary line.

    The cost is one search over each octet, for a line feed with what all the lines that are looked for
    begin with, and one dictionary look-up for each line so found, whatever the number of open multiparts
    is.
    """

    __slots__ = ("_base", "_body", "_mark", "_size", "_watched", "_window")

    def __init__(self, body: Spool) -> None:
        self._body = body
        self._size = len(body)
        self._watched: dict[bytes, tuple[int, bool]] = {}
        self._mark = b""  # a line feed and the beginning of every line in _watched
        self._base = 0
        self._window = b""
        self._load(-1)

    def watch(self, boundary: bytes, level: int) -> bool:
        """Look out for a boundary from now on. False when an open multipart uses these lines already.

        The outer multipart wins then, as in every reader that ends inner parts at outer boundaries.
        """
        opening = b"--" + boundary
        closing = opening + b"--"
        if opening in self._watched or closing in self._watched:
            return False
        self._watched[opening] = (level, False)
        self._watched[closing] = (level, True)
        self._aim()
        return True

    def forget(self, boundary: bytes) -> None:
        """Stop looking out for a boundary that :meth:`watch` took."""
        del self._watched[b"--" + boundary]
        del self._watched[b"--" + boundary + b"--"]
        self._aim()

    def _aim(self) -> None:
        # One boundary alone can be searched for as a whole, which is several times as fast.
        alone = len(self._watched) == 2
        self._mark = b"\n" + next(iter(self._watched)) if alone else b"\n--"

    def knows(self, line: bytes) -> bool:
        """Tell whether a line, with or without its line end, is a boundary line now."""
        return line.rstrip(b" \t\r\n") in self._watched

    def at(self, position: int) -> Delimiter | None:
        """Give the boundary line that starts exactly at ``position``, which must start a line."""
        if not self._watched or position >= self._size:
            return None
        window_end = self._base + len(self._window)
        if not self._base < position < window_end or (position + 3 > window_end and window_end < self._size):
            self._load(position - 1)
        if not self._window.startswith(b"\n--", position - 1 - self._base):
            return None
        return self._match(position)

    def find(self, position: int) -> Delimiter | None:
        """Give the first boundary line at or after ``position``, which must start a line."""
        if not self._watched:
            return None
        at = position - 1  # of the line feed before the line; there is an imagined one before the body
        if not self._base <= at <= self._base + len(self._window):
            self._load(at)
        while True:
            offset = self._window.find(self._mark, at - self._base)
            if offset < 0:
                window_end = self._base + len(self._window)
                if window_end >= self._size:
                    return None
                at = max(at, window_end - len(self._mark) + 1)
                self._load(at)
                continue
            start = self._base + offset + 1
            found = self._match(start)
            if found is not None:
                return found
            at = start

    def _match(self, start: int) -> Delimiter | None:
        """Judge the line at ``start``, which is in the window and begins with two hyphens."""
        offset = start - self._base
        stop = offset + MAX_DELIMITER_LINE
        cut_short = stop > len(self._window) and self._base + len(self._window) < self._size
        if cut_short and self._window.find(b"\n", offset) < 0:
            self._load(start - 1)
            offset, stop = 1, 1 + MAX_DELIMITER_LINE
        line_end = self._window.find(b"\n", offset, stop)
        end = line_end + 1 if line_end >= 0 else min(stop, len(self._window))
        # RFC 2046 5.1.1: white space that transport added after the boundary does not count.
        owner = self._watched.get(self._window[offset:end].rstrip(b" \t\r\n"))
        if owner is None:
            return None
        if line_end < 0 and self._base + end < self._size:
            raise DelimiterTooLong
        return Delimiter(start, self._base + end, *owner)

    def _load(self, position: int) -> None:
        data = self._body.read(max(position, 0), position + WINDOW)
        self._window = b"\n" + data if position < 0 else data
        self._base = position
