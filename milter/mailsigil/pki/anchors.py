"""Trust anchors: whom an administrator trusts, and what they may say about a sender."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from mailsigil.pki.names import UNREADABLE
from mailsigil.pki.parsed import parse_certificate
from mailsigil.pki.policies import BR_POLICIES, MAILSIGIL_POLICIES, Level

MAX_ANCHOR_FILE: Final = 16 * 1024 * 1024
"""Octets. The bundle of a whole operating system has about 220,000."""

ASSERTIONS: Final = frozenset({"br", "mailsigil"})
"""The families of policies that an anchor may be allowed to assert."""


class RevocationMode(Enum):
    """What a certificate is worth of which it is not known whether it was revoked."""

    OFF = "off"
    """Nobody asks, and a revocation that is known does not count either."""
    PREFER = "prefer"
    """It counts, and the log says so."""
    REQUIRE = "require"
    """It gives no identity."""


class AnchorError(Exception):
    """A file of trust anchors cannot be used; ``sentence`` tells what to mend."""

    def __init__(self, path: Path, sentence: str) -> None:
        super().__init__(f"{path}: {sentence}")
        self.path = path
        self.sentence = sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorSet:
    """Anchors that share one entry of the configuration.

    Either ``level`` gives all their certificates one level, or policies decide: those of ``asserts``
    (``"br"`` for public authorities, ``"mailsigil"`` for the embedded one) and those in ``oids``.
    """

    name: str
    certificates: tuple[x509.Certificate, ...]
    asserts: frozenset[str] = frozenset()
    oids: Mapping[str, Level] = field(default_factory=lambda: MappingProxyType({}))
    level: Level | None = None
    domains: frozenset[str] = frozenset()
    """Mail domains these anchors may vouch for; empty for all. ``*.bank.example`` means those below it."""
    domain_signatures: bool = False
    """Certificates of a whole domain (RFC 3183) speak for its organisation."""
    revocation: RevocationMode = RevocationMode.PREFER
    hold_to_br: bool = True
    """Where ``"br"`` is asserted: refuse certificates that break the S/MIME Baseline Requirements."""

    def __post_init__(self) -> None:
        unknown = self.asserts - ASSERTIONS
        if unknown:
            raise ValueError(f"an anchor cannot assert {', '.join(sorted(unknown))}")
        if self.level is not None and (self.asserts or self.oids):
            raise ValueError("an anchor has either a fixed level or policies that decide")

    @property
    def public(self) -> bool:
        """A public authority, which follows the Baseline Requirements."""
        return self.hold_to_br and "br" in self.asserts

    def may_assert(self, oid: str) -> bool:
        """Tell whether this policy counts under these anchors."""
        if oid in self.oids:
            return True
        if oid in BR_POLICIES:
            return "br" in self.asserts
        return oid in MAILSIGIL_POLICIES and "mailsigil" in self.asserts


@dataclass(frozen=True, slots=True)
class TrustStore:
    """All sets. Where one certificate stands in two of them, the set that is listed first counts."""

    sets: tuple[AnchorSet, ...] = ()


def domains_allow(anchors: AnchorSet, address: str) -> bool:
    """Tell whether these anchors may vouch for a mail address, given with its domain as A-labels."""
    if not anchors.domains:
        return True
    domain = address.rpartition("@")[2].lower()
    if not domain:
        return False
    if domain in anchors.domains:
        return True
    above = domain
    while "." in above:
        above = above.partition(".")[2]
        if f"*.{above}" in anchors.domains:
            return True
    return False


def load_anchor_file(path: Path | str) -> list[x509.Certificate]:
    """Read anchors from a file: one certificate in DER, or any number in PEM.

    Raises ``AnchorError`` where the file is absent, too large, no certificate, or where a certificate says
    itself that it is no authority.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_ANCHOR_FILE + 1)
    except OSError as error:
        raise AnchorError(path, f"cannot be read: {error.strerror}; correct its path or rights") from error
    if len(data) > MAX_ANCHOR_FILE:
        raise AnchorError(path, f"is larger than {MAX_ANCHOR_FILE} octets; list fewer anchors")
    certificates = _parse(path, data)
    for number, certificate in enumerate(certificates, start=1):
        _require_authority(path, number, certificate)
    return certificates


def _parse(path: Path, data: bytes) -> list[x509.Certificate]:
    try:
        if b"-----BEGIN" in data:
            return x509.load_pem_x509_certificates(data)
        return [x509.load_der_x509_certificate(data)]
    except ValueError as error:
        raise AnchorError(path, "holds no readable certificate; give PEM or DER") from error


def _require_authority(path: Path, number: int, certificate: x509.Certificate) -> None:
    subject = certificate.subject.rfc4514_string()[:120] or "without a subject"
    try:
        certificate.public_key()
        parse_certificate(certificate.public_bytes(Encoding.DER))  # as path validation will read it
        fault = _anchor_fault(certificate)
    except (*UNREADABLE, UnsupportedAlgorithm) as error:
        raise AnchorError(path, f"certificate {number} ({subject}) cannot be read: {error}") from error
    if fault:
        raise AnchorError(
            path,
            f"certificate {number} ({subject}) {fault};"
            " give the root or issuing authority's certificate instead of a sender's",
        )


def _anchor_fault(certificate: x509.Certificate) -> str:
    basic: bool | None = None
    signs = True
    for extension in certificate.extensions:
        value = extension.value
        if isinstance(value, x509.BasicConstraints):
            basic = value.ca
        elif isinstance(value, x509.KeyUsage):
            signs = value.key_cert_sign
        elif extension.critical and isinstance(value, x509.UnrecognizedExtension):
            return f"has the critical extension {extension.oid.dotted_string}, which is not known here"
    if not list(certificate.subject):
        return "has no name, so nobody can name it as issuer"
    if basic is None:
        # Old roots of X.509 version 1 have no extensions; later ones must say that they are authorities.
        basic = certificate.version is x509.Version.v1
    if not basic:
        return "is no certification authority"
    return "" if signs else "may not sign certificates"
