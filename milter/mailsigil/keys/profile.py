"""What the embedded authority's certificates look like: pure functions from values to certificates.

They follow the CA/Browser Forum S/MIME Baseline Requirements 7.1.2 in spirit. The policies are those of
our own arc: a private authority has no right to the Forum's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

from mailsigil.pki import oids
from mailsigil.pki.names import clean_name, normalise_address
from mailsigil.pki.policies import MAILSIGIL_POLICIES, Level

UPPER_BOUND: Final = 64
"""Characters of a name in a certificate (RFC 5280 appendix A.1, ub-common-name and its kin)."""

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey

_POLICY_OF: Final = {level: oid for oid, level in MAILSIGIL_POLICIES.items()}
_LOCAL_PART: Final = re.compile(r'[^\s"(),:;<>@\[\\\]]{1,64}')
_QUOTED: Final = re.compile(r'[ "(),:;<>@\[\\\]]')


class RequestError(ValueError):
    """A certificate cannot be issued as asked for; the message tells what to mend."""

    mend = "Correct the level, or the names"


class UnfitAddress(RequestError):
    """No certificate is made out for the address."""

    mend = 'Give this person another address, or set signing = "never" for this one'


class KeyKind(StrEnum):
    """The kinds of keys that are made."""

    RSA2048 = "rsa2048"
    RSA3072 = "rsa3072"
    RSA4096 = "rsa4096"
    P256 = "p256"
    P384 = "p384"
    ED25519 = "ed25519"

    def generate(self) -> PrivateKey:
        """Make a new key from the system's randomness."""
        match self:
            case KeyKind.P256:
                return ec.generate_private_key(ec.SECP256R1())
            case KeyKind.P384:
                return ec.generate_private_key(ec.SECP384R1())
            case KeyKind.ED25519:
                return ed25519.Ed25519PrivateKey.generate()
            case _:
                return rsa.generate_private_key(public_exponent=65537, key_size=int(self.removeprefix("rsa")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Whom a certificate is for. Every level needs its own names and refuses what it cannot vouch for."""

    level: Level
    address: str
    given_name: str = ""
    surname: str = ""
    organisation: str = ""
    title: str = ""

    def __post_init__(self) -> None:
        _require_address(self.address)
        for field in fields(self):
            _require_plain(field.name.replace("_", " "), getattr(self, field.name))
        for names, needing, example in (
            (("given_name", "surname"), (Level.V2, Level.V4), '--name "Alice Example"'),
            (("organisation",), (Level.V3, Level.V4), '--organisation "Example Bank"'),
        ):
            present = [name for name in names if getattr(self, name)]
            if self.level in needing and len(present) < len(names):
                raise RequestError(f"{self.level} needs {_spoken(names)}; add {example}")
            if self.level not in needing and present:
                raise RequestError(
                    f"{self.level} does not vouch for {_spoken(names)}; leave it out or choose another level"
                )
        if self.title and self.level not in (Level.V2, Level.V4):
            raise RequestError(f"{self.level} does not vouch for a title; leave it out or choose V2 or V4")

    @property
    def mailbox(self) -> str:
        """The address with its domain in lower case and A-labels."""
        return normalise_address(self.address)


def _require_address(address: str) -> None:
    local, _, domain = address.rpartition("@")
    if normalise_address(address) and _LOCAL_PART.fullmatch(local):
        return
    if local.isprintable() and _QUOTED.search(local) and normalise_address(f"alice@{domain}"):
        # Legal (RFC 5321 4.1.2) and avoided: programs differ in how they write and compare such a name.
        raise UnfitAddress(
            f"{address} is no mail address that a certificate is made out for, because its part before the @"
            " needs quotes; use one that needs none"
        )
    raise UnfitAddress(f"{address!r} is no mail address; give one like alice@bank.example")


def _spoken(names: tuple[str, ...]) -> str:
    return "a given name and a surname" if "surname" in names else "an organisation"


def _require_plain(what: str, text: str) -> None:
    if text != clean_name(text, limit=400):
        raise RequestError(f"the {what} holds control, invisible or surplus characters; write it plainly")
    if what != "address" and len(text) > UPPER_BOUND:
        raise RequestError(f"the {what} is longer than {UPPER_BOUND} characters; shorten it")


@dataclass(frozen=True, slots=True)
class Validity:
    """From when until when."""

    not_before: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True)
class Publication:
    """Where an authority publishes what relying parties look up; what certificates say about it."""

    url: str = ""
    """The place under which everything is found, without a final slash; empty for nowhere."""

    def mark(self, builder: x509.CertificateBuilder, *, issuer: str) -> x509.CertificateBuilder:
        """Adds the places (RFC 5280 4.2.1.13 and 4.2.2.1); ``issuer`` is the file name of who signs."""
        if not self.url:
            return builder
        point = x509.DistributionPoint([_uri(f"{self.url}/{issuer}.crl")], None, None, None)
        places = [
            (AuthorityInformationAccessOID.OCSP, f"{self.url}/ocsp"),
            (AuthorityInformationAccessOID.CA_ISSUERS, f"{self.url}/{issuer}.cer"),
        ]
        access = [x509.AccessDescription(method, _uri(place)) for method, place in places]
        return builder.add_extension(x509.CRLDistributionPoints([point]), critical=False).add_extension(
            x509.AuthorityInformationAccess(access), critical=False
        )


@dataclass(frozen=True, slots=True)
class Issuer:
    """An authority at work: its certificate and what signs in its name."""

    certificate: x509.Certificate
    key: PrivateKey

    def sign(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        """Sign a certificate that is complete but for its issuer."""
        identifier = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        return (
            builder.issuer_name(self.certificate.subject)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False
            )
            .sign(self.key, signature_hash(self.key))
        )


def signature_hash(key: PrivateKey) -> hashes.SHA256 | hashes.SHA384 | None:
    """Choose the hash that fits a key; Ed25519 has its own."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return None
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.key_size > 256:
        return hashes.SHA384()
    return hashes.SHA256()


def root_certificate(*, key: PrivateKey, name: x509.Name, serial: int, valid: Validity) -> x509.Certificate:
    """Make a root that signs itself (S/MIME BR 7.1.2.1)."""
    builder = _certificate(name, key.public_key(), serial, valid).issuer_name(name)
    return _as_authority(builder, path_length=None).sign(key, signature_hash(key))


def issuing_certificate(
    root: Issuer,
    *,
    key: PublicKey,
    name: x509.Name,
    serial: int,
    valid: Validity,
    publication: Publication = Publication(),
) -> x509.Certificate:
    """Make an authority for mail certificates of all levels (S/MIME BR 7.1.2.2)."""
    builder = _as_authority(_certificate(name, key, serial, valid), path_length=0)
    builder = publication.mark(builder, issuer="root")
    policies = [_policy(level) for level in Level]
    return root.sign(
        builder.add_extension(x509.CertificatePolicies(policies), critical=False).add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False
        )
    )


def leaf_certificate(
    issuer: Issuer,
    *,
    key: PublicKey,
    subject: Subject,
    serial: int,
    valid: Validity,
    publication: Publication = Publication(),
) -> x509.Certificate:
    """Make a certificate for signing mail (S/MIME BR 7.1.2.3)."""
    name = subject_name(subject)
    builder = publication.mark(_certificate(name, key, serial, valid), issuer="issuing")
    builder = (
        builder.add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
        .add_extension(x509.CertificatePolicies([_policy(subject.level)]), critical=False)
        # RFC 5280 4.2.1.6: critical where the subject is empty.
        .add_extension(x509.SubjectAlternativeName([mail_name(subject.mailbox)]), critical=not list(name))
    )
    return issuer.sign(builder)


def server_certificate(
    root: Issuer,
    *,
    key: PublicKey,
    names: Sequence[x509.GeneralName],
    serial: int,
    valid: Validity,
    publication: Publication = Publication(),
) -> x509.Certificate:
    """Make a certificate for the authority's own TLS server.

    The root signs it: the issuing authority is for mail alone, and TLS clients hold it to that.
    """
    organisation = root.certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    subject = x509.Name([*organisation, x509.NameAttribute(NameOID.COMMON_NAME, "Enrolment server")])
    builder = publication.mark(_certificate(subject, key, serial, valid), issuer="root")
    return root.sign(
        builder.add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
    )


def authority_name(organisation: str, common_name: str) -> x509.Name:
    """Build an authority's name. Raises ``RequestError``."""
    for what, text in (("organisation", organisation), ("name", common_name)):
        _require_plain(what, text)
        if not text:
            raise RequestError(f"an authority needs a non-empty {what}")
    return _name((NameOID.ORGANIZATION_NAME, organisation), (NameOID.COMMON_NAME, common_name))


def mail_name(mailbox: str) -> x509.GeneralName:
    """Encode an address: an rfc822Name, or an SmtpUTF8Mailbox for a non-ASCII local part (RFC 9598 3)."""
    if mailbox.isascii():
        return x509.RFC822Name(mailbox)
    octets = mailbox.encode("utf-8")
    length = bytes([len(octets)]) if len(octets) < 0x80 else b"\x82" + len(octets).to_bytes(2)
    if 0x80 <= len(octets) <= 0xFF:  # DER: the shortest length there is
        length = b"\x81" + bytes([len(octets)])
    return x509.OtherName(x509.ObjectIdentifier(oids.SMTP_UTF8_MAILBOX), b"\x0c" + length + octets)


def subject_name(subject: Subject) -> x509.Name:
    """Give the names in the order in which certificates carry them."""
    person = f"{subject.given_name} {subject.surname}".strip()
    common_name = person or subject.organisation or subject.mailbox
    return _name(
        (NameOID.ORGANIZATION_NAME, subject.organisation),
        (NameOID.TITLE, subject.title),
        (NameOID.GIVEN_NAME, subject.given_name),
        (NameOID.SURNAME, subject.surname),
        # Optional, so it is left out where it would be too long.
        (NameOID.COMMON_NAME, common_name if len(common_name) <= UPPER_BOUND else ""),
    )


def _name(*parts: tuple[x509.ObjectIdentifier, str]) -> x509.Name:
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in parts if value])


def _uri(url: str) -> x509.GeneralName:
    return x509.UniformResourceIdentifier(url)


def _certificate(name: x509.Name, key: PublicKey, serial: int, valid: Validity) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .public_key(key)
        .serial_number(serial)
        .not_valid_before(valid.not_before)
        .not_valid_after(valid.not_after)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _as_authority(builder: x509.CertificateBuilder, *, path_length: int | None) -> x509.CertificateBuilder:
    return builder.add_extension(
        x509.BasicConstraints(ca=True, path_length=path_length), critical=True
    ).add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)


def _policy(level: Level) -> x509.PolicyInformation:
    return x509.PolicyInformation(x509.ObjectIdentifier(_POLICY_OF[level]), None)


def _usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )
