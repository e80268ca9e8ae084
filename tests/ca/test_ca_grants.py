from __future__ import annotations

import pytest

from mailsigil.ca.grants import NotGranted, Wish, covers, grant
from mailsigil.config.authority import AuthoritySettings, EnrolRule
from mailsigil.pki.policies import Level

BANK = "Example Bank"
KEYD = EnrolRule(
    user="keyd",
    addresses=("*@bank.example",),
    levels=("V1", "V3", "V4"),
    organisation=BANK,
    names_from_request=True,
)
ALICE = EnrolRule(
    user="alice",
    addresses=("alice@bank.example",),
    levels=("V1", "V4"),
    given_name="Alice",
    surname="Example",
    organisation=BANK,
    title="Manager",
)
RULES = (KEYD, ALICE)


def wish(address: str = "alice@bank.example", **names: str) -> Wish:
    return Wish(addresses=(address,) if address else (), **names)


@pytest.mark.parametrize(
    ("pattern", "address", "covered"),
    [
        ("alice@bank.example", "Alice@bank.example", True),
        ("*@bank.example", "bob@bank.example", True),
        ("*@bank.example", "bob@mail.bank.example", False),
        ("*@*.bank.example", "bob@mail.bank.example", True),
        ("*@*.bank.example", "bob@bank.example", False),
        ("*@*.bank.example", "bob@evilbank.example", False),
        ("*@bank.example", "bob@notbank.example", False),
        ("alice@bank.example", "alice@bank.example.evil", False),
    ],
)
def test_patterns(pattern: str, address: str, covered: bool) -> None:
    assert covers(pattern, address) is covered


PERSON = {"given_name": "Bob", "surname": "Sample"}


@pytest.mark.parametrize(
    ("user", "asked", "level", "given"),
    [
        pytest.param("keyd", wish("bob@bank.example"), None, Level.V1, id="no names"),
        pytest.param("keyd", wish("bob@bank.example", organisation=BANK), None, Level.V3, id="organisation"),
        pytest.param(
            "keyd", wish("bob@bank.example", organisation=BANK, **PERSON), None, Level.V4, id="both"
        ),
        pytest.param("keyd", wish("bob@bank.example", **PERSON), Level.V4, Level.V4, id="by label"),
        pytest.param("keyd", wish("bob@bank.example", **PERSON), Level.V1, Level.V1, id="less by label"),
        pytest.param("alice", wish(), None, Level.V4, id="names of the rule"),
        pytest.param("alice", wish(""), None, Level.V4, id="the one address of the rule"),
        pytest.param("alice", wish(), Level.V1, Level.V1, id="less than the rule has"),
    ],
)
def test_granted(user: str, asked: Wish, level: Level | None, given: Level) -> None:
    assert grant(RULES, user=user, wish=asked, level=level).subject.level is given


def test_names_come_from_the_rule_or_from_the_request() -> None:
    alice = grant(RULES, user="alice", wish=wish(title="Chief"), level=None).subject
    assert (alice.given_name, alice.organisation, alice.title) == ("Alice", BANK, "Manager")
    asked = wish("bob@bank.example", organisation=BANK, title="Clerk", **PERSON)
    bob = grant(RULES, user="keyd", wish=asked, level=None).subject
    assert (bob.given_name, bob.surname, bob.title) == ("Bob", "Sample", "Clerk")


@pytest.mark.parametrize(
    ("user", "asked", "level", "sentence"),
    [
        pytest.param("eve", wish(), None, "eve may not enrol", id="no rule"),
        pytest.param("alice", wish("bob@bank.example"), None, "may not enrol bob", id="another's address"),
        pytest.param("keyd", wish("bob@x.example"), None, "may not enrol", id="another domain"),
        pytest.param("alice", wish(), Level.V3, "may not enrol V3", id="another level"),
        pytest.param("alice", wish(**PERSON), Level.V4, "another person", id="another person"),
        pytest.param(
            "keyd", wish(organisation="Other", **PERSON), Level.V4, "the organisation is", id="organisation"
        ),
        pytest.param("keyd", wish(), Level.V4, "V4 needs a given name", id="names missing"),
        pytest.param("keyd", wish(""), None, "names no mail address", id="no address"),
        pytest.param(
            "keyd",
            Wish(addresses=("a@bank.example", "b@bank.example")),
            None,
            "several addresses",
            id="several addresses",
        ),
    ],
)
def test_refused(user: str, asked: Wish, level: Level | None, sentence: str) -> None:
    with pytest.raises(NotGranted, match=sentence):
        grant(RULES, user=user, wish=asked, level=level)


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        ({"levels": ["V4"], "given_name": "A", "surname": "B"}, "V3 and V4 need"),
        ({"levels": ["V2"]}, "V2 and V4 need"),
        ({"given_name": "A"}, "belong together"),
        ({"names_from_request": True, "title": "X"}, "leave out"),
        ({"addresses": ["alice"]}, "is no address to enrol"),
    ],
)
def test_impossible_rules(rule: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        EnrolRule.model_validate({"user": "u", "addresses": ["*@bank.example"], **rule})


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        ({"publish": {"url": "https://pki.example"}}, "no place to publish"),
        ({"publish": {"url": "http://user@pki.example"}}, "no place to publish"),
        ({"est": {"listen": "8443"}}, "no address to listen on"),
        ({"est": {"listen": "localhost:8443"}}, "no address to listen on"),
        ({"est": {"names": ["a b"]}}, "no host name"),
    ],
)
def test_impossible_settings(section: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        AuthoritySettings.model_validate(section)
