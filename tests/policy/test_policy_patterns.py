"""Patterns mean what an administrator wrote, and a mail's address is never one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailsigil.message.address import Address
from mailsigil.policy.patterns import (
    PatternError,
    first_match,
    is_member,
    matches_any,
    normal_key,
    parse_pattern,
)


@pytest.mark.parametrize(
    ("pattern", "address", "meant"),
    [
        ("alice@bank.example", "alice@bank.example", True),
        ("Alice@Bank.Example", "aLICE@bank.example", True),
        ("alice@bank.example", "alice2@bank.example", False),
        ("alice@bank.example", "malice@bank.example", False),
        ("alice@bank.example", "alice@bank.example.evil.example", False),
        ("alice@bank.example", "alice@sub.bank.example", False),
        ("*@bank.example", "anyone@bank.example", True),
        ("@bank.example", "anyone@bank.example", True),
        ("*@bank.example", "anyone@sub.bank.example", False),
        ("*@bank.example", "anyone@evilbank.example", False),
        ("*@*.bank.example", "anyone@sub.bank.example", True),
        ("*@*.bank.example", "anyone@a.b.bank.example", True),
        ("*@*.bank.example", "anyone@bank.example", False),
        ("*@*.bank.example", "anyone@evilbank.example", False),
        ("@*.bank.example", "anyone@sub.bank.example", True),
        ("postmaster@*.bank.example", "postmaster@sub.bank.example", True),
        ("postmaster@*.bank.example", "alice@sub.bank.example", False),
        ("*@bücher.example", "anyone@xn--bcher-kva.example", True),
        ("*@xn--bcher-kva.example", "anyone@xn--bcher-kva.example", True),
        ("Ärger@bank.example", "ärger@bank.example", True),
        ("  alice@bank.example ", "alice@bank.example", True),
    ],
)
def test_meaning(pattern: str, address: str, meant: bool) -> None:
    assert matches_any([pattern], address) is meant


HOSTILE = [
    pytest.param("", id="empty"),
    pytest.param("@", id="at-alone"),
    pytest.param("@bank.example", id="no-local-part"),
    pytest.param("alice", id="no-domain"),
    pytest.param("alice@", id="empty-domain"),
    pytest.param("alice@*", id="star-domain"),
    pytest.param("alice@*.bank.example", id="pattern-domain"),
    pytest.param("alice@.bank.example", id="empty-label"),
    pytest.param("alice@sub..bank.example", id="empty-label-inside"),
    pytest.param("alice@bank.example.", id="final-dot"),
    pytest.param("alice@bank.example\n", id="final-newline"),
    pytest.param("alice\n@bank.example", id="newline"),
    pytest.param("alice\r\nbcc: x@bank.example", id="injected-field"),
    pytest.param("alice\0@bank.example", id="nul"),
    pytest.param("alice@bank.example\0", id="final-nul"),
    pytest.param("a b@bank.example", id="space"),
    pytest.param("alice@evil.example@bank.example", id="two-ats"),
    pytest.param("<alice@bank.example>", id="brackets"),
    pytest.param('"alice"@bank.example', id="quotes"),
    pytest.param("alice,bob@bank.example", id="comma"),
    pytest.param("alice\u202e@bank.example", id="bidi-override"),
    pytest.param("alice\u200b@bank.example", id="zero-width"),
    pytest.param("alice\u00a0@bank.example", id="no-break-space"),
    pytest.param("alice\ud800@bank.example", id="lone-surrogate"),
    pytest.param("alice@bank\u3002example", id="ideographic-dot"),
    pytest.param("alice＠bank.example", id="full-width-at"),
    pytest.param("x" * 65 + "@bank.example", id="long-local-part"),
    pytest.param("x@" + "a." * 200 + "bank.example", id="long-domain"),
    pytest.param("x" * 1_000_000, id="a-million-letters"),
    pytest.param("é" * 33 + "@bank.example", id="long-in-octets"),
]


@pytest.mark.parametrize("address", HOSTILE)
def test_hostile_address_matches_nothing(address: str) -> None:
    assert first_match(["*@bank.example", "*@*.bank.example", "*@example"], address) is None
    assert normal_key(address) == ""


@pytest.mark.parametrize("text", ['"a b"@bank.example', '"a;b"@bank.example', '"\\\\"@bank.example'])
def test_a_member_of_a_domain_may_have_an_odd_name(text: str) -> None:
    key = Address.parse(text).key
    assert is_member(["*@bank.example"], key)
    assert not is_member(["*@*.bank.example", "ab@bank.example", "*@example"], key)
    assert not matches_any(["*@bank.example"], key)  # what permits something stays strict


@pytest.mark.parametrize("local", ["victim%elsewhere.example", "elsewhere.example!victim", "%", "a!"])
def test_a_recipient_with_a_way_in_its_name_is_nobodys(local: str) -> None:
    address = f"{local}@bank.example"
    assert not matches_any(["*@bank.example", address], address)
    assert first_match(["*@bank.example"], address)


def test_star_in_an_address_is_a_letter() -> None:
    assert not matches_any(["alice@bank.example"], "*@bank.example")
    assert matches_any(["*@bank.example"], "*@bank.example")


def test_kelvin_sign_is_not_the_letter_k() -> None:
    assert not matches_any(["kim@bank.example"], "\u212aim@bank.example")
    assert not matches_any(["\u212aim@bank.example"], "kim@bank.example")


NO_PATTERNS = """
* @ *@ *@* @* *@*. *@*.* **@bank.example bank.example a*@bank.example a@b*.example a@*.*.example
a@b@bank.example a@bank..example a@-bank.example a@[192.0.2.1] a@bank.example,b@bank.example
"""


@pytest.mark.parametrize(
    "text", [*NO_PATTERNS.split(), "", "a b@bank.example", "a\n@bank.example", "a@bank.example\0"]
)
def test_no_patterns(text: str) -> None:
    with pytest.raises(PatternError):
        parse_pattern(text)


def test_first_match_gives_the_words_of_the_administrator() -> None:
    assert first_match(["bob@bank.example", "*@Bank.example"], "alice@bank.example") == "*@Bank.example"
    assert first_match([], "alice@bank.example") is None


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=80))
def test_no_text_is_in_a_domain_that_it_does_not_name(text: str) -> None:
    if matches_any(["*@bank.example"], text):
        local, _, domain = text.rpartition("@")
        assert domain.lower() == "bank.example"
        assert "@" not in local
        assert not set(local) & set("\0\r\n \t")


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=40), st.sampled_from(["@bank.example", "@*.example", "@sub.bank.example", ""]))
def test_an_exact_pattern_means_one_address(start: str, end: str) -> None:
    if matches_any(["alice@bank.example"], start + end):
        assert (start + end).lower() == "alice@bank.example"
