"""Storage keys in files that only a key on a token opens.

Each storage key (PKCS#8) is sealed by AES-256-GCM under a key of its own, with the address as associated
data, and that key is wrapped by the token: CKM_AES_KEY_WRAP (RFC 3394) or CKM_RSA_PKCS_OAEP. What lies on the
disk is worth nothing without the token, and a file put under another name does not open.
"""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol

import pkcs11
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass, exceptions

from mailsigil.keys.errors import SourceAnswer, SourceRefused
from mailsigil.keys.files import address_file_name
from mailsigil.keys.secret_files import SecretFile
from mailsigil.keys.sources.pkcs11 import Token, TokenPlace
from mailsigil.keys.storage.folder import read_file, write_file
from mailsigil.keys.storage.key import MAX_KEYS, Entry, StorageKey, read_der_key

_NONCE: Final = 12
_SECRET: Final = 32
_LABEL: Final = b"mailsigil storage key\0"
_OAEP: Final = (Mechanism.SHA_1, pkcs11.MGF.SHA1, None)
"""What every token knows; OAEP rests on no collision resistance of its hash (RFC 8017 B.1)."""
_REFUSALS: Final = (
    exceptions.ArgumentsBad,
    exceptions.EncryptedDataInvalid,
    exceptions.EncryptedDataLenRange,
    exceptions.FunctionFailed,
    exceptions.GeneralError,
    exceptions.WrappedKeyInvalid,
    exceptions.WrappedKeyLenRange,
)
"""What tokens say to something that they did not wrap."""


class Wrapping(Protocol):
    """A key elsewhere that wraps 32 octets, and unwraps them again."""

    def wrap(self, secret: bytes) -> bytes:
        """Wraps. Raises SourceError."""
        ...

    def unwrap(self, wrapped: bytes) -> bytes:
        """Unwraps. Raises SourceError."""
        ...

    def reload(self) -> None:
        """Opens it anew with the next call."""
        ...


class WrappingToken(Token):
    """A key of a token, found by its label: an AES key, or an RSA pair."""

    def __init__(self, source: str, *, module: str, token: str, pin: SecretFile, label: str) -> None:
        place = TokenPlace(module=module, token=token, pin=pin)
        super().__init__(source, place, now=lambda: datetime.now(UTC))
        self._name = source
        self._label = label

    def wrap(self, secret: bytes) -> bytes:
        """Wraps with the AES key, or to the public half of the pair. Raises SourceError."""
        with self._using() as session:
            key = self._find(session, ObjectClass.SECRET_KEY)
            if key is None:
                public = self._find(session, ObjectClass.PUBLIC_KEY) or self._missing()
                return bytes(public.encrypt(secret, mechanism=Mechanism.RSA_PKCS_OAEP, mechanism_param=_OAEP))
            template = {
                Attribute.CLASS: ObjectClass.SECRET_KEY,
                Attribute.KEY_TYPE: KeyType.AES,
                Attribute.VALUE: secret,
                Attribute.TOKEN: False,
                Attribute.EXTRACTABLE: True,
                Attribute.SENSITIVE: False,
            }
            with _passing(session.create_object(template)) as passing:
                return bytes(key.wrap_key(passing, mechanism=Mechanism.AES_KEY_WRAP))

    def unwrap(self, wrapped: bytes) -> bytes:
        """Unwraps on the token. Raises SourceError; SourceAnswer for what it did not wrap."""
        with self._using() as session:
            try:
                return self._unwrap(session, wrapped)
            except _REFUSALS as error:
                raise SourceAnswer(
                    self._name,
                    f'the key "{self._label}" of the token does not open it: {type(error).__name__}',
                    "Restore the file, or name the key that wrapped it in key_label",
                ) from error

    def _unwrap(self, session: Any, wrapped: bytes) -> bytes:
        key = self._find(session, ObjectClass.SECRET_KEY)
        if key is None:
            private = self._find(session, ObjectClass.PRIVATE_KEY) or self._missing()
            return bytes(private.decrypt(wrapped, mechanism=Mechanism.RSA_PKCS_OAEP, mechanism_param=_OAEP))
        opened = key.unwrap_key(
            ObjectClass.SECRET_KEY,
            KeyType.AES,
            wrapped,
            mechanism=Mechanism.AES_KEY_WRAP,
            store=False,
            template={Attribute.EXTRACTABLE: True, Attribute.SENSITIVE: False},
        )
        with _passing(opened) as passing:
            return bytes(passing[Attribute.VALUE])

    def _find(self, session: Any, kind: ObjectClass) -> Any:
        # A search that is not read to its end stays open, and the next one fails (PKCS#11 v2.40, 5.7).
        found = list(session.get_objects({Attribute.CLASS: kind, Attribute.LABEL: self._label}))
        return found[0] if found else None

    def _missing(self) -> Any:
        raise SourceRefused(
            self._name,
            f'the token has no key of the label "{self._label}"',
            "Make one (pkcs11-tool --keygen --key-type AES:32 --label NAME), or correct key_label",
        )


