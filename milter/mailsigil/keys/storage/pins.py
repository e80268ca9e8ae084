"""The public storage keys of all users, on disk: delivery needs them alone, and private keys must fit them.

One file for each user, PEM, the newest key first. What stands here was made or looked at by an administrator
(``mailsigil storage``), or recorded by the key server where ``adopt`` allows it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_public_key,
)

from mailsigil.keys.errors import KeyFileError
from mailsigil.keys.files import address_file_name, write_private
from mailsigil.keys.key_files import Custody, read_key_file
from mailsigil.keys.storage.key import MAX_ENTRY, MAX_KEYS

_BLOCK: Final = re.compile(rb"-----BEGIN PUBLIC KEY-----\n[A-Za-z0-9+/=\n]{1,4096}-----END PUBLIC KEY-----\n")
_MEND: Final = "Restore the file, or have it written anew: mailsigil storage pin ADDRESS"


class PinFolder:
    """The folder. Safe to share between threads and processes: files are replaced whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, address: str) -> tuple[bytes, ...]:
        """Gives the public keys (SubjectPublicKeyInfo, DER) of an address, or none. Raises KeyFileError."""
        path = self.path(address)
        try:
            path.lstat()
        except FileNotFoundError:
            self._require_folder()
            return ()
        except OSError as error:
            raise KeyFileError(path, f"the file cannot be looked at: {error.strerror}", _MEND) from error
        file = read_key_file(path, inside=self.folder, limit=MAX_ENTRY)
        Custody(os.geteuid()).check(path, file.status, secret=False)
        first, _, rest = file.data.partition(b"\n")
        if first != b"# " + address.encode():
            raise KeyFileError(path, f"the file is not that of {address}", _MEND)
        blocks = _BLOCK.findall(rest)
        if not 1 <= len(blocks) <= MAX_KEYS or len(blocks) != rest.count(b"-----BEGIN"):
            raise KeyFileError(path, "the file holds no public keys, or a damaged one", _MEND)
        return tuple(_der(path, block) for block in blocks)

    def write(self, address: str, keys: Sequence[bytes]) -> None:
        """Replaces the public keys of an address. Raises KeyFileError."""
        path = self.path(address)
        text = b"".join((b"# ", address.encode(), b"\n", *(public_pem(key) for key in keys)))
        try:
            write_private(path, text, replace=True)
        except OSError as error:
            raise KeyFileError(
                path,
                f"the file cannot be written: {error.strerror or error}",
                f"install -d -m 0700 -o USER-OF-THE-KEY-AGENT {self.folder}",
            ) from error

    def addresses(self) -> list[str]:
        """Gives everybody who has a file here. Raises KeyFileError."""
        self._require_folder()
        found: list[str] = []
        for path in sorted(self.folder.glob("*.pem")):
            with path.open("rb") as file:
                name = file.readline(400).removeprefix(b"# ").strip().decode("utf-8", "replace")
            if self.path(name) == path:
                found.append(name)
        return found

    def path(self, address: str) -> Path:
        """The file of an address."""
        return self.folder / address_file_name(address)

    def _require_folder(self) -> None:
        # That nobody has keys must be known, and not follow from a folder that was not mounted.
        if not self.folder.is_dir():
            raise KeyFileError(
                self.folder,
                "the folder of public keys is not there",
                f"install -d -m 0700 -o USER-OF-THE-KEY-AGENT {self.folder}",
            )


def public_pem(public: bytes) -> bytes:
    """Writes a public key (DER) as PEM."""
    return load_der_public_key(public).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _der(path: Path, block: bytes) -> bytes:
    try:
        key = load_pem_public_key(block)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyFileError(path, "a public key cannot be read", _MEND) from error
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        raise KeyFileError(path, "a public key is of a kind that encrypts no stored mail", _MEND)
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
