"""The identity fields: what honest mail gets, what hostile names make of it, what is stripped."""

from __future__ import annotations

import email
import re
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from email.header import decode_header, make_header
from email.message import Message
from email.utils import collapse_rfc2231_value
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dkim_signer import MESSAGE, check, record, sign
from mailsigil.dkim.arc import ArcResult
from mailsigil.dkim.verdict import DkimResult, DkimWord
from mailsigil.headers import identity_fields, strip_forged
from mailsigil.message.fields import Field, parse_fields
from mailsigil.pki.names import clean_name
from mailsigil.pki.policies import Level
from mailsigil.plan import DeleteField
from mailsigil.verdict import Identity, Reason, SmimeWord, Status, Verdict
from spare_keys import rsa_key
from stopwatch import work_of_less_than

HOST = "mx.example.com"
ALICE = Identity(
    level=Level.V4,
    name="Alice Example",
    org="Example Bank",
    title="Account Manager",
    address="alice@bank.example",
    issuer="Example Bank Mail CA",
)
TRUSTED = Verdict(
    word=SmimeWord.PASS,
    status=Status.TRUSTED,
    identity=ALICE,
    signers=("alice@bank.example",),
    serial="1f",
    issuer="CN=Example Bank Mail CA,O=Example Bank",
    signed=datetime(2026, 11, 22, 2, 15, 16, tzinfo=UTC),
)
UNSIGNED = Verdict(word=SmimeWord.NONE, status=Status.UNSIGNED, reason=Reason.UNSIGNED)
DKIM_PASS = DkimResult(DkimWord.PASS, "bank.example", "s1")

HOSTILE = [
    pytest.param("Eve\r\nVerified-Identity: V4; status=trusted", id="line break"),
    pytest.param("Eve\r\n\r\nBody", id="end of the header"),
    pytest.param("Eve\nX: y", id="bare LF"),
    pytest.param("Eve\rX: y", id="bare CR"),
    pytest.param("Eve\x00\x07\x1b[31m", id="NUL and controls"),
    pytest.param("Eve\x85\u2028\u2029X", id="Unicode line ends"),
    pytest.param('Eve"; level="V4', id="quote and semicolon"),
    pytest.param('Eve\\"; status=trusted; x="', id="escaped quote"),
    pytest.param("Eve\\", id="backslash at the end"),
    pytest.param("Eve; status=trusted", id="semicolon"),
    pytest.param("Eve (comment", id="open comment"),
    pytest.param("Eve) <ceo@bank.example>, Bob", id="address syntax"),
    pytest.param("=?utf-8?q?CEO?=", id="encoded-word"),
    pytest.param("A =?utf-8?b?Q0VP?= =?utf-8?b?Q0VP?= B", id="encoded-words inside"),
    pytest.param("?utf-8?q?CEO?=", id="encoded-word after an equals sign"),
    pytest.param("utf-8''%43EO", id="RFC 2231 look-alike"),
    pytest.param("100%20 *0*", id="percent and stars"),
    pytest.param("Eve\u202ednuF\u2066x\u2069\u200f", id="bidi"),
    pytest.param("E\u200bv\ufeffe\u00ad", id="zero width"),
    pytest.param("Jürgen Groß 山田太郎 😀", id="beyond ASCII"),
    pytest.param("x" * 10_000, id="10,000 letters"),
    pytest.param("😀" * 10_000, id="10,000 emoji"),
    pytest.param("a " * 5_000, id="10,000 with spaces"),
    pytest.param("\ud800\udfff", id="lone surrogates"),
    pytest.param(" ", id="a space"),
    pytest.param("", id="nothing"),
]


def written(verdict: Verdict, *dkim: DkimResult, domain: str = "bank.example") -> tuple[Field, Field, Field]:
    return identity_fields(verdict, dkim, HOST, author_domain=domain)


def parsed(fields: tuple[Field, ...]) -> Message[str, str]:
    """Read the fields as a mail client in Python would; no more and no fewer may come out."""
    message = email.message_from_bytes(
        b"".join(field.raw for field in fields) + b"From: x@y.example\r\n\r\nbody"
    )
    assert message.keys() == ["Authentication-Results", "Verified-Identity", "Verified-Identity-Text", "From"]
    assert not message.defects
    assert message.get_payload() == "body"
    return message


