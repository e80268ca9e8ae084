"""A small authority for the tests of the key room: employees with certificates of any kind."""

from __future__ import annotations

import datetime as dt
import functools
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
NOW = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
ALICE = "alice@bank.example"


def new_key(kind: str = "p256") -> PrivateKey:
    """A fresh key."""
    if kind.startswith("rsa"):
        return rsa.generate_private_key(public_exponent=65537, key_size=int(kind[3:]))
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    curves = {"p256": ec.SECP256R1(), "p384": ec.SECP384R1(), "p521": ec.SECP521R1(), "k256": ec.SECP256K1()}
    return ec.generate_private_key(curves[kind])


@functools.cache
def shared_key(kind: str) -> PrivateKey:
    """A key that may be the same in many tests, because making it is slow."""
    return new_key(kind)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


_root_key, _issuing_key = new_key(), new_key()


def certificate(
    key: PrivateKey,
    *,
    addresses: tuple[str, ...] = (ALICE,),
    begin: dt.datetime = NOW - dt.timedelta(days=30),
    days: int = 365,
    purposes: tuple[x509.ObjectIdentifier, ...] = (ExtendedKeyUsageOID.EMAIL_PROTECTION,),
    ca: bool = False,
    may_sign: bool = True,
    subject: str = "Alice Example",
    issuer: str = "Test Issuing CA",
    signer: ec.EllipticCurvePrivateKey = _issuing_key,
) -> x509.Certificate:
    """A certificate for a key."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + dt.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=may_sign,
                content_commitment=False,
                key_encipherment=not may_sign,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=ca,
                crl_sign=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
    )
    if addresses:
        names = [x509.RFC822Name(address) for address in addresses]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if purposes:
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    return builder.sign(signer, hashes.SHA256())


ROOT = certificate(
    _root_key, ca=True, addresses=(), purposes=(), subject="Test Root", issuer="Test Root", signer=_root_key
)
ISSUING = certificate(
    _issuing_key,
    ca=True,
    addresses=(),
    purposes=(),
    subject="Test Issuing CA",
    issuer="Test Root",
    signer=_root_key,
)


@dataclass(frozen=True)
class Employee:
    """A key with its certificate, to be written into files."""

    key: PrivateKey
    certificate: x509.Certificate

    def key_pem(self, passphrase: bytes | None = None, *, traditional: bool = False) -> bytes:
        """The private key."""
        form = PrivateFormat.TraditionalOpenSSL if traditional else PrivateFormat.PKCS8
        return self.key.private_bytes(Encoding.PEM, form, _encryption(passphrase))

    def chain_pem(self) -> bytes:
        """The certificate, its issuer, and the root."""
        return b"".join(pem(c) for c in (self.certificate, ISSUING, ROOT))

    def pkcs12(self, passphrase: bytes | None) -> bytes:
        """Everything in one PKCS#12 file."""
        return pkcs12.serialize_key_and_certificates(
            b"alice", self.key, self.certificate, [ISSUING, ROOT], _encryption(passphrase)
        )


def employee(kind: str = "p256", **profile: object) -> Employee:
    """A new employee; ``profile`` goes to :func:`certificate`."""
    key = shared_key(kind) if kind.startswith("rsa") else new_key(kind)
    return Employee(key, certificate(key, **profile))  # type: ignore[arg-type]


def pem(one: x509.Certificate) -> bytes:
    """A certificate as PEM."""
    return one.public_bytes(Encoding.PEM)


def put(folder: Path, name: str, data: bytes, *, mode: int = 0o600) -> Path:
    """Writes a file with a mode, as a whole and at once."""
    part = folder / f".{name}.part"
    part.write_bytes(data)
    part.chmod(mode)
    return part.rename(folder / name)


def put_employee(folder: Path, name: str, who: Employee) -> Path:
    """Writes key and chain into one PEM file."""
    return put(folder, f"{name}.pem", who.key_pem() + who.chain_pem())


def _encryption(passphrase: bytes | None) -> BestAvailableEncryption | NoEncryption:
    return NoEncryption() if passphrase is None else BestAvailableEncryption(passphrase)
