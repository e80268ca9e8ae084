"""Was the OCSP responder itself revoked? (RFC 6960 4.2.2.2.1)"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from mailsigil.pki.document_store import DocumentStore
from mailsigil.pki.evidence import RevocationStatus
from mailsigil.pki.fetch import Unreachable
from mailsigil.pki.library import Library, LocalLists
from mailsigil.pki.lookup import Lookup
from mailsigil.pki.revocation import Carried, RevocationChecker, RevocationVerdict
from pki import pki_make as make
from pki import publisher as pub
from pki.pki_make import NOW, Made

GOOD, REVOKED, UNKNOWN = RevocationStatus.GOOD, RevocationStatus.REVOKED, RevocationStatus.UNKNOWN
RESPONDERS_CRL = "http://crl.bank.example/responders.crl"
RESPONDERS_OCSP = "http://ocsp.bank.example/responders"
SIGNS_OCSP = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING])

ROOT = make.root()
ALICE = make.leaf(ROOT, pub.ocsp_at(pub.OCSP_URL))
BOTH = make.leaf(ROOT, pub.ocsp_at(pub.OCSP_URL), pub.crl_at(pub.CRL_URL))
FOR_LIFE = pub.responder(ROOT, SIGNS_OCSP, x509.OCSPNoCheck())
LISTED = pub.responder(ROOT, SIGNS_OCSP, pub.crl_at(RESPONDERS_CRL))
ASKED = pub.responder(ROOT, SIGNS_OCSP, pub.ocsp_at(RESPONDERS_OCSP))
SILENT = pub.responder(ROOT)
Documents = dict[str, bytes | Exception]


class House:
    """A checker in a world of documents."""

    def __init__(
        self, documents: Documents, *, store: DocumentStore | None = None, files: tuple[Path, ...] = ()
    ) -> None:
        self.network = pub.Network()
        self.network.documents.update(documents)
        self.now = NOW
        library, local = Library(store), LocalLists(files)
        self.lookup = Lookup(
            fetch=self.network,
            library=library,
            now=lambda: self.now,
            prefetch=timedelta(hours=1),
            max_crl=1_000_000,
            clock=lambda: self.now.timestamp(),
            local=local,
        )
        self.checker = RevocationChecker(
            now=lambda: self.now, library=library, local=local, lookup=self.lookup, patience=5
        )

    def ask(self, leaf: Made = ALICE, carried: Carried | None = None) -> RevocationVerdict:
        return self.checker.status((leaf.der, ROOT.der), carried=carried or Carried(), at=self.now)


def _by(responder: Made, about: Made = ALICE, *, revoked: bool = False) -> bytes:
    return pub.answer(ROOT, about, by=responder, revoked=revoked)


DEAD = Unreachable("no answer")
TABLE: dict[str, tuple[Made, Documents, RevocationStatus]] = {
    "trusted for life": (ALICE, {pub.OCSP_URL: _by(FOR_LIFE)}, GOOD),
    "trusted for life, says revoked": (ALICE, {pub.OCSP_URL: _by(FOR_LIFE, revoked=True)}, REVOKED),
    "on no list": (ALICE, {pub.OCSP_URL: _by(LISTED), RESPONDERS_CRL: pub.crl(ROOT)}, GOOD),
    "on its list": (ALICE, {pub.OCSP_URL: _by(LISTED), RESPONDERS_CRL: pub.crl(ROOT, LISTED)}, UNKNOWN),
    "on its list, says revoked": (
        ALICE,
        {pub.OCSP_URL: _by(LISTED, revoked=True), RESPONDERS_CRL: pub.crl(ROOT, LISTED)},
        UNKNOWN,
    ),
    "its list is not to be had": (ALICE, {pub.OCSP_URL: _by(LISTED), RESPONDERS_CRL: DEAD}, UNKNOWN),
    "its list is stale": (
        ALICE,
        {pub.OCSP_URL: _by(LISTED), RESPONDERS_CRL: pub.crl(ROOT, this=NOW - timedelta(days=30))},
        UNKNOWN,
    ),
    "its list is not to be had, says revoked": (
        ALICE,
        {pub.OCSP_URL: _by(LISTED, revoked=True), RESPONDERS_CRL: DEAD},
        REVOKED,
    ),
    "vouched for by the authority": (
        ALICE,
        {pub.OCSP_URL: _by(ASKED), RESPONDERS_OCSP: pub.answer(ROOT, ASKED)},
        GOOD,
    ),
    "vouched for by one that is trusted for life": (
        ALICE,
        {pub.OCSP_URL: _by(ASKED), RESPONDERS_OCSP: _by(FOR_LIFE, ASKED)},
        GOOD,
    ),
    "revoked by the authority's answer": (
        ALICE,
        {pub.OCSP_URL: _by(ASKED), RESPONDERS_OCSP: pub.answer(ROOT, ASKED, revoked=True)},
        UNKNOWN,
    ),
    "vouches for itself": (
        ALICE,
        {pub.OCSP_URL: _by(ASKED), RESPONDERS_OCSP: _by(ASKED, ASKED)},
        UNKNOWN,
    ),
    "vouched for by another such": (
        ALICE,
        {pub.OCSP_URL: _by(ASKED), RESPONDERS_OCSP: _by(SILENT, ASKED)},
        UNKNOWN,
    ),
    "nothing is published about it": (ALICE, {pub.OCSP_URL: _by(SILENT)}, GOOD),
    "revoked, and the sender's own list steps in": (
        BOTH,
        {
            pub.OCSP_URL: _by(LISTED, BOTH),
            RESPONDERS_CRL: pub.crl(ROOT, LISTED),
            pub.CRL_URL: pub.crl(ROOT),
        },
        GOOD,
    ),
    "revoked, and the sender's own list revokes": (
        BOTH,
        {
            pub.OCSP_URL: _by(LISTED, BOTH),
            RESPONDERS_CRL: pub.crl(ROOT, LISTED),
            pub.CRL_URL: pub.crl(ROOT, BOTH),
        },
        REVOKED,
    ),
}


@pytest.mark.parametrize("case", TABLE)
def test_what_a_responders_answer_is_worth(case: str) -> None:
    leaf, documents, expected = TABLE[case]
    assert House(documents).ask(leaf).status is expected


def test_the_reason_names_the_responder() -> None:
    _, documents, _ = TABLE["on its list"]
    assert "responder that answers was itself revoked" in House(documents).ask().reason
    _, documents, _ = TABLE["its list is not to be had"]
    assert "not known whether the OCSP responder" in House(documents).ask().reason


# Lists that ran out: they say nothing good about anybody any more, and what was revoked stays revoked.
OLD = {"this": NOW - timedelta(days=10), "lasts": timedelta(days=1)}


@pytest.mark.parametrize(("listed", "expected"), [((), GOOD), ((SILENT,), UNKNOWN)], ids=["empty", "revoked"])
@pytest.mark.parametrize("where", ["file", "folder"])
def test_lists_at_hand_speak_against_a_silent_responder(
    tmp_path: Path, where: str, listed: tuple[Made, ...], expected: RevocationStatus
) -> None:
    documents: Documents = {pub.OCSP_URL: _by(SILENT, BOTH), pub.CRL_URL: DEAD}
    data = pub.crl(ROOT, *listed, **OLD)
    if where == "file":
        (tmp_path / "mine.crl").write_bytes(data)
        house = House(documents, files=(tmp_path / "mine.crl",))
    else:
        store = DocumentStore(tmp_path, 1_000_000)
        store.write(pub.CRL_URL.encode() + b"\0", data)
        house = House(documents, store=store)
    assert house.ask(BOTH).status is expected


def test_an_answer_that_is_kept_does_not_survive_its_responder(tmp_path: Path) -> None:
    store = DocumentStore(tmp_path, 1_000_000)
    before = {pub.OCSP_URL: _by(LISTED), RESPONDERS_CRL: pub.crl(ROOT)}
    assert House(before, store=store).ask().status is GOOD
    after = {pub.OCSP_URL: DEAD, RESPONDERS_CRL: pub.crl(ROOT, LISTED, this=NOW)}
    (tmp_path / store._path(RESPONDERS_CRL.encode() + b"\0").name).unlink()
    house = House(after, store=store)
    assert house.ask().status is UNKNOWN
    # The authority appointed another one: its answer is fetched although the old one is kept.
    house = House(after | {pub.OCSP_URL: _by(FOR_LIFE)}, store=store)
    house.now = NOW + timedelta(minutes=1)  # the trouble of a moment ago is over
    assert house.ask().status is GOOD


@pytest.mark.parametrize(
    ("documents", "crls", "expected"),
    [
        ({}, (), UNKNOWN),
        ({}, (pub.crl(ROOT, lasts=timedelta(days=2)),), GOOD),
        ({RESPONDERS_CRL: pub.crl(ROOT)}, (), GOOD),
        ({RESPONDERS_CRL: pub.crl(ROOT, LISTED)}, (), UNKNOWN),
    ],
    ids=["nothing known", "a list beside it", "a list out there", "revoked out there"],
)
def test_an_answer_in_the_message(
    documents: Documents, crls: tuple[bytes, ...], expected: RevocationStatus
) -> None:
    house = House(documents)
    plain = make.leaf(ROOT)
    # The list beside it is about the responder: the sender is on it no more than on any other.
    assert house.ask(plain, Carried(crls, (_by(LISTED, plain),))).status is expected


def test_an_answer_in_the_message_without_any_fetching() -> None:
    checker = RevocationChecker(now=lambda: NOW)
    for responder, expected in ((LISTED, UNKNOWN), (SILENT, GOOD), (FOR_LIFE, GOOD)):
        found = checker.status((ALICE.der, ROOT.der), carried=Carried((), (_by(responder),)), at=NOW)
        assert found.status is expected
