"""Certificates that cannot be read say why, in words; two slips that are everywhere are read all the same."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

import pki.hostile_profile  # noqa: F401
from bank import judge, verification
from mailsigil.holder import describe
from mailsigil.pki.anchors import AnchorSet, TrustStore
from mailsigil.pki.lenient import load_certificate
from mailsigil.pki.parsed import UnreadableCertificate, parse_certificate
from mailsigil.pki.path import PathStatus, PathValidator
from mailsigil.pki.unreadable import why_unreadable
from mailsigil.verdict import Reason
from pki.hostile import CASES, ROOT
from pki.pki_make import NOW, leaf, make, name

DER = leaf(ROOT).der


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            ValueError('x: ParseError { kind: EncodedDefault, location: ["BasicConstraints::ca"] }'),
            "it writes out a value that DER leaves out because it is the default (BasicConstraints, ca)",
        ),
        (
            ValueError("error parsing asn1 value: ParseError { kind: ShortData { needed: 3 } }"),
            "ends too early",
        ),
        (ValueError("error parsing asn1 value: ParseError { kind: Newest }"), "it is no DER: Newest"),
        (KeyError("2.16.840.1.101.3.4.3.17"), "kind that is not known here (2.16.840.1.101.3.4.3.17)"),
        (KeyError("else"), "'else'"),
        (ValueError(), "ValueError"),
        (ValueError("a\nb" * 500), "a ba b"),
    ],
    ids=["default", "short", "new kind", "algorithm", "key", "silent", "long"],
)
def test_sentences(error: Exception, sentence: str) -> None:
    assert sentence in why_unreadable(error)
    assert len(why_unreadable(error)) <= 200


@pytest.mark.parametrize(
    ("der", "sentence"),
    [
        (DER[:-4], "it ends too early"),
        (DER + b"\x00", "octets follow where it should end"),
        (b"\x30\x80" + DER[4:] + b"\x00\x00", "does not allow"),
        (b"\x04" + DER[1:], "of another kind"),
        (b"", "ends too early"),
    ],
    ids=["cut", "longer", "without a length", "another tag", "empty"],
)
def test_damaged_certificates(der: bytes, sentence: str) -> None:
    with pytest.raises(UnreadableCertificate, match=sentence):
        parse_certificate(der)


def test_an_authority_that_cannot_be_read_is_told() -> None:
    authority = make(name(cn="Sub"), ROOT, ca=True)
    store = TrustStore((AnchorSet(name="x", certificates=(ROOT.certificate,)),))
    verdict = PathValidator(store).validate(leaf(authority).der, [authority.der[:-4]], at=NOW)
    assert verdict.status is PathStatus.UNTRUSTED
    assert "no path leads from its issuer CN=Sub" in verdict.reason
    assert "was left out, because the certificate cannot be read: it ends too early" in verdict.reason


def test_a_default_that_is_written_out_is_read_and_the_true_octets_stay() -> None:
    der = CASES["critical FALSE and cA FALSE written out"].sender.der
    with pytest.raises(ValueError, match="EncodedDefault"):
        _ = x509.load_der_x509_certificate(der).extensions
    parsed = parse_certificate(der)
    assert parsed.der == der == asn1_x509.Certificate.load(parsed.asn1.dump()).dump()
    read, honest = load_certificate(der), leaf(ROOT).certificate
    assert read.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert {extension.oid for extension in read.extensions} >= {one.oid for one in honest.extensions}
    assert describe(der)[0].addresses == ("alice@bank.example",)


def _openssl_signed(folder: Path, case: str) -> bytes:
    """A mail that OpenSSL signs, which does not mind these certificates."""
    sender = CASES[case].sender
    key = sender.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "sender.der").write_bytes(sender.der)
    (folder / "sender.key").write_bytes(key)
    convert = ["openssl", "x509", "-inform", "DER", "-in", "sender.der", "-out", "sender.pem"]
    subprocess.run(convert, cwd=folder, check=True, capture_output=True)
    command = ["openssl", "cms", "-sign", "-signer", "sender.pem", "-inkey", "sender.key", "-crlfeol"]
    command += ["-md", "sha256", "-from", "alice@bank.example", "-to", "b@x.example", "-subject", "x"]
    text = b"Content-Type: text/plain\r\n\r\nHello\r\n"
    done = subprocess.run(command, cwd=folder, input=text, capture_output=True, check=True)
    return done.stdout


@pytest.mark.parametrize(
    ("case", "reason", "detail"),
    [
        ("cA FALSE written out", Reason.NONE, ""),
        ("critical FALSE written out", Reason.CERTIFICATE_FORM, "the certificate cannot be read"),
        ("version 4", Reason.CERTIFICATE_FORM, "cannot be read: 3 is not a valid X509 version"),
        ("serial number 0", Reason.CERTIFICATE_FORM, "its serial number is not one of 1 to 20 octets"),
        ("version 1 with extensions", Reason.CERTIFICATE_FORM, "has extensions, which its version"),
    ],
)
def test_the_verdict_about_a_mail_says_it(tmp_path: Path, case: str, reason: Reason, detail: str) -> None:
    parts = verification(TrustStore((AnchorSet(name="x", certificates=(ROOT.certificate,)),)))
    verdict = judge(_openssl_signed(tmp_path, case), parts=parts, at=datetime.now(UTC))
    assert verdict.reason is reason, verdict.detail
    assert detail in verdict.detail
    assert (verdict.identity is not None) is (reason is Reason.NONE)
