"""Keys that sign no more, and that others may have encrypted to: they decrypt, and nothing else.

Each address has a folder of its own below the hidden one, and in it a file for each certificate. The agent
reads them when mail is to be decrypted, and keeps none in memory.
"""

from __future__ import annotations

import contextlib
import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from mailsigil.keys.errors import KeyFileError
from mailsigil.keys.files import address_file_name, write_private
from mailsigil.keys.key_files import Custody, KeyFile, keys_from, read_key_file
from mailsigil.keys.soft_key import SoftKey

FOLDER: Final = ".former"
MAX_KEYS: Final = 100
"""Keys of one address that are read, the latest first."""


class FormerKeys:
    """Below the state folder ``state``; keys are kept for ``keep`` (zero: none are). Raises OSError."""

    def __init__(self, state: Path, *, keep: timedelta) -> None:
        self._path = state / FOLDER
        self._keep = keep

    def add(self, address: str, file: Path) -> None:
        """Keep the key in a file that is about to go, where mail may be encrypted to it."""
        if not self._keep:
            return
        try:
            found = read_key_file(file, inside=file.parent)
        except KeyFileError:
            return
        keys = [key for key in _keys(found) if key.decrypts and address in key.addresses]
        if not keys:
            return  # The certificate is for signatures alone, or the key lies elsewhere.
        folder = self._folder(address)
        for each in (self._path, folder):
            each.mkdir(mode=0o700, exist_ok=True)
            if os.geteuid() == 0:  # For the owner of the state folder, as files.write_private does.
                owner = self._path.parent.stat()
                os.chown(each, owner.st_uid, owner.st_gid)
        _keep(file, folder / f"{keys[0].credential.key_id}.pem", found.data)

    def find(self, address: str) -> tuple[SoftKey, ...]:
        """Give the keys of an address, the latest certificate first; a file that is no good gives none."""
        folder = self._folder(address)
        custody = Custody(os.geteuid())
        keys: list[SoftKey] = []
        for path in _listed(folder)[:MAX_KEYS]:
            try:
                file = read_key_file(path, inside=folder)
                custody.check(file.path, file.status, secret=True)
            except KeyFileError:
                continue
            keys.extend(key for key in _keys(file) if key.decrypts and address in key.addresses)
        return tuple(sorted(keys, key=lambda key: key.valid_from, reverse=True))

    def purge(self, now: datetime) -> int:
        """Remove what was kept for long enough; gives how many keys that were."""
        removed = 0
        for folder in _listed(self._path):
            for path in _listed(folder):
                with contextlib.suppress(FileNotFoundError):  # Another process may have been quicker.
                    if now.timestamp() - path.stat().st_mtime > self._keep.total_seconds():
                        path.unlink()
                        removed += 1
            with contextlib.suppress(OSError):
                folder.rmdir()  # Only where it is empty.
        return removed

    def _folder(self, address: str) -> Path:
        return self._path / address_file_name(address).removesuffix(".pem")


def _keep(file: Path, target: Path, content: bytes) -> None:
    """A second name for the file, which needs no room: a full disk must keep no key where it signs."""
    try:
        target.unlink(missing_ok=True)
        target.hardlink_to(file)
        os.utime(target)  # From now on it is counted how long it is kept.
    except OSError:
        write_private(target, content, replace=True)


def _keys(file: KeyFile) -> tuple[SoftKey, ...]:
    try:
        keys, _ = keys_from([file], passphrase=None)
    except KeyFileError:
        return ()
    return tuple(keys)


def _listed(folder: Path) -> list[Path]:
    """What is in a folder, the latest first; nothing where there is none."""
    try:
        with os.scandir(folder) as entries:
            found = [(entry.stat(follow_symlinks=False).st_mtime, Path(entry.path)) for entry in entries]
    except FileNotFoundError:
        return []
    return [path for _, path in sorted(found, reverse=True)]
