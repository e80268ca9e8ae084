"""Revocation of a path: which evidence counts, who waits, what is kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from mailsigil.pki.document_store import DocumentStore
from mailsigil.pki.evidence import RevocationStatus
from mailsigil.pki.fetch import FetchError, Unreachable
from mailsigil.pki.library import Library, LocalLists
from mailsigil.pki.lookup import Lookup
from mailsigil.pki.revocation import Carried, RevocationChecker, RevocationVerdict
from pki import pki_make as make
from pki import publisher as pub
from pki.pki_make import NOW, Made

GOOD, REVOKED, UNKNOWN = RevocationStatus.GOOD, RevocationStatus.REVOKED, RevocationStatus.UNKNOWN
UNPUBLISHED = RevocationStatus.UNPUBLISHED
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
ROOT_CRL = "http://crl.bank.example/root.crl"

ROOT = make.root()
SUB = make.make(make.name(o="Example Bank", cn="Issuing"), ROOT, pub.crl_at(ROOT_CRL), ca=True)
ALICE = make.leaf(SUB, pub.crl_at(pub.CRL_URL), pub.ocsp_at(pub.OCSP_URL))
BOB = make.leaf(SUB, pub.crl_at(pub.CRL_URL))
PLAIN = make.leaf(SUB)
CHAIN = (ALICE.der, SUB.der, ROOT.der)


class Clock:
    """Wall clock and running seconds, moved by hand."""

    def __init__(self) -> None:
        self.now = NOW
        self.seconds = 0.0

    def tick(self, by: timedelta) -> None:
        self.now += by
        self.seconds += by.total_seconds()


class House:
    """A checker with everything around it."""

    def __init__(
        self, *, store: DocumentStore | None = None, patience: float = 5.0, files: tuple[Path, ...] = ()
    ):
        self.clock = Clock()
        self.network = pub.Network()
        self.network.documents = {
            ROOT_CRL: pub.crl(ROOT),
            pub.CRL_URL: pub.crl(SUB),
            pub.OCSP_URL: pub.answer(SUB, ALICE),
        }
        library = Library(store)
        self.lookup = Lookup(
            fetch=self.network,
            library=library,
            now=lambda: self.clock.now,
            prefetch=HOUR,
            max_crl=1_000_000,
            clock=lambda: self.clock.seconds,
        )
        self.checker = RevocationChecker(
            now=lambda: self.clock.now,
            library=library,
            local=LocalLists(files),
            lookup=self.lookup,
            patience=patience,
        )

    def ask(
        self, *chain: Made, carried: Carried | None = None, at: datetime | None = None
    ) -> RevocationVerdict:
        ders = tuple(made.der for made in chain) or CHAIN
        return self.checker.status(ders, carried=carried or Carried(), at=at or self.clock.now)


def test_all_are_asked_once_and_then_known() -> None:
    house = House()
    assert house.ask().status is GOOD
    assert sorted(house.network.asked) == [ROOT_CRL, pub.OCSP_URL]
    house.clock.tick(2 * MINUTE)
    assert house.ask().status is GOOD
    assert len(house.network.asked) == 2


@pytest.mark.parametrize(
    ("url", "document", "expected", "reason"),
    [
        (pub.OCSP_URL, pub.answer(SUB, ALICE, revoked=True), REVOKED, "CN=Alice Example was revoked on 2026"),
        (ROOT_CRL, pub.crl(ROOT, SUB), REVOKED, "CN=Issuing"),
        (ROOT_CRL, Unreachable("no answer"), UNKNOWN, "no answer"),
        (ROOT_CRL, FetchError("answered 404"), UNKNOWN, "404"),
        (ROOT_CRL, pub.crl(SUB), UNKNOWN, "another authority's"),
        (ROOT_CRL, pub.crl(ROOT, this=NOW - 30 * DAY), UNKNOWN, "out of date"),
        (ROOT_CRL, pub.crl(ROOT)[:-3], UNKNOWN, "cannot be read"),
        (pub.OCSP_URL, Unreachable("no answer"), GOOD, ""),  # the list answers instead
        (pub.OCSP_URL, pub.answer(SUB, BOB), GOOD, ""),
    ],
    ids=[
        *("sender revoked", "authority revoked", "dead", "absent", "another list", "stale", "truncated"),
        *("dead beside a list", "another answer beside a list"),
    ],
)
def test_what_servers_say(
    url: str, document: bytes | Exception, expected: RevocationStatus, reason: str
) -> None:
    house = House()
    house.network.documents[url] = document
    found = house.ask()
    assert found.status is expected
    assert reason in found.reason


def test_a_certificate_without_a_place_is_told_apart() -> None:
    found = House().ask(PLAIN, SUB, ROOT)
    assert found.status is UNPUBLISHED
    assert "names no place" in found.reason


def test_nothing_is_good_about_an_empty_path() -> None:
    assert House().checker.status((), at=NOW).status is UNPUBLISHED
    assert House().checker.status((ALICE.der,), at=NOW).status is UNPUBLISHED


def test_nobody_is_asked_without_a_lookup() -> None:
    checker = RevocationChecker(now=lambda: NOW)
    assert checker.status(CHAIN, at=NOW).status is UNPUBLISHED
    carried = Carried((pub.crl(ROOT), pub.crl(SUB)))
    assert checker.status(CHAIN, carried=carried, at=NOW).status is GOOD


def test_fresh_evidence_in_the_message_spares_the_question() -> None:
    house = House()
    carried = Carried((pub.crl(ROOT),), (pub.answer(SUB, ALICE),))
    assert house.ask(carried=carried).status is GOOD
    assert house.network.asked == []


def test_old_evidence_in_the_message_counts_only_where_nothing_newer_is_had() -> None:
    house = House()
    old = Carried((pub.crl(ROOT), pub.crl(SUB, this=NOW - 3 * DAY)))
    house.network.documents[pub.OCSP_URL] = pub.answer(SUB, ALICE, revoked=True)
    assert house.ask(carried=old).status is REVOKED
    house = House()
    house.network.documents = {}
    assert house.ask(carried=old).status is GOOD


def test_a_revocation_in_the_message_counts_against_everything() -> None:
    house = House()
    assert house.ask().status is GOOD
    carried = Carried((), (pub.answer(SUB, ALICE, revoked=True),))
    assert house.ask(carried=carried).status is REVOKED


def test_what_a_message_carries_counts_for_that_message_alone() -> None:
    house = House()
    house.network.documents = {}
    assert house.ask(carried=Carried((pub.crl(ROOT), pub.crl(SUB)))).status is GOOD
    assert house.ask().status is UNKNOWN


def test_lists_in_files_are_read_again_when_they_change(tmp_path: Path) -> None:
    mine = tmp_path / "issuing.crl"
    mine.write_bytes(pub.crl(SUB))
    house = House(files=(mine, tmp_path / "absent.crl"))
    assert house.ask(PLAIN, SUB, ROOT).status is GOOD
    mine.write_bytes(pub.crl(SUB, PLAIN))
    house.clock.tick(2 * MINUTE)
    assert house.ask(PLAIN, SUB, ROOT).status is REVOKED


def test_a_revocation_is_not_undone_by_silence() -> None:
    house = House()
    house.network.documents[pub.OCSP_URL] = pub.answer(SUB, ALICE, revoked=True)
    assert house.ask().status is REVOKED
    house.network.documents = {}
    house.clock.tick(30 * DAY)
    assert house.ask().status is REVOKED


def test_an_old_answer_played_again_does_not_undo_a_newer_one() -> None:
    house = House()
    house.network.documents[pub.OCSP_URL] = pub.answer(SUB, ALICE, revoked=True)
    assert house.ask().status is REVOKED
    house.network.documents[pub.OCSP_URL] = pub.answer(SUB, ALICE, this=NOW - 2 * HOUR)
    house.clock.tick(20 * HOUR)
    house.lookup.refresh_due()
    assert house.ask().status is REVOKED


def test_a_later_revocation_does_not_rewrite_history() -> None:
    house = House()
    listed = pub.crl(SUB, ALICE, since=NOW - HOUR)
    house.network.documents |= {pub.OCSP_URL: FetchError("gone"), pub.CRL_URL: listed}
    assert house.ask(at=NOW - DAY).status is GOOD
    assert house.ask(at=NOW).status is REVOKED


def _hang(gate: threading.Event) -> Callable[[], bytes]:
    def wait() -> bytes:
        gate.wait(10)
        return pub.crl(ROOT)

    return wait


def test_a_hanging_server_costs_one_mail_its_patience_and_the_next_nothing() -> None:
    gate = threading.Event()
    house = House(patience=0.3)
    house.network.documents[ROOT_CRL] = _hang(gate)
    start = time.monotonic()
    assert house.ask().status is UNKNOWN
    first = time.monotonic() - start
    start = time.monotonic()
    assert house.ask().status is UNKNOWN
    assert house.ask(BOB, SUB, ROOT).status is UNKNOWN
    assert 0.25 < first < 1.0
    assert time.monotonic() - start < 0.1
    gate.set()  # what the mail did not wait for is there for the next
    _until(lambda: house.ask().status is GOOD)
    assert house.ask(BOB, SUB, ROOT).status is GOOD


def test_a_dead_server_is_asked_again_after_growing_pauses_with_no_mail_waiting() -> None:
    house = House()
    house.network.documents[ROOT_CRL] = Unreachable("no answer")
    for _ in range(5):
        assert house.ask().status is UNKNOWN
    assert house.network.asked.count(ROOT_CRL) == 1
    house.clock.tick(31 * timedelta(seconds=1))
    house.lookup.refresh_due()
    assert house.network.asked.count(ROOT_CRL) == 2
    house.clock.tick(31 * timedelta(seconds=1))
    house.lookup.refresh_due()
    assert house.network.asked.count(ROOT_CRL) == 2
    house.network.documents[ROOT_CRL] = pub.crl(ROOT)
    house.clock.tick(MINUTE)
    house.lookup.refresh_due()
    assert house.ask().status is GOOD


def test_answers_are_fetched_anew_before_they_run_out() -> None:
    house = House()
    assert house.ask().status is GOOD
    house.clock.tick(22 * HOUR + 30 * MINUTE)  # the response ends after 23 hours
    fresh = house.clock.now - MINUTE
    house.network.documents[pub.OCSP_URL] = pub.answer(SUB, ALICE, this=fresh)
    house.network.asked.clear()
    house.lookup.refresh_due()
    assert pub.OCSP_URL in house.network.asked
    house.network.documents = {}
    house.clock.tick(2 * HOUR)
    assert house.ask().status is GOOD


def test_what_was_fetched_survives_a_restart(tmp_path: Path) -> None:
    store = DocumentStore(tmp_path / "cache", 1_000_000)
    assert House(store=store).ask().status is GOOD
    again = House(store=store)
    again.network.documents = {}
    assert again.ask().status is GOOD
    assert again.network.asked == []


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[:-5],
        lambda data: data[:40],
        lambda data: b"",
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),
        lambda data: b"x" * len(data),
    ],
    ids=["truncated", "cut in its head", "empty", "changed", "something else"],
)
def test_spoilt_files_are_no_files(tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
    store = DocumentStore(tmp_path, 1_000_000)
    assert House(store=store).ask().status is GOOD
    for file in tmp_path.glob("*.revocation"):
        file.write_bytes(spoil(file.read_bytes()))
    again = House(store=store)
    assert again.ask().status is GOOD
    assert len(again.network.asked) == 2


def test_a_forged_file_with_a_true_digest_proves_nothing(tmp_path: Path) -> None:
    store = DocumentStore(tmp_path, 1_000_000)
    forger = make.root()
    store.write(ROOT_CRL.encode() + b"\0", pub.crl(forger))
    house = House(store=store)
    house.network.documents = {pub.OCSP_URL: pub.answer(SUB, ALICE)}
    assert house.ask().status is UNKNOWN


def test_the_folder_keeps_to_its_bound(tmp_path: Path) -> None:
    store = DocumentStore(tmp_path, 10_000)
    for number in range(30):
        store.write(b"%d" % number, bytes(1000))
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 10_000
    assert store.read(b"29") == bytes(1000)
    assert store.read(b"0") is None
    store.write(b"too large", bytes(20_000))
    assert store.read(b"too large") is None


def test_a_folder_that_cannot_be_used_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = DocumentStore(tmp_path / "file" / "folder", 1_000_000)
    assert House(store=store).ask().status is GOOD


def test_one_list_serves_all_its_certificates(tmp_path: Path) -> None:
    house = House(store=DocumentStore(tmp_path, 1_000_000))
    people = [make.leaf(SUB, pub.crl_at(pub.CRL_URL)) for _ in range(20)]
    for person in people:
        assert house.ask(person, SUB, ROOT).status is GOOD
    assert house.network.asked.count(pub.CRL_URL) == 1


def test_addresses_that_no_fetch_takes_are_not_asked() -> None:
    odd = make.leaf(SUB, pub.crl_at("ldap://x/", "file:///etc/passwd", "http://u@x/", "gopher://x/"))
    assert House().ask(odd, SUB, ROOT).status is UNPUBLISHED


def test_an_indirect_list_is_not_asked() -> None:
    point = x509.DistributionPoint(
        [x509.UniformResourceIdentifier(pub.CRL_URL)],
        None,
        None,
        [x509.DirectoryName(make.name(cn="Another"))],
    )
    odd = make.leaf(SUB, x509.CRLDistributionPoints([point]))
    house = House()
    assert house.ask(odd, SUB, ROOT).status is UNPUBLISHED
    assert house.ask(odd, SUB, ROOT, carried=Carried((pub.crl(SUB), pub.crl(ROOT)))).status is UNPUBLISHED


def test_a_warm_answer_costs_microseconds() -> None:
    house = House()
    house.ask()
    rounds = 2000
    start = time.perf_counter()
    for _ in range(rounds):
        house.checker.status(CHAIN, at=NOW)
    assert (time.perf_counter() - start) / rounds < 50e-6


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
