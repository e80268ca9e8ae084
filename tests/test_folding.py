"""One folding of addresses for everybody, and nothing else that makes two mailboxes one."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsigil.config.delivery import DeliverySettings
from mailsigil.dovecot.script import Mailbox
from mailsigil.folding import fold, is_key
from mailsigil.message.address import Address
from mailsigil.policy.patterns import normal_key

KELVIN = "\u212aim@bank.example"


@pytest.mark.integration  # all of Unicode
def test_no_character_outside_ascii_becomes_one_inside() -> None:
    for number in range(0x80, sys.maxunicode + 1):
        if not 0xD800 <= number < 0xE000:
            assert not fold(chr(number)).isascii()


@given(st.text(st.characters(codec="utf-8"), max_size=30))
def test_what_is_folded_stays_as_it_is(text: str) -> None:
    assert fold(fold(text)) == fold(text)


@pytest.mark.parametrize(
    "text", ["Alice@Bank.example", "m\u00dcller@bank.example", "MU\u0308@bank.example", KELVIN]
)
def test_all_rooms_fold_alike(text: str) -> None:
    key = Address.parse(text).key
    assert key == normal_key(text) == fold(text)
    assert Mailbox(user=text, recipient=text).addresses == (key,)
    assert is_key(key)


def test_two_writings_of_one_letter_are_one() -> None:
    assert fold("mu\u0308ller") == fold("M\u00dcLLER") == "m\u00fcller"
    assert fold("J\u030c") == "\u01f0"  # composed in lower case only
    assert "\u212a" in fold("\u212a\u0327im")


def test_the_kelvin_sign_is_no_k() -> None:
    assert fold(KELVIN) == KELVIN
    assert DeliverySettings(users=(KELVIN,)).users == (KELVIN,)


@pytest.mark.parametrize(
    "text", ["", "@bank.example", "alice", "alice@", "Alice@bank.example", "a@b\u00fc.x"]
)
def test_what_is_in_no_key_form(text: str) -> None:
    assert not is_key(text)
