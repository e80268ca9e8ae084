"""The key folder: PEM and PKCS#12 files of an organisation's employees, read again when they change.

Files that share a name up to the last dot belong together: ``NAME.pem``, ``NAME.crt``, ``NAME.cer``,
``NAME.key`` are one key with its certificates; ``NAME.p12`` or ``NAME.pfx`` is a key by itself; the
passphrase for any of them stands in ``NAME.pass``, or many share one. A bad file costs its own key alone.
"""

from __future__ import annotations

import logging
import os
import stat
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Final

from mailsigil.keys.errors import KeyFileError, SourceError
from mailsigil.keys.folder_findings import FolderFinding, finding_of, validity_findings
from mailsigil.keys.key_files import (
    MAX_PASSPHRASE,
    Custody,
    KeyFile,
    keys_from,
    read_key_file,
    read_passphrase,
)
from mailsigil.keys.secret_files import SecretFile
from mailsigil.keys.soft_key import SoftKey

log = logging.getLogger("mailsigil.keyd")

MAX_FILES: Final = 100_000
"""Entries of the folder that are looked at."""
_PEM_SUFFIXES: Final = (".pem", ".crt", ".cer", ".key")
_PKCS12_SUFFIXES: Final = (".p12", ".pfx")
_OPENER_SUFFIX: Final = ".pass"


@dataclass(frozen=True, slots=True)
class _Mark:
    """By what a change of a file shows, without opening it."""

    name: str
    inode: int
    size: int
    modified: int
    changed: int


