"""Who may be signed for. Every row that is not granted is a mail that would have been a forgery."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailsigil.policy.authorise import Authorisation, Grant, authorise
from mailsigil.policy.patterns import PatternError

ALICE, ALIAS, CEO = "alice@bank.example", "alice.example@bank.example", "ceo@bank.example"
SERVICE, EVE = "service@bank.example", "eve@evil.example"


def _ask(
    *,
    login: str = "alice",
    owned: tuple[str, ...] = (ALICE, ALIAS),
    envelope: str = ALICE,
    author: str = ALICE,
    send_as: tuple[str, ...] = (),
) -> Authorisation:
    return authorise(
        login=login, login_addresses=owned, envelope_sender=envelope, author=author, send_as=send_as
    )


@pytest.mark.parametrize(
    ("asked", "grant"),
    [
        pytest.param({}, Grant.GRANTED, id="all-agree"),
        pytest.param({"author": "Alice@BANK.example"}, Grant.GRANTED, id="letter-case"),
        pytest.param({"author": ALIAS, "envelope": ALIAS}, Grant.GRANTED, id="alias"),
        pytest.param({"author": ALIAS}, Grant.GRANTED, id="alias-with-main-address-in-envelope"),
        pytest.param({"author": SERVICE, "send_as": (SERVICE,)}, Grant.GRANTED, id="rule-covers-author"),
        pytest.param(
            {"author": SERVICE, "envelope": SERVICE, "send_as": (SERVICE,)},
            Grant.GRANTED,
            id="rule-covers-both",
        ),
        pytest.param(
            {"envelope": "bounces@bank.example", "send_as": ("bounces@bank.example",)},
            Grant.GRANTED,
            id="rule-covers-envelope",
        ),
        # The trap that both C peers fell into.
        pytest.param({"author": CEO}, Grant.LOGIN_MISMATCH, id="from-ceo-envelope-own"),
        pytest.param({"author": CEO, "envelope": CEO}, Grant.LOGIN_MISMATCH, id="from-ceo-envelope-ceo"),
        pytest.param({"envelope": CEO}, Grant.ENVELOPE_MISMATCH, id="envelope-ceo"),
        pytest.param({"envelope": EVE}, Grant.ENVELOPE_MISMATCH, id="foreign-envelope"),
        pytest.param({"envelope": ""}, Grant.ENVELOPE_MISMATCH, id="bounce"),
        pytest.param(
            {"envelope": "", "owned": (ALICE, "")},
            Grant.ENVELOPE_MISMATCH,
            id="an-empty-address-is-not-owned",
        ),
        pytest.param(
            {"envelope": "alice@bank.example\n"}, Grant.ENVELOPE_MISMATCH, id="envelope-with-newline"
        ),
        pytest.param({"author": SERVICE, "send_as": (CEO,)}, Grant.LOGIN_MISMATCH, id="rule-for-another"),
        pytest.param({"author": "alice+x@bank.example"}, Grant.LOGIN_MISMATCH, id="subaddress"),
        pytest.param({"author": "alice@sub.bank.example"}, Grant.LOGIN_MISMATCH, id="subdomain"),
        pytest.param(
            {"author": "\u212aim@bank.example", "owned": ("kim@bank.example",)},
            Grant.LOGIN_MISMATCH,
            id="kelvin",
        ),
        pytest.param({"author": "аlice@bank.example"}, Grant.LOGIN_MISMATCH, id="cyrillic-a"),
        pytest.param({"owned": ()}, Grant.LOGIN_MISMATCH, id="login-of-nobody"),
        pytest.param({"owned": ("",), "author": ""}, Grant.UNFIT_ADDRESS, id="empty-owns-empty"),
        pytest.param({"owned": ("\n",), "envelope": "\n"}, Grant.LOGIN_MISMATCH, id="unfit-owned-address"),
        pytest.param({"author": ""}, Grant.UNFIT_ADDRESS, id="no-author"),
        pytest.param({"author": "*"}, Grant.UNFIT_ADDRESS, id="star"),
        pytest.param({"author": "*@*"}, Grant.UNFIT_ADDRESS, id="star-domain"),
        pytest.param({"author": "*@bank.example"}, Grant.LOGIN_MISMATCH, id="star-local"),
        pytest.param({"author": "alice@bank.example\0"}, Grant.UNFIT_ADDRESS, id="nul"),
        pytest.param({"author": f"{CEO}\n{ALICE}"}, Grant.UNFIT_ADDRESS, id="newline"),
        pytest.param({"author": f"{CEO}, {ALICE}"}, Grant.UNFIT_ADDRESS, id="two-addresses"),
        # Without a login.
        pytest.param({"login": ""}, Grant.NO_LOGIN, id="no-login-whoever-owns"),
        pytest.param({"login": "", "owned": ()}, Grant.NO_LOGIN, id="no-login-no-rule"),
        pytest.param(
            {"login": "", "owned": (), "send_as": (SERVICE,)}, Grant.NO_LOGIN, id="client-rule-for-another"
        ),
        pytest.param({"login": "", "owned": (), "send_as": (ALICE,)}, Grant.GRANTED, id="client-rule"),
        pytest.param(
            {"login": "", "owned": (), "send_as": ("*@bank.example",), "author": CEO},
            Grant.GRANTED,
            id="client-domain",
        ),
        pytest.param(
            {"login": "", "owned": (), "send_as": (SERVICE,), "author": SERVICE},
            Grant.ENVELOPE_MISMATCH,
            id="client-rule-foreign-envelope",
        ),
    ],
)
def test_grants(asked: dict[str, str], grant: Grant) -> None:
    answer = _ask(**asked)  # type: ignore[arg-type]
    assert answer.grant is grant
    assert answer.granted is (grant is Grant.GRANTED)
    assert answer.reason
    assert answer.reason.isprintable()


@pytest.mark.parametrize(
    ("login", "envelope", "author"),
    list(itertools.product(("alice", "eve", ""), (ALICE, CEO, EVE, ""), (ALICE, CEO, EVE, ""))),
)
def test_without_rules_only_the_one_row_where_all_agree(login: str, envelope: str, author: str) -> None:
    owned = {"alice": (ALICE,), "eve": (EVE,), "": ()}[login]
    granted = _ask(login=login, owned=owned, envelope=envelope, author=author).granted
    assert granted is (bool(login) and owned == (envelope,) == (author,))


def test_reasons_name_the_rule_and_the_addresses() -> None:
    assert _ask(author=SERVICE, send_as=("*@bank.example",)).reason == (
        "login 'alice': 'service@bank.example' is covered by the rule \"*@bank.example\""
    )
    assert _ask(author=CEO).reason == (
        "login 'alice' neither owns 'ceo@bank.example' nor may send as this address"
    )
    assert _ask(envelope=CEO).reason == (
        "the envelope sender 'ceo@bank.example' is neither the author 'alice@bank.example'"
        " nor an address that login 'alice' may send as"
    )


def test_a_rule_that_is_no_pattern_is_never_skipped() -> None:
    with pytest.raises(PatternError):
        _ask(author=CEO, send_as=("*",))


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60), st.text(max_size=60), st.text(max_size=20))
def test_arbitrary_text_is_granted_to_nobody(author: str, envelope: str, login: str) -> None:
    answer = authorise(
        login=login, login_addresses=(ALICE,), envelope_sender=envelope, author=author, send_as=()
    )
    assert not answer.granted or (login and author.lower() == envelope.lower() == ALICE)
    assert answer.reason.isprintable()