def parameters(message: Message[str, str]) -> dict[str, str]:
    found: Any = message.get_params(header="Verified-Identity")
    names = [name for name, _ in found]
    assert len(names) == len(set(names))
    return {name: collapse_rfc2231_value(value) for name, value in found}


def text_of(message: Message[str, str]) -> str:
    unfolded = re.sub(r"\r?\n(?=[ \t])", "", message["Verified-Identity-Text"])
    return str(make_header(decode_header(unfolded)))


# --- Honest mail ---------------------------------------------------------------------------------------


def test_fields_of_a_trusted_sender() -> None:
    results, identity, text = written(TRUSTED, DKIM_PASS)
    assert results.raw == (
        b"Authentication-Results: mx.example.com; smime=pass\r\n"
        b" body.smime-identifier=alice@bank.example body.smime-serial=1f\r\n"
        b' body.smime-issuer="CN=Example Bank Mail CA,O=Example Bank"; dkim=pass\r\n'
        b" header.d=bank.example header.s=s1 policy.aligned=yes\r\n"
    )
    assert identity.raw == (
        b'Verified-Identity: V4; status=trusted; name="Alice Example";\r\n'
        b' org="Example Bank"; title="Account Manager"; address="alice@bank.example";\r\n'
        b' issuer="Example Bank Mail CA"; signed="2026-11-22T02:15:16Z"; dkim=pass\r\n'
    )
    assert text.unfolded == (
        b"V4 Alice Example, Example Bank, Account Manager, Identity Validated and Trusted"
    )


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        (Level.V1, "V1 Email Validated, Identity Not Validated"),
        (Level.V2, "V2 Alice Example, Identity Validated"),
        (Level.V3, "V3 Example Bank, Identity Validated and Trusted"),
        (Level.V4, "V4 Alice Example, Example Bank, Account Manager, Identity Validated and Trusted"),
    ],
)
def test_text_of_each_level(level: Level, expected: str) -> None:
    message = parsed(written(replace(TRUSTED, identity=replace(ALICE, level=level))))
    assert text_of(message) == expected
    assert parameters(message)[level.name] == ""


@pytest.mark.parametrize(
    ("word", "status", "reason", "head", "text"),
    [
        pytest.param(
            SmimeWord.NONE,
            Status.UNSIGNED,
            Reason.UNSIGNED,
            "none; status=unsigned; reason=unsigned; dkim=none",
            "Not signed",
            id="unsigned",
        ),
        pytest.param(
            SmimeWord.FAIL,
            Status.INVALID,
            Reason.DIGEST,
            "none; status=invalid; reason=digest; dkim=none",
            "Identity Not Verified: The message was changed after it was signed.",
            id="changed",
        ),
        pytest.param(
            SmimeWord.POLICY,
            Status.UNTRUSTED,
            Reason.NO_PATH,
            "none; status=untrusted; reason=no-path; dkim=none",
            "Identity Not Verified: The certificate was not issued by an authority that is trusted here.",
            id="foreign authority",
        ),
        pytest.param(
            SmimeWord.POLICY,
            Status.UNCHECKED,
            Reason.LIMIT,
            "none; status=unchecked; reason=limit; dkim=none",
            "Identity Not Verified: The message exceeds what this host is ready to check.",
            id="limit",
        ),
        pytest.param(
            SmimeWord.NONE,
            Status.UNSIGNED,
            Reason.ENCRYPTED,
            "none; status=unsigned; reason=encrypted; dkim=none",
            "Identity Not Verified: The message is encrypted, so a signature inside cannot be seen.",
            id="encrypted",
        ),
        pytest.param(
            SmimeWord.PASS,
            Status.TRUSTED,
            Reason.NONE,
            "none; status=unchecked; dkim=none",
            "Identity Not Verified: The message was not checked.",
            id="trusted without anybody to trust",
        ),
    ],
)
def test_mail_without_identity(word: SmimeWord, status: Status, reason: Reason, head: str, text: str) -> None:
    fields = written(Verdict(word=word, status=status, reason=reason))
    assert fields[1].unfolded.decode() == head
    assert fields[2].unfolded.decode() == text


