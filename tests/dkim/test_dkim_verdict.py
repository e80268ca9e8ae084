"""DKIM verdicts: the words of RFC 8601 for what signers, networks and forgers do."""

from __future__ import annotations

import base64
import itertools
import re
import time
from collections.abc import Callable
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from dkim.canonicalization import ALGORITHMS
from hypothesis import given, settings
from hypothesis import strategies as st

import dkim
from dkim_signer import AT, DOMAIN, MESSAGE, SELECTOR, check, ed_key, record, sign
from mailsigil.dkim.body import hash_body
from mailsigil.dkim.verdict import DkimResult, DkimWord, DnsTrouble, aligned, best, verify_dkim
from mailsigil.message.fields import parse_fields
from mailsigil.message.spool import Spool
from spare_keys import rsa_key
from stopwatch import work_of_less_than

RSA_RECORD = record(rsa_key())
PASS = DkimResult(DkimWord.PASS, DOMAIN, SELECTOR)
WAYS = ["simple/simple", "simple/relaxed", "relaxed/simple", "relaxed/relaxed", "relaxed", "simple"]


def seconds(after: int) -> str:
    return str(int(AT.timestamp()) + after)


@pytest.mark.parametrize("canonical", WAYS)
@pytest.mark.parametrize("kind", ["rsa", "ed25519"])
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"Hello \t Bob,\r\n\r\nlunch?  \r\n\r\n\r\n", id="text"),
        pytest.param(b"", id="empty"),
        pytest.param(b"\r\n\r\n", id="empty lines"),
        pytest.param(b" \r\n", id="a space"),
        pytest.param(b"no line end", id="no line end"),
    ],
)
def test_signatures_that_hold(canonical: str, kind: str, body: bytes) -> None:
    key = rsa_key() if kind == "rsa" else ed_key()
    message = MESSAGE.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" + body
    assert check(sign(message, key=key, canonical=canonical), record(key)) == (PASS,)


def test_unsigned_has_no_results() -> None:
    assert check(MESSAGE) == ()


@pytest.mark.parametrize(
    "canonical", [(b"simple", b"simple"), (b"relaxed", b"relaxed")], ids=lambda c: str(c[0])
)
def test_dkimpy_signatures_hold(canonical: tuple[bytes, bytes]) -> None:
    pem = rsa_key().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    field = dkim.sign(MESSAGE, SELECTOR.encode(), DOMAIN.encode(), pem, canonicalize=canonical)
    now = AT + timedelta(seconds=time.time() - AT.timestamp())  # dkimpy reads the clock
    assert check(field + MESSAGE, RSA_RECORD, at=now) == (PASS,)


# A change to a signed message, what it hurts, and in which canonical form it does not matter.
@pytest.mark.parametrize(
    ("old", "new", "simple", "relaxed"),
    [
        pytest.param(b"lunch?", b"dinner?", "fail", "fail", id="other words in the body"),
        pytest.param(b"Subject: Lunch", b"Subject: Dinner", "fail", "fail", id="other words in a field"),
        pytest.param(b"lunch?  \r\n", b"lunch?\r\n", "fail", "pass", id="spaces at a line end"),
        pytest.param(b"Lunch \r\n  and", b"Lunch and", "fail", "pass", id="another fold"),
        pytest.param(b"\r\n\r\n\r\n", b"\r\n", "pass", "pass", id="empty lines at the end"),
        pytest.param(b"Received: from a", b"Received: from z", "pass", "pass", id="an unsigned field"),
        pytest.param(b"To: bob", b"X-Spam: no\r\nTo: bob", "pass", "pass", id="a field between"),
        pytest.param(
            b"From: Al", b"From: x@evil.example\r\nFrom: Al", "fail", "fail", id="second From above"
        ),
        pytest.param(b"To: bob", b"From: x@evil.example\r\nTo: bob", "fail", "fail", id="second From below"),
        pytest.param(b"Hello \t ", b"Hello", "fail", "fail", id="words run together"),
    ],
)
def test_changes_on_the_way(old: bytes, new: bytes, simple: str, relaxed: str) -> None:
    for canonical, word in (("simple/simple", simple), ("relaxed/relaxed", relaxed)):
        changed = sign(canonical=canonical).replace(old, new, 1)
        assert [result.word.value for result in check(changed, RSA_RECORD)] == [word], canonical


