"""Addresses: what is one, and which are the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsigil.message.address import Address, AddressError
from stopwatch import work_of_less_than

GOOD = [
    pytest.param("alice@bank.example", "alice", "bank.example", id="plain"),
    pytest.param("<Alice.B@Bank.Example>", "Alice.B", "bank.example", id="brackets-and-case"),
    pytest.param("a+b=c!d%e@x", "a+b=c!d%e", "x", id="percent-and-bang-are-local"),
    pytest.param(r'"a b\"\\"@x.y', 'a b"\\', "x.y", id="quoted"),
    pytest.param('"alice"@x.y', "alice", "x.y", id="quoted-for-nothing"),
    pytest.param("jürgen@bücher.example", "jürgen", "xn--bcher-kva.example", id="utf8"),
    pytest.param("a@Straße.example", "a", "xn--strae-oqa.example", id="sharp-s"),
    pytest.param("a@XN--Bcher-KVA.example", "a", "xn--bcher-kva.example", id="a-label"),
    pytest.param("a" * 64 + "@x", "a" * 64, "x", id="longest-local"),
]
BAD = {
    "empty": "",
    "no-at": "alice",
    "no-local": "@bank.example",
    "no-domain": "alice@",
    "two-at": "a@b@c",
    "name": "Alice <alice@bank.example>",
    "comment": "alice(x)@bank.example",
    "space": "alice @bank.example",
    "route": "<@relay.example:alice@bank.example>",
    "literal": "alice@[192.0.2.1]",
    "dots": "a..b@x",
    "dot-first": ".a@x",
    "dot-last": "a.@x",
    "domain-dot-last": "a@x.",
    "domain-dots": "a@x..y",
    "domain-hyphen": "a@-x.y",
    "domain-underscore": "a@x_y.z",
    "label-too-long": "a@" + "x" * 64,
    "domain-too-long": "a@" + "x." * 127 + "xx",
    "local-too-long": "a" * 65 + "@x",
    "local-octets-too-long": "ü" * 33 + "@x",
    "far-too-long": "a" * 5000 + "@x",
    "line-break": "a\r\n@x",
    "quoted-line-break": '"a\n"@x',
    "nul": "a\0@x",
    "open-quote": '"a@x',
    "empty-quoted": '""@x',
    "full-width-at": "alice\uff20bank.example",
    "at-look-alike-in-local": "ceo\ufe6bbank.example@evil.example",
    "full-width-domain": "a@\uff42ank.example",
    "zero-width-in-local": "ali\u200bce@x",
    "bidi-in-local": "a\u202eb@x",
    "byte-order-mark-in-domain": "a@\ufeffbank.example",
    "zero-width-in-domain": "a@ba\u200bnk.example",
    "soft-hyphen-in-domain": "a@ba\u00adnk.example",
    "bidi-in-domain": "a@b\u202ec.example",
    "slash-look-alike": "a@bank.example\u2044x",
    "surrogate": "a\udcff@x",
}


@pytest.mark.parametrize(("text", "local", "domain"), GOOD)
def test_good(text: str, local: str, domain: str) -> None:
    address = Address.parse(text)
    assert address == Address(local, domain)
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize("text", BAD.values(), ids=BAD.keys())
def test_bad(text: str) -> None:
    with pytest.raises(AddressError, match=r"^[A-Z].*\.$"):
        Address.parse(text)


SAME = [
    pytest.param("Alice@bank.example", "alice@BANK.example", True, id="case"),
    pytest.param('"alice"@x', "alice@x", True, id="quoting"),
    pytest.param("Ü@x", "ü@x", True, id="case-beyond-ascii"),
    pytest.param("a@bücher.example", "a@xn--bcher-kva.example", True, id="idna"),
    pytest.param("alice@x", "alicia@x", False, id="local"),
    pytest.param("a@x", "a@y", False, id="domain"),
    pytest.param("a.b@x", "ab@x", False, id="dots-count"),
    pytest.param("a+b@x", "a@x", False, id="extension-counts"),
    pytest.param("\u212aate@x", "kate@x", False, id="kelvin-sign"),
    pytest.param("\u0430lice@x", "alice@x", False, id="cyrillic"),
    pytest.param("m\u00fcller@x", "mu\u0308ller@x", True, id="composed-and-decomposed"),
    pytest.param("groß@x", "gross@x", False, id="sharp-s"),
]


@pytest.mark.parametrize(("one", "two", "same"), SAME)
def test_same_mailbox(one: str, two: str, same: bool) -> None:
    first, second = Address.parse(one), Address.parse(two)
    assert first.same_mailbox(second) is same
    assert (first.key == second.key) is same


@given(st.text(st.sampled_from('ab.@"\\<> üＫ\u200d-x[]\n'), max_size=25))
def test_any_text_is_an_address_or_an_address_error(text: str) -> None:
    try:
        address = Address.parse(text)
    except AddressError:
        return
    assert Address.parse(str(address)) == address
    assert "\n" not in str(address)


@pytest.mark.parametrize(
    "text", ["a" * 600, "a." * 300, '"' + "\\a" * 300, "a@" + "ü" * 600, "a@" + "ü." * 300]
)
def test_time_is_bounded(text: str) -> None:
    with work_of_less_than(0.25), pytest.raises(AddressError):
        Address.parse(text)
