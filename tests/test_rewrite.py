"""A plan carried out on bytes: what the command line writes, and the tests compare."""

from __future__ import annotations

import pytest

import bank
from mailsigil.message.fields import Field
from mailsigil.plan import AppendField, ChangeField, DeleteField, Edit, InsertField, ReplaceBody
from mailsigil.rewrite import rewritten

RAW = b"A: 1\r\nB: x\r\n y\r\na:2\r\nA: 3\r\n\r\nbody\r\n"


def field(name: bytes, value: bytes = b" new") -> Field:
    return Field(name, value)


@pytest.mark.parametrize(
    ("edits", "after"),
    [
        pytest.param([], RAW, id="nothing"),
        pytest.param(
            [InsertField(field(b"X")), InsertField(field(b"Y"))], b"X: new\r\nY: new\r\n" + RAW, id="insert"
        ),
        pytest.param(
            [AppendField(field(b"X")), AppendField(field(b"Y"))],
            b"A: 1\r\nB: x\r\n y\r\na:2\r\nA: 3\r\nX: new\r\nY: new\r\n\r\nbody\r\n",
            id="append",
        ),
        pytest.param(
            [DeleteField(b"A", 1), DeleteField(b"A", 3)],
            b"B: x\r\n y\r\na:2\r\n\r\nbody\r\n",
            id="delete-counts-before-any-edit",
        ),
        pytest.param(
            [ChangeField(b"A", 2, b" other")],
            b"A: 1\r\nB: x\r\n y\r\na: other\r\nA: 3\r\n\r\nbody\r\n",
            id="change-keeps-the-names-spelling",
        ),
        pytest.param(
            [InsertField(field(b"A")), DeleteField(b"A", 1)],
            b"A: new\r\nB: x\r\n y\r\na:2\r\nA: 3\r\n\r\nbody\r\n",
            id="an-inserted-field-is-not-counted",
        ),
        pytest.param([DeleteField(b"A", 9), DeleteField(b"Z", 1)], RAW, id="what-is-not-there"),
        pytest.param(
            [ReplaceBody(lambda: iter([b"new ", b"body\r\n"]))],
            RAW.replace(b"body", b"new body"),
            id="body",
        ),
        pytest.param([ReplaceBody(lambda: iter([]))], RAW.replace(b"body\r\n", b""), id="empty-body"),
    ],
)
def test_edits(edits: list[Edit], after: bytes) -> None:
    assert b"".join(rewritten(*bank.cut(RAW), edits)) == after


def test_octets_that_are_no_text_stay() -> None:
    raw = b"X: \xff\xfe\x80\r\nY:\t\r\n\r\n\x00\xff\r\n"
    assert b"".join(rewritten(*bank.cut(raw), [])) == raw
