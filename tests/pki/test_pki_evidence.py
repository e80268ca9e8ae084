"""What one list or one response proves, and what it does not."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st

from mailsigil.pki.crl import check_crl, judge_crl
from mailsigil.pki.evidence import Link, RevocationStatus, Unusable
from mailsigil.pki.ocsp import judge_ocsp
from mailsigil.pki.parsed import parse_certificate
from pki import pki_make as make
from pki import publisher as pub
from pki.pki_make import NOW

GOOD, REVOKED, UNKNOWN = RevocationStatus.GOOD, RevocationStatus.REVOKED, RevocationStatus.UNKNOWN
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)

ROOT = make.root()
OTHER = make.root()  # of the same name, with another key
ALICE = make.leaf(ROOT, pub.crl_at(pub.CRL_URL))
BOB = make.leaf(ROOT)
LINK = Link(parse_certificate(ALICE.der), parse_certificate(ROOT.der))
FLAG = x509.ReasonFlags


def _crl(data: bytes, *, at: datetime = NOW, now: datetime | None = None) -> RevocationStatus:
    try:
        return judge_crl(check_crl(data, LINK.issuer), LINK).judge(LINK.certificate, at=at, now=now or at)
    except Unusable:
        return UNKNOWN


def _ocsp(data: bytes, *, at: datetime = NOW, now: datetime | None = None) -> RevocationStatus:
    try:
        return judge_ocsp(data, LINK, at=at).judge(LINK.certificate, at=at, now=now or at)
    except Unusable:
        return UNKNOWN


def _scope(**given: Any) -> list[tuple[x509.ExtensionType, bool]]:
    usual: dict[str, Any] = {
        "full_name": None,
        "relative_name": None,
        "only_contains_user_certs": False,
        "only_contains_ca_certs": False,
        "only_some_reasons": None,
        "indirect_crl": False,
        "only_contains_attribute_certs": False,
    }
    return [(x509.IssuingDistributionPoint(**(usual | given)), True)]


def _url(text: str) -> list[x509.GeneralName]:
    return [x509.UniformResourceIdentifier(text)]


STRANGE = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")

LISTS = {
    "nobody": (pub.crl(ROOT), GOOD),
    "another": (pub.crl(ROOT, BOB), GOOD),
    "this one": (pub.crl(ROOT, BOB, ALICE), REVOKED),
    "another key of the same name": (pub.crl(OTHER), UNKNOWN),
    "another name": (pub.crl(ROOT, name=make.name(cn="Somebody")), UNKNOWN),
    "out of date": (pub.crl(ROOT, this=NOW - 8 * DAY), UNKNOWN),
    "out of date within the clock's doubt": (pub.crl(ROOT, this=NOW - 7 * DAY - MINUTE), GOOD),
    "out of date and revoked": (pub.crl(ROOT, ALICE, this=NOW - 8 * DAY), REVOKED),
    "out of date and on hold": (
        pub.crl(ROOT, ALICE, this=NOW - 8 * DAY, entry=[x509.CRLReason(FLAG.certificate_hold)]),
        UNKNOWN,
    ),
    "on hold": (pub.crl(ROOT, ALICE, entry=[x509.CRLReason(FLAG.certificate_hold)]), REVOKED),
    "taken back": (pub.crl(ROOT, ALICE, entry=[x509.CRLReason(FLAG.remove_from_crl)]), UNKNOWN),
    "of tomorrow": (pub.crl(ROOT, this=NOW + DAY), UNKNOWN),
    "revoked tomorrow, as is known today": (pub.crl(ROOT, ALICE, since=NOW + DAY), REVOKED),
    "senders only": (pub.crl(ROOT, extensions=_scope(only_contains_user_certs=True)), GOOD),
    "authorities only": (pub.crl(ROOT, extensions=_scope(only_contains_ca_certs=True)), UNKNOWN),
    "attributes only": (pub.crl(ROOT, extensions=_scope(only_contains_attribute_certs=True)), UNKNOWN),
    "indirect": (pub.crl(ROOT, extensions=_scope(indirect_crl=True)), UNKNOWN),
    "some reasons": (
        pub.crl(ROOT, extensions=_scope(only_some_reasons=frozenset({FLAG.key_compromise}))),
        UNKNOWN,
    ),
    "its place": (pub.crl(ROOT, extensions=_scope(full_name=_url(pub.CRL_URL))), GOOD),
    "another place": (pub.crl(ROOT, extensions=_scope(full_name=_url("http://x.example/"))), UNKNOWN),
    "changes only": (pub.crl(ROOT, extensions=[(x509.DeltaCRLIndicator(1), True)]), UNKNOWN),
    "critical and strange": (pub.crl(ROOT, extensions=[(STRANGE, True)]), UNKNOWN),
    "strange": (pub.crl(ROOT, extensions=[(STRANGE, False)]), GOOD),
    "truncated": (pub.crl(ROOT)[:-7], UNKNOWN),
    "nothing": (b"", UNKNOWN),
    "html": (b"<html>Not found</html>", UNKNOWN),
}


@pytest.mark.parametrize("case", LISTS)
def test_lists(case: str) -> None:
    data, expected = LISTS[case]
    assert _crl(data) is expected


def test_known_compromise_counts_from_its_date() -> None:
    invalid = x509.InvalidityDate((NOW - 5 * DAY).replace(tzinfo=None))
    listed = pub.crl(ROOT, ALICE, since=NOW - DAY, entry=[invalid])
    assert _crl(listed, at=NOW - 3 * DAY, now=NOW) is REVOKED
    assert _crl(pub.crl(ROOT, ALICE, since=NOW - DAY), at=NOW - 3 * DAY, now=NOW) is GOOD


def test_a_later_list_does_not_speak_of_what_had_expired_before() -> None:
    late = LINK.certificate.not_after + DAY
    assert _crl(pub.crl(ROOT, this=late - HOUR), at=late) is UNKNOWN


def test_an_authority_that_may_not_sign_lists() -> None:
    root = make.make(
        make.name(o="Example Bank", cn="Root"),
        None,
        x509.BasicConstraints(True, None),
        make.usage("key_cert_sign"),
        key=ROOT.key,
    )
    with pytest.raises(Unusable, match="may not sign"):
        check_crl(pub.crl(ROOT), parse_certificate(root.der))


def _usage(oid: x509.ObjectIdentifier) -> x509.ExtendedKeyUsage:
    return x509.ExtendedKeyUsage([oid])


ANY = _usage(ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE)
MAY = _usage(ExtendedKeyUsageOID.OCSP_SIGNING)

ANSWERS = {
    "good": (pub.answer(ROOT, ALICE), GOOD),
    "good without an end": (pub.answer(ROOT, ALICE, lasts=None, this=NOW - 30 * MINUTE), GOOD),
    "old without an end": (pub.answer(ROOT, ALICE, lasts=None, this=NOW - 2 * HOUR), UNKNOWN),
    "revoked": (pub.answer(ROOT, ALICE, revoked=True), REVOKED),
    "on hold": (pub.answer(ROOT, ALICE, revoked=True, reason=FLAG.certificate_hold), REVOKED),
    "out of date": (pub.answer(ROOT, ALICE, this=NOW - 2 * DAY), UNKNOWN),
    "out of date and revoked": (pub.answer(ROOT, ALICE, revoked=True, this=NOW - 2 * DAY), REVOKED),
    "of tomorrow": (pub.answer(ROOT, ALICE, this=NOW + DAY), UNKNOWN),
    "not known": (pub.answer(ROOT, ALICE, unknown=True), UNKNOWN),
    "about another": (pub.answer(ROOT, BOB), UNKNOWN),
    "another authority": (pub.answer(OTHER, ALICE), UNKNOWN),
    "another key that says it is the issuer": (pub.answer(OTHER, ALICE, named=ROOT), UNKNOWN),
    "the issuer about another issuer": (pub.answer(ROOT, ALICE, named=OTHER), UNKNOWN),
    "appointed": (pub.answer(ROOT, ALICE, by=pub.responder(ROOT)), GOOD),
    "appointed revokes": (pub.answer(ROOT, ALICE, revoked=True, by=pub.responder(ROOT)), REVOKED),
    "appointed by another key": (pub.answer(ROOT, ALICE, by=pub.responder(OTHER)), UNKNOWN),
    "a sender answers": (pub.answer(ROOT, ALICE, by=BOB), UNKNOWN),
    "for any purpose": (pub.answer(ROOT, ALICE, by=pub.responder(ROOT, ANY)), UNKNOWN),
    "appointment over": (pub.answer(ROOT, ALICE, by=pub.responder(ROOT, days=(-20, -10))), UNKNOWN),
    "appointed without signing": (
        pub.answer(ROOT, ALICE, by=pub.responder(ROOT, MAY, make.usage("key_encipherment"))),
        UNKNOWN,
    ),
    "appointed at the second hand": (
        pub.answer(ROOT, ALICE, by=pub.responder(make.make(make.name(cn="Sub"), ROOT, ca=True))),
        UNKNOWN,
    ),
    "truncated": (pub.answer(ROOT, ALICE)[:-9], UNKNOWN),
    "nothing": (b"", UNKNOWN),
    "try later": (bytes.fromhex("30030a0103"), UNKNOWN),
    "huge": (pub.answer(ROOT, ALICE) + bytes(70_000), UNKNOWN),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_answers(case: str) -> None:
    data, expected = ANSWERS[case]
    assert _ocsp(data) is expected


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_touched_document_is_never_good(data: st.DataObject) -> None:
    document, judge = data.draw(st.sampled_from([(LISTS["nobody"][0], _crl), (ANSWERS["good"][0], _ocsp)]))
    place = data.draw(st.integers(0, len(document) - 1))
    bit = data.draw(st.integers(0, 7))
    touched = bytearray(document)
    touched[place] ^= 1 << bit
    status = judge(bytes(touched))
    # The certificates beside a response are not signed; the AlgorithmIdentifier's NULL may differ.
    assert status is UNKNOWN or bytes(touched) == document
