"""Certificates made to cost time: the verdict is a limit, and it comes soon."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from cryptography import x509

from mailsigil.pki.anchors import AnchorSet, TrustStore
from mailsigil.pki.path import PathStatus, PathValidator, PathVerdict
from mailsigil.pki.policies import Level
from pki.pki_make import MAIL, NOW, Made, mailbox, make, name, usage

SECONDS = 1.0
"""Of CPU, for the hardest case on a slow machine; each took a fifth of that at most."""

ROOT = make(name(cn="Root"), ca=True)
FORGED_ROOT = make(name(cn="Root"), ca=True)
FORGED_KEY = make(name(cn="Nobody")).key


def names(count: int) -> x509.SubjectAlternativeName:
    return mailbox(*(f"a{number}@d{number}.example" for number in range(count)))


def constraints(count: int) -> x509.NameConstraints:
    bases = [x509.RFC822Name(f"x{number}.example") for number in range(count)]
    return x509.NameConstraints(permitted_subtrees=None, excluded_subtrees=bases)


def person(issuer: Made, count: int) -> Made:
    return make(name(cn="L"), issuer, names(count), MAIL, usage("digital_signature"), drop_aki=True)


def constrained(count: int, addresses: int) -> tuple[Made, list[Made]]:
    """One authority that the anchor knows, with constraints, and a sender with addresses."""
    authority = make(name(cn="CA"), ROOT, constraints(count), ca=True)
    return person(authority, addresses), [authority]


def forged(count: int, addresses: int) -> tuple[Made, list[Made]]:
    """Sixteen authorities of one name that no anchor knows, and a sender with addresses."""
    more: dict[str, Any] = {"ca": True, "key": FORGED_KEY, "drop_aki": True}
    authorities = [
        make(name(cn="CA"), FORGED_ROOT, constraints(count), days=(-10, 400 + number), **more)
        for number in range(16)
    ]
    return person(authorities[0], addresses), authorities


def judged(leaf: Made, intermediates: Sequence[Made]) -> PathVerdict:
    trust = TrustStore((AnchorSet(name="x", certificates=(ROOT.certificate,), level=Level.V1),))
    return PathValidator(trust).validate(leaf.der, [one.der for one in intermediates], at=NOW)


CASES: dict[str, Callable[[], tuple[Made, list[Made]]]] = {
    "names and constraints multiply": lambda: constrained(200, 200),
    "one name and constraints without end": lambda: constrained(2900, 10),
    "names without end": lambda: constrained(10, 2500),
    "each of many forged paths has many names": lambda: forged(1, 2500),
    "each of many forged paths has many constraints": lambda: forged(300, 5),
    "a quarter of a megabyte of certificates": lambda: forged(1300, 1),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_work_is_bounded(case: Callable[[], tuple[Made, list[Made]]]) -> None:
    leaf, intermediates = case()
    begun = time.process_time()
    verdict = judged(leaf, intermediates)
    assert time.process_time() - begun < SECONDS
    assert verdict.status is PathStatus.LIMIT
    assert verdict.reason


def test_an_authority_of_a_large_enterprise_is_within_the_bounds() -> None:
    assert judged(*constrained(500, 3)).status is PathStatus.TRUSTED


def test_forged_paths_beside_the_good_one_do_no_harm_while_they_are_few() -> None:
    leaf, authorities = constrained(20, 2)
    _, others = forged(20, 2)
    assert judged(leaf, [*others[:3], *authorities]).status is PathStatus.TRUSTED
