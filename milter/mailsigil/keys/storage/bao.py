"""Storage keys in KV version 2 of OpenBao or Vault.

An entry has ``user`` (the address) and ``private_key``: PEM with the newest key first, and the older ones
below it; or ``pkcs12`` in base64. A ``certificate`` may stand beside and records the owner, too.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from cryptography import x509

from mailsigil.folding import fold
from mailsigil.keys.answers import read_certificates
from mailsigil.keys.errors import SourceAnswer
from mailsigil.keys.secret_files import SecretFile
from mailsigil.keys.sources.bao_client import BaoClient
from mailsigil.keys.sources.openbao import path_of
from mailsigil.keys.storage.key import (
    Entry,
    StorageKey,
    holders,
    read_pem_keys,
    read_pkcs12_key,
)


class BaoStorage:
    """A store of one mount."""

    def __init__(
        self, client: BaoClient, *, mount: str, path: str, passphrase: SecretFile | None = None
    ) -> None:
        self._client = client
        self._mount = quote(mount.strip("/"), safe="/")
        self._path = path
        self._passphrase = passphrase

    def fetch(self, address: str, *, passphrase: bytes | None = None) -> Entry:
        """Gives the entry of an address. Raises SourceError."""
        fields, _ = self._read(address)
        return self._entry(fields, passphrase) if fields else Entry()

    def add(self, address: str, key: StorageKey) -> None:
        """Writes a new version of the entry; one that was changed meanwhile is not overwritten."""
        fields, version = self._read(address)
        kept = self._entry(fields) if fields else Entry()
        if kept.owners and address not in kept.owners:
            raise SourceAnswer(
                self._client.source, f"the entry of {address} records another user", "Correct key_path"
            )
        text = b"".join(each.private_pem for each in (key, *kept.keys)).decode("ascii")
        changed: dict[str, object] = {
            name: value for name, value in fields.items() if name not in ("pkcs12", "certificate")
        }
        changed |= {"user": address, "private_key": text}
        # Check and set (KV version 2): two administrators at once must not lose a key.
        body = {"data": changed, "options": {"cas": version}}
        self._client.ask("POST", f"{self._mount}/data/{path_of(self._path, address)}", body, must_exist=True)

    def reload(self) -> None:
        """Logs in anew."""
        self._client.forget()

    def _read(self, address: str) -> tuple[Mapping[str, Any], int]:
        """The fields of an entry, and its version; ({}, n) where there is none or it was deleted."""
        told = self._client.ask("GET", f"{self._mount}/data/{path_of(self._path, address)}")
        metadata = told.get("metadata")
        version = metadata.get("version", 0) if isinstance(metadata, dict) else 0
        fields = told.get("data")
        return (fields if isinstance(fields, dict) else {}), (version if isinstance(version, int) else 0)

    def _entry(self, fields: Mapping[str, Any], passphrase: bytes | None = None) -> Entry:
        source = self._client.source
        if passphrase is None and self._passphrase is not None:
            passphrase = self._passphrase.read()
        recorded = fields.get("user", "")
        if not isinstance(recorded, str):
            raise SourceAnswer(source, 'the field "user" is no text', "Write the user's address into it")
        owners = {fold(recorded.strip())} - {""}
        if "private_key" in fields:
            keys = read_pem_keys(source, self._text(fields, "private_key"), passphrase=passphrase)
        else:
            key, named = read_pkcs12_key(source, self._octets(fields, "pkcs12"), passphrase=passphrase)
            keys, owners = (key,), owners or set(named)
        certificates: tuple[x509.Certificate, ...] = ()
        if "certificate" in fields:
            certificates = read_certificates(source, self._text(fields, "certificate"))
        named = holders(certificates, keys[0])
        if owners and named and not owners & named:
            raise SourceAnswer(
                source,
                f"an entry records {', '.join(sorted(owners))}, and its certificate names"
                f" {', '.join(sorted(named)[:3])}",
                "Correct the entry",
            )
        return Entry(keys, frozenset(owners or named))

    def _text(self, fields: Mapping[str, Any], name: str) -> bytes:
        value = fields.get(name)
        if not isinstance(value, str) or not value:
            raise SourceAnswer(
                self._client.source,
                'an entry has neither "private_key" (PEM) nor "pkcs12" (base64)',
                "Write the key into the entry, or correct key_path",
            )
        return value.encode("utf-8", "replace")

    def _octets(self, fields: Mapping[str, Any], name: str) -> bytes:
        try:
            return base64.b64decode(b"".join(self._text(fields, name).split()), validate=True)
        except binascii.Error:
            raise SourceAnswer(
                self._client.source, f'the field "{name}" is no base64', "Store it anew"
            ) from None
