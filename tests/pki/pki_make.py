"""Makes certificates of every shape for the tests of this room."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
MAIL = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])

_NAMES = {
    "cn": NameOID.COMMON_NAME,
    "o": NameOID.ORGANIZATION_NAME,
    "gn": NameOID.GIVEN_NAME,
    "sn": NameOID.SURNAME,
    "title": NameOID.TITLE,
    "pseudonym": NameOID.PSEUDONYM,
    "email": NameOID.EMAIL_ADDRESS,
}


def name(**parts: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(_NAMES[key], value) for key, value in parts.items()])


def usage(*flags: str) -> x509.KeyUsage:
    known = (
        *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
        *("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
    )
    return x509.KeyUsage(**{flag: flag in flags for flag in known})


def policies(*oids: str) -> x509.CertificatePolicies:
    return x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier(o), None) for o in oids])


def mailbox(*addresses: str) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([x509.RFC822Name(address) for address in addresses])


def smtp_utf8(text: str) -> x509.OtherName:
    octets = text.encode()
    der = bytes([0x0C, len(octets)]) + octets
    return x509.OtherName(x509.ObjectIdentifier("1.3.6.1.5.5.7.8.9"), der)


@dataclass
class Made:
    certificate: x509.Certificate
    key: Any = field(repr=False)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)


def make(
    subject: x509.Name,
    issuer: Made | None = None,
    *extensions: x509.ExtensionType,
    ca: bool = False,
    key: Any = None,
    critical: tuple[type, ...] = (),
    days: tuple[int, int] = (-10, 400),
    hash_: Any = None,
    padding: Any = None,
    path_length: int | None = None,
    drop_aki: bool = False,
) -> Made:
    """Issue a certificate; without an issuer it signs itself."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    signer = issuer.key if issuer else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + timedelta(days=days[0]))
        .not_valid_after(NOW + timedelta(days=days[1]))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if issuer and not drop_aki:
        aki = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
        builder = builder.add_extension(aki, critical=x509.AuthorityKeyIdentifier in critical)
    if ca:
        builder = builder.add_extension(
            x509.BasicConstraints(ca=True, path_length=path_length), critical=True
        )
        builder = builder.add_extension(usage("key_cert_sign", "crl_sign"), critical=True)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=type(extension) in critical)
    digest = None if isinstance(signer, ed25519.Ed25519PrivateKey) else (hash_ or hashes.SHA256())
    return Made(builder.sign(signer, digest, rsa_padding=padding), key)


def root(**options: Any) -> Made:
    return make(name(o="Example Bank", cn="Root"), None, ca=True, **options)


def leaf(issuer: Made, *extensions: x509.ExtensionType, **options: Any) -> Made:
    """A certificate for mail; what is given replaces what is usual."""
    given = {type(extension) for extension in extensions}
    usual = (MAIL, usage("digital_signature"), mailbox("alice@bank.example"))
    subject = options.pop("subject", name(cn="Alice Example"))
    return make(subject, issuer, *extensions, *(e for e in usual if type(e) not in given), **options)
