"""What forged mails are made of: people, certificates and CMS structures that are the same at each build.

Keys are derived from names and signatures are deterministic, so nothing secret is kept and every file
comes out byte for byte as it is committed. The CMS structures are built with asn1crypto, not with the
code under test.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache

from asn1crypto import algos, cms, core
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = datetime(2026, 11, 22, 2, 15, 16, tzinfo=UTC)
ALICE, MALLORY, CEO = "alice@bank.example", "mallory@evil.example", "ceo@bank.example"
BOUNDARY = b"b1"
EOL = b"\r\n"

Attributes = list[cms.CMSAttribute]


def key_of(name: str) -> ec.EllipticCurvePrivateKey:
    """The key of a name."""
    number = int.from_bytes(hashlib.sha512(name.encode()).digest(), "big")
    return ec.derive_private_key(number % (2**255) + 1, ec.SECP256R1())


@dataclass(frozen=True)
class Holder:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _serial(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:9], "big") | 1


@cache
def authority(secret: str = "root") -> Holder:
    """An authority; others than ``root`` have its name and a key of their own, and nobody trusts them."""
    key = key_of(secret)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name("Example Mail CA"))
        .issuer_name(_name("Example Mail CA"))
        .public_key(key.public_key())
        .serial_number(_serial("root"))
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2046, 1, 1, tzinfo=UTC))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return Holder(builder.sign(key, hashes.SHA256(), ecdsa_deterministic=True), key)


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


@cache
def person(
    address: str,
    *,
    issuer: str = "root",
    secret: str = "",
    purpose: x509.ObjectIdentifier = ExtendedKeyUsageOID.EMAIL_PROTECTION,
    end: datetime = datetime(2046, 1, 1, tzinfo=UTC),
    serial: str = "",
) -> Holder:
    """Somebody with a certificate of an authority."""
    key, above = key_of(secret or address), authority(issuer)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(address.partition("@")[0].title() + " Example"))
        .issuer_name(above.certificate.subject)
        .public_key(key.public_key())
        .serial_number(_serial(serial or address))
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName([x509.RFC822Name(address)]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(above.key.public_key()), critical=False
        )
    )
    return Holder(builder.sign(above.key, hashes.SHA256(), ecdsa_deterministic=True), key)


# --- CMS -------------------------------------------------------------------------------------------------


def attribute(kind: str, *values: object) -> cms.CMSAttribute:
    """One attribute of a signer."""
    return cms.CMSAttribute({"type": kind, "values": list(values)})


def attributes_for(content: bytes, *, digest: str = "sha256", kind: str = "data") -> Attributes:
    """What an honest signer signs about a content."""
    return [
        attribute("content_type", kind),
        attribute("message_digest", hashlib.new(digest, content).digest()),
        attribute("signing_time", cms.Time({"utc_time": core.UTCTime(NOW)})),
    ]


Hash = hashes.SHA256 | hashes.SHA384 | hashes.SHA1
_HASHES: dict[str, Callable[[], Hash]] = {
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha1": hashes.SHA1,
}


def signature_over(key: ec.EllipticCurvePrivateKey, data: bytes, digest: str = "sha256") -> bytes:
    """A deterministic ECDSA signature (RFC 6979)."""
    return key.sign(data, ec.ECDSA(_HASHES[digest](), deterministic_signing=True))


def signer_info(
    holder: Holder,
    content: bytes,
    *,
    attributes: Attributes | None = None,
    bare: bool = False,
    digest: str = "sha256",
    named: str = "",
    unsigned: Attributes | None = None,
    over: bytes = b"",
) -> cms.SignerInfo:
    """A signer as it should be, or with ``attributes`` as they are given.

    ``bare``: without signed attributes. ``named``: another digest than the one that was used. ``over``:
    octets that the signature stands over in place of the attributes.
    """
    signed = cms.CMSAttributes(attributes_for(content, digest=digest) if attributes is None else attributes)
    data = over or (content if bare else signed.dump())
    loaded = asn1_x509.Certificate.load(holder.der)
    info = {
        "version": "v1",
        "sid": cms.SignerIdentifier(
            {
                "issuer_and_serial_number": cms.IssuerAndSerialNumber(
                    {"issuer": loaded.issuer, "serial_number": loaded.serial_number}
                )
            }
        ),
        "digest_algorithm": algos.DigestAlgorithm({"algorithm": named or digest}),
        "signature_algorithm": algos.SignedDigestAlgorithm({"algorithm": f"{named or digest}_ecdsa"}),
        "signature": signature_over(holder.key, data, digest),
    }
    if not bare:
        info["signed_attrs"] = signed
    if unsigned is not None:
        info["unsigned_attrs"] = cms.CMSAttributes(unsigned)
    return cms.SignerInfo(info)


@dataclass
class Structure:
    """A SignedData to be; ``content`` is what stands inside, None for a detached signature."""

    signers: Sequence[cms.SignerInfo]
    certificates: Sequence[Holder]
    content: bytes | None = None
    kind: str = "data"
    digests: Sequence[str] = field(default=("sha256",))

    def der(self) -> bytes:
        encapsulated = {"content_type": self.kind}
        if self.content is not None:
            plain = self.kind == "data"
            encapsulated["content"] = (core.OctetString if plain else core.ParsableOctetString)(self.content)
        data = {
            "version": "v1" if self.kind == "data" else "v3",  # RFC 5652 5.1
            "digest_algorithms": [algos.DigestAlgorithm({"algorithm": name}) for name in self.digests],
            "encap_content_info": encapsulated,
            "certificates": [
                cms.CertificateChoices("certificate", asn1_x509.Certificate.load(holder.der))
                for holder in self.certificates
            ],
            "signer_infos": list(self.signers),
        }
        return bytes(cms.ContentInfo({"content_type": "signed_data", "content": cms.SignedData(data)}).dump())


# --- Mail ------------------------------------------------------------------------------------------------

TEXT = b"Content-Type: text/plain; charset=us-ascii\r\n\r\nDear Carl,\r\n\r\nsee you on Friday.\r\n"
DATE = b"Sun, 22 Nov 2026 02:15:00 +0000"


def header(
    author: str = f"Alice Example <{ALICE}>", *, more: bytes = b"", subject: bytes = b"Your appointment"
) -> bytes:
    """The fields of every mail; ``more`` are whole lines."""
    return (
        b"From: %b\r\nTo: carl@customer.example\r\nSubject: %b\r\nDate: %b\r\n"
        b"Message-ID: <1@bank.example>\r\nMIME-Version: 1.0\r\n%b"
    ) % (author.encode(), subject, DATE, more)


CLEAR_TYPE = (
    b'Content-Type: multipart/signed; protocol="application/pkcs7-signature"; micalg=sha-256; boundary=b1\r\n'
)
OPAQUE_TYPE = (
    b'Content-Type: application/pkcs7-mime; smime-type=signed-data; name="smime.p7m"\r\n'
    b"Content-Transfer-Encoding: base64\r\n"
)
SIGNATURE_HEAD = (
    b'Content-Type: application/pkcs7-signature; name="smime.p7s"\r\nContent-Transfer-Encoding: base64\r\n'
)


def encoded(der: bytes) -> bytes:
    """Base64 in lines."""
    return base64.encodebytes(der).replace(b"\n", EOL)


def detached(content: bytes, holder: Holder | None = None) -> bytes:
    """An honest detached signature, by Alice unless it is somebody else's."""
    holder = holder or person(ALICE)
    return Structure([signer_info(holder, content)], [holder]).der()


