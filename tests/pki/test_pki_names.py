from __future__ import annotations

import unicodedata

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from mailsigil.pki.names import CertificateNames, clean_name, normalise_address
from pki.pki_make import leaf, mailbox, make, name, root, smtp_utf8

ROOT = root()


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        pytest.param("Alice Example", "Alice Example", id="plain"),
        pytest.param("Alice\r\n Example", "Alice Example", id="line break"),
        pytest.param("  Alice\t\tExample ", "Alice Example", id="white space"),
        pytest.param("Alice\u2028Example", "Alice Example", id="line separator"),
        pytest.param("Ali\u202ece", "Alice", id="right-to-left override"),
        pytest.param("A\u200bl\u2066i\u2069c\ufeffe", "Alice", id="zero width and isolates"),
        pytest.param("\U000e0041lice", "lice", id="tag character"),
        pytest.param("\u3164\u115f", "", id="only fillers"),
        pytest.param("Zoe\u0308", "Zoë", id="NFC"),
        pytest.param("e" + "\u0301" * 50, "é\u0301\u0301", id="smeared marks"),
        pytest.param("x" * 200, "x" * 127 + "…", id="too long"),
        pytest.param("\x00\x1b[31mRed", "[31mRed", id="escape sequence"),
    ],
)
def test_clean_name(text: str, clean: str) -> None:
    assert clean_name(text) == clean


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=400))
def test_clean_name_is_always_one_printable_line(text: str) -> None:
    cleaned = clean_name(text)
    assert len(cleaned) <= 128
    assert cleaned == cleaned.strip()
    assert clean_name(cleaned) == cleaned
    assert not any(unicodedata.category(c)[0] == "C" or c in "\r\n\t\u2028\u2029" for c in cleaned)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("Alice@Bank.Example", "Alice@bank.example"),
        ("grüße@bücher.example", "grüße@xn--bcher-kva.example"),
        ("a@ｂank.example", ""),
        ("a b@bank.example", ""),
        ("a@b@bank.example", ""),
        ("alice", ""),
        ("@bank.example", ""),
        ("a@", ""),
        ("a\x00@bank.example", ""),
        ("a@" + "b" * 400, ""),
        ("a\u202e@bank.example", ""),
    ],
)
def test_normalise_address(text: str, address: str) -> None:
    assert normalise_address(text) == address


@pytest.mark.parametrize(
    ("subject", "full_name"),
    [
        pytest.param({"gn": "Alice", "sn": "Example", "cn": "x"}, "Alice Example", id="given and surname"),
        pytest.param({"pseudonym": "Wren", "cn": "x"}, "Wren", id="pseudonym"),
        pytest.param({"cn": "Alice Example"}, "Alice Example", id="common name"),
        pytest.param({"cn": "alice@bank.example"}, "", id="common name is an address"),
        pytest.param({"cn": "Example Bank", "o": "example bank"}, "", id="common name is the organisation"),
        pytest.param({"gn": "Alice", "cn": "alice@bank.example"}, "", id="given name alone"),
    ],
)
def test_full_name(subject: dict[str, str], full_name: str) -> None:
    assert (
        CertificateNames.from_certificate(leaf(ROOT, subject=name(**subject)).certificate).full_name
        == full_name
    )


SAN = x509.SubjectAlternativeName


@pytest.mark.parametrize(
    ("alternative", "addresses"),
    [
        pytest.param(mailbox("A@x.example", "b@X.example"), ("A@x.example", "b@x.example"), id="rfc822Name"),
        pytest.param(SAN([smtp_utf8("ä@x.example")]), ("ä@x.example",), id="SmtpUTF8Mailbox"),
        pytest.param(SAN([x509.DNSName("x.example")]), ("old@x.example",), id="no mail name: subject counts"),
        pytest.param(mailbox("a@x.example"), ("a@x.example",), id="mail name: subject does not count"),
        pytest.param(
            SAN([x509.OtherName(x509.ObjectIdentifier("1.3.6.1.5.5.7.8.9"), b"\x13\x07a@x.com")]),
            (),
            id="SmtpUTF8Mailbox in another string type gives nothing",
        ),
    ],
)
def test_addresses(alternative: SAN, addresses: tuple[str, ...]) -> None:
    made = make(name(cn="x", email="old@x.example"), ROOT, alternative)
    assert CertificateNames.from_certificate(made.certificate).addresses == addresses


def test_issuer_is_the_common_name() -> None:
    assert CertificateNames.from_certificate(leaf(ROOT).certificate).issuer == "Root"


def names_of(**subject: str) -> CertificateNames:
    return CertificateNames.from_certificate(leaf(ROOT, subject=name(**subject)).certificate)


@pytest.mark.parametrize(
    "text",
    [
        "V4 Alice Example, Example Bank, Identity Validated and Trusted",
        "Alice Example, Identity Validated",
        "Alice, IDENTITY  VALIDATED",
        "Alice, Identity-Validated-and-Trusted",
        "Alice, Ｉｄｅｎｔｉｔｙ Validated",
        "Identity Not Verified: Alice",
        "Email Validated",
    ],
)
def test_a_name_that_talks_like_our_own_text_is_none(text: str) -> None:
    names = names_of(cn=text, o=f"{text} ", title=text)
    assert (names.full_name, names.organisation, names.title) == ("", "", "")


def test_two_names_that_talk_so_together_are_none() -> None:
    assert names_of(gn="Identity", sn="Validated").full_name == ""


@pytest.mark.parametrize("text", ["V4 Alice Example", "v.4 Alice", "(V3) Alice", "Ｖ４ Alice"])
def test_a_person_whose_name_begins_with_a_level_has_none(text: str) -> None:
    assert names_of(cn=text).full_name == ""


@pytest.mark.parametrize("text", ["Vera Validated", "V4u Vier", "V. Four", "Identity & Trust Ltd", "Víctor"])
def test_other_names_stay(text: str) -> None:
    assert names_of(cn=text).full_name == text
