"""The published suite of ARC chains (arc_test_suite), and what it has no case for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mailsigil.dkim.arc import ArcResult, verify_arc
from mailsigil.dkim.resolver import DnsTrouble, TxtLookup
from mailsigil.dkim.words import DkimWord
from mailsigil.message.fields import parse_fields
from mailsigil.message.spool import Spool

AT = datetime(2026, 11, 22, tzinfo=UTC)

SKIPPED = {
    "ams_fields_c_na": "without c= the canonical form is simple/simple (RFC 6376 3.5); the suite: relaxed",
    "ams_fields_h_empty": "h= must name From (RFC 6376 5.4), or anybody may be put there as the author",
    "cv_fail_i1_as_cv_fail": "the suite gives no expected word; we say fail (RFC 8617 5.2 step 2)",
    "cv_fail_i2_as2_fail": "the suite gives no expected word; we say fail (RFC 8617 5.2 step 2)",
    "cv_fail_i2_as1_fail": "the suite gives no expected word; we say fail (RFC 8617 5.2 step 3)",
}
"""Cases that we judge in another way, each with its reason."""


def read_suite(path: Path) -> Iterator[tuple[str, str, bytes, dict[bytes, bytes]]]:
    """Name, expected word, message and key records of each case: as much YAML as the file uses."""
    for document in re.split(r"^---\s*$", path.read_text(), flags=re.MULTILINE):
        tests, _, records = document.partition("\ntxt-records:")
        keys = {
            name.strip().encode() + b".": "".join(text.split("\n    ")).strip().encode()
            for name, text in re.findall(
                r"^  (\S+): >-\n((?:    .*\n?)+)", records + "\n", flags=re.MULTILINE
            )
        }
        for case in re.split(r"^  (?=\w+:\s*$)", tests, flags=re.MULTILINE)[1:]:
            name = case.split(":", 1)[0]
            message = re.search(r"^    message: +\|\n(.*?)^    cv:", case, flags=re.MULTILINE | re.DOTALL)
            expected = re.search(r"^    cv:\s*\|?\s*(\w+)", case, flags=re.MULTILINE)
            assert message is not None, name
            text = "".join(line[6:].rstrip("\n") + "\r\n" for line in message[1].splitlines())
            yield name, expected[1].lower() if expected else "", text.rstrip("\r\n").encode() + b"\r\n", keys


def judge(message: bytes, txt: TxtLookup, **more: int) -> ArcResult:
    fields, offset = parse_fields(message)
    with Spool() as body:
        body.write(message[offset:])
        return verify_arc(fields, body, **{"txt": txt, "max_bytes": 1_000_000, "at": AT} | more)  # type: ignore[arg-type]


def test_the_published_suite(corpus: Callable[[str], Path]) -> None:
    cases = list(read_suite(corpus("arc_test_suite") / "arc_test_suite" / "arc-draft-validation-tests.yml"))
    assert len(cases) >= 171
    wrong = {
        name: (result.word.value, expected)
        for name, expected, message, keys in cases
        if (result := judge(message, keys.get)).word.value != expected
    }
    # Each skipped case has to differ: a reason that no longer holds must go.
    assert set(wrong) == set(SKIPPED)
    assert all(word == "fail" for word, _ in wrong.values()), "a difference is never towards acceptance"


@pytest.fixture(scope="module")
def chain(corpus: Callable[[str], Path]) -> tuple[bytes, dict[bytes, bytes]]:
    """A message with a chain of five sets that holds, and its keys."""
    path = corpus("arc_test_suite") / "arc_test_suite" / "arc-draft-validation-tests.yml"
    return next((message, keys) for name, _, message, keys in read_suite(path) if name == "cv_pass_i5_1")


Chain = tuple[bytes, dict[bytes, bytes]]


def test_a_chain_tells_its_length_and_who_sealed_last(chain: Chain) -> None:
    result = judge(chain[0], chain[1].get)
    assert (result.word, result.sets, result.domain) == (DkimWord.PASS, 5, "example.org")


def test_no_chain() -> None:
    assert judge(b"From: a@b.example\r\n\r\nhello\r\n", lambda name: None) == ArcResult(DkimWord.NONE)


def test_dns_trouble_is_temporary_and_asked_for_twice_at_most(chain: Chain) -> None:
    asked = []

    def txt(name: bytes) -> bytes | None:
        asked.append(name)
        raise DnsTrouble("no answer")

    assert judge(chain[0], txt).word is DkimWord.TEMPERROR
    assert len(asked) <= 2


@pytest.mark.parametrize(
    ("bounds", "reason"),
    [
        pytest.param({"max_sets": 4}, "the chain is too long", id="sets"),
        pytest.param({"max_bytes": 10}, "message too large", id="octets"),
    ],
)
def test_past_a_bound_nothing_is_said(chain: Chain, bounds: dict[str, int], reason: str) -> None:
    result = judge(chain[0], chain[1].get, **bounds)
    assert (result.word, result.reason) == (DkimWord.NEUTRAL, reason)


def test_hundreds_of_fields_cost_no_look_up(chain: Chain) -> None:
    def txt(name: bytes) -> bytes | None:
        raise AssertionError("no key is needed")

    seal = b"ARC-Seal: i=1; cv=none; a=rsa-sha256; d=x.example; s=s; b=AAAA\r\n"
    assert judge(seal * 900 + chain[0], txt).word is DkimWord.FAIL


@pytest.mark.parametrize("old", [b"Subject: Example 1", b"Hey gang", b"dkim=pass"])
def test_what_was_changed_breaks_the_chain(chain: Chain, old: bytes) -> None:
    assert old in chain[0]
    assert judge(chain[0].replace(old, old + b"!", 1), chain[1].get).word is DkimWord.FAIL
