"""OpenBao and Vault: an authority (``pki``), or a store of keys (``kv`` 2). The signer is in transit.py."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from mailsigil.keys.answers import (
    Question,
    checked_chain,
    read_certificates,
    read_pkcs12,
    read_private_key,
)
from mailsigil.keys.errors import KeyFileError, SourceAnswer
from mailsigil.keys.fitness import Unfit, public_key_of, signing_addresses
from mailsigil.keys.newkey import CertifiableKey, NewKey, subject_name
from mailsigil.keys.profile import PrivateKey
from mailsigil.keys.secret_files import SecretFile
from mailsigil.keys.soft_key import SoftKey, soft_key
from mailsigil.keys.source import HeldKey
from mailsigil.keys.sources.bao_client import BaoClient
from mailsigil.keys.sources.bao_issued import IssuedThere
from mailsigil.keys.subject import SubjectRequest

_ESCAPED: Final = re.compile(r"[^a-z0-9.-]")
_BACKDATED: Final = timedelta(minutes=5)
"""So far roles usually date certificates back (not_before_duration is 30 seconds by itself)."""
_PKCS12_FIELDS: Final = ("pkcs12", "p12", "pfx")
_KEY_FIELDS: Final = ("private_key", "key")
_CERTIFICATE_FIELDS: Final = ("certificate", "cert", "chain", "ca_chain")


def path_of(template: str, address: str) -> str:
    """Fills in a path; what an address holds cannot lead to another one."""
    local, _, domain = address.rpartition("@")
    values = {"address": address, "local": local, "domain": domain}
    # First, so that what it brings is not taken for a place to fill in: it has no brackets.
    filled = template.replace("{name}", _key_name(address))
    for name, value in values.items():
        # A name of dots alone would lead upwards, whatever it is encoded as: it becomes one that nothing has.
        safe = quote(value, safe="@+") if value.strip(".") else f"%25{len(value)}"
        filled = filled.replace(f"{{{name}}}", safe)
    return filled.strip("/")


def _key_name(address: str) -> str:
    """An address as letters, digits, ``.``, ``-`` and ``_``, a different one for each address."""
    plain = _ESCAPED.sub(lambda found: "".join(f"_{octet:02x}" for octet in found[0].encode()), address)
    return f"_{ord(plain[0]):02x}{plain[1:]}" if plain[0] in ".-" else plain


class BaoAuthority:
    """The pki engine as an Issuer (it signs requests) and as a KeyMaker (it makes the keys, too)."""

    def __init__(self, client: BaoClient, *, mount: str, role: str, now: Callable[[], datetime]) -> None:
        self._client = client
        self._mount = quote((mount or "pki").strip("/"), safe="/")
        self._role = quote(role, safe="")
        self._now = now
        self._issued = IssuedThere(client, self._mount)

    @property
    def name(self) -> str:
        """The source's name."""
        return self._client.source

    def enrol(self, request: SubjectRequest, new: CertifiableKey) -> tuple[bytes, ...]:
        """Has a request signed."""
        csr = x509.load_der_x509_csr(new.csr).public_bytes(Encoding.PEM).decode()
        told = self._client.ask(
            "POST",
            f"{self._mount}/sign/{self._role}",
            {**_names(request), "csr": csr, "format": "pem"},
            must_exist=True,
            once=True,
        )
        return self._chain(request, told, new.spki)

    def renew(self, request: SubjectRequest, new: CertifiableKey, *, current: HeldKey) -> tuple[bytes, ...]:
        """Has the next key certified; the login is what the engine goes by, not the current key."""
        return self.enrol(request, new)

    def revoke(self, certificate: bytes) -> None:
        """Has a certificate revoked by its serial number."""
        serial = x509.load_der_x509_certificate(certificate).serial_number
        octets = f"{serial:x}"
        octets = octets.zfill(len(octets) + len(octets) % 2)
        dotted = ":".join(octets[i : i + 2] for i in range(0, len(octets), 2))
        self._client.ask("POST", f"{self._mount}/revoke", {"serial_number": dotted}, must_exist=True)

    def recall(self, request: SubjectRequest, new: CertifiableKey) -> tuple[bytes, ...] | None:
        """Gives the certificate that was issued for a key and never arrived.

        Raises NotSupported where the engine cannot tell (Vault, or a login that may not list).
        """
        question = Question(source=self.name, address=request.address, now=self._now(), spki=new.spki)
        for certificate in self._issued.of_names(_common_names(request), now=self._now()):
            if public_key_of(certificate) == new.spki:
                return checked_chain(question, (certificate, *self._issued.issuers()))
        return None

    def issued_since(self, request: SubjectRequest, since: datetime) -> tuple[bytes, ...]:
        """Gives the good certificates (DER) issued for an address from a time on. Raises as recall does."""
        found = self._issued.of_names(_common_names(request), now=self._now())
        return tuple(
            one.public_bytes(Encoding.DER)
            for one in found
            if one.not_valid_before_utc >= since - _BACKDATED and request.address in _addresses_of(one)
        )

    def make(self, request: SubjectRequest) -> tuple[NewKey, tuple[bytes, ...]]:
        """Has a key made and certified."""
        told = self._client.ask(
            "POST",
            f"{self._mount}/issue/{self._role}",
            {**_names(request), "format": "pem", "private_key_format": "pkcs8"},
            must_exist=True,
            once=True,
        )
        key = read_private_key(self.name, text_of(self.name, told, "private_key"))
        new = NewKey(request, key)
        return new, self._chain(request, told, new.spki)

    def _chain(self, request: SubjectRequest, told: Mapping[str, Any], spki: bytes) -> tuple[bytes, ...]:
        texts = [text_of(self.name, told, "certificate"), _joined(told.get("ca_chain"))]
        texts.append(_joined(told.get("issuing_ca")) if not texts[1].strip() else b"")
        certificates = read_certificates(self.name, b"\n".join(texts))
        question = Question(source=self.name, address=request.address, now=self._now(), spki=spki)
        return checked_chain(question, certificates)


