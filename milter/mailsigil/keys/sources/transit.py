"""OpenBao's and Vault's transit engine: keys that sign there and never leave it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from mailsigil.cms.algorithms import Family, Scheme
from mailsigil.keys.answers import Question
from mailsigil.keys.bound_key import BoundKey, bind
from mailsigil.keys.certificate_folder import CertificateFolder, Group
from mailsigil.keys.errors import SourceAnswer, SourceRefused
from mailsigil.keys.fitness import public_key_of
from mailsigil.keys.newkey import PlacedKey
from mailsigil.keys.profile import KeyKind
from mailsigil.keys.sources.bao_client import BaoClient
from mailsigil.keys.sources.openbao import path_of, text_of
from mailsigil.keys.subject import SubjectRequest

log = logging.getLogger("mailsigil.keyd")

_KINDS: Final = {
    KeyKind.P256: "ecdsa-p256",
    KeyKind.P384: "ecdsa-p384",
    KeyKind.ED25519: "ed25519",
    KeyKind.RSA2048: "rsa-2048",
    KeyKind.RSA3072: "rsa-3072",
    KeyKind.RSA4096: "rsa-4096",
}


class BaoTransit:
    """Keys in the transit engine; certificates in a folder.

    A Lookup of ``remote.py``, and a KeyPlace of ``placed_keyring.py``: there each address has a key of its
    own, and a new certificate is for a new version of it.
    """

    def __init__(
        self,
        client: BaoClient,
        *,
        mount: str,
        path: str,
        certificates: Path,
        now: Callable[[], datetime],
    ) -> None:
        self._client = client
        self._mount = quote((mount or "transit").strip("/"), safe="/")
        self._path = path
        self._folder = CertificateFolder(client.source, certificates)
        self._now = now

    def lookup(self, address: str) -> tuple[BoundKey, ...]:
        """Gives the keys for an address, the newest certificate first. Raises SourceError."""
        self._folder.refresh()
        groups = self._folder.find(address)
        if not groups:
            return ()
        name = path_of(self._path, address)
        versions = _versions(self._described(name))
        return tuple(self._bound(address, group, name, versions) for group in groups)

    def reload(self) -> None:
        """Logs in anew."""
        self._client.forget()

    def make_key(self, request: SubjectRequest, kind: KeyKind) -> PlacedKey:
        """Makes a key, or a new version of the one that is there. Raises SourceError."""
        name = path_of(self._path, request.address)
        path = f"{self._mount}/keys/{name}"
        there = self._described(name)
        if not there:
            self._client.ask("POST", path, {"type": _KINDS[kind], "exportable": False}, must_exist=True)
        elif there.get("type") != _KINDS[kind]:
            raise SourceRefused(
                self._client.source,
                f'the key "{name}" there is of the type {str(there.get("type"))[:40]}, and {_KINDS[kind]} is'
                " wanted",
                "Choose that kind in key of [source.enrolment], or another key_path",
            )
        else:
            self._client.ask("POST", f"{path}/rotate", {}, must_exist=True)
        versions = _versions(self._described(name))
        if not versions:
            raise SourceAnswer(
                self._client.source,
                f'the key "{name}" was made, and its public half is not told',
                "Permit the login to read it",
            )
        spki = max(versions, key=lambda each: versions[each])
        log.info('source "%s": transit made a key for %s', self._client.source, request.address)
        return self._placed(request, name, spki, versions[spki])

    def key_of(self, request: SubjectRequest, spki: bytes) -> PlacedKey | None:
        """Gives the key with a public key; None where no version has it. Raises SourceError."""
        name = path_of(self._path, request.address)
        version = _versions(self._described(name)).get(spki)
        return None if version is None else self._placed(request, name, spki, version)

    def _placed(self, request: SubjectRequest, name: str, spki: bytes, version: int) -> PlacedKey:
        return PlacedKey(request, spki, lambda scheme, data: self._sign(name, version, scheme, data))

    def _bound(self, address: str, group: Group, name: str, versions: Mapping[bytes, int]) -> BoundKey:
        source = self._client.source
        question = Question(source=source, address=address, now=self._now())
        version = versions.get(public_key_of(group[0]))
        if version is None:
            raise question.wrong(
                f'the key "{name}" there is another one than the certificate is for',
                "Have a certificate issued for this key, or correct key_path",
            )

        def sign(scheme: Scheme, data: bytes) -> bytes:
            return self._sign(name, version, scheme, data)

        return bind(question, group, sign, only=frozenset(Scheme))

    def _described(self, name: str) -> Mapping[str, Any]:
        """What the engine says of a key; nothing where there is none."""
        return self._client.ask("GET", f"{self._mount}/keys/{name}")

    def _sign(self, name: str, version: int, scheme: Scheme, data: bytes) -> bytes:
        body = {"key_version": version, **_asked(scheme, data)}
        told = self._client.ask("POST", f"{self._mount}/sign/{name}", body, must_exist=True)
        signature = text_of(self._client.source, told, "signature").rpartition(b":")[2]
        try:
            return base64.b64decode(signature, validate=True)
        except binascii.Error as error:
            raise SourceAnswer(
                self._client.source, "the answer holds no signature", "Look at the service's log"
            ) from error


def _asked(scheme: Scheme, data: bytes) -> dict[str, object]:
    """A request for a signature."""
    if scheme is Scheme.ED25519:
        # RFC 8419 2.3: the pure mode, over the data itself.
        return {"input": base64.b64encode(data).decode()}
    body: dict[str, object] = {
        "input": base64.b64encode(hashlib.new(scheme.digest, data).digest()).decode(),
        "prehashed": True,
        "hash_algorithm": f"sha2-{scheme.digest.removeprefix('sha')}",
    }
    if scheme.family is Family.ECDSA:
        return {**body, "marshaling_algorithm": "asn1"}
    padding = "pss" if scheme.family is Family.RSA_PSS else "pkcs1v15"
    return {**body, "signature_algorithm": padding, "salt_length": "hash"}


def _versions(described: Mapping[str, Any]) -> Mapping[bytes, int]:
    """The public keys (SubjectPublicKeyInfo) of all versions of a key."""
    versions = described.get("keys")
    found: dict[bytes, int] = {}
    for number, version in versions.items() if isinstance(versions, dict) else ():
        try:
            found[_spki(str(version["public_key"]))] = int(number)
        except (ValueError, TypeError, KeyError):
            continue  # A kind of key that signs no mail.
    return found


def _spki(text: str) -> bytes:
    """A public key as it is told: PEM, or the 32 octets of Ed25519 in base64."""
    if "BEGIN" in text:
        key = load_pem_public_key(text.encode())
    else:
        key = ed25519.Ed25519PublicKey.from_public_bytes(base64.b64decode(text, validate=True))
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