def opaque(content: bytes = TEXT, holder: Holder | None = None) -> bytes:
    """An honest opaque signature."""
    holder = holder or person(ALICE)
    return Structure([signer_info(holder, content)], [holder], content).der()


def clear_body(
    content: bytes = TEXT,
    der: bytes | None = None,
    *,
    before: bytes = b"",
    after: bytes = b"",
    middle: bytes = b"",
) -> bytes:
    """The body of a clear-signed mail; ``before`` and ``after`` stand outside, ``middle`` between."""
    der = detached(content) if der is None else der
    return b"%b--b1\r\n%b\r\n%b--b1\r\n%b\r\n%b\r\n--b1--\r\n%b" % (
        before,
        content,
        middle,
        SIGNATURE_HEAD,
        encoded(der),
        after,
    )


def clear(
    content: bytes = TEXT,
    der: bytes | None = None,
    *,
    head: bytes | None = None,
    kind: bytes = CLEAR_TYPE,
    **more: bytes,
) -> bytes:
    """A clear-signed mail."""
    return (header() if head is None else head) + kind + EOL + clear_body(content, der, **more)


def opaque_mail(der: bytes, *, head: bytes | None = None, kind: bytes = OPAQUE_TYPE) -> bytes:
    """A mail with an opaque signature."""
    return (header() if head is None else head) + kind + EOL + encoded(der)
