"""A folder of counts that are not in the database yet: what a restart or a crash leaves, the next one takes.

Each process writes files of its own, under a name that nobody else draws, and holds a lock for as long as it
lives. The files of a name that nobody locks belong to a process that has ended; whoever finds them brings
them into the database. A file that goes there twice counts once, by its id.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

from mailsigil.keys.files import sync_folder, write_private
from mailsigil.usage.batch import Batch, BatchUnreadable, decode

log = logging.getLogger("mailsigil.usage")

MAX_FILE: Final = 67_108_864
_WRITER: Final = re.compile(r"[0-9a-f]{32}\Z")
_FILE: Final = re.compile(r"([0-9a-f]{32})\.(\d{1,12})\.json\Z")


class Spool:
    """The folder, as one process uses it. Not to be carried over a fork."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writer = ""
        self._number = 0
        self._lock = -1

    def open(self) -> None:
        """Make the folder, and draw a name. Raises OSError."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for _ in range(10):
            writer = secrets.token_hex(16)
            handle = os.open(self._lock_of(writer), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # Somebody took it for one that is left over, in this moment.
                os.close(handle)
                continue
            self._writer, self._lock = writer, handle
            return
        raise BlockingIOError(0, "no name is free", str(self.folder))

    def new(self, *, now: datetime) -> Batch:
        """Give an empty batch with an id of its own."""
        # Without a folder the name is as good as another: nobody else draws it.
        return Batch(self._next(self._writer or secrets.token_hex(16)), now)

    def write(self, batch: Batch) -> None:
        """Keep a batch that is counted on, in the place of what was kept of it before. Raises OSError."""
        if self._lock < 0:
            self.open()
        if not batch.id.startswith(self._writer):
            # Under a name that nobody locks, others would take it before it is whole.
            batch.id = self._next(self._writer)
        self.keep(batch)

    def keep(self, batch: Batch) -> None:
        """Keep a batch that is not counted on any more, under the id that it has. Raises OSError."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(self._file_of(batch.id), batch.encode(), replace=True)

    def has(self, batch: Batch) -> bool:
        """Tell whether a batch is kept."""
        return self._file_of(batch.id).exists()

    def drop(self, batch: Batch) -> None:
        """Forget a batch that the database has, for good: a crash does not bring the file back."""
        with contextlib.suppress(FileNotFoundError):
            self._file_of(batch.id).unlink()
            sync_folder(self.folder)

    @contextmanager
    def left_over(self) -> Iterator[list[Batch]]:
        """Give what processes that ended have left; no other process takes it meanwhile."""
        with contextlib.ExitStack() as stack:
            found = []
            for writer, numbers in sorted(self._writers().items()):
                handle = _locked(self._lock_of(writer)) if writer != self._writer else None
                if handle is None:
                    continue
                stack.callback(self._release, writer, handle)
                found += [one for number in sorted(numbers) if (one := self._read(f"{writer}.{number}"))]
            yield found

    def waiting(self) -> int:
        """Tell how many signatures are kept here, of all processes."""
        read = [
            self._read(f"{writer}.{number}")
            for writer, numbers in self._writers().items()
            for number in numbers
        ]
        return sum(batch.total for batch in read if batch is not None)

    def close(self) -> None:
        """End: what is kept is left over now."""
        if self._lock >= 0:
            self._release(self._writer, self._lock)
            self._lock, self._writer = -1, ""

    def _next(self, writer: str) -> str:
        self._number += 1
        return f"{writer}.{self._number}"

    def _writers(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        try:
            names = [entry.name for entry in os.scandir(self.folder)]
        except FileNotFoundError:
            return {}
        for name in names:
            if name.endswith(".lock") and _WRITER.match(name.removesuffix(".lock")):
                found.setdefault(name.removesuffix(".lock"), [])
            elif match := _FILE.match(name):
                found.setdefault(match[1], []).append(int(match[2]))
        return found

    def _read(self, name: str) -> Batch | None:
        path = self._file_of(name)
        try:
            with path.open("rb") as file:
                content = file.read(MAX_FILE + 1)
            if len(content) > MAX_FILE:
                raise BatchUnreadable("it is too long")
            return decode(content, name=name)
        except FileNotFoundError:
            return None
        except BatchUnreadable as error:
            aside = path.with_suffix(".unreadable")
            log.error("%s holds no counts of signatures: %s; it is kept as %s", path, error, aside.name)
            path.rename(aside)
            return None

    def _release(self, writer: str, handle: int) -> None:
        # Without files nothing is left over, and the name goes, too.
        if not self._writers().get(writer):
            with contextlib.suppress(FileNotFoundError):
                self._lock_of(writer).unlink()
        os.close(handle)

    def _lock_of(self, writer: str) -> Path:
        return self.folder / f"{writer}.lock"

    def _file_of(self, name: str) -> Path:
        return self.folder / f"{name}.json"


def _locked(path: Path) -> int | None:
    """The lock of a process that has ended; None: it lives."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle
