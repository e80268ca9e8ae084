"""The key files of one source on this machine, one by one: the agent reads the folder, we write it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding

from mailsigil.keys.answers import read_certificates, read_private_key
from mailsigil.keys.errors import KeyFileError, SourceRefused
from mailsigil.keys.files import address_file_name
from mailsigil.keys.key_files import keys_from, read_key_file
from mailsigil.keys.keyring import StateFolder, chain_pem
from mailsigil.keys.newkey import NewKey
from mailsigil.keys.profile import KeyKind
from mailsigil.keys.soft_key import SoftKey
from mailsigil.keys.source import HeldKey, key_id_of
from mailsigil.keys.subject import SubjectRequest

ASIDE: Final = ".held"
"""Folder for the keys of suspended certificates: the agent does not look into it."""
MAX_FILE: Final = 65_536


class KeyFiles:
    """A state folder. Raises SourceRefused where it cannot be used."""

    def __init__(self, state: StateFolder) -> None:
        self._state = state

    @property
    def path(self) -> Path:
        """The folder."""
        return self._state.path

    def prepare(self) -> None:
        """Make the folder."""
        self._state.prepare()

    def marks(self) -> dict[str, str]:
        """Give the names of all key files, each with what shows that it changed, without opening one."""
        found = {}
        try:
            with os.scandir(self.path) as entries:
                for entry in entries:
                    if entry.name.endswith(".pem") and not entry.name.startswith("."):
                        found[entry.name] = _mark(entry.stat(follow_symlinks=False))
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise self._trouble(error) from error
        return found

    def aside(self) -> frozenset[str]:
        """Give the key ids of what was set aside."""
        try:
            return frozenset(
                path.name.removesuffix(".pem")
                for path in (self.path / ASIDE).iterdir()
                if path.suffix == ".pem"
            )
        except FileNotFoundError:
            return frozenset()
        except OSError as error:
            raise self._trouble(error) from error

    def mark(self, address: str) -> str:
        """Give what shows that the file of an address changed; empty where there is none."""
        try:
            return _mark(self._state.file_of(address).lstat())
        except OSError:
            return ""

    def key(self, address: str) -> SoftKey | None:
        """Read the key of an address; None where there is none of use."""
        return next(iter(self.look(address_file_name(address))), None)

    def look(self, name: str) -> Iterator[SoftKey]:
        """Read a file of this folder."""
        try:
            keys, _ = keys_from([read_key_file(self.path / name, inside=self.path)], passphrase=None)
        except KeyFileError:
            return
        yield from keys

    def held_key(self, address: str) -> HeldKey | None:
        """Give the key of an address, to renew it."""
        key = self.key(address)
        return HeldKey(key, key.origin) if key is not None else None

    def new_key(self, request: SubjectRequest, kind: KeyKind, *, keep: bool) -> NewKey:
        """Give the key that waits for a certificate, else the present one or a new one, which waits now."""
        waiting = self._state.waiting(request.address)
        if waiting is not None:
            return NewKey(request, read_private_key(self._state.source, waiting))
        present = self._content(self._state.file_of(request.address)) if keep else None
        if present is not None:
            new = NewKey(request, read_private_key(self._state.source, present))
        else:
            new = NewKey.generate(request, kind)
        # Kept before anybody is asked to certify it: whatever becomes of the answer, the next request is
        # for the same key.
        self._state.write(self._state.waiting_file(request.address), new.private_pem())
        return new

    def waits(self, address: str) -> bool:
        """Tell whether a key waits for its certificate."""
        return self._state.waiting(address) is not None

    def store(self, new: NewKey, chain: tuple[bytes, ...]) -> bytes:
        """Write key and chain where the agent finds them; gives the file's content."""
        content = new.private_pem() + chain_pem(chain)
        self.put(new.request.address, content)
        self.drop_waiting(new.request.address)
        return content

    def put(self, address: str, content: bytes) -> str:
        """Write a whole key file; gives its mark."""
        self._state.write(self._state.file_of(address), content)
        return self.mark(address)

    def content(self, address: str, key_id: str) -> bytes | None:
        """Give the key file of an address, where it holds this certificate."""
        found = self._content(self._state.file_of(address))
        return found if found is not None and self._is(found, key_id) else None

    def drop_waiting(self, address: str) -> None:
        """Forget the key that waits."""
        self._unlink(self._state.waiting_file(address))

    def remove(self, address: str, key_id: str) -> None:
        """Remove the key of a certificate, wherever it lies."""
        if self.content(address, key_id) is not None:
            self._unlink(self._state.file_of(address))
        self._unlink(self._aside_file(key_id))

    def set_aside(self, address: str, key_id: str) -> None:
        """Put the key of a suspended certificate where the agent does not look."""
        if self.content(address, key_id) is None:
            return
        try:
            (self.path / ASIDE).mkdir(mode=0o700, exist_ok=True)
            self._state.file_of(address).replace(self._aside_file(key_id))
        except OSError as error:
            raise self._trouble(error) from error

    def bring_back(self, address: str, key_id: str) -> bytes | None:
        """Put a key that was set aside where it signs; gives the file, None where it is not here."""
        found = self._content(self._aside_file(key_id))
        if found is None or not self._is(found, key_id):
            return None
        self.put(address, found)
        self._unlink(self._aside_file(key_id))
        return found

    def _aside_file(self, key_id: str) -> Path:
        return self.path / ASIDE / f"{key_id}.pem"

    def _is(self, content: bytes, key_id: str) -> bool:
        first = next(iter(read_certificates(self._state.source, content)), None)
        return first is not None and key_id_of(first.public_bytes(Encoding.DER)) == key_id

    def _content(self, path: Path) -> bytes | None:
        try:
            with path.open("rb") as file:
                return file.read(MAX_FILE)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._trouble(error) from error

    def _unlink(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise self._trouble(error) from error

    def _trouble(self, error: OSError) -> SourceRefused:
        return SourceRefused(
            self._state.source,
            f"its state folder {self.path} cannot be used: {error.strerror}",
            "Give it to the key agent's user, with mode 0700, and see that the disk has room",
        )


def _mark(status: os.stat_result) -> str:
    return f"{status.st_ino}:{status.st_size}:{status.st_mtime_ns}"
