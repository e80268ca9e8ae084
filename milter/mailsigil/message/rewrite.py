"""Writing a message anew where 7bit asks for it, and byte for byte everywhere else.

First the tree is surveyed: what must change, and whether it may. Then it is written in one pass. A part
that needs nothing is copied as it stands, header, body and boundary lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from mailsigil.message.cleanliness import Cleanliness, scan
from mailsigil.message.fields import Field, named
from mailsigil.message.header_repair import HeaderInexpressible, repair_field
from mailsigil.message.mime import IDENTITY_ENCODINGS, Fault, Part
from mailsigil.message.part_header import mbox_line
from mailsigil.message.spool import Spool
from mailsigil.message.transfer_encoders import (
    base64_lines,
    crlf,
    quoted_printable,
    repair_base64,
    repair_quoted_printable,
)

_HIGH = bytes(range(128, 256))
_NO_ASCII_LINES = ("utf-16", "utf-32", "ucs-2", "ucs-4", "utf16", "utf32", "ucs2", "ucs4")
WIDE_LABELS = frozenset({"8bit", "binary"})
"""Labels of RFC 2045 6.2 that must not stand above 7-bit content in a signed part."""

_GUESSES = frozenset(
    {
        Fault.SEVERAL_TYPES,
        Fault.SEVERAL_ENCODINGS,
        Fault.SPACED_NAME,
        Fault.NO_SEPARATOR,
        Fault.ENCODED_CONTAINER,
    }
)
"""Faults that readers resolve differently: such a part may be copied but not written anew."""


class Unsignable(Exception):
    """The message has no 7-bit form with the same meaning.

    ``reason`` is a token for the log, ``sentence`` tells an admin which part stands in the way.
    """

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.sentence = sentence


class Change(Enum):
    """What happens to the body of a part; the value is its new transfer encoding."""

    KEEP = ""
    LABEL = "7bit"
    QUOTED_PRINTABLE = "quoted-printable"
    BASE64 = "base64"
    REPAIR_QUOTED_PRINTABLE = "quoted-printable "
    REPAIR_BASE64 = "base64 "

    @property
    def encoding(self) -> str:
        """The word for Content-Transfer-Encoding."""
        return self.value.rstrip()


@dataclass(slots=True)
class Survey:
    """What one part needs. ``gaps`` are the ranges of its boundary lines, before, between and after."""

    part: Part
    path: str
    header: bool = False
    change: Change = Change.KEEP
    gaps: list[tuple[int, int]] = field(default_factory=list)
    gaps_dirty: bool = False
    preamble_dirty: bool = False
    epilogue_dirty: bool = False
    is_message: bool = False
    children: list[Survey] = field(default_factory=list)

    @property
    def needs_header(self) -> bool:
        """The header block must be written anew."""
        return self.header or self.change is not Change.KEEP

    @property
    def needs_writing(self) -> bool:
        """Something in the part or below it must change."""
        return self.needs_header or self.changes_body

    @property
    def changes_body(self) -> bool:
        """Something in the body must change, whatever becomes of the header."""
        own = self.change not in (Change.KEEP, Change.LABEL)
        return (
            own
            or self.gaps_dirty
            or self.preamble_dirty
            or self.epilogue_dirty
            or any(child.needs_writing for child in self.children)
        )


def describe(part: Part, path: str) -> str:
    """Name a part for a person, for example ``part 2.1 (text/html)``."""
    return (
        f"part {path} ({part.media_type.full[:80]})" if path else f"the message ({part.media_type.full[:80]})"
    )


def survey(body: Spool, part: Part, *, bodies_clean: bool) -> Survey:
    """Find out what the message ``part`` needs; ``bodies_clean`` when its whole body is known to be 7bit.

    Raises Unsignable.
    """
    return _Surveyor(body, bodies_clean).look(part, path="", frozen=False, is_message=True)


class _Surveyor:
    def __init__(self, body: Spool, bodies_clean: bool) -> None:
        self._body = body
        self._bodies_clean = bodies_clean

    def look(self, part: Part, *, path: str, frozen: bool, is_message: bool) -> Survey:
        found = Survey(part, path, is_message=is_message)
        if part.header_start >= 0:
            found.header = self._dirty(part.header_start, part.body_start)
        inside = frozen or part.media_type.full == "multipart/signed"
        if part.children:
            self._look_inside(found, inside)
        else:
            found.change = self._leaf_change(part, path)
        if found.change is Change.KEEP and part.encoding in WIDE_LABELS and not frozen:
            # Postfix re-encodes for a server without 8BITMIME by the label, whatever the octets are.
            found.change = Change.LABEL
        self._check(found)
        return found

    def _look_inside(self, found: Survey, inside: bool) -> None:
        part = found.part
        if part.media_type.type == "multipart":
            found.preamble_dirty = self._dirty(*part.preamble)
            found.epilogue_dirty = self._dirty(*part.epilogue)
            starts = [part.preamble[1], *(child.body_end for child in part.children)]
            ends = [*(child.header_start for child in part.children), part.epilogue[0]]
            found.gaps = list(zip(starts, ends, strict=True))
            found.gaps_dirty = any(self._dirty(*gap) for gap in found.gaps)
        prefix = found.path + "." if found.path else ""
        is_message = part.media_type.type == "message"
        for number, child in enumerate(part.children, 1):
            below = self.look(child, path=f"{prefix}{number}", frozen=inside, is_message=is_message)
            found.children.append(below)

    def _check(self, found: Survey) -> None:
        part = found.part
        name = describe(part, found.path)
        below = found.gaps_dirty or any(child.needs_writing for child in found.children)
        if below and part.media_type.full == "multipart/signed":
            # RFC 1847 2.1: what is signed may not be changed.
            raise Unsignable(
                "nested-signature", f"{name} is signed already and is not 7-bit, so it cannot be changed"
            )
        if found.needs_header:
            for fault in part.faults:
                if fault in _GUESSES:
                    raise Unsignable("ambiguous-part", f"{name} is not 7-bit and has {fault}")

    def _dirty(self, start: int, end: int) -> bool:
        return not self._bodies_clean and end > start and not scan(self._body, start, end).is_clean

    def _leaf_change(self, part: Part, path: str) -> Change:
        if self._bodies_clean:
            return Change.KEEP
        state = scan(self._body, part.body_start, part.body_end)
        if state.is_clean:
            return Change.KEEP
        if part.encoding == "base64":
            return Change.REPAIR_BASE64
        if part.encoding == "quoted-printable":
            return Change.REPAIR_QUOTED_PRINTABLE
        self._must_be_encodable(part, describe(part, path))
        return self._encoding_for(part, state)

    @staticmethod
    def _must_be_encodable(part: Part, name: str) -> None:
        if part.encoding not in IDENTITY_ENCODINGS:
            raise Unsignable(
                "unknown-encoding", f"{name} is not 7-bit and has the unknown encoding {part.encoding[:40]!r}"
            )
        if part.media_type.type == "multipart":
            reason = next(iter(part.faults), "no parts")
            raise Unsignable("broken-multipart", f"{name} is not 7-bit and has {reason}")
        if part.media_type.type == "message":
            # RFC 2046 5.2: messages must not be base64 or quoted-printable.
            raise Unsignable("message-part", f"{name} is not 7-bit, and its type must not be encoded")
        written = b"".join(each.value.lower() for each in named(part.fields, b"content-type"))
        if part.media_type.full == "text/plain" and (b"multipart" in written or b"boundary" in written):
            raise Unsignable("broken-multipart", f"{name} is not 7-bit and its Content-Type cannot be read")

    def _encoding_for(self, part: Part, state: Cleanliness) -> Change:
        if part.media_type.type != "text" or state.nul:
            return Change.BASE64
        if part.media_type.params.get("charset", "").lower().startswith(_NO_ASCII_LINES):
            return Change.BASE64
        high = 0
        cr_alone = False
        held = b""
        for chunk in self._body.chunks(part.body_start, part.body_end):
            high += len(chunk) - len(chunk.translate(None, _HIGH))
            data = held + chunk
            held = b"\r" if data.endswith(b"\r") else b""
            cr_alone = cr_alone or data.count(b"\r") - len(held) != data.count(b"\r\n")
        # Quoted-printable takes three octets for such an octet, base64 four for every three.
        mostly_high = high * 6 > part.body_end - part.body_start
        return Change.BASE64 if mostly_high or cr_alone or held else Change.QUOTED_PRINTABLE


def write_parts(body: Spool, out: Spool, found: Survey) -> None:
    """Write the body of the surveyed message into ``out``. Raises Unsignable."""
    _Writer(body, out).write_body(found)


def write_header(fields: tuple[Field, ...], found: Survey) -> bytes:
    """Give the header block of a part, without the empty line, as its survey asks. Raises Unsignable."""
    name = describe(found.part, found.path)
    out: list[bytes] = []
    label = b" " + found.change.encoding.encode("ascii")
    labelled = found.change is Change.KEEP
    for each in fields:
        if each.key == b"content-transfer-encoding" and found.change is not Change.KEEP:
            if not labelled:
                out.append(Field(b"Content-Transfer-Encoding", label).raw)
                labelled = True
            continue
        if each.key == b"content-length" and found.change not in (Change.KEEP, Change.LABEL):
            continue  # no longer true
        try:
            out.append(repair_field(each).raw)
        except HeaderInexpressible as error:
            raise Unsignable("header-field", f"{name} has {error}") from None
    if not labelled:
        if found.is_message and found.path and not named(fields, b"mime-version"):
            out.append(b"MIME-Version: 1.0\r\n")  # RFC 2045 4
        out.append(Field(b"Content-Transfer-Encoding", label).raw)
    return b"".join(out)


class _Writer:
    def __init__(self, body: Spool, out: Spool) -> None:
        self._body = body
        self._out = out

    def _copy(self, start: int, end: int) -> None:
        for chunk in self._body.chunks(start, end):
            self._out.write(chunk)

    def _write_all(self, chunks: Iterator[bytes]) -> None:
        for chunk in chunks:
            self._out.write(chunk)

    def _write_part(self, found: Survey) -> None:
        part = found.part
        if not found.needs_writing:
            self._copy(part.header_start, part.body_end)
            return
        if found.needs_header:
            if found.is_message:
                self._copy_mbox_line(part)
            self._out.write(write_header(part.fields, found) + b"\r\n")
        else:
            self._copy(part.header_start, part.body_start)
        self.write_body(found)

    def _copy_mbox_line(self, part: Part) -> None:
        line = self._body.read(part.header_start, part.body_start)
        line = line[: mbox_line(line)].rstrip(b"\r\n")
        if line:
            self._out.write(line + b"\r\n")

    def write_body(self, found: Survey) -> None:
        part = found.part
        chunks = self._body.chunks(part.body_start, part.body_end)
        if found.change is Change.QUOTED_PRINTABLE:
            self._write_all(quoted_printable(chunks))
        elif found.change is Change.BASE64:
            self._write_all(base64_lines(chunks))
        elif found.change is Change.REPAIR_QUOTED_PRINTABLE:
            self._write_all(repair_quoted_printable(chunks))
        elif found.change is Change.REPAIR_BASE64:
            self._write_all(repair_base64(chunks))
        elif not found.children:
            self._copy(part.body_start, part.body_end)
        elif found.gaps:
            self._write_multipart(found)
        else:
            self._write_part(found.children[0])

    def _write_multipart(self, found: Survey) -> None:
        part = found.part
        if not found.preamble_dirty:
            self._copy(*part.preamble)
        for number, gap in enumerate(found.gaps):
            self._write_gap(found, gap, leading=number == 0 and found.preamble_dirty)
            if number < len(found.children):
                self._write_part(found.children[number])
        if not found.epilogue_dirty:
            self._copy(*part.epilogue)

    def _write_gap(self, found: Survey, gap: tuple[int, int], *, leading: bool) -> None:
        """Write boundary lines; ``leading``: what stood before them is gone, and its line end goes too."""
        start, end = gap
        if leading:
            first = self._body.read(start, start + 2)
            start += 2 if first == b"\r\n" else int(first.startswith(b"\n"))
        if found.gaps_dirty:
            self._write_all(crlf(self._body.chunks(start, end)))
        else:
            self._copy(start, end)
