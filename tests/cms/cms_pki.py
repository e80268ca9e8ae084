"""Keys, certificates and signatures for the tests of the cms room; made once a run."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mailsigil.cms.algorithms import Scheme, sign_with
from mailsigil.cms.build import SignatureBuilder
from mailsigil.cms.parse import BytesSource, SignedData, parse_signed_data
from mailsigil.cms.verify import SignerCheck, check_signer, digests_needed

CONTENT = b"Content-Type: text/plain; charset=us-ascii\r\n\r\nThe contract is signed.\r\n"
SIGNED_AT = datetime(2026, 5, 4, 12, 0, 0, tzinfo=UTC)
KEY_OF_FAMILY = {"rsa": "rsa", "ecdsa-sha256": "p256", "ecdsa-sha384": "p384", "ecdsa-sha512": "p521"}
EVERY_SCHEME = tuple(Scheme)


@dataclass(frozen=True, slots=True)
class Owner:
    """A key and its certificate."""

    key: CertificateIssuerPrivateKeyTypes
    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    def write(self, folder: Path, name: str) -> tuple[Path, Path]:
        """PEM files of the certificate and of the key."""
        certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
        certificate.write_bytes(self.certificate.public_bytes(Encoding.PEM))
        key.write_bytes(self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return certificate, key


@cache
def make_key(kind: str) -> CertificateIssuerPrivateKeyTypes:
    """A key by its short name; the same name gives the same key again."""
    match kind.partition("#")[0]:
        case "rsa":
            return rsa.generate_private_key(public_exponent=65537, key_size=2048)
        case "rsa1024":
            return rsa.generate_private_key(public_exponent=65537, key_size=1024)
        case "p256":
            return ec.generate_private_key(ec.SECP256R1())
        case "p384":
            return ec.generate_private_key(ec.SECP384R1())
        case "p521":
            return ec.generate_private_key(ec.SECP521R1())
        case "ed25519":
            return ed25519.Ed25519PrivateKey.generate()
    raise ValueError(kind)


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Example Bank"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _certify(
    kind: str,
    subject: str,
    serial: int,
    extensions: list[tuple[x509.ExtensionType, bool]],
    issuer: Owner | None,
) -> Owner:
    key = make_key(kind)
    now = datetime.now(UTC).replace(microsecond=0)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(issuer.certificate.subject if issuer else _name(subject))
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC) - timedelta(days=900))
        .not_valid_after(now + timedelta(days=900))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return Owner(key, builder.sign(issuer.key if issuer else key, hashes.SHA256()))


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


@cache
def authority() -> Owner:
    """A root that signs the certificates of everybody here."""
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.BasicConstraints(ca=True, path_length=None), True),
        (_usage(ca=True), True),
    ]
    return _certify("rsa#root", "Example Root", 1, extensions, None)


@cache
def owner(kind: str) -> Owner:
    """Alice with a key of this kind; `p256` and `p256#2` are two keys under one name and serial number."""
    serial = int.from_bytes(kind.partition("#")[0].encode().ljust(16, b"."), "big")
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_usage(ca=False), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), False),
        (x509.SubjectAlternativeName([x509.RFC822Name("alice@bank.example")]), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(make_key("rsa#root").public_key()), False),
    ]
    return _certify(kind, "Alice Example", serial, extensions, authority())


def owner_for(scheme: Scheme) -> Owner:
    """Alice with a key that fits the scheme."""
    return owner("rsa" if scheme.value.startswith("rsa") else KEY_OF_FAMILY.get(scheme.value, scheme.value))


def digest(scheme: Scheme, content: bytes = CONTENT) -> bytes:
    """The content digest that a scheme wants."""
    return hashlib.new(scheme.digest, content).digest()


def sign_detached(scheme: Scheme, content: bytes = CONTENT) -> bytes:
    """A detached signature by our own builder."""
    alice = owner_for(scheme)
    builder = SignatureBuilder(alice.der, [authority().der], scheme)
    attributes = builder.attributes(digest(scheme, content), SIGNED_AT)
    return builder.detached(attributes, sign_with(alice.key, scheme, attributes))


def sign_opaque(scheme: Scheme, content: bytes = CONTENT) -> bytes:
    """An opaque signature by our own builder."""
    alice = owner_for(scheme)
    builder = SignatureBuilder(alice.der, [authority().der], scheme)
    attributes = builder.attributes(digest(scheme, content), SIGNED_AT)
    head, tail = builder.opaque(attributes, sign_with(alice.key, scheme, attributes), len(content))
    return head + content + tail


def check_all(
    blob: bytes, content: bytes | None = None, *, extra: tuple[bytes, ...] = ()
) -> tuple[SignedData, list[SignerCheck]]:
    """Parses, digests the content (the one inside unless one is given) and checks every signer."""
    signed = parse_signed_data(BytesSource(blob))
    octets = b"".join(signed.content_chunks()) if content is None else content
    digests = {name: hashlib.new(name, octets).digest() for name in digests_needed(signed)}
    return signed, [
        check_signer(signer, signed, digests, extra_certificates=extra) for signer in signed.signers
    ]