class WrappedStore:
    """A store of one folder, ``ADDRESS.json`` for each user, opened by a token."""

    def __init__(self, source: str, folder: Path, token: Wrapping) -> None:
        self._source = source
        self._folder = folder
        self._token = token

    def fetch(self, address: str, *, passphrase: bytes | None = None) -> Entry:
        """Opens the keys of an address; a passphrase is of no use here. Raises SourceError."""
        sealed = self._read(address)
        keys = tuple(self._open(address, each) for each in sealed)
        return Entry(keys, frozenset({address}) if keys else frozenset())

    def add(self, address: str, key: StorageKey) -> None:
        """Seals a key and writes it in front of the others. Raises SourceError."""
        sealed = [self._seal(address, key), *self._read(address)]
        text = json.dumps({"version": 1, "user": address, "keys": sealed}, indent=1)
        write_file(self._source, self._path(address), text.encode("ascii"))

    def reload(self) -> None:
        """Opens the token anew with the next call."""
        self._token.reload()

    def _seal(self, address: str, key: StorageKey) -> dict[str, str]:
        der = load_pem_private_key(key.private_pem, None).private_bytes(
            Encoding.DER, PrivateFormat.PKCS8, NoEncryption()
        )
        secret, nonce = secrets.token_bytes(_SECRET), secrets.token_bytes(_NONCE)
        parts = {
            "wrapped": self._token.wrap(secret),
            "nonce": nonce,
            "sealed": AESGCM(secret).encrypt(nonce, der, _LABEL + address.encode()),
        }
        return {name: base64.b64encode(value).decode() for name, value in parts.items()}

    def _open(self, address: str, sealed: dict[str, str]) -> StorageKey:
        try:
            parts = {name: base64.b64decode(value, validate=True) for name, value in sealed.items()}
            secret = self._token.unwrap(parts["wrapped"])
            der = AESGCM(secret).decrypt(parts["nonce"], parts["sealed"], _LABEL + address.encode())
        except (ValueError, KeyError, TypeError, InvalidTag):
            raise self._damaged(address) from None
        return read_der_key(self._source, der)

    def _read(self, address: str) -> list[dict[str, str]]:
        file = read_file(self._source, self._folder, self._path(address))
        if file is None:
            return []
        try:
            told = json.loads(file.data)
            keys, user = told["keys"], told["user"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise self._damaged(address) from None
        if user != address:
            raise SourceAnswer(
                self._source, f"{file.path} holds keys of {user!r:.100}", "Put each file under its own name"
            )
        if (
            not isinstance(keys, list)
            or len(keys) > MAX_KEYS
            or not all(isinstance(one, dict) for one in keys)
        ):
            raise self._damaged(address)
        return keys

    def _damaged(self, address: str) -> SourceAnswer:
        return SourceAnswer(
            self._source, f"{self._path(address)} is damaged", "Restore the file from the backup"
        )

    def _path(self, address: str) -> Path:
        return (self._folder / address_file_name(address)).with_suffix(".json")


@contextlib.contextmanager
def _passing(key: Any) -> Iterator[Any]:
    """An object of the session that is gone after its use."""
    try:
        yield key
    finally:
        key.destroy()
