"""Signatures that other people published, with the results that they published."""

from __future__ import annotations

import email
import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from cms.cms_pki import CONTENT, check_all
from mailsigil.cms.algorithms import default_scheme, sign_with
from mailsigil.cms.build import SignatureBuilder
from mailsigil.cms.parse import BytesSource, ContentKind, content_kind, parse_signed_data
from mailsigil.cms.verify import SignerStatus

Corpus = Callable[[str], Path]


def split_mail(path: Path) -> tuple[bytes, bytes | None]:
    """The CMS blob of a mail, and its detached content in canonical form (None when it is inside)."""
    raw = path.read_bytes()
    mail = email.message_from_bytes(raw)
    content: bytes | None = None
    if mail.is_multipart():
        boundary = re.escape(str(mail.get_boundary()).encode())
        content = re.split(rb"\r?\n--" + boundary + rb"\r?\n", raw)[1]
        content = content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    blob = next(part for part in mail.walk() if "pkcs7" in part.get_content_type())
    payload = blob.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload, content


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no_ct_attr", "content-type-missing"),
        ("no_md_attr", "message-digest-missing"),
        ("ct_multiple_attr", "content-type-repeated"),
        ("bad_signtime_attr", "signing-time-unsigned"),
    ],
)
def test_openssl_bad_attributes(name: str, reason: str, corpus: Corpus) -> None:
    """OpenSSL's own test says that these must fail."""
    blob = (corpus("openssl-cms") / "openssl-cms/80-test_cms_data" / f"{name}.cms").read_bytes()
    _, (check,) = check_all(blob)
    assert (check.status, check.reason) == (SignerStatus.MALFORMED, reason)


def test_openssl_empty_digest_set(corpus: Corpus) -> None:
    """OpenSSL's cms and smime commands refuse it, too."""
    blob, content = split_mail(corpus("openssl-cms") / "openssl-cms/pkcs7-empty-digest-set.eml")
    _, (check,) = check_all(blob, content)
    assert (check.status, check.reason) == (SignerStatus.MALFORMED, "digest-not-announced")


@pytest.mark.parametrize(
    "name",
    [
        "mail-with-signature-and-multi-certs",
        "mail_with_signature",
        "mail_with_signature_and_content_type_xpkcs7mime",
    ],
)
def test_james_mails_hold(name: str, corpus: Corpus) -> None:
    blob, content = split_mail(corpus("james-smime") / "james-smime" / f"{name}.eml")
    signed, (check,) = check_all(blob, content)
    assert (check.status, check.reason) == (SignerStatus.VALID, "")
    assert check.certificate in signed.certificates


RFC4134_KINDS = {
    **{f"4.{number}.bin": ContentKind.SIGNED_DATA for number in (1, 2, 3, 4, 5, 6, 7, 10)},
    "4.11.bin": ContentKind.CERTS_ONLY,
    "5.1.bin": ContentKind.ENVELOPED_DATA,
    "5.2.bin": ContentKind.ENVELOPED_DATA,
    "3.1.bin": ContentKind.UNKNOWN,
    "6.0.bin": ContentKind.UNKNOWN,
    "7.1.bin": ContentKind.UNKNOWN,
    "ExContent.bin": ContentKind.UNKNOWN,
}


@pytest.mark.parametrize(("name", "kind"), RFC4134_KINDS.items(), ids=RFC4134_KINDS.keys())
def test_rfc4134_kinds(name: str, kind: ContentKind, corpus: Corpus) -> None:
    blob = (corpus("rfc4134") / "rfc4134" / name).read_bytes()
    assert content_kind(BytesSource(blob)) is kind


@pytest.mark.parametrize(
    "name", [name for name in RFC4134_KINDS if RFC4134_KINDS[name] is ContentKind.SIGNED_DATA]
)
def test_rfc4134_is_read_and_found_weak(name: str, corpus: Corpus) -> None:
    """Everything there is SHA-1, half of it DSA: readable today, and proof of nothing."""
    folder = corpus("rfc4134") / "rfc4134"
    content = (folder / "ExContent.bin").read_bytes()
    certificates = tuple(path.read_bytes() for path in sorted(folder.glob("*.cer")))
    signed, checks = check_all((folder / name).read_bytes(), content, extra=certificates)
    assert {(check.status, check.reason) for check in checks} == {(SignerStatus.WEAK_ALGORITHM, "weak-sha1")}
    assert all(check.certificate in certificates for check in checks)
    assert len(checks) == (2 if name == "4.6.bin" else 1)
    if signed.content is not None and name != "4.5.bin":
        assert b"".join(signed.content_chunks()) == content


@pytest.mark.parametrize("name", ["4.8.eml", "4.9.eml"])
def test_rfc4134_mails(name: str, corpus: Corpus) -> None:
    blob, content = split_mail(corpus("rfc4134") / "rfc4134" / name)
    _, (check,) = check_all(blob, content)
    assert (check.status, check.reason) == (SignerStatus.WEAK_ALGORITHM, "weak-sha1")


@pytest.mark.parametrize(
    ("person", "kind"),
    [
        ("alice", rsa.RSAPrivateKey),
        ("bob", rsa.RSAPrivateKey),
        ("carlos", ed25519.Ed25519PrivateKey),
        ("dana", ed25519.Ed25519PrivateKey),
    ],
)
def test_rfc9216_people_sign(person: str, kind: type, corpus: Corpus) -> None:
    """The IETF's sample keys and certificates, RSA and Ed25519, make signatures that hold."""
    folder = corpus("rfc9216") / "rfc9216"
    pem = (folder / f"{person}_s_signature_verification_end_entity_certificate.pem").read_bytes()
    key = load_pem_private_key((folder / f"{person}_s_signing_private_key_material.pem").read_bytes(), None)
    assert isinstance(key, kind)
    certificate = x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
    scheme = default_scheme(key.public_key())
    builder = SignatureBuilder(certificate, [], scheme)
    attributes = builder.attributes(hashlib.new(scheme.digest, CONTENT).digest(), None)
    blob = builder.detached(attributes, sign_with(key, scheme, attributes))
    assert parse_signed_data(BytesSource(blob)).certificates == (certificate,)
    _, (check,) = check_all(blob, CONTENT)
    assert (check.status, check.certificate) == (SignerStatus.VALID, certificate)
