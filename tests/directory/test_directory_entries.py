"""From LDAP's octets to values: filters, dates, accounts, loops; hostile and broken input included."""

from __future__ import annotations

import ast
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailsigil.directory.dn import dn_key, shown
from mailsigil.directory.entries import EntryReader
from mailsigil.directory.entry import Entry, parse_time
from mailsigil.directory.filters import all_of, any_of, equal, escape
from mailsigil.directory.groups import all_groups, find_loop
from mailsigil.directory.ldap_directory import _spellings
from mailsigil.directory.profiles import OPENLDAP, inactive

PACKAGE = Path(__file__).resolve().parent.parent.parent / "milter" / "mailsigil"
NOW = datetime(2026, 11, 22, tzinfo=UTC)


def test_one_file_knows_ldap3() -> None:
    knowing = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.partition(".")[0] == "ldap3" for name in names):
                knowing.add(path.relative_to(PACKAGE).as_posix())
    assert knowing == {"directory/ldap.py"}


# --- Filters --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("alice@bank.example", "alice@bank.example"),
        ("*", r"\2a"),
        ("*)(uid=*", r"\2a\29\28uid=\2a"),
        ("a\0b", r"a\00b"),
        ("\\2a", r"\5c2a"),
        ("ü", r"\c3\bc"),
        ("\udcff", r"\ed\b3\bf"),
    ],
)
def test_escaped(value: str, written: str) -> None:
    assert escape(value) == written


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60))
def test_a_value_cannot_leave_its_place(value: str) -> None:
    text = equal("mail", value)
    assert (text.count("("), text.count(")"), text.count("*"), text.count("\0")) == (1, 1, 0, 0)
    octets = bytearray()
    rest = text[len("(mail=") : -1]
    while rest:
        octet, rest = (int(rest[1:3], 16), rest[3:]) if rest[0] == "\\" else (ord(rest[0]), rest[1:])
        octets.append(octet)
    assert octets.decode("utf-8", "surrogatepass") == value


def test_filters_combine() -> None:
    one, two = equal("a", "1"), equal("b", "2")
    assert any_of([one, one]) == "(a=1)"
    assert all_of([any_of([one, two]), "", one]) == "(&(|(a=1)(b=2))(a=1))"


@pytest.mark.parametrize(
    ("key", "spellings"),
    [
        ("a@bank.example", ["a@bank.example"]),
        ("a@xn--bcher-kva.example", ["a@xn--bcher-kva.example", "a@bücher.example"]),
        ("a@xn--.example", ["a@xn--.example"]),
    ],
)
def test_international_domains_are_asked_for_in_both_spellings(key: str, spellings: list[str]) -> None:
    assert _spellings(key) == spellings


# --- Dates ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("20271231235959Z", datetime(2027, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("20271231235959.0Z", datetime(2027, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("2027123123Z", datetime(2027, 12, 31, 23, tzinfo=UTC)),
        ("202712312359+0130", datetime(2027, 12, 31, 23, 59, tzinfo=timezone(timedelta(minutes=90)))),
        ("2027123123-05", datetime(2027, 12, 31, 23, tzinfo=timezone(timedelta(hours=-5)))),
    ],
)
def test_times(text: str, moment: datetime) -> None:
    assert parse_time(text) == moment


@pytest.mark.parametrize(
    "text",
    ["", "tomorrow", "2027-12-31", "20271331235959Z", "20270230000000Z", "20271231235959", "²0271231Z"],
)
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match="is no time"):
        parse_time(text)


# --- Accounts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attribute", "value", "word"),
    [
        ("userAccountControl", "512", ""),
        ("userAccountControl", "514", "disabled"),
        ("userAccountControl", "66050", "disabled"),
        ("userAccountControl", "yes", "userAccountControl is"),
        ("accountExpires", "0", ""),
        ("accountExpires", "9223372036854775807", ""),
        ("accountExpires", "130000000000000000", "expired"),
        ("accountExpires", "150000000000000000", ""),
        ("accountExpires", "999999999999999999999", ""),
        ("accountExpires", "soon", "accountExpires is"),
        ("pwdAccountLockedTime", "000001010000Z", "locked"),
        ("pwdAccountLockedTime", "20261101000000Z", ""),
        ("nsAccountLock", "TRUE", "locked"),
        ("nsAccountLock", "false", ""),
    ],
)
def test_disabled_accounts(attribute: str, value: str, word: str) -> None:
    reason = inactive(Entry("uid=a", {attribute.lower(): (value.encode(),)}), NOW)
    assert (word in reason) if word else reason == ""


