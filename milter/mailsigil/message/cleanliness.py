"""May these octets travel as 7bit? One pass over a range, in constant memory and at C speed."""

from __future__ import annotations

from dataclasses import dataclass

from mailsigil.message.spool import Spool

MAX_LINE = 998
"""Octets in a line without its CRLF (RFC 5322 2.1.1, RFC 2045 2.7)."""


@dataclass(frozen=True, slots=True)
class Cleanliness:
    """What a range of octets holds that 7bit does not allow (RFC 2045 2.7).

    ``longest`` is the length in octets of the longest line, CRLF not counted; only CRLF ends a line.
    """

    eight_bit: bool = False
    nul: bool = False
    bare_line_end: bool = False
    longest: int = 0

    @property
    def is_clean(self) -> bool:
        """Tell whether the range may be labelled 7bit as it stands."""
        return not (self.eight_bit or self.nul or self.bare_line_end) and self.longest <= MAX_LINE


def scan(body: Spool, start: int, end: int) -> Cleanliness:
    """Look at the octets of a spool from ``start`` up to ``end``."""
    eight_bit = nul = bare = False
    longest = carried = 0
    held = False  # the piece before ended in CR, whose LF may be the first octet of this one
    for chunk in body.chunks(start, end):
        data = b"\r" + chunk if held else chunk
        held = data.endswith(b"\r")
        if held:
            data = data[:-1]
        eight_bit = eight_bit or not data.isascii()
        nul = nul or b"\0" in data
        lines = data.split(b"\r\n")
        ends = len(lines) - 1
        bare = bare or data.count(b"\n") != ends or data.count(b"\r") != ends
        carried += len(lines[0])
        if ends:
            longest = max(longest, carried, max(map(len, lines[1:])))
            carried = len(lines[-1])
    return Cleanliness(eight_bit, nul, bare or held, max(longest, carried + held))


def is_clean(data: bytes) -> bool:
    """Tell whether octets that are already in memory may be labelled 7bit."""
    if not data.isascii() or b"\0" in data:
        return False
    lines = data.split(b"\r\n")
    ends = len(lines) - 1
    if data.count(b"\n") != ends or data.count(b"\r") != ends:
        return False
    return max(map(len, lines)) <= MAX_LINE
