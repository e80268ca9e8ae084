"""Certificates that cannot be read say why, in words; two slips that are everywhere are read all the same."""

from __future__ import annotations

import pytest
from asn1crypto import x509 as asn1_x509
from cryptography import x509

import pki.hostile_profile  # noqa: F401
from mailsigil.holder import describe
from mailsigil.pki.anchors import AnchorSet, TrustStore
from mailsigil.pki.lenient import load_certificate
from mailsigil.pki.parsed import UnreadableCertificate, parse_certificate
from mailsigil.pki.path import PathStatus, PathValidator
from mailsigil.pki.unreadable import why_unreadable
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
