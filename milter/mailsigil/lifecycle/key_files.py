"""The key files of one source on this machine, one by one: the agent reads the folder, we write it."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mailsigil.keys.answers import read_certificates, read_private_key
from mailsigil.keys.errors import KeyFileError, SourceAnswer, SourceRefused
from mailsigil.keys.files import address_file_name
from mailsigil.keys.fitness import Unfit, public_key_of, signing_addresses
from mailsigil.keys.key_files import keys_from, read_key_file
from mailsigil.keys.keyring import StateFolder, chain_pem
from mailsigil.keys.newkey import CertifiableKey, NewKey
from mailsigil.keys.os_errors import mend_of
from mailsigil.keys.placed_keyring import KeyPlace
from mailsigil.keys.profile import KeyKind
from mailsigil.keys.source import HeldKey, key_id_of
from mailsigil.keys.subject import SubjectRequest

log = logging.getLogger("mailsigil.lifecycle")

ASIDE: Final = ".held"
"""Folder for the keys of suspended certificates: the agent does not look into it."""
MAX_FILE: Final = 65_536


class KeyFiles:
    """A state folder; with ``place``, the keys lie there, and the files hold certificates alone.

    Raises SourceRefused where the folder cannot be used, and what the place raises.
    """

    def __init__(self, state: StateFolder, place: KeyPlace | None = None) -> None:
        self._state = state
        self._place = place

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
                        # A file that goes in this moment is no sign that the folder is not there.
                        with suppress(FileNotFoundError):
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

    def chain(self, address: str) -> tuple[bytes, ...]:
        """Give the certificates (DER) in the file of an address, its own first; none where none fits."""
        content = self._content(self._state.file_of(address))
        return self.chain_in(content, address) if content is not None else ()

    def chain_in(self, content: bytes, address: str) -> tuple[bytes, ...]:
        """Give the certificates (DER) in a key file, that of an address first; none where there is none."""
        try:
            certificates = list(read_certificates(self._state.source, content))
            own = next(one for one in certificates if address in signing_addresses(one))
        except (SourceAnswer, StopIteration, Unfit):
            return ()
        others = [one for one in certificates if one is not own]
        return tuple(one.public_bytes(Encoding.DER) for one in (own, *others))

    def address_of(self, name: str) -> str:
        """Give the address whose file has this name, by the certificates in it; empty where none fits."""
        content = self._content(self.path / name)
        try:
            for one in read_certificates(self._state.source, content or b""):
                for address in signing_addresses(one):
                    if address_file_name(address) == name:
                        return address
        except (SourceAnswer, Unfit):
            pass
        return ""

    def held_key(self, address: str) -> HeldKey | None:
        """Give the key of an address, to renew it; None where there is none."""
        if self._place is not None:
            present = self.chain(address)
            for each in self._place.lookup(address) if present else ():
                if each.credential.certificate == present[0]:
                    return HeldKey(each, None)
            return None
        path = self._state.file_of(address)
        try:
            keys, _ = keys_from([read_key_file(path, inside=self.path)], passphrase=None)
        except KeyFileError:
            return None
        return HeldKey(keys[0], path) if keys else None

    def new_key(self, request: SubjectRequest, kind: KeyKind, *, keep: bool) -> CertifiableKey:
        """Give the key that waits for a certificate, else the present one or a new one, which waits now."""
        waiting = self._state.waiting(request.address)
        if self._place is not None:
            return self._placed(self._place, request, kind, waiting, keep=keep)
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

    def _placed(
        self, place: KeyPlace, request: SubjectRequest, kind: KeyKind, waiting: bytes | None, *, keep: bool
    ) -> CertifiableKey:
        """A key on a token or in a service; its public key is what waits."""
        chain = self.chain(request.address) if keep and waiting is None else ()
        known = waiting or (public_key_of(x509.load_der_x509_certificate(chain[0])) if chain else None)
        new = place.key_of(request, known) if known is not None else None
        if new is None:
            new = place.make_key(request, kind)
        self._state.write(self._state.waiting_file(request.address), new.spki)
        return new

    def waits(self, address: str) -> bool:
        """Tell whether a key waits for its certificate."""
        return self._state.waiting(address) is not None

    def waiting_spki(self, address: str) -> bytes | None:
        """Give the public key (DER) of the key that waits; None where none does."""
        waiting = self._state.waiting(address)
        if waiting is None or self._place is not None:
            return waiting  # Of a key that lies elsewhere the public one waits.
        key = read_private_key(self._state.source, waiting)
        return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def store(self, new: CertifiableKey, chain: tuple[bytes, ...]) -> bytes:
        """Write key and chain where the agent finds them; gives the file's content."""
        content = (new.private_pem() if isinstance(new, NewKey) else b"") + chain_pem(chain)
        self.put(new.request.address, content)
        self.drop_waiting(new.request.address)
        return content

    def put(self, address: str, content: bytes) -> str:
        """Write a whole key file; gives its mark. What signed before goes on decrypting."""
        self._state.retire(address)
        self._state.write(self._state.file_of(address), content)
        return self.mark(address)

    def content(self, address: str, key_id: str) -> bytes | None:
        """Give the key file of an address, where it holds this certificate."""
        found = self._content(self._state.file_of(address))
        return found if found is not None and self._is(found, key_id) else None

    def drop_waiting(self, address: str) -> None:
        """Forget the key that waits."""
        try:
            self._state.drop_waiting(address)
        except OSError as error:
            raise self._trouble(error) from error

    def refused(self, address: str) -> None:
        """Forget the key that waits, because its request was answered with no.

        One on a token is kept: tokens are small, so it is tried again, and no second one is made beside it.
        """
        if self._place is None:
            self.drop_waiting(address)

    def remove(self, address: str, key_id: str) -> None:
        """Remove the key of a certificate, wherever it lies; it signs no more, and may go on decrypting."""
        if self.content(address, key_id) is not None:
            self._retire_if_possible(address)
            self._unlink(self._state.file_of(address))
        self._unlink(self._aside_file(key_id))

    def set_aside(self, address: str, key_id: str) -> None:
        """Put the key of a suspended certificate where the agent does not look."""
        if self.content(address, key_id) is None:
            return
        self._retire_if_possible(address)
        try:
            (self.path / ASIDE).mkdir(mode=0o700, exist_ok=True)
            self._state.file_of(address).replace(self._aside_file(key_id))
        except OSError as error:
            raise self._trouble(error) from error

    def set_aside_content(self, key_id: str) -> bytes | None:
        """Give a key file that was set aside; None where it is not here."""
        found = self._content(self._aside_file(key_id))
        return found if found is not None and self._is(found, key_id) else None

    def bring_back(self, address: str, key_id: str, content: bytes) -> str:
        """Put a key file where it signs, in place of one that was set aside; gives its mark."""
        mark = self.put(address, content)
        self._unlink(self._aside_file(key_id))
        return mark

    def _retire_if_possible(self, address: str) -> None:
        """That a key signs no more is worth more than that it goes on decrypting."""
        try:
            self._state.retire(address)
        except SourceRefused as error:
            log.warning("%s: mail encrypted to its key cannot be opened any more: %s", address, error)

    def _aside_file(self, key_id: str) -> Path:
        return self.path / ASIDE / f"{key_id}.pem"

    def _is(self, content: bytes, key_id: str) -> bool:
        try:
            found = read_certificates(self._state.source, content)
        except SourceAnswer:
            return False
        return any(key_id_of(one.public_bytes(Encoding.DER)) == key_id for one in found)

    def _content(self, path: Path) -> bytes | None:
        try:
            with path.open("rb") as file:
                return file.read(MAX_FILE)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SourceRefused(
                self._state.source,
                f"{path} cannot be read: {error.strerror}",
                "Give it to the key agent's user, or take it out of this folder",
            ) from error

    def _unlink(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise self._trouble(error) from error

    def _trouble(self, error: OSError) -> SourceRefused:
        return SourceRefused(
            self._state.source,
            f"its state folder {self.path} cannot be used: {error.strerror}",
            mend_of(error, self.path, otherwise="Give it to the key agent's user, with mode 0700"),
        )


def _mark(status: os.stat_result) -> str:
    return f"{status.st_ino}:{status.st_size}:{status.st_mtime_ns}"