class BaoStore:
    """Keys with their certificates in KV version 2: a Lookup of ``remote.py``.

    An entry has ``private_key`` (PKCS#8) and ``certificate`` (PEM, with its chain there or in ``chain``), or
    ``pkcs12`` in base64.
    """

    def __init__(
        self,
        client: BaoClient,
        *,
        mount: str,
        path: str,
        now: Callable[[], datetime],
        passphrase: SecretFile | None = None,
    ) -> None:
        self._client = client
        self._mount = quote((mount or "secret").strip("/"), safe="/")
        self._path = path
        self._now = now
        self._passphrase = passphrase

    def lookup(self, address: str) -> tuple[SoftKey, ...]:
        """Gives the key of an address, or none. Raises SourceError."""
        source = self._client.source
        path = path_of(self._path, address)
        entry = self._client.ask("GET", f"{self._mount}/data/{path}")
        fields = entry.get("data")
        if not isinstance(fields, dict):
            return ()  # Nothing there, or deleted: the engine answers with metadata alone.
        passphrase = self._passphrase.read() if self._passphrase is not None else None
        key, certificates = self._parts(fields, passphrase)
        new = NewKey(SubjectRequest(address=address), key)
        chain = checked_chain(
            Question(source=source, address=address, now=self._now(), spki=new.spki, encryption=True),
            certificates,
        )
        loaded = [x509.load_der_x509_certificate(der) for der in chain]
        try:
            return (soft_key(key, loaded[0], loaded[1:], origin=Path(f"{source}:{path}")),)
        except KeyFileError as fault:
            raise SourceAnswer(source, fault.sentence, fault.mend) from fault

    def reload(self) -> None:
        """Logs in anew."""
        self._client.forget()

    def _parts(
        self, fields: Mapping[str, Any], passphrase: bytes | None
    ) -> tuple[PrivateKey, tuple[x509.Certificate, ...]]:
        source = self._client.source
        for name in _PKCS12_FIELDS:
            if name in fields:
                return read_pkcs12(source, text_of(source, fields, name), passphrase=passphrase)
        name = next((each for each in _KEY_FIELDS if each in fields), _KEY_FIELDS[0])
        key = read_private_key(source, text_of(source, fields, name), passphrase=passphrase)
        certificates = b"\n".join(_joined(fields[each]) for each in _CERTIFICATE_FIELDS if each in fields)
        return key, read_certificates(source, certificates)


def _names(request: SubjectRequest) -> dict[str, object]:
    # The engine makes an rfc822Name of what has an "@"; other names of the subject are the role's to give.
    return {
        "common_name": request.address,
        "alt_names": request.address,
        "exclude_cn_from_sans": False,
    }


def _common_names(request: SubjectRequest) -> frozenset[str]:
    """What may stand as common name: the role decides whether that is the address, or what the CSR says."""
    said = subject_name(request).get_attributes_for_oid(NameOID.COMMON_NAME)
    return frozenset({request.address, *(str(one.value) for one in said)})


def _addresses_of(certificate: x509.Certificate) -> frozenset[str]:
    try:
        return signing_addresses(certificate)
    except Unfit:
        return frozenset()


def text_of(source: str, told: Mapping[str, Any], name: str) -> bytes:
    """Gives a text of an answer. Raises SourceAnswer where there is none."""
    value = told.get(name)
    if not isinstance(value, str) or not value:
        raise SourceAnswer(source, f'the answer has no "{name}"', "Look at engine, role and key_path")
    return value.encode("utf-8", "replace")


def _joined(value: object) -> bytes:
    texts = value if isinstance(value, list) else [value]
    return "\n".join(text for text in texts if isinstance(text, str)).encode("utf-8", "replace")
