"""Several paths from one sender, with something known against some of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from mailsigil.pki.anchors import AnchorSet, RevocationMode, TrustStore
from mailsigil.pki.evidence import RevocationStatus
from mailsigil.pki.fetch import Unreachable
from mailsigil.pki.library import Library
from mailsigil.pki.lookup import Lookup
from mailsigil.pki.path import MAX_OTHERS, PathStatus, PathValidator
from mailsigil.pki.revocation import Carried, RevocationChecker
from mailsigil.pki.standing import Standing, best_standing
from pki import pki_make as make
from pki import publisher as pub
from pki.pki_make import NOW, Made

OFF, PREFER, REQUIRE = RevocationMode.OFF, RevocationMode.PREFER, RevocationMode.REQUIRE
GOOD, REVOKED = RevocationStatus.GOOD, RevocationStatus.REVOKED
UNKNOWN, UNPUBLISHED = RevocationStatus.UNKNOWN, RevocationStatus.UNPUBLISHED

ROOTS = {name: make.make(make.name(o=f"Root {name}"), None, ca=True) for name in "AB"}
URLS = {name: f"http://{name.lower()}.example/root.crl" for name in "AB"}
KEY = ec.generate_private_key(ec.SECP256R1())
ISSUING = {
    name: make.make(make.name(o="Issuing"), root, pub.crl_at(URLS[name]), ca=True, key=KEY)
    for name, root in ROOTS.items()
}
ALICE = make.leaf(ISSUING["A"], pub.crl_at(pub.CRL_URL))
DEAD = Unreachable("no answer")


def _says(name: str, word: str) -> bytes | Exception:
    """The list of one root: its issuing certificate is good or revoked, or nobody knows."""
    if word == "dead":
        return DEAD
    return pub.crl(ROOTS[name], *([ISSUING[name]] if word == "revoked" else []))


def _validator(modes: dict[str, RevocationMode]) -> PathValidator:
    sets = (
        AnchorSet(name=name, certificates=(ROOTS[name].certificate,), revocation=mode)
        for name, mode in modes.items()
    )
    return PathValidator(TrustStore(tuple(sets)))


def _ask(
    modes: dict[str, RevocationMode],
    documents: dict[str, bytes | Exception],
    *,
    pool: Iterable[Made] = tuple(ISSUING.values()),
    network: pub.Network | None = None,
    patience: float = 5.0,
) -> Standing:
    network = network or pub.Network()
    network.documents.update(documents)
    library = Library()
    lookup = Lookup(
        fetch=network, library=library, now=lambda: NOW, prefetch=timedelta(hours=1), max_crl=100_000
    )
    checker = RevocationChecker(now=lambda: NOW, library=library, lookup=lookup, patience=patience)
    validator, others = _validator(modes), [made.der for made in pool]
    first = validator.validate(ALICE.der, others, at=NOW)
    assert first.status is PathStatus.TRUSTED
    paths = (first, *validator.others(ALICE.der, others, at=NOW, but=first))
    return best_standing(paths, checker, carried=Carried(), at=NOW)


TABLE = {
    # what the lists of A and B say of their issuing authority, whether Alice herself is revoked
    "A is good and enough": ((REQUIRE, REQUIRE), ("good", "dead"), False, GOOD, "A"),
    "an authority revoked on one path": ((REQUIRE, REQUIRE), ("revoked", "good"), False, GOOD, "B"),
    "revoked on the other path": ((REQUIRE, REQUIRE), ("good", "revoked"), False, GOOD, "A"),
    "revoked on both": ((REQUIRE, REQUIRE), ("revoked", "revoked"), False, REVOKED, "A"),
    "the sender is revoked": ((REQUIRE, REQUIRE), ("good", "good"), True, REVOKED, "A"),
    "the sender is revoked, the second asks nobody": ((REQUIRE, OFF), ("good", "good"), True, REVOKED, "A"),
    "sender revoked, first path silent": ((REQUIRE, REQUIRE), ("dead", "good"), True, REVOKED, "A"),
    "not known on one path": ((REQUIRE, REQUIRE), ("dead", "good"), False, GOOD, "B"),
    "revoked on one, not known on the other": ((REQUIRE, REQUIRE), ("revoked", "dead"), False, UNKNOWN, "B"),
    "revoked on one, preferred on the other": ((REQUIRE, PREFER), ("revoked", "dead"), False, UNKNOWN, "B"),
    "known is better than preferred": ((PREFER, REQUIRE), ("dead", "good"), False, GOOD, "B"),
    "preferred is better than required": ((REQUIRE, PREFER), ("dead", "dead"), False, UNKNOWN, "B"),
    "the second asks nobody": ((REQUIRE, OFF), ("dead", "dead"), False, GOOD, "B"),
}


@pytest.mark.parametrize("case", TABLE)
def test_which_path_counts(case: str) -> None:
    (mode_a, mode_b), words, revoked, expected, chosen = TABLE[case]
    documents = {URLS[name]: _says(name, word) for name, word in zip("AB", words, strict=True)}
    documents[pub.CRL_URL] = pub.crl(ISSUING["A"], *([ALICE] if revoked else []))
    standing = _ask({"A": mode_a, "B": mode_b}, documents)
    assert standing.revocation.status is expected
    assert standing.path.anchor_set is not None
    assert standing.path.anchor_set.name == chosen


def test_all_paths_together_wait_no_longer_than_one() -> None:
    gate = threading.Event()
    network = pub.Network()

    def hang() -> bytes:
        gate.wait(10)
        return b""

    network.documents = dict.fromkeys((*URLS.values(), pub.CRL_URL), hang)
    start = time.monotonic()
    standing = _ask({"A": REQUIRE, "B": REQUIRE}, {}, network=network, patience=1.0)
    gate.set()
    assert standing.revocation.status is UNKNOWN
    assert 0.95 < time.monotonic() - start < 1.9


def test_no_path_is_no_standing() -> None:
    with pytest.raises(ValueError, match="no path"):
        best_standing((), RevocationChecker(now=lambda: NOW), carried=Carried(), at=NOW)


def test_further_paths_are_bounded_and_none_comes_twice() -> None:
    roots = [make.make(make.name(o=f"Root {number}"), None, ca=True) for number in range(8)]
    pool = [make.make(make.name(o="Issuing"), root, ca=True, key=KEY) for root in roots]
    anchors = AnchorSet(name="x", certificates=tuple(root.certificate for root in roots))
    validator = PathValidator(TrustStore((anchors,)))
    ders = [made.der for made in pool]
    first = validator.validate(ALICE.der, ders, at=NOW)
    others = validator.others(ALICE.der, ders, at=NOW, but=first)
    assert len(others) == MAX_OTHERS
    assert len({path.chain for path in (first, *others)}) == MAX_OTHERS + 1
    assert all(path.status is PathStatus.TRUSTED for path in others)


def test_nothing_further_where_the_certificate_cannot_be_read() -> None:
    validator = _validator({"A": REQUIRE})
    first = validator.validate(ALICE.der, [ISSUING["A"].der], at=NOW)
    assert validator.others(b"", [], at=NOW, but=first) == ()
    assert validator.others(ALICE.der, [ISSUING["A"].der], at=NOW, but=first) == ()


def test_many_true_authorities_with_dear_keys_are_bounded() -> None:
    """The signature that does not hold is the last one of each path; all the others are checked, too."""
    key = ec.generate_private_key(ec.BrainpoolP512R1())
    top = make.root(key=key)
    pool = [make.make(make.name(o="Issuing"), top, ca=True, key=key, drop_aki=True) for _ in range(30)]
    forged = bytearray(make.leaf(pool[0], drop_aki=True).der)
    forged[-1] ^= 1
    validator = PathValidator(TrustStore((AnchorSet(name="x", certificates=(top.certificate,)),)))
    start = time.process_time()
    verdict = validator.validate(bytes(forged), [made.der for made in pool], at=NOW)
    assert verdict.status is PathStatus.LIMIT
    assert time.process_time() - start < 1