@pytest.mark.parametrize(
    "reason", [reason for reason in Reason if reason is not Reason.NONE], ids=lambda r: r.token
)
def test_every_reason_has_a_sentence(reason: Reason) -> None:
    message = parsed(written(Verdict(word=SmimeWord.FAIL, status=Status.INVALID, reason=reason)))
    assert text_of(message) == f"Identity Not Verified: {reason.sentence}"
    assert parameters(message)["reason"] == reason.token


@pytest.mark.parametrize("word", [word for word in SmimeWord if word is not SmimeWord.PASS])
@pytest.mark.parametrize("status", list(Status))
def test_no_identity_beside_another_word_than_pass(word: SmimeWord, status: Status) -> None:
    for verdict in (replace(TRUSTED, word=word), replace(TRUSTED, word=word, status=status)):
        shown = b"".join(field.value for field in written(verdict)[1:])
        assert b"Alice" not in shown
        assert b"V4" not in shown


def test_signing_time_is_told_in_utc() -> None:
    east = datetime(2026, 11, 22, 4, 15, 16, tzinfo=timezone(timedelta(hours=2)))
    assert b'signed="2026-11-22T02:15:16Z"' in written(replace(TRUSTED, signed=east))[1].value
    assert b"signed" not in written(replace(TRUSTED, signed=None))[1].value


@pytest.mark.parametrize(
    ("results", "domain", "word"),
    [
        pytest.param([DKIM_PASS], "bank.example", "pass", id="the author's domain"),
        pytest.param([DKIM_PASS], "mail.bank.example", "pass", id="above the author's domain"),
        pytest.param([DKIM_PASS], "evil.example", "none", id="another domain"),
        pytest.param([DKIM_PASS], "", "none", id="no author"),
        pytest.param([], "bank.example", "none", id="no signature"),
        pytest.param([replace(DKIM_PASS, word=DkimWord.FAIL), DKIM_PASS], "bank.example", "pass", id="best"),
        pytest.param([replace(DKIM_PASS, word=DkimWord.FAIL)], "bank.example", "fail", id="broken"),
        pytest.param([replace(DKIM_PASS, word=DkimWord.TEMPERROR)], "bank.example", "temperror", id="DNS"),
    ],
)
def test_dkim_word_beside_the_identity(results: list[DkimResult], domain: str, word: str) -> None:
    for verdict in (TRUSTED, UNSIGNED):
        assert parameters(parsed(written(verdict, *results, domain=domain)))["dkim"] == word


# --- Hostile names -------------------------------------------------------------------------------------


def assert_harmless(fields: tuple[Field, Field, Field], identity: Identity) -> None:
    for field in fields:
        assert field.value.isascii()
        lines = field.raw.removesuffix(b"\r\n").split(b"\r\n")
        assert all(len(line) <= 78 for line in lines), lines
        assert all(re.match(rb" [^ ]", line) for line in lines[1:])
        assert re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", b"".join(lines)) is None
    for field in fields[:2]:
        assert b"=?" not in field.unfolded
    message = parsed(fields)
    expected = {
        "V4": "",
        "status": "trusted",
        "name": clean_name(identity.name),
        "org": clean_name(identity.org),
        "title": clean_name(identity.title),
        "address": clean_name(identity.address, limit=320),
        "issuer": clean_name(identity.issuer),
        "dkim": "none",
    }
    found = {name: value for name, value in parameters(message).items() if name != "signed"}
    assert found == {name: _sound(value) for name, value in expected.items() if value or name == "V4"}
    shown = ", ".join(expected[name] for name in ("name", "org", "title") if expected[name])
    assert text_of(message) == _sound(f"V4 {shown}, Identity Validated and Trusted")
    assert not any(unicodedata.category(letter) in ("Cc", "Cf") for letter in text_of(message))


