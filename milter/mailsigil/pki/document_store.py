"""What was fetched, kept in files: a restart finds it, and all workers share it.

Files are written whole or not at all. What is read is checked against its own digest, so that a truncated
file is no file; what a document is worth is decided by its signature each time, whoever wrote the file.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_SUFFIX: Final = ".revocation"
_MAGIC: Final = b"mailsigil-revocation-1\n"
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

    def _path(self, name: bytes) -> Path:
        return self.folder / (hashlib.sha256(name).hexdigest() + _SUFFIX)

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
            if entry.name.endswith((_SUFFIX, ".new")):
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
