"""Where enrolled keys lie: in the state folder with their certificates, or elsewhere (placed_keyring.py)."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Protocol

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from mailsigil.keys.answers import read_private_key
from mailsigil.keys.errors import SourceRefused
from mailsigil.keys.files import address_file_name, write_private
from mailsigil.keys.folder import KeyFolder
from mailsigil.keys.former_keys import FormerKeys
from mailsigil.keys.newkey import CertifiableKey, NewKey
from mailsigil.keys.os_errors import mend_of
from mailsigil.keys.profile import KeyKind
from mailsigil.keys.soft_key import SoftKey
from mailsigil.keys.source import HeldKey, SigningKey
from mailsigil.keys.subject import SubjectRequest

LOCKS: Final = 64
"""Files that keep the agent's processes from enrolling the same address twice."""
MAX_TRANSACTION: Final = 4096
"""Octets of what an issuer writes down of a request that waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """The newest certificate of an address: what tells when it is to be renewed."""

    key_id: str
    address: str
    valid_from: datetime
    valid_until: datetime


class Keyring(Protocol):
    """Keys of one source that enrols. Safe to share between threads; raises SourceError."""

    def find(self, address: str) -> tuple[SigningKey, ...]:
        """Gives the keys for an address, the newest first, expired ones too."""
        ...

    def get(self, key_id: str) -> SigningKey | None:
        """Gives the key of a name."""
        ...

    def held(self) -> Sequence[SigningKey]:
        """Gives the keys at hand."""
        ...

    def count(self) -> int:
        """Tells how many keys there are."""
        ...

    def refresh(self) -> None:
        """Takes in what other processes stored."""
        ...

    def reload(self) -> None:
        """Reads everything anew."""
        ...

    def newest(self) -> Iterator[Enrolled]:
        """Gives what each address enrolled last."""
        ...

    def held_key(self, enrolled: Enrolled) -> HeldKey | None:
        """Gives the key behind a certificate, to renew it; None where it was replaced meanwhile."""
        ...

    def new_key(self, request: SubjectRequest, kind: KeyKind) -> CertifiableKey:
        """Gives the key that waits for a certificate, else makes one, which waits from now on."""
        ...

    def store(self, new: CertifiableKey, chain: tuple[bytes, ...]) -> None:
        """Keeps a key with its chain (DER, the certificate first); it waits no longer."""
        ...

    def drop_waiting(self, address: str) -> None:
        """Forgets the key that waits, because its request was answered with no."""
        ...

    def remove(self, key: SigningKey) -> None:
        """Drops a key that was revoked."""
        ...


class StateFolder:
    """The folder of one source that enrols, shared by all processes of the agent.

    Keys that decrypt are kept for ``keep_former`` after they have signed for the last time.
    """

    def __init__(self, source: str, path: Path, *, keep_former: timedelta = timedelta(0)) -> None:
        self.source = source
        self.path = path
        self.former = FormerKeys(path, keep=keep_former)

    def prepare(self) -> None:
        """Makes the folder. Raises SourceRefused."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise self._unusable(error) from error

    def file_of(self, address: str) -> Path:
        """The file of an address."""
        return self.path / address_file_name(address)

    def waiting_file(self, address: str) -> Path:
        """The hidden file of a key that waits for its certificate."""
        return self.path / f".{address_file_name(address)}.waiting"

    def transaction_file(self, address: str) -> Path:
        """The hidden file in which an issuer keeps what it needs to ask after the request for that key."""
        return self.path / f".{address_file_name(address)}.transaction"

    def write(self, path: Path, content: bytes) -> None:
        """Writes a file that only the key agent may read, whole. Raises SourceRefused."""
        try:
            write_private(path, content, replace=True)
        except OSError as error:
            raise self._unusable(error) from error

    def retire(self, address: str) -> None:
        """Has the key of an address, which is about to go, decrypt from now on. Raises SourceRefused."""
        try:
            self.former.add(address, self.file_of(address))
        except OSError as error:
            raise self._unusable(error) from error

    def waiting(self, address: str) -> bytes | None:
        """Gives what waits for a certificate. Raises SourceRefused."""
        try:
            return self.waiting_file(address).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unusable(error) from error

    def transaction(self, address: str) -> bytes | None:
        """Gives what an issuer wrote down of a request that waits; one octet more than
        ``MAX_TRANSACTION`` where it is too long. Raises SourceRefused."""
        try:
            with open(self.transaction_file(address), "rb", opener=_unfollowed) as file:
                return file.read(MAX_TRANSACTION + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unusable(error) from error

    def drop_waiting(self, address: str) -> None:
        """Forgets the key that waits, and the request for it with it. Raises OSError."""
        self.drop_transaction(address)
        self.waiting_file(address).unlink(missing_ok=True)

    def drop_transaction(self, address: str) -> None:
        """Forgets what an issuer wrote down of a request that waits. Raises OSError."""
        self.transaction_file(address).unlink(missing_ok=True)

    @contextmanager
    def alone(self, address: str) -> Iterator[None]:
        """One enrolment for an address at a time, over all processes. Raises SourceRefused."""
        number = hashlib.sha256(address.encode()).digest()[0] % LOCKS
        path = self.path / f".{number}.lock"
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._unusable(error) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _unusable(self, error: OSError) -> SourceRefused:
        return SourceRefused(
            self.source,
            f"its state folder {self.path} cannot be used: {error.strerror}",
            mend_of(error, self.path, otherwise="Create it for the key agent's user, with mode 0700"),
        )


class SoftKeyring:
    """A Keyring of PEM files with key and chain, one for each address."""

    def __init__(self, state: StateFolder) -> None:
        self._state = state
        self._folder = KeyFolder(state.path)

    def find(self, address: str) -> tuple[SoftKey, ...]:
        """Gives the keys for an address, the newest first."""
        return self._folder.find(address)

    def get(self, key_id: str) -> SoftKey | None:
        """Gives the key of a name."""
        return self._folder.get(key_id)

    def held(self) -> tuple[SoftKey, ...]:
        """Gives all keys of the folder, the expired ones included."""
        return self._folder.held()

    def count(self) -> int:
        """Tells how many keys there are."""
        return self._folder.count()

    def refresh(self) -> None:
        """Takes in what other processes stored."""
        self._folder.refresh()

    def reload(self) -> None:
        """Reads the folder anew."""
        self._folder.reload()

    def newest(self) -> Iterator[Enrolled]:
        """Gives what each address enrolled last."""
        newest = {keys[0].credential.key_id: keys[0] for keys in self._folder.newest_first() if keys}
        for key_id, key in newest.items():
            yield Enrolled(
                key_id=key_id,
                address=min(key.addresses),
                valid_from=key.valid_from,
                valid_until=key.valid_until,
            )

    def held_key(self, enrolled: Enrolled) -> HeldKey | None:
        """Gives key and file; TLS client authentication takes it from there."""
        key = self._folder.get(enrolled.key_id)
        return None if key is None else HeldKey(key, key.origin)

    def new_key(self, request: SubjectRequest, kind: KeyKind) -> NewKey:
        """Gives the key that waits, or makes one. It is written before anybody is asked to certify it."""
        held = self._state.waiting(request.address)
        if held is not None:
            return NewKey(request, read_private_key(self._state.source, held))
        new = NewKey.generate(request, kind)
        self._state.write(self._state.waiting_file(request.address), new.private_pem())
        return new

    def store(self, new: CertifiableKey, chain: tuple[bytes, ...]) -> None:
        """Writes key and chain into one file, which appears at once."""
        if not isinstance(new, NewKey):
            raise TypeError("a key that lies elsewhere is not kept in a file")
        address = new.request.address
        self._state.retire(address)
        self._state.write(self._state.file_of(address), new.private_pem() + chain_pem(chain))
        self.drop_waiting(address)
        self._folder.refresh()

    def drop_waiting(self, address: str) -> None:
        """Removes the key that waits."""
        self._state.drop_waiting(address)

    def remove(self, key: SigningKey) -> None:
        """Removes the file of a key."""
        if isinstance(key, SoftKey):
            for address in key.addresses:
                if self._state.file_of(address) == key.origin:
                    self._state.retire(address)
            key.origin.unlink(missing_ok=True)
        self._folder.refresh()


def _unfollowed(path: str, flags: int) -> int:
    """Opens neither a file elsewhere nor a pipe that somebody would have to write into."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def chain_pem(chain: Sequence[bytes]) -> bytes:
    """Certificates (DER) as PEM."""
    loaded = (x509.load_der_x509_certificate(der) for der in chain)
    return b"".join(each.public_bytes(Encoding.PEM) for each in loaded)