@pytest.mark.parametrize(
    ("tags", "word", "reason"),
    [
        pytest.param({"v": "2"}, "permerror", "unknown version", id="version"),
        pytest.param({"v": "-"}, "permerror", "no v=", id="no version"),
        pytest.param({"a": "rsa-sha1"}, "policy", "SHA-1", id="SHA-1 (RFC 8301)"),
        pytest.param({"a": "rsa-md5"}, "permerror", "unknown algorithm", id="unknown algorithm"),
        pytest.param({"a": "ed25519-sha256"}, "permerror", "another type", id="algorithm of another key"),
        pytest.param({"h": "to:subject"}, "permerror", "does not cover the From", id="From not signed"),
        pytest.param({"h": "from:" + "x:" * 400}, "policy", "too many", id="too many names"),
        pytest.param({"i": "@evil.example"}, "permerror", "outside", id="identity elsewhere"),
        pytest.param({"i": "@xbank.example"}, "permerror", "outside", id="identity beside"),
        pytest.param({"l": "x"}, "permerror", "no number", id="length is no number"),
        pytest.param({"l": "-1"}, "permerror", "no number", id="negative length"),
        pytest.param({"l": "9" * 70}, "permerror", "no number", id="length without end"),
        pytest.param({"l": "0"}, "policy", "unsigned", id="l=0 signs no body"),
        pytest.param({"l": "5"}, "policy", "unsigned", id="l= leaves a rest"),
        pytest.param({"l": "9999"}, "permerror", "more than there is", id="l= beyond the end"),
        pytest.param({"x": seconds(-3600), "t": "-"}, "policy", "expired", id="expired"),
        pytest.param({"t": seconds(7200)}, "policy", "future", id="from the future"),
        pytest.param({"x": seconds(-120)}, "permerror", "before", id="expires before it was made"),
        pytest.param({"t": "yesterday"}, "permerror", "no number", id="time is no number"),
        pytest.param({"q": "http"}, "permerror", "no known way", id="query method"),
        pytest.param({"c": "loose/simple"}, "permerror", "canonicalisation", id="canonicalisation"),
        pytest.param({"d": "bank"}, "permerror", "no domain", id="domain without dot"),
        pytest.param({"d": "bank .example"}, "permerror", "no domain", id="space in the domain"),
        pytest.param({"d": "-"}, "permerror", "no d=", id="no domain"),
        pytest.param({"s": "a..b"}, "permerror", "selector", id="selector with an empty label"),
        pytest.param({"s": "(x)"}, "permerror", "selector", id="selector of other characters"),
        pytest.param({"bh": "%%%"}, "permerror", "base64", id="body hash is not base64"),
        pytest.param({"z": "a" * 20000}, "policy", "too long", id="field too long"),
        pytest.param({"z": "a" + " " * 500 + "b"}, "permerror", "white space", id="gap"),
    ],
)
def test_odd_tags(tags: dict[str, str], word: str, reason: str) -> None:
    (result,) = check(sign(canonical="simple/simple", **tags), RSA_RECORD)
    assert result.word.value == word
    assert reason in result.reason


@pytest.mark.parametrize(
    "tags",
    [
        pytest.param({"x": seconds(60)}, id="not yet expired"),
        pytest.param({"t": "-", "x": seconds(-10)}, id="expired within the skew of clocks"),
        pytest.param({"i": "alice@mail.bank.example"}, id="identity below the domain"),
        pytest.param({"q": "dns/txt"}, id="query method"),
        pytest.param({"l": str(len(b"Hello \t Bob,\r\n\r\nlunch?  \r\n"))}, id="l= covers everything"),
        pytest.param({"unknown": "x"}, id="unknown tag"),
        pytest.param({"d": "BANK.example"}, id="capitals"),
        pytest.param({"h": "from:to:subject:cc:x-not-there"}, id="absent fields signed"),
    ],
)
def test_tags_that_are_fine(tags: dict[str, str]) -> None:
    names = tags.pop("h", "from:to:subject").split(":")
    assert check(sign(canonical="simple/simple", names=names, **tags), RSA_RECORD) == (PASS,)


def test_domain_beyond_ascii() -> None:
    """RFC 8616: d= may hold U-labels; the name that is asked for and told holds A-labels."""
    (result,) = check(sign(d="bänk.example"), RSA_RECORD)
    assert (result.word, result.domain) == (DkimWord.PASS, "xn--bnk-qla.example")


