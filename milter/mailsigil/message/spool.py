"""Bytes that are written once and read often: in memory while small, in an unlinked file when large.

A message body may be 100 MB while a worker must stay small, so whoever needs the body reads slices
and chunks of a :class:`Spool` and never the whole.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from types import TracebackType
from typing import IO

_FLUSH_AT = 65536
"""Small writes to the file are gathered up to this many octets."""


class Spool:
    """Append-only bytes, at most ``memory_limit`` octets of them in memory.

    Offsets count octets from 0; a range outside of what was written is cut to what is there. Reads
    keep no position, so several iterators may run at once, also between writes. Not for several
    threads. Raises OSError when the disk does not take the data.
    """

    __slots__ = ("_closed", "_directory", "_file", "_flushed", "_memory", "_memory_limit", "_readable")

    def __init__(self, *, memory_limit: int = 262144, directory: str | None = None) -> None:
        self._memory = bytearray()  # everything, or after the move to the file: what is not in it yet
        self._readable: bytes | None = None  # the same as bytes, of which a slice costs one copy
        self._memory_limit = memory_limit
        self._directory = directory or None
        self._file: IO[bytes] | None = None
        self._flushed = 0  # octets in the file
        self._closed = False

    def __len__(self) -> int:
        return self._flushed + len(self._memory)

    def write(self, data: bytes) -> None:
        """Append octets."""
        self._must_be_open()
        self._memory += data
        self._readable = None
        limit = self._memory_limit if self._file is None else _FLUSH_AT
        if len(self._memory) > limit:
            self._flush()

    def read(self, start: int, end: int) -> bytes:
        """Give the octets from ``start`` up to, not including, ``end``."""
        if self._closed:
            self._must_be_open()
        if start < 0:
            start = 0
        if self._file is None:
            if self._readable is None:
                self._readable = bytes(self._memory)
            return self._readable[start:end] if start < end else b""
        end = min(end, len(self))
        if start >= end:
            return b""
        if end > self._flushed:
            self._flush()
        return self._read_file(self._file, start, end)

    def chunks(self, start: int = 0, end: int | None = None, size: int = 65536) -> Iterator[bytes]:
        """Give the octets of a range in pieces of at most ``size``; the range is fixed at the first one."""
        stop = len(self) if end is None else min(end, len(self))
        for position in range(max(start, 0), stop, size):
            yield self.read(position, min(position + size, stop))

    def close(self) -> None:
        """Let go of memory and file. May be called again; reading and writing afterwards is an error."""
        self._closed = True
        self._memory = bytearray()
        self._readable = None
        self._flushed = 0
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _must_be_open(self) -> None:
        if self._closed:
            raise ValueError("this spool is closed")

    def _flush(self) -> None:
        if self._file is None:
            # The file has no name (O_TMPFILE, or unlinked at once), so nothing is left behind by a
            # crash; close() ends it.
            self._file = tempfile.TemporaryFile(dir=self._directory, buffering=0)  # noqa: SIM115
        descriptor = self._file.fileno()
        with memoryview(self._memory) as pending:
            done = 0
            while done < len(pending):
                done += os.pwrite(descriptor, pending[done:], self._flushed + done)
        self._flushed += done
        self._memory = bytearray()
        self._readable = None

    @staticmethod
    def _read_file(file: IO[bytes], start: int, end: int) -> bytes:
        data = os.pread(file.fileno(), end - start, start)
        if len(data) == end - start:
            return data
        parts = [data]  # one call gives at most 2 GiB
        while data and (start := start + len(data)) < end:
            data = os.pread(file.fileno(), end - start, start)
            parts.append(data)
        return b"".join(parts)
