"""Recipients of encrypted mail, and mail that real programs encrypt to them."""

from __future__ import annotations

import base64
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mailsigil.keys.key_files import keys_from, read_key_file
from mailsigil.keys.soft_key import SoftKey
from mailsigil.message.fields import parse_fields

BOB = "bob@bank.example"
ENTITY = b"Content-Type: text/plain; charset=us-ascii\r\n\r\nThe code of the vault is 1234.\r\n"
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@dataclass(frozen=True)
class Person:
    """A key with its certificate."""

    key: PrivateKey
    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> bytes:
        """Key and certificate in one."""
        key = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return key + self.certificate.public_bytes(Encoding.PEM)

    def write(self, folder: Path, name: str = "bob.pem") -> Path:
        """Puts both into one file."""
        path = folder / name
        path.write_bytes(self.pem)
        path.chmod(0o600)
        return path

    def soft_key(self, folder: Path) -> SoftKey:
        """The key as the key agent holds it."""
        keys, faults = keys_from([read_key_file(self.write(folder))], passphrase=None)
        if faults:
            raise faults[0]
        return keys[0]


@cache
def make_key(kind: str) -> PrivateKey:
    """A key by its short name; "rsa#2" is another one than "rsa"."""
    match kind.partition("#")[0]:
        case "rsa":
            return rsa.generate_private_key(public_exponent=65537, key_size=2048)
        case "p256":
            return ec.generate_private_key(ec.SECP256R1())
        case "p384":
            return ec.generate_private_key(ec.SECP384R1())
        case "p521":
            return ec.generate_private_key(ec.SECP521R1())
    raise ValueError(kind)


@cache
def person(
    kind: str = "rsa",
    *,
    address: str = BOB,
    usage: str = "both",
    days: int = 365,
    begun: int = 1,
    issuer: str = "Example Bank Mail CA",
) -> Person:
    """Somebody with a certificate. ``usage``: "both", "encryption", "signing", or "none" for no extension."""
    key = make_key(kind)
    return Person(key, certify(key.public_key(), address, usage=usage, days=days, begun=begun, issuer=issuer))


def certify(
    public: rsa.RSAPublicKey | ec.EllipticCurvePublicKey,
    address: str,
    *,
    usage: str = "both",
    days: int = 365,
    begun: int = 1,
    issuer: str = "Example Bank Mail CA",
) -> x509.Certificate:
    """A certificate for a key that lies somewhere."""
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(days=begun)
    signs, encrypts = usage in ("both", "signing"), usage in ("both", "encryption")
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Bob Sample")]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.RFC822Name(address)]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
    )
    if usage != "none":
        is_rsa = isinstance(public, rsa.RSAPublicKey)
        builder = builder.add_extension(
            x509.KeyUsage(
                digital_signature=signs,
                content_commitment=False,
                key_encipherment=encrypts and is_rsa,
                data_encipherment=False,
                key_agreement=encrypts and not is_rsa,
                key_cert_sign=False,
                crl_sign=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
    return builder.sign(make_key("p256#issuer"), hashes.SHA256())


@cache
def authority(name: str = "Example Bank Mail CA") -> x509.Certificate:
    """The certificate of those who issued the others."""
    key = make_key("p256#issuer")
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(days=400)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=4000))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def encrypt(
    entity: bytes,
    recipients: tuple[Person, ...],
    folder: Path,
    *arguments: str,
    cipher: str = "-aes-256-cbc",
    form: str = "DER",
    options: tuple[str, ...] = (),
) -> bytes:
    """What ``openssl cms -encrypt`` makes; ``options`` (-keyopt) go to each recipient."""
    certificates: list[str] = []
    for number, each in enumerate(recipients):
        path = folder / f"recipient{number}.pem"
        path.write_bytes(each.certificate.public_bytes(Encoding.PEM))
        certificates += ["-recip", str(path), *options]
    command = ["openssl", "cms", "-encrypt", "-binary", "-outform", form, cipher, *arguments, *certificates]
    done = subprocess.run(command, input=entity, capture_output=True, timeout=30)
    if done.returncode:
        raise RuntimeError(done.stderr.decode())
    return done.stdout


def mail(cms: bytes, *, author: str = "Alice Example <alice@bank.example>", more: bytes = b"") -> bytes:
    """A message around an envelope."""
    body = base64.encodebytes(cms).replace(b"\n", b"\r\n")
    return (
        f"From: {author}\r\nTo: {BOB}\r\nSubject: Your appointment\r\n".encode()
        + b"Date: Sun, 22 Nov 2026 02:15:00 +0000\r\nMessage-ID: <1@bank.example>\r\n"
        + more
        + b"MIME-Version: 1.0\r\nContent-Type: application/pkcs7-mime; smime-type=enveloped-data;\r\n"
        b' name="smime.p7m"\r\nContent-Transfer-Encoding: base64\r\n'
        b'Content-Disposition: attachment; filename="smime.p7m"\r\n\r\n' + body
    )


def enclosed(
    raw: bytes, recipients: tuple[Person, ...], folder: Path, *, cipher: str = "-aes-256-gcm"
) -> bytes:
    """A whole message whose content is encrypted: the header stays outside."""
    fields, start = parse_fields(raw)
    entity = b"".join(field.raw for field in fields if field.key.startswith(b"content-"))
    outer = b"".join(f.raw for f in fields if not f.key.startswith((b"content-", b"mime-")))
    closed = mail(encrypt(entity + b"\r\n" + raw[start:], recipients, folder, cipher=cipher))
    return outer + closed[closed.index(b"MIME-Version") :]
