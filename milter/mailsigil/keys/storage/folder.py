"""Storage keys in files of this machine: ``ADDRESS.pem`` (the newest first), ``ADDRESS.p12``."""

from __future__ import annotations

import os
from pathlib import Path

from mailsigil.keys.errors import KeyFileError, SourceAnswer, SourceRefused
from mailsigil.keys.files import address_file_name, write_private
from mailsigil.keys.key_files import Custody, KeyFile, read_key_file
from mailsigil.keys.secret_files import SecretFile
from mailsigil.keys.storage.key import MAX_ENTRY, Entry, StorageKey, read_pem_keys, read_pkcs12_key


class FolderStore:
    """A store of one folder. The file's name is the record of its owner."""

    def __init__(self, source: str, folder: Path, *, passphrase: SecretFile | None = None) -> None:
        self._source = source
        self._folder = folder
        self._passphrase = passphrase

    def fetch(self, address: str, *, passphrase: bytes | None = None) -> Entry:
        """Gives the keys of both files, those of the PEM first. Raises SourceError."""
        if passphrase is None and self._passphrase is not None:
            passphrase = self._passphrase.read()
        keys: list[StorageKey] = []
        owners = {address}
        pem = read_file(self._source, self._folder, self._path(address))
        if pem is not None:
            keys.extend(read_pem_keys(self._source, pem.data, passphrase=passphrase))
        bag = read_file(self._source, self._folder, self._path(address).with_suffix(".p12"))
        if bag is not None:
            key, named = read_pkcs12_key(self._source, bag.data, passphrase=passphrase)
            keys.append(key)
            owners = set(named) or owners
        return Entry(tuple(dict.fromkeys(keys)), frozenset(owners))

    def add(self, address: str, key: StorageKey) -> None:
        """Writes the key in front of the others. Raises SourceError."""
        path = self._path(address)
        old = read_file(self._source, self._folder, path)
        write_file(self._source, path, key.private_pem + (old.data if old is not None else b""))

    def reload(self) -> None:
        """Nothing is kept: the files are read each time."""

    def _path(self, address: str) -> Path:
        return self._folder / address_file_name(address)


def read_file(source: str, folder: Path, path: Path) -> KeyFile | None:
    """Reads a secret file; None where there is none. Raises SourceError."""
    if not folder.is_dir():
        raise SourceRefused(source, f"the folder {folder} is not there", f"install -d -m 0700 {folder}")
    if not os.path.lexists(path):
        return None
    try:
        file = read_key_file(path, inside=folder, limit=MAX_ENTRY)
        Custody(os.geteuid()).check(path, file.status, secret=True)
    except KeyFileError as fault:
        raise SourceAnswer(source, f"{fault.path}: {fault.sentence}", fault.mend) from fault
    return file


def write_file(source: str, path: Path, content: bytes) -> None:
    """Replaces a secret file. Raises SourceRefused."""
    try:
        write_private(path, content, replace=True)
    except OSError as error:
        raise SourceRefused(
            source, f"{path} cannot be written: {error.strerror or error}", "Run it as root"
        ) from error