@dataclass(frozen=True, slots=True)
class _Bundle:
    """The files of one key."""

    key_files: tuple[_Mark, ...]
    passphrase: _Mark | None
    shared: bytes
    """The mark of the passphrase that many share, where it counts here."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    """What a bundle gave."""

    keys: tuple[SoftKey, ...]
    findings: tuple[FolderFinding, ...]


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """The folder as it was read: swapped as a whole, never changed."""

    loaded: Mapping[_Bundle, _Loaded]
    by_address: Mapping[str, tuple[SoftKey, ...]]
    by_id: Mapping[str, SoftKey]
    decrypting: Mapping[str, tuple[SoftKey, ...]] = field(default_factory=dict)
    """By address: the keys that others may encrypt to."""
    of_folder: tuple[FolderFinding, ...] = ()
    """What is wrong with the folder itself."""
    of_files: tuple[FolderFinding, ...] = ()

    @property
    def findings(self) -> tuple[FolderFinding, ...]:
        """Everything that does not depend on the time."""
        return self.of_folder + self.of_files


def _log_finding(finding: FolderFinding) -> None:
    log.warning("%s", finding)


class KeyFolder:
    """A source of keys (see source.py) that reads files. Safe to share between threads.

    Nothing is read before the first :meth:`refresh` or :meth:`reload`. ``agent_uid`` is the user that
    files must belong to when not to root: the own one if None. ``passphrase`` opens what is encrypted and has
    no ``NAME.pass``. ``tell`` gets each new finding once.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        agent_uid: int | None = None,
        passphrase: SecretFile | None = None,
        tell: Callable[[FolderFinding], None] = _log_finding,
    ) -> None:
        self.path = Path(path)
        self._passphrase = passphrase
        self._tell = tell
        self._custody = Custody(os.geteuid() if agent_uid is None else agent_uid)
        self._reading = threading.Lock()
        self._snapshot = _Snapshot({}, {}, {})

    def find(self, address: str) -> tuple[SoftKey, ...]:
        """Gives all keys whose certificate names an address (key form), the newest certificate first."""
        return self._snapshot.by_address.get(address, ())

    def decrypting(self, address: str) -> tuple[SoftKey, ...]:
        """Gives the keys that decrypt an address's mail, the newest certificate first, also expired ones."""
        return self._snapshot.decrypting.get(address, ())

    def get(self, key_id: str) -> SoftKey | None:
        """Gives the key of a name."""
        return self._snapshot.by_id.get(key_id)

    def newest_first(self) -> tuple[tuple[SoftKey, ...], ...]:
        """Gives the keys of each address, the newest certificate first."""
        return tuple(self._snapshot.by_address.values())

    def held(self) -> tuple[SoftKey, ...]:
        """Gives all keys, the expired ones included."""
        return tuple(self._snapshot.by_id.values())

    def count(self) -> int:
        """Tells how many keys there are, the expired ones included."""
        return len(self._snapshot.by_id)

    def findings(self, now: datetime) -> tuple[FolderFinding, ...]:
        """Gives everything that an admin should mend, by file name."""
        snapshot = self._snapshot
        timed = (finding for key in snapshot.by_id.values() for finding in validity_findings(key, now))
        return tuple(sorted({*snapshot.findings, *timed}))

    def refresh(self) -> None:
        """Reads the files that changed since the last time."""
        self._read(self._snapshot.loaded, anew=False)

    def reload(self) -> None:
        """Reads all files anew."""
        self._read({}, anew=True)

    def _read(self, known: Mapping[_Bundle, _Loaded], *, anew: bool) -> None:
        with self._reading:
            old = self._snapshot
            try:
                bundles, findings = self._scan()
            except KeyFileError as fault:
                # The keys that were read stay: a folder that is away for a moment costs no signature.
                finding = finding_of(fault)
                if (finding,) != old.of_folder:
                    self._tell(finding)
                    self._snapshot = replace(old, of_folder=(finding,))
                return
            if not anew and old.loaded.keys() == set(bundles) and old.of_folder == tuple(findings):
                return
            loaded = {bundle: known.get(bundle) or self._load(bundle) for bundle in bundles}
            self._snapshot = replace(_index(loaded), of_folder=tuple(findings))
            for finding in self._snapshot.findings:
                if finding not in old.findings:
                    self._tell(finding)
            log.info("key folder %s: %d keys", self.path, len(self._snapshot.by_id))

    def _scan(self) -> tuple[list[_Bundle], list[FolderFinding]]:
        """Looks at the folder without opening a file."""
        findings: list[FolderFinding] = []
        groups: dict[tuple[str, str], list[_Mark]] = {}
        passphrases: dict[str, _Mark] = {}
        for name, mark in self._marks(findings):
            stem, suffix = os.path.splitext(name)
            suffix = suffix.lower()
            if suffix == _OPENER_SUFFIX:
                passphrases[stem] = mark
            elif suffix in _PEM_SUFFIXES:
                groups.setdefault((stem, ""), []).append(mark)
            elif suffix in _PKCS12_SUFFIXES:
                groups.setdefault((stem, suffix), []).append(mark)
        shared = self._passphrase.mark() if self._passphrase is not None else b""
        bundles = [
            _Bundle(
                tuple(sorted(marks, key=lambda mark: mark.name)),
                passphrases.get(stem),
                b"" if stem in passphrases else shared,
            )
            for (stem, _), marks in sorted(groups.items())
        ]
        stems = {stem for stem, _ in groups}
        findings.extend(
            FolderFinding(
                self.path / mark.name,
                "this passphrase belongs to no key file",
                "Name it like the key file, or remove it",
            )
            for stem, mark in passphrases.items()
            if stem not in stems
        )
        return bundles, findings

    def _marks(self, findings: list[FolderFinding]) -> Iterable[tuple[str, _Mark]]:
        self._check_folder()
        try:
            with os.scandir(self.path) as entries:
                listed = list(islice(entries, MAX_FILES + 1))
        except OSError as error:
            raise self._unreadable(error) from error
        if len(listed) > MAX_FILES:
            findings.append(
                FolderFinding(
                    self.path,
                    f"the folder holds more than {MAX_FILES} files, and not all were read",
                    "Remove what is no key",
                )
            )
        for entry in listed[:MAX_FILES]:
            if entry.name.startswith("."):
                continue
            try:
                status = entry.stat()
            except OSError:
                try:
                    status = entry.stat(follow_symlinks=False)  # A dangling link: reading it will tell.
                except OSError:
                    continue  # Removed in this moment.
            yield (
                entry.name,
                _Mark(entry.name, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns),
            )

    def _check_folder(self) -> None:
        try:
            status = self.path.stat()
        except OSError as error:
            raise self._unreadable(error) from error
        if not stat.S_ISDIR(status.st_mode):
            raise KeyFileError(self.path, "this is no folder", "Name the folder that holds the keys")
        if status.st_uid not in (0, self._custody.agent_uid) or status.st_mode & stat.S_IWOTH:
            raise KeyFileError(
                self.path,
                "others may change the key folder",
                f"Run: chown {self._custody.agent_uid} '{self.path}'; chmod o-w '{self.path}'",
            )

    def _unreadable(self, error: OSError) -> KeyFileError:
        return KeyFileError(
            self.path,
            f"the key folder cannot be read: {error.strerror}",
            "Create it, and let the key agent's user read it",
        )

    def _load(self, bundle: _Bundle) -> _Loaded:
        try:
            keys, faults = self._keys(bundle, [self._open(mark) for mark in bundle.key_files])
        except KeyFileError as fault:
            return _Loaded((), (finding_of(fault),))
        except SourceError as error:
            return _Loaded((), (FolderFinding(self.path, error.sentence, error.mend),))
        return _Loaded(tuple(keys), tuple(finding_of(fault) for fault in faults))

    def _keys(self, bundle: _Bundle, files: Sequence[KeyFile]) -> tuple[list[SoftKey], list[KeyFileError]]:
        if bundle.passphrase is not None:
            own = read_passphrase(self._open(bundle.passphrase, limit=MAX_PASSPHRASE))
            return keys_from(files, passphrase=own)
        try:
            return keys_from(files, passphrase=None)
        except KeyFileError:
            if self._passphrase is None:
                raise
            return keys_from(files, passphrase=self._passphrase.read())

    def _open(self, mark: _Mark, **limit: int) -> KeyFile:
        file = read_key_file(self.path / mark.name, inside=self.path, **limit)
        self._custody.check(file.path, file.status, secret=file.is_secret)
        return file


def _index(loaded: Mapping[_Bundle, _Loaded]) -> _Snapshot:
    """Orders the keys for look-up; of two files with the same certificate the first one counts."""
    by_id: dict[str, SoftKey] = {}
    by_address: dict[str, list[SoftKey]] = {}
    decrypting: dict[str, list[SoftKey]] = {}
    findings: list[FolderFinding] = []
    for result in loaded.values():
        findings.extend(result.findings)
        for key in result.keys:
            first = by_id.setdefault(key.credential.key_id, key)
            if first is not key:
                findings.append(
                    FolderFinding(
                        key.origin, f"{first.origin.name} holds the same certificate", "Remove one of them"
                    )
                )
                continue
            for address in key.addresses:
                if key.credential.schemes:
                    by_address.setdefault(address, []).append(key)
                if key.decrypts:
                    decrypting.setdefault(address, []).append(key)
    return _Snapshot(
        loaded,
        _newest_first(by_address),
        by_id,
        decrypting=_newest_first(decrypting),
        of_files=tuple(findings),
    )


def _newest_first(keys: Mapping[str, list[SoftKey]]) -> Mapping[str, tuple[SoftKey, ...]]:
    return {
        address: tuple(sorted(each, key=lambda key: key.valid_from, reverse=True))
        for address, each in keys.items()
    }
