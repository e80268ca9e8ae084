"""Workers share a folder: what one asks, the others find; whom one found dead, the others leave alone."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from mailsigil.pki.document_store import DocumentStore
from mailsigil.pki.evidence import RevocationStatus
from mailsigil.pki.fetch import Request, Unreachable
from mailsigil.pki.library import Library
from mailsigil.pki.lookup import Lookup
from mailsigil.pki.revocation import RevocationChecker
from pki import pki_make as make
from pki import publisher as pub
from pki.pki_make import NOW

GOOD, UNKNOWN = RevocationStatus.GOOD, RevocationStatus.UNKNOWN
ROOT = make.root()
ALICE = make.leaf(ROOT, pub.crl_at(pub.CRL_URL))
CHAIN = (ALICE.der, ROOT.der)
LIST = pub.crl(ROOT)


class Slow:
    """A server that takes a while, and notes each request in a file that processes share."""

    def __init__(self, log: Path, *, seconds: float = 0.3, dead: bool = False) -> None:
        self.log, self.seconds, self.dead = log, seconds, dead

    def __call__(self, request: Request) -> bytes:
        with self.log.open("a") as file:
            file.write(f"{os.getpid()} {request.url}\n")
        time.sleep(self.seconds)
        if self.dead:
            raise Unreachable("no answer")
        return LIST

    @property
    def asked(self) -> int:
        return len(self.log.read_text().splitlines()) if self.log.exists() else 0


def _worker(folder: Path, server: Slow, *, after: timedelta = timedelta(0)) -> RevocationChecker:
    def now() -> datetime:
        return NOW + after

    library = Library(DocumentStore(folder, 1_000_000))
    lookup = Lookup(fetch=server, library=library, now=now, prefetch=timedelta(hours=1), max_crl=1_000_000)
    return RevocationChecker(now=now, library=library, lookup=lookup, patience=20)


def _ask(folder: Path, server: Slow, results: multiprocessing.SimpleQueue[str]) -> None:
    results.put(_worker(folder, server).status(CHAIN, at=NOW).status.value)


@pytest.mark.parametrize(("dead", "expected"), [(False, GOOD), (True, UNKNOWN)], ids=["answers", "dead"])
def test_eight_processes_ask_once(tmp_path: Path, dead: bool, expected: RevocationStatus) -> None:
    server = Slow(tmp_path / "asked", dead=dead)
    context = multiprocessing.get_context("fork")
    results: multiprocessing.SimpleQueue[str] = context.SimpleQueue()
    workers = [context.Process(target=_ask, args=(tmp_path / "folder", server, results)) for _ in range(8)]
    for worker in workers:
        worker.start()
    assert [results.get() for _ in workers] == [expected.value] * 8
    for worker in workers:
        worker.join()
    assert server.asked == 1


def test_a_second_worker_finds_what_the_first_one_fetched(tmp_path: Path) -> None:
    server = Slow(tmp_path / "asked", seconds=0)
    for _ in range(3):
        assert _worker(tmp_path / "folder", server).status(CHAIN, at=NOW).status is GOOD
    assert server.asked == 1


def test_trouble_of_one_worker_spares_the_others_and_passes(tmp_path: Path) -> None:
    server = Slow(tmp_path / "asked", seconds=0, dead=True)
    folder = tmp_path / "folder"
    assert _worker(folder, server).status(CHAIN, at=NOW).status is UNKNOWN
    found = _worker(folder, server).status(CHAIN, at=NOW)
    assert (found.status, server.asked) == (UNKNOWN, 1)
    assert "did not answer another worker" in found.reason
    server.dead = False
    later = timedelta(seconds=31)
    assert _worker(folder, server, after=later).status(CHAIN, at=NOW + later).status is GOOD
    assert not list(folder.glob("*.trouble"))


def test_nobody_waits_for_ever_for_another_worker(tmp_path: Path) -> None:
    store, gate, done = DocumentStore(tmp_path, 1_000_000), threading.Event(), threading.Event()

    def hold() -> None:
        with store.alone(b"x", patience=5):
            gate.set()
            done.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    gate.wait(10)
    start = time.monotonic()
    with store.alone(b"x", patience=0.2):
        waited = time.monotonic() - start
    done.set()
    holder.join()
    assert 0.15 < waited < 5
    with store.alone(b"x", patience=5):  # and it is free again
        pass


def test_without_a_folder_nothing_is_shared_and_nothing_fails(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = DocumentStore(tmp_path / "file" / "folder", 1_000_000)
    with store.alone(b"x", patience=1):
        store.trouble("http://x", at=NOW)
        assert store.trouble_age("http://x", at=NOW) is None
        store.well("http://x")
