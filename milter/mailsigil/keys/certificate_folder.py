"""A folder of certificates for keys that lie elsewhere: found by address, matched by public key."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final

from cryptography import x509

from mailsigil.keys.answers import read_certificates
from mailsigil.keys.errors import KeyFileError, SourceError, SourceRefused
from mailsigil.keys.fitness import Unfit, signing_addresses
from mailsigil.keys.key_files import Custody, read_key_file

MAX_FILES: Final = 100_000
_SUFFIXES: Final = frozenset({".pem", ".crt", ".cer", ".p7b", ".p7c", ".der"})

Group = tuple[x509.Certificate, ...]
"""The certificates of one file, the employee's first."""
_Marks = Mapping[Path, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class _Read:
    marks: _Marks = field(default_factory=dict)
    by_address: Mapping[str, tuple[Group, ...]] = field(default_factory=dict)
    faults: tuple[str, ...] = ()


class CertificateFolder:
    """Reads what changed at each :meth:`refresh`; a bad file costs its own certificate and no other."""

    def __init__(self, source: str, path: Path) -> None:
        self._source = source
        self._path = path
        self._lock = threading.Lock()
        self._read = _Read()

    def find(self, address: str) -> tuple[Group, ...]:
        """Gives the groups whose certificate names an address (key form), the newest first."""
        return self._read.by_address.get(address, ())

    @property
    def faults(self) -> tuple[str, ...]:
        """What is wrong with files of the folder, a sentence each."""
        return self._read.faults

    def newest_first(self) -> tuple[tuple[Group, ...], ...]:
        """Gives the groups of each address, the newest certificate first."""
        return tuple(self._read.by_address.values())

    def refresh(self) -> bool:
        """Takes in what changed, and tells whether anything did. Raises SourceRefused when the folder
        cannot be read."""
        with self._lock:
            marks = self._marks()
            if marks == self._read.marks:
                return False
            by_address: dict[str, list[Group]] = {}
            faults: list[str] = []
            for path in marks:
                try:
                    group = self._group(path)
                    for address in signing_addresses(group[0]):
                        by_address.setdefault(address, []).append(group)
                except (KeyFileError, SourceError, Unfit) as error:
                    faults.append(f"{path}: {error}")
            self._read = _Read(
                marks,
                {
                    address: tuple(
                        sorted(groups, key=lambda group: group[0].not_valid_before_utc, reverse=True)
                    )
                    for address, groups in by_address.items()
                },
                tuple(faults),
            )
            return True

    def _group(self, path: Path) -> Group:
        file = read_key_file(path, inside=self._path)
        # Who exchanges a certificate changes what is said of a sender, so it is guarded like a key.
        Custody(os.geteuid()).check(path, file.status, secret=False)
        return read_certificates(self._source, file.data)

    def _marks(self) -> _Marks:
        try:
            with os.scandir(self._path) as entries:
                listed = sorted(
                    (Path(entry.path), entry.stat())
                    for entry in islice(entries, MAX_FILES)
                    if not entry.name.startswith(".") and Path(entry.name).suffix.lower() in _SUFFIXES
                )
        except OSError as error:
            raise SourceRefused(
                self._source,
                f"the folder of certificates {self._path} cannot be read: {error.strerror}",
                "Create it, and let the key agent's user read it",
            ) from error
        return {path: (status.st_mtime_ns, status.st_ino) for path, status in listed}