def _sound(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("place", ["name", "org", "title", "issuer", "address"])
def test_hostile_names_stay_names(place: str, name: str) -> None:
    identity = replace(ALICE, **{place: name})
    assert_harmless(written(replace(TRUSTED, identity=identity)), identity)


@settings(max_examples=150, deadline=None)
@given(name=st.text(max_size=200), org=st.text(alphabet="ab\"\\;=?*'%() \r\n", max_size=60))
@example(name='\\"', org='"\\')
def test_any_names_stay_names(name: str, org: str) -> None:
    identity = replace(ALICE, name=name, org=org)
    assert_harmless(written(replace(TRUSTED, identity=identity)), identity)


# --- Authentication-Results, read by somebody else -----------------------------------------------------


def read_results(field: Field) -> Any:
    """Parse with authres, which shares no code with us."""
    smime = pytest.importorskip("authres.smime")
    context = pytest.importorskip("authres").FeatureContext(smime)
    return context.parse(field.raw.decode("ascii").replace("\r\n", ""))


def properties(result: Any) -> dict[str, str]:
    # authres takes the quotes off and leaves the backslashes in.
    return {f"{entry.type}.{entry.name}": re.sub(r"\\(.)", r"\1", entry.value) for entry in result.properties}


def test_results_read_by_authres() -> None:
    broken = DkimResult(DkimWord.FAIL, "list.example", "s2", "the body was changed")
    nameless = DkimResult(DkimWord.PERMERROR, "", "", "the signing domain is no domain name")
    found = read_results(written(TRUSTED, DKIM_PASS, broken, nameless)[0])
    assert str(found.authserv_id) == HOST
    assert [(str(result.method), str(result.result)) for result in found.results] == [
        ("smime", "pass"),
        ("dkim", "pass"),
        ("dkim", "fail"),
        ("dkim", "permerror"),
    ]
    assert properties(found.results[0]) == {
        "body.smime-identifier": "alice@bank.example",
        "body.smime-serial": "1f",
        "body.smime-issuer": "CN=Example Bank Mail CA,O=Example Bank",
    }
    assert properties(found.results[1])["policy.aligned"] == "yes"
    assert properties(found.results[2]) == {
        "header.d": "list.example",
        "header.s": "s2",
        "policy.aligned": "no",
    }
    assert properties(found.results[3]) == {}
    assert found.results[2].reason == "the body was changed"


_ANY = st.one_of(st.text(max_size=60), st.text(alphabet='ab.@"\\;=?*()/ \r\n\x00é', max_size=60))


@settings(max_examples=200, deadline=None)
@given(
    address=_ANY,
    issuer=_ANY,
    serial=_ANY,
    reason=st.sampled_from(list(Reason)),
    word=st.sampled_from(list(SmimeWord)),
    status=st.sampled_from(list(Status)),
    domains=st.lists(st.tuples(st.sampled_from(list(DkimWord)), _ANY, _ANY, _ANY), max_size=3),
    chain=st.tuples(st.sampled_from(list(DkimWord)), _ANY),
    author=st.sampled_from(["", "bank.example"]),
)
def test_whatever_is_written_is_read_by_authres(
    address: str,
    issuer: str,
    serial: str,
    reason: Reason,
    word: SmimeWord,
    status: Status,
    domains: list[tuple[DkimWord, str, str, str]],
    chain: tuple[DkimWord, str],
    author: str,
) -> None:
    """Names come from strangers: no name makes a field that another parser reads as something else."""
    identity = replace(ALICE, address=address) if word is SmimeWord.PASS else None
    verdict = Verdict(
        word=word,
        status=status,
        reason=reason,
        identity=identity,
        signers=(address,),
        serial=serial,
        issuer=issuer,
    )
    dkim = [DkimResult(*each) for each in domains]
    arc = ArcResult(chain[0], 1, "x.example", "the chain has a gap" if chain[1] else "")
    field, *_ = identity_fields(verdict, dkim, HOST, author_domain=author, arc=arc)
    found = read_results(field)
    told = [(str(result.method), str(result.result)) for result in found.results]
    expected = [("smime", word.value), *(("dkim", each[0].value) for each in domains)]
    if not domains:
        expected.append(("dkim", "none"))
    if chain[0] is not DkimWord.NONE:
        expected.append(("arc", chain[0].value))
    assert told == expected
    names = {name for result in found.results for name in properties(result)}
    assert names <= {
        "body.smime-identifier",
        "body.smime-serial",
        "body.smime-issuer",
        "header.d",
        "header.s",
        "policy.aligned",
    }


def test_results_of_unsigned_mail_read_by_authres() -> None:
    found = read_results(written(UNSIGNED)[0])
    assert [(str(result.method), str(result.result)) for result in found.results] == [
        ("smime", "none"),
        ("dkim", "none"),
    ]


@pytest.mark.parametrize("word", list(SmimeWord), ids=lambda word: word.value)
def test_each_word_read_by_authres(word: SmimeWord) -> None:
    verdict = Verdict(word=word, status=Status.INVALID, reason=Reason.SIGNATURE, signers=("a@b.example",))
    assert str(read_results(written(verdict)[0]).results[0].result) == word.value


@pytest.mark.parametrize(
    ("issuer", "told"),
    [
        pytest.param("CN=Müller CA", r"CN=M\C3\BCller CA", id="beyond ASCII, escaped by RFC 4514"),
        pytest.param(r"CN=a\, b", r"CN=a\, b", id="escapes stay"),
        pytest.param('CN="; dkim=pass header.d=x', 'CN="; dkim=pass header.d=x', id="quote and semicolon"),
        pytest.param("CN=(x", "CN=(x", id="open comment"),
        pytest.param("CN=a\r\nX: y", r"CN=a\0D\0AX: y", id="line break"),
        pytest.param("CN==?utf-8?q?x?=", r"CN==\3Futf-8\3Fq\3Fx\3F=", id="encoded-word"),
        pytest.param("CN=" + "x" * 10_000, None, id="too long to tell"),
        pytest.param("CN=" + "ü" * 200, None, id="too long when escaped"),
        pytest.param("", None, id="none"),
    ],
)
def test_issuer(issuer: str, told: str | None) -> None:
    field = written(replace(TRUSTED, issuer=issuer), DKIM_PASS)[0]
    assert max(map(len, field.raw.split(b"\r\n"))) <= 998
    found = read_results(field)
    assert [str(result.method) for result in found.results] == ["smime", "dkim"]
    assert properties(found.results[0]).get("body.smime-issuer") == told


@pytest.mark.parametrize(
    ("address", "told"),
    [
        pytest.param("o'brien+x@bank.example", "o'brien+x@bank.example", id="plain"),
        pytest.param('"a b"@bank.example', '"a b"@bank.example', id="quoted local part"),
        pytest.param('"a;dkim=pass"@x.example', '"a;dkim=pass"@x.example', id="semicolon"),
        pytest.param("?utf-8?q?x?=@x.example", "?utf-8?q?x?=@x.example", id="tail of an encoded-word"),
        pytest.param("=?utf-8?q?x?=@x.example", None, id="encoded-word"),
        pytest.param("a\r\nb@x.example", None, id="line break"),
        pytest.param("jürgen@x.example", None, id="beyond ASCII"),
    ],
)
def test_identifier(address: str, told: str | None) -> None:
    verdict = Verdict(word=SmimeWord.FAIL, status=Status.INVALID, reason=Reason.DIGEST, signers=(address,))
    field = written(verdict)[0]
    assert b"=?" not in field.value
    assert properties(read_results(field).results[0]).get("body.smime-identifier") == told


def test_results_stay_bounded() -> None:
    field = written(TRUSTED, *[DKIM_PASS] * 1000)[0]
    assert field.value.count(b"dkim=") == 20


# --- Forgeries -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "goes"),
    [
        pytest.param("Verified-Identity", " V4; status=trusted", True, id="ours"),
        pytest.param("verified-identity", " V4", True, id="lower case"),
        pytest.param("Verified-Identity-Text", " V4 Eve", True, id="text"),
        pytest.param("VERIFIED-IDENTITY-Anything", " V4", True, id="anything that starts so"),
        pytest.param("Verified-Identity ", " V4", True, id="space before the colon"),
        pytest.param("Verified-Identity\t", " V4", True, id="tab before the colon"),
        pytest.param("Verified_Identity", " V4", True, id="underscore"),
        pytest.param("Verified--Identity", " V4", True, id="two hyphens"),
        pytest.param("VerifiedIdentity", " V4", True, id="no hyphen"),
        pytest.param("Verified\u2010Identity", " V4", True, id="another hyphen"),
        pytest.param("\uff36erified-\uff29dentity", " V4", True, id="fullwidth letters"),
        pytest.param("Verified-Ident", " V4", False, id="another name"),
        pytest.param("X-Verified-Identity", " V4", False, id="name that ends so"),
        pytest.param("Subject", " Verified-Identity: V4", False, id="only in the value"),
        pytest.param("Authentication-Results", " mx.example.com; dkim=pass", True, id="our results"),
        pytest.param("authentication-results", " MX.Example.COM; dkim=pass", True, id="letter case"),
        pytest.param("Authentication-Results ", " mx.example.com; dkim=pass", True, id="results, space"),
        pytest.param("Authentication-Results", "mx.example.com;dkim=pass", True, id="no spaces"),
        pytest.param("Authentication-Results", " mx.example.com.; dkim=pass", True, id="final dot"),
        pytest.param("Authentication-Results", ' "mx.example.com"; dkim=pass', True, id="quoted"),
        pytest.param("Authentication-Results", ' "mx\\.example.co\\m"; x=y', True, id="quoted, escapes"),
        pytest.param("Authentication-Results", " (a (b) \\) c) mx.example.com; x=y", True, id="comment"),
        pytest.param("Authentication-Results", "\r\n mx.example.com\r\n ; x=y", True, id="folded"),
        pytest.param("Authentication-Results", " mx.example.com 1; x=y", True, id="version"),
        pytest.param("Authentication-Results", " mx.example.com(c)1; x=y", True, id="comment and version"),
        pytest.param("Authentication-Results", " mx.example.com", True, id="nothing else"),
        pytest.param("Authentication-Results", " ｍｘ.example.com; x=y", True, id="fullwidth"),
        pytest.param("Authentication-Results", "\u00a0mx.example.com; x=y", True, id="no-break space"),
        pytest.param("Authentication-Results", " \u200bmx.example.com; x=y", True, id="no width"),
        pytest.param("Authentication-Results", " mx.example.net; dkim=pass", False, id="another host"),
        pytest.param("Authentication-Results", ' "other host" 1; dkim=pass', False, id="another, quoted"),
        pytest.param("Authentication-Results", " xmx.example.com; dkim=pass", False, id="a longer name"),
        pytest.param("Authentication-Results", " (mx.example.com) a.example; x=y", False, id="in a comment"),
        pytest.param("Authentication-Results", "", True, id="unreadable: empty"),
        pytest.param("Authentication-Results", " ; dkim=pass", True, id="unreadable: no name"),
        pytest.param("Authentication-Results", " (open mx.example.com; x=y", True, id="unreadable: comment"),
        pytest.param("Authentication-Results", ' "open; dkim=pass', True, id="unreadable: quote"),
        pytest.param("Authentication-Results", " spf=pass smtp.mailfrom=x", True, id="unreadable: a result"),
        pytest.param("Authentication-Results", " mx\x00.example.com; x=y", True, id="unreadable: NUL"),
        pytest.param("ARC-Authentication-Results", " i=1; mx.example.com; x=y", False, id="ARC is another"),
    ],
)
def test_stripped(name: str, value: str, goes: bool) -> None:
    field = Field(name.encode(), value.encode())
    expected = (DeleteField(name.strip(" \t").encode(), 1),) if goes else ()
    assert strip_forged([Field(b"From", b" a@b.example"), field], HOST) == expected