@pytest.mark.parametrize(
    ("found", "word", "reason"),
    [
        pytest.param(None, "permerror", "no key", id="no record"),
        pytest.param(b"", "permerror", "no key", id="empty record"),
        pytest.param(record(rsa_key(), p=""), "permerror", "revoked", id="revoked"),
        pytest.param(record(rsa_key(), p="!!!"), "permerror", "cannot be read", id="key not base64"),
        pytest.param(record(rsa_key(), p="AAAA"), "permerror", "cannot be read", id="key is nothing"),
        pytest.param(record(rsa_key(), v="DKIM2"), "permerror", "version", id="record version"),
        pytest.param(record(rsa_key(), k="dsa"), "permerror", "another type", id="key type"),
        pytest.param(record(rsa_key(), h="sha1"), "permerror", "SHA-256", id="other hash only"),
        pytest.param(record(rsa_key(), s="tlsrpt"), "permerror", "for mail", id="other service only"),
        pytest.param(record(rsa_key(1032)), "fail", "does not fit", id="another key"),
        pytest.param(record(ed_key()), "permerror", "another type", id="another kind of key"),
        pytest.param(b"\xff" * 300, "permerror", "cannot be read", id="garbage"),
        pytest.param(b"p=" + b"A" * 9000, "permerror", "too long", id="long record"),
        pytest.param(b";", "permerror", "another type|revoked|read", id="semicolon"),
    ],
)
def test_odd_keys(found: bytes | None, word: str, reason: str) -> None:
    (result,) = check(sign(), found)
    assert result.word.value == word
    assert re.search(reason, result.reason)


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(record(rsa_key(), v="", k=""), id="defaults"),
        pytest.param(record(rsa_key(), h="sha1:sha256", s="other:email", t="y:s", n="note"), id="lists"),
        pytest.param(RSA_RECORD + b";", id="semicolon at the end"),
    ],
)
def test_keys_that_are_fine(found: bytes) -> None:
    assert check(sign(), found) == (PASS,)


def test_key_for_the_exact_domain_only() -> None:
    (result,) = check(sign(i="@mail.bank.example"), record(rsa_key(), t="s"))
    assert (result.word, result.reason) == (DkimWord.PERMERROR, "the key is not meant for subdomains")


def test_short_key_from_a_record() -> None:
    """RFC 8301 3.2; the key is a 512-bit one from long ago."""
    short = (
        b"p=MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBALqbHeRLCyOdykC5SDLqI49ArYGYG1mqaH9/GnWjGavZM02fos4lc2w6tCchcUBN"
        b"tJvGqKwhC5JEnx3RYoSX2ucCAwEAAQ=="
    )
    (result,) = check(sign(), short)
    assert (result.word, result.reason) == (DkimWord.POLICY, "the key is too short")


# --- DNS, bounds ---------------------------------------------------------------------------------------


def verify(message: bytes, txt: Callable[[bytes], bytes | None], **bounds: int) -> tuple[DkimResult, ...]:
    fields, start = parse_fields(message)
    limits = {"max_bytes": 1_000_000, "max_signatures": 5} | bounds
    with Spool() as body:
        body.write(message[start:])
        return verify_dkim(fields, body, txt=txt, at=AT, **limits)


def test_name_that_is_asked_for() -> None:
    asked: list[bytes] = []
    verify(sign(), lambda name: asked.append(name))  # type: ignore[func-returns-value]
    assert asked == [b"s1._domainkey.bank.example."]


def test_dns_trouble_is_temperror_and_bounded() -> None:
    asked = []

    def trouble(name: bytes) -> bytes | None:
        asked.append(name)
        raise DnsTrouble("timed out")

    message = MESSAGE
    for number in range(5):
        message = sign(message, s=f"s{number}")
    results = verify(message, trouble)
    assert [result.word for result in results] == [DkimWord.TEMPERROR] * 5
    assert len(asked) == 2


def test_several_signatures_each_have_their_result() -> None:
    message = sign(sign(sign(), s="s2", key=ed_key()), d="list.example", l="3")
    keys = {b"s1": RSA_RECORD, b"s2": record(ed_key())}
    results = verify(message, lambda name: keys[name[:2]])
    assert [(result.word.value, result.domain, result.selector) for result in results] == [
        ("policy", "list.example", "s1"),
        ("pass", "bank.example", "s2"),
        ("pass", "bank.example", "s1"),
    ]


