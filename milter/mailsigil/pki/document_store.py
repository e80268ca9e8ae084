"""What was fetched, kept in files: a restart finds it, and all workers share it.

Files are written whole or not at all. What is read is checked against its own digest, so that a truncated
file is no file; what a document is worth is decided by its signature each time, whoever wrote the file.

Workers also tell each other by files what one of them is fetching just now, and which server did not answer
it: so a server is asked once, and not once by each.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

_SUFFIX: Final = ".revocation"
_MAGIC: Final = b"mailsigil-revocation-1\n"
_TROUBLE: Final = ".trouble"
_PASSING: Final = (_SUFFIX, _TROUBLE, ".new")
_LOCK_POLL: Final = 0.05
_HEAD: Final = len(_MAGIC) + hashlib.sha256().digest_size


@dataclass(frozen=True, slots=True)
class DocumentStore:
    """A folder of documents by name. Errors of the file system make it an empty one, not a failure."""

    folder: Path
    max_bytes: int

    def read(self, name: bytes) -> bytes | None:
        """Give a document, or None where there is none that is whole."""
        try:
            with self._path(name).open("rb") as file:
                data = file.read(self.max_bytes + _HEAD + 1)
        except OSError:
            return None
        document = data[_HEAD:]
        whole = data[:_HEAD] == _MAGIC + hashlib.sha256(document).digest()
        return document if whole and len(document) <= self.max_bytes else None

    def version(self, name: bytes) -> int:
        """Give a number that changes with the document; 0 where there is none."""
        try:
            return self._path(name).stat().st_mtime_ns
        except OSError:
            return 0

    def write(self, name: bytes, document: bytes) -> None:
        """Keep a document; older ones go where it gets too much."""
        if len(document) > self.max_bytes:
            return
        with contextlib.suppress(OSError):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._replace(self._path(name), _MAGIC + hashlib.sha256(document).digest() + document)
            self._tidy()

    @contextlib.contextmanager
    def alone(self, name: bytes, *, patience: float) -> Iterator[None]:
        """Keep other processes that want the same document waiting; after ``patience`` seconds, go on anyhow.

        Who waits blocks its thread. Names share 256 lock files, which stay.
        """
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            slot = hashlib.sha256(name).hexdigest()[:2]
            lock = os.open(self.folder / f"{slot}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            yield
            return
        try:
            _take(lock, time.monotonic() + patience)
            yield
        finally:
            os.close(lock)  # gives the lock back

    def trouble(self, server: str, *, at: datetime) -> None:
        """Tell the other workers that a server did not answer at a time."""
        with contextlib.suppress(OSError):
            path = self._path(server.encode(), _TROUBLE)
            path.touch(mode=0o600)
            os.utime(path, (at.timestamp(), at.timestamp()))

    def well(self, server: str) -> None:
        """Tell the other workers that a server answers."""
        with contextlib.suppress(OSError):
            self._path(server.encode(), _TROUBLE).unlink(missing_ok=True)

    def trouble_age(self, server: str, *, at: datetime) -> float | None:
        """Give how many seconds ago a server did not answer one of the workers; None where all is well."""
        try:
            return abs(at.timestamp() - self._path(server.encode(), _TROUBLE).stat().st_mtime)
        except OSError:
            return None

    def _path(self, name: bytes, suffix: str = _SUFFIX) -> Path:
        return self.folder / (hashlib.sha256(name).hexdigest() + suffix)

    def _replace(self, path: Path, data: bytes) -> None:
        descriptor, temporary = tempfile.mkstemp(dir=self.folder, prefix=".", suffix=".new")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            os.replace(temporary, path)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise

    def _tidy(self) -> None:
        """Remove the oldest files beyond the bound, among them what a crash left half written."""
        entries = []
        for entry in os.scandir(self.folder):
            if entry.name.endswith(_PASSING):
                with contextlib.suppress(OSError):  # another worker was quicker
                    status = entry.stat(follow_symlinks=False)
                    entries.append((status.st_mtime, status.st_size, entry.path))
        total = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries):
            if total <= self.max_bytes:
                break
            with contextlib.suppress(OSError):
                os.unlink(path)
            total -= size


def _take(lock: int, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return
            time.sleep(_LOCK_POLL)
        except OSError:
            return  # a file system without locks
        else:
            return