@pytest.mark.parametrize("stray", [b"\r", b"\n", b"\r\r\n "], ids=["CR", "LF", "CR-fold"])
@pytest.mark.parametrize(
    ("hidden", "goes"),
    [
        (b"Verified-Identity: V4; status=trusted", True),
        (b"VERIFIED_identity-Text : V4 Boss", True),
        (b"Authentication-Results: mx.example.com; smime=pass", True),
        (b"Authentication-Results: other.example; dkim=pass", False),
        (b"Verified-Identity", False),
        (b"X-Other: Verified-Identity: V4", False),
    ],
)
def test_what_stands_behind_a_stray_line_break(stray: bytes, hidden: bytes, goes: bool) -> None:
    """Python's parser for one takes it for a field."""
    field = Field(b"X-Note", b" a" + stray + hidden + b"\r\n b")
    expected = (DeleteField(b"X-Note", 2),) if goes else ()
    assert strip_forged([Field(b"X-Note", b" x"), field], HOST) == expected


def test_occurrences_count_all_fields_of_a_name() -> None:
    fields = [
        Field(b"Authentication-Results", b" other.example; dkim=pass"),
        Field(b"authentication-results ", b" mx.example.com; dkim=pass"),
        Field(b"Verified-Identity", b" V4"),
        Field(b"Authentication-Results", b" third.example; dkim=pass"),
        Field(b"AUTHENTICATION-RESULTS", b" mx.example.com; dkim=pass"),
        Field(b"verified-identity", b" V3"),
    ]
    assert strip_forged(fields, HOST) == (
        DeleteField(b"authentication-results", 2),
        DeleteField(b"Verified-Identity", 1),
        DeleteField(b"AUTHENTICATION-RESULTS", 4),
        DeleteField(b"verified-identity", 2),
    )