def test_values_that_cannot_be_read_are_left_out() -> None:
    entry = Entry("uid=a", {"mail": (b"a@b.example", b"\x00", b"x" * 5000, b" a@b.example ", b"\xff\n")})
    assert entry.texts(["MAIL"]) == ("a@b.example",)


def test_names_are_compared_without_case_and_spaces() -> None:
    assert dn_key("CN=A B , OU = c,DC=X") == dn_key("cn=a b,ou=c,dc=x")
    assert dn_key(r"cn=a\, b,dc=x") != dn_key("cn=a,b,dc=x")
    assert dn_key("") == ""


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (r"CN=Traders\, London,OU=G,DC=b", r"cn=traders\2C London, ou=g, dc=b"),
        (r"cn=b\C3\A4nk,dc=b", "cn=b\u00e4nk,dc=b"),
        (r"cn=a\20,dc=b", "cn=a\\ ,dc=b"),
        (r"cn=\ a,dc=b", r"cn = \20a , dc=b"),
        (r"cn=\#a,dc=b", r"cn=\23a,dc=b"),
        (r"cn=a\=b,dc=b", "cn=a=b,dc=b"),
        (r"cn=a\5Cb\22,dc=b", r"cn=a\\b\",dc=b"),
        ("cn=a + uid=b,dc=b", "uid=B+cn=A,dc=b"),
        ("cn=#04024869,dc=b", "CN=#04024869 ; dc=b"),
        ("cn=a\x1bb,dc=b", r"cn=a\1bb,dc=b"),
    ],
)
def test_names_are_compared_whatever_way_they_are_escaped_in(one: str, other: str) -> None:
    assert dn_key(one) == dn_key(other) == dn_key(dn_key(one))


@pytest.mark.parametrize(
    ("one", "other"),
    [(r"cn=a\+b=c,dc=b", "cn=a+b=c,dc=b"), (r"cn=a\ ,dc=b", "cn=a,dc=b"), (r"cn=\#04,dc=b", "cn=#04,dc=b")],
)
def test_what_an_escape_makes_another_name(one: str, other: str) -> None:
    assert dn_key(one) != dn_key(other)


@given(st.text(max_size=40))
def test_a_name_that_is_shown_changes_no_terminal(text: str) -> None:
    assert shown(text).isprintable()
    assert shown("cn=Evil \x1b[2J\u202ex") == r"cn=Evil \1b[2J\e2\80\aex"


@given(st.text(st.sampled_from('ab ,;=+\\#"2cC\x1b\u00fc\udcff'), max_size=25))
def test_the_compared_form_stays_as_it_is(text: str) -> None:
    assert dn_key(dn_key(text)) == dn_key(text)
    assert dn_key(text).isprintable()


# --- Groups ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("edges", "found", "loop"),
    [
        pytest.param({"p": "ab", "a": "c", "b": "c"}, "abc", "", id="two ways to one group are no loop"),
        pytest.param({"p": "a", "a": "b", "b": "c", "c": "a"}, "abc", "abc", id="a loop of three"),
        pytest.param({"p": "a", "a": "a"}, "a", "a", id="a group in itself"),
        pytest.param({}, "", "", id="no group"),
    ],
)
def test_groups(edges: dict[str, str], found: str, loop: str) -> None:
    groups, way = all_groups("p", lambda one: frozenset(edges.get(one, "")))
    assert (groups, "".join(sorted(way))) == (set(found), loop)


def test_a_deep_chain_of_groups_ends() -> None:
    edges = {number: [number + 1] for number in range(5000)}
    assert find_loop({str(one): map(str, more) for one, more in edges.items()}) == ()
    groups, _ = all_groups("0", lambda one: frozenset({str(int(one) + 1)}))
    assert 1000 <= len(groups) <= 1002


@pytest.mark.parametrize(
    ("level", "employees", "is_told"),
    [
        ("", "V3", False),
        ("V3", "V3", False),
        ("v1", "V1", False),
        ("V1", "V1", False),
        ("V4", "V1", True),
        ("X", "V1", True),
    ],
)
def test_what_everybody_of_an_organisation_may_say(level: str, employees: str, is_told: bool) -> None:
    entry = Entry(
        "cn=Bank",
        {
            "cn": (b"Bank",),
            "mailsigildomain": (b"bank.example",),
            **({"mailsigilvalidatedlevel": (level.encode(),)} if level else {}),
        },
    )
    reader = EntryReader(profile=OPENLDAP, domains=frozenset({"bank.example"}))
    organisation, problems = reader.organisation(entry)
    assert organisation.employees == employees
    assert bool(problems) is is_told