def test_signatures_are_bounded() -> None:
    message = MESSAGE
    for _ in range(8):
        message = sign(message)
    assert check(message, RSA_RECORD, max_signatures=3) == (PASS,) * 3


def test_large_messages_are_neutral() -> None:
    message = sign(MESSAGE + b"x" * 2000)
    assert check(message, RSA_RECORD, max_bytes=1000) == (
        DkimResult(DkimWord.NEUTRAL, DOMAIN, SELECTOR, "message too large"),
    )


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b" " * 3_000_000, id="spaces"),
        pytest.param(b"\r\n" * 1_500_000 + b"x", id="line ends"),
        pytest.param(b"\n\r" * 1_500_000, id="reversed line ends"),
        pytest.param(b" \r\n" * 1_000_000, id="lines of a space"),
        pytest.param(b"\t " * 1_500_000 + b"\r", id="tabs"),
    ],
)
def test_hostile_bodies_take_linear_time(body: bytes) -> None:
    message = sign(bh="AAAA") + body
    with work_of_less_than(3):
        (result,) = check(message, RSA_RECORD, max_bytes=10_000_000)
    assert result.word is DkimWord.FAIL


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"v=1; b=" + b" \r\n" * 4000 + b"!", id="folds in b="),
        pytest.param((b" b" + b" " * 100 + b"=") * 150, id="many b="),
        pytest.param(b"v=1; a=rsa-sha256; d=a.b; s=s; bh=AA; b=AA; h=from" + b":x" * 8000, id="names"),
        pytest.param(b"d=" + b"a." * 4000, id="long domain"),
        pytest.param(b"s=" + b"a-" * 4000 + b"; d=a.b", id="long selector"),
    ],
)
def test_hostile_fields_take_little_time(value: bytes) -> None:
    with work_of_less_than(1):
        check(b"DKIM-Signature: " + value + b"\r\n" + MESSAGE, RSA_RECORD)


# --- Hostile input -------------------------------------------------------------------------------------

TAG = st.sampled_from(["v", "a", "b", "bh", "c", "d", "h", "i", "l", "q", "s", "t", "x", "z"])
TEXT = st.text(max_size=30) | st.sampled_from(
    [
        "1",
        "rsa-sha256",
        "ed25519-sha256",
        "from",
        "from:to",
        "relaxed/relaxed",
        "a.b",
        "AAAA",
        "",
        "0",
        "=",
        ";",
    ]
)


@settings(max_examples=200, deadline=None)
@given(tags=st.dictionaries(TAG, TEXT), found=st.none() | st.binary(max_size=60) | st.just(RSA_RECORD))
def test_any_tags_give_a_result(tags: dict[str, str], found: bytes | None) -> None:
    value = ";".join(f"{tag}={text}" for tag, text in tags.items()).encode("utf-8", "replace")
    value = value.replace(b"\r", b"").replace(b"\n", b"\r\n ")
    results = check(b"DKIM-Signature: " + value + b"\r\n" + MESSAGE, found)
    assert [result.word for result in results] != [DkimWord.PASS]
    assert all(result.reason.isascii() and result.domain.isascii() for result in results)


@settings(max_examples=200, deadline=None)
@given(start=st.integers(0, 700), end=st.integers(0, 40), junk=st.binary(max_size=12))
def test_broken_signature_fields_never_crash(start: int, end: int, junk: bytes) -> None:
    whole = sign()
    junk = junk.replace(b"\r", b"").replace(b"\n", b"")
    message = whole[:16] + whole[16:start] + junk + whole[max(start, 16) + end :]
    for result in check(message, RSA_RECORD):
        assert isinstance(result.word, DkimWord)


@settings(max_examples=150, deadline=None)
@given(
    pieces=st.lists(st.sampled_from([b" ", b"\t", b"\r\n", b"\r", b"\n", b"a", b"bc"]), max_size=40),
    size=st.integers(1, 5),
    way=st.sampled_from(["simple", "relaxed"]),
)
def test_body_hash_does_not_depend_on_chunks(pieces: list[bytes], size: int, way: str) -> None:
    """Against dkimpy's canonical form, which has the whole body at once."""
    body = b"".join(pieces) + b"\r\n"  # dkimpy keeps a space at the very end that has no line end
    chunks = (body[at : at + size] for at in range(0, len(body), size))
    canonical = ALGORITHMS[way.encode()].canonicalize_body(body)
    found = hash_body(chunks, relaxed=way == "relaxed", length=None)
    assert (found.digest, found.size) == (sha256(canonical).digest(), len(canonical))