def test_own_fields_are_found_again() -> None:
    """What one run writes, the next one removes: also under an authserv-id that needs quotes."""
    for host in (HOST, "mx example", 'mx"\\x', "mx.bänk.example"):
        fields = identity_fields(TRUSTED, (DKIM_PASS,), host)
        assert len(strip_forged(fields, host)) == 3, host


@settings(max_examples=200, deadline=None)
@given(value=st.text(alphabet='()"\\; \tmx.example.com1\r\n=\x00é', max_size=60))
def test_any_results_are_judged(value: str) -> None:
    field = Field(b"Authentication-Results", value.encode())
    assert len(strip_forged([field], HOST)) <= 1


def test_authres_corpus(corpus: Callable[[str], Path]) -> None:
    """Every header of the doctests: ours by name if and only if authres reads our name there."""
    authres = pytest.importorskip("authres")
    doctests = next(corpus("authres").rglob("*.txt")).read_text()
    headers = set(re.findall(r"'(Authentication-Results: [^']*)'", doctests))
    assert len(headers) > 20
    for header in headers:
        value = header.partition(":")[2].replace("\\n", "\r\n").replace("\\t", "\t")
        name = authserv_id(authres, header)
        if name is None:
            continue
        field = Field(b"Authentication-Results", value.encode())
        assert strip_forged([field], name), header
        assert not strip_forged([field], "elsewhere.invalid"), header


