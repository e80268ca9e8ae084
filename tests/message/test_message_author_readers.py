"""Where we find an author, the two address parsers of Python's library find the same one or none."""

from __future__ import annotations

import random
from email import errors, message_from_string, policy
from email.utils import getaddresses

import pytest

from mailsigil.message.author import Author, parse_author
from mailsigil.message.fields import Field

_PIECES = [
    *'ab.@<>(),:;"\\[] \t',
    "a@b.example",
    "c@b.example",
    "<a@b.example>",
    "=?utf-8?q?",
    "?=",
    "=40",
    "=?",
]
_PIECES += ["'", "x y", '"q"', '""', "(c)"]


def _generous(value: str) -> set[str]:
    return {address.replace('"', "") for _, address in getaddresses([value]) if address}


def _strict(value: str) -> set[str]:
    try:
        found = message_from_string(f"From: {value}\r\n\r\n", policy=policy.default)["from"].addresses
    except (errors.MessageError, AttributeError, IndexError, ValueError):
        return set()  # that parser gives up on some dots and quotes
    return {address.addr_spec.replace('"', "") for address in found}


@pytest.mark.parametrize("seed", range(4))
def test_readers_agree(seed: int) -> None:
    source = random.Random(seed)
    accepted = 0
    for _ in range(6000):
        value = "".join(source.choices(_PIECES, k=source.randint(1, 6)))
        author = parse_author([Field(b"From", f" {value}".encode())])
        if isinstance(author, Author):
            accepted += 1
            assert _generous(value) | _strict(value) <= {str(author.address).replace('"', "")}, value
    assert accepted > 100