# --- Corpus --------------------------------------------------------------------------------------------

RFC_8463_KEY = b"v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="


@pytest.mark.parametrize(
    ("name", "keys", "words"),
    [
        pytest.param(
            "rfc6376.signed.msg",
            {b"brisbane": RFC_8463_KEY, b"test": "test.txt"},
            ["pass", "pass"],
            id="RFC 8463",
        ),
        pytest.param("rfc6376.signed.rsa.msg", {b"test": "test.txt"}, ["pass"], id="RSA"),
        pytest.param(
            "rfc6376.signed.rsa.msg", {b"test": "test_tlsrpt.txt"}, ["permerror"], id="key for reports"
        ),
        pytest.param("rfc6376.signed.rsa.msg", {b"test": "test_bad.txt"}, ["permerror"], id="bad key"),
        pytest.param("rfc6376.signed.rsa.msg", {b"test": "badversion.txt"}, ["permerror"], id="bad version"),
        pytest.param("rfc6376.signed.rsa.msg", {b"test": "badk.txt"}, ["permerror"], id="bad key type"),
        pytest.param(
            "rfc6376.signed.rsa.msg", {b"test": "2048_testkey_wo_markers.pub.txt"}, ["fail"], id="another key"
        ),
        pytest.param(
            "rfc6376.signed.rsa.msg",
            {b"test": "2048_testkey_wo_markers.pub.rsa.txt"},
            ["fail"],
            id="bare RSA key",
        ),
        pytest.param("ed25519test2.msg", {b"sed": "eximtest.dns"}, ["pass"], id="Exim's Ed25519"),
        pytest.param("ed25519test2.msg", {b"sed": "ed25519test.dns"}, ["fail"], id="another Ed25519 key"),
        pytest.param("rfc6376.msg", {}, [], id="unsigned"),
        pytest.param("test2.message", {}, ["permerror"], id="Gmail without its key"),
    ],
)
def test_dkimpy_corpus(
    corpus: Callable[[str], Path], name: str, keys: dict[bytes, str | bytes], words: list[str]
) -> None:
    folder = next(corpus("dkimpy").rglob("data"))
    found = {
        selector: (folder / key).read_bytes().strip() if isinstance(key, str) else key
        for selector, key in keys.items()
    }
    message = re.sub(rb"\r?\n", b"\r\n", (folder / name).read_bytes())
    fields, start = parse_fields(message)
    with Spool() as body:
        body.write(message[start:])
        results = verify_dkim(
            fields,
            body,
            txt=lambda asked: found.get(asked.partition(b".")[0]),
            max_bytes=1_000_000,
            max_signatures=5,
            at=AT,
        )
    assert [result.word.value for result in results] == words


# --- Choice --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("domain", "author", "expected"),
    [
        pytest.param("bank.example", "bank.example", True, id="the same"),
        pytest.param("Bank.Example", "bank.example", True, id="letter case"),
        pytest.param("bank.example", "mail.bank.example", True, id="above the author's"),
        pytest.param("mail.bank.example", "bank.example", False, id="below the author's"),
        pytest.param("ank.example", "bank.example", False, id="a tail of letters"),
        pytest.param("", "bank.example", False, id="no domain"),
        pytest.param("bank.example", "", False, id="no author"),
        pytest.param("", "", False, id="nothing"),
    ],
)
def test_alignment(domain: str, author: str, expected: bool) -> None:
    assert aligned(domain, author) is expected


def test_best_is_the_aligned_pass() -> None:
    results = [
        DkimResult(DkimWord.PASS, "list.example", "s"),
        DkimResult(DkimWord.FAIL, "bank.example", "s"),
        DkimResult(DkimWord.PASS, "bank.example", "s"),
        DkimResult(DkimWord.TEMPERROR, "bank.example", "s"),
    ]
    for order in itertools.permutations(results):
        assert best(order, "bank.example") == results[2]
        assert best(order, "list.example") == results[0]
    assert best(results[:2], "bank.example") == results[1]
    assert best([], "bank.example") is None


def test_test_key_is_what_it_says() -> None:
    """The corpus key of RFC 8463 is 32 octets; a typing error here would make a vacuous pass."""
    assert len(base64.b64decode(RFC_8463_KEY.rpartition(b"p=")[2])) == 32