def authserv_id(authres: Any, header: str) -> str | None:
    try:
        found = authres.AuthenticationResultsHeader.parse(header)
    except authres.AuthResError:
        return None
    return str(found.authserv_id)


# --- DKIM ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("canonical", ["simple/simple", "relaxed/relaxed"])
def test_our_edits_do_not_break_dkim(canonical: str) -> None:
    forged = (
        b"Verified-Identity: V4; status=trusted\r\n"
        b"Authentication-Results: mx.example.com;\r\n dkim=pass\r\n"
        b"Authentication-Results: other.example; dkim=pass\r\n"
        b"verified_identity-Text: V4 Eve\r\n"
    )
    # The sender signs its own results too, those of another host: they stay.
    names = ("from", "to", "subject", "authentication-results")
    signed = sign(
        b"Authentication-Results: sender.example; auth=pass\r\n" + MESSAGE, canonical=canonical, names=names
    )
    message = forged + signed
    fields, start = parse_fields(message)
    gone = {(edit.name.lower(), edit.occurrence) for edit in strip_forged(fields, HOST)}
    assert len(gone) == 3
    seen: dict[bytes, int] = {}
    kept = b""
    for field in fields:
        seen[field.key] = seen.get(field.key, 0) + 1
        if (field.key, seen[field.key]) not in gone:
            kept += field.raw
    for verdict in (TRUSTED, UNSIGNED):
        ours = b"".join(field.raw for field in written(verdict, DKIM_PASS))
        edited = ours + kept + b"\r\n" + message[start:]
        assert [result.word for result in check(edited, record(rsa_key()))] == [DkimWord.PASS]


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(" \r" + "a\u0301\u0327" * 40_000 + ": x", id="behind-a-stray-line-break"),
        pytest.param(" " + "a" + "\u0301\u0327" * 60_000 + "; dkim=pass", id="name-of-a-server"),
        pytest.param(" " + "\u4e2d\u00fc" * 60_000 + "; dkim=pass", id="name-of-a-server-in-letters"),
    ],
)
def test_combining_marks_take_no_time(value: str) -> None:
    """Unicode sorts them, and a run of a hundred thousand would hold up all mail for seconds."""
    with work_of_less_than(0.5):
        strip_forged([Field(b"Authentication-Results", value.encode())], HOST)


def test_combining_marks_hide_no_field_of_ours() -> None:
    marked = "V" + "\u0301" * 200 + "erified-Identity"
    assert strip_forged([Field(b"X", f" \r{marked}: V4".encode())], HOST)
