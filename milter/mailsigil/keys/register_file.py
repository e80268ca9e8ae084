"""The file under the register: lines that are appended whole or not at all, and what a crash left of one."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mailsigil.keys.files import sync_folder

# A record is a flat JSON object. What begins one and never closes it was cut off while it was written.
# Matched, and then looked how far: so it never goes back in a line that is whole.
_OPEN_STRING: Final = rb'"[^"\\]*(?:\\.[^"\\]*)*'
_CUT: Final = re.compile(rb'\{[^"}]*(?:%b"[^"}]*)*(?:%b\\?)?' % (_OPEN_STRING, _OPEN_STRING))
_EVENT: Final = re.compile(rb'"event": "([a-z]+)"')
_SERIAL: Final = re.compile(rb'"serial": "([0-9a-f]+)"')


@dataclass(frozen=True, slots=True)
class CutLine:
    """A line whose writing was cut off, and what can still be read of it."""

    number: int
    event: str
    serial: str

    @classmethod
    def of(cls, number: int, line: bytes) -> CutLine | None:
        """Give it for a line that was cut off; None for every other, whatever that says."""
        content = line.strip()
        cut = _CUT.match(content)
        # Octets of zero: the file had grown when the machine died, and its content had not.
        if not content or ((cut is None or cut.end() < len(content)) and content.strip(b"\0")):
            return None
        event, serial = _EVENT.search(content), _SERIAL.search(content)
        return cls(
            number, event[1].decode("ascii") if event else "", serial[1].decode("ascii") if serial else ""
        )

    def __str__(self) -> str:
        said = " ".join(filter(None, (self.event, self.serial)))
        return f"line {self.number} was cut off while it was written{f' ({said})' if said else ''}"

    def mend(self, path: Path) -> str:
        """Say what to do about it: what it should have said is not so, and the line is of no use."""
        revoke = f"mailsigil ca revoke --dir {path.parent}"
        again = {
            "issued": f"if anybody has the certificate, {revoke} --certificate FILE takes it back; then ",
            "revoked": f"revoke it again with {revoke} {self.serial or 'SERIAL'}; then ",
            "released": "it is still suspended, so let it be released again; then ",
        }.get(self.event, "")
        # It never takes away a line that is whole: who removes another one first changes the numbers.
        remove = f"sed -i '{self.number}{{/}}[[:space:]]*$/!d}}' {path}"
        return f"{again}remove the line while no mailsigil writes to the file: {remove}"


@contextmanager
def opened(path: Path, *, writing: bool) -> Iterator[int]:
    """Give the open file; until it is closed nobody else writes, and with ``writing`` nobody else reads.

    So no reader ever takes in a line that is withdrawn because the disk did not take it.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW if writing else os.O_RDONLY
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if writing else fcntl.LOCK_SH)
        yield descriptor
    finally:
        os.close(descriptor)


def append(path: Path, descriptor: int, line: bytes) -> None:
    """Append a line to the file that is open for writing, and have it on the disk.

    Raises OSError, and leaves the file as it was, where the disk does not take all of it.
    """
    size = os.fstat(descriptor).st_size
    # A line that a crash cut off must not take this one with it.
    torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
    try:
        _write_all(descriptor, b"\n" * torn + line)
        os.fsync(descriptor)
        if size == 0:
            sync_folder(path.parent)
    except BaseException:
        with suppress(OSError):
            os.ftruncate(descriptor, size)
            os.fsync(descriptor)
        raise


def _write_all(descriptor: int, octets: bytes) -> None:
    """A nearly full disk takes a part without a word; what is left is what raises."""
    rest = memoryview(octets)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def read_from(descriptor: int, offset: int) -> bytes:
    """Give everything that stands behind a place."""
    with os.fdopen(os.dup(descriptor), "rb") as file:
        file.seek(offset)
        return file.read()
