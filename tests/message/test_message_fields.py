"""Header fields: byte for byte, and what ends a header."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsigil.message.fields import Field, count_named, named, parse_fields

PARSED = [
    pytest.param(b"A: b\r\nC:d\r\n\r\nbody", [(b"A", b" b"), (b"C", b"d")], b"body", id="plain"),
    pytest.param(b"A: b\r\n\tc\r\n  d\r\n\r\n", [(b"A", b" b\r\n\tc\r\n  d")], b"", id="folded"),
    pytest.param(b"\r\nbody", [], b"body", id="no-header"),
    pytest.param(b"", [], b"", id="nothing"),
    pytest.param(b"A: b\r\n", [(b"A", b" b")], b"", id="no-body"),
    pytest.param(b"A: b", [(b"A", b" b")], b"", id="no-line-end"),
    pytest.param(b"A:\r\n\r\n\r\nx", [(b"A", b"")], b"\r\nx", id="empty-value"),
    pytest.param(b"From : x\r\n\r\n", [(b"From ", b" x")], b"", id="space-before-colon"),
    pytest.param(
        b"A: b\r\njunk\r\nB: c\r\n\r\n", [(b"A", b" b")], b"junk\r\nB: c\r\n\r\n", id="line-is-no-field"
    ),
    pytest.param(b" A: b\r\n\r\n", [], b" A: b\r\n\r\n", id="continuation-of-nothing"),
    pytest.param(b"Fr\xc3\xb6m: b\r\n", [], b"Fr\xc3\xb6m: b\r\n", id="name-not-ascii"),
    pytest.param(b"F\0: b\r\n", [], b"F\0: b\r\n", id="name-with-nul"),
    pytest.param(b"A: b\nB: c\rD: e\r\n\r\n", [(b"A", b" b\nB: c\rD: e")], b"", id="bare-line-ends-stay"),
    pytest.param(b"A: b\r\n \r\n\r\nx", [(b"A", b" b\r\n ")], b"x", id="blank-continuation"),
]


@pytest.mark.parametrize(("data", "expected", "body"), PARSED)
def test_parse(data: bytes, expected: list[tuple[bytes, bytes]], body: bytes) -> None:
    fields, offset = parse_fields(data)
    assert [(field.name, field.value) for field in fields] == expected
    assert data[offset:] == body


@given(
    st.lists(st.sampled_from([b"A", b":", b" ", b"\r\n", b"\n", b"\t", b"\xff", b"b: c"]), max_size=20).map(
        b"".join
    )
)
def test_no_octet_of_the_header_is_lost(data: bytes) -> None:
    fields, offset = parse_fields(data)
    raw = b"".join(field.raw for field in fields)
    assert data[:offset] in {raw, raw + b"\r\n", raw[:-2]}


def test_views_of_a_field() -> None:
    field = Field(b"Subject ", b" one\r\n two \r\n\tthree ")
    assert field.key == b"subject"
    assert field.raw == b"Subject : one\r\n two \r\n\tthree \r\n"
    assert field.unfolded == b"one two \tthree"


def test_lookup_by_key() -> None:
    fields = [Field(b"FROM", b"1"), Field(b"To", b"2"), Field(b"from\t", b"3")]
    assert [field.value for field in named(fields, b"from")] == [b"1", b"3"]
    assert count_named(fields, b"from") == 2
    assert count_named(fields, b"cc") == 0


MADE = [
    pytest.param("short", 78, b" short", id="short"),
    pytest.param("", 78, b" ", id="empty"),
    pytest.param("aaaa bbbb cccc", 11, b" aaaa\r\n bbbb cccc", id="folded"),
    pytest.param("a" * 30, 11, b" " + b"a" * 30, id="one-long-word"),
    pytest.param("aaaa    bbbb", 8, b" aaaa\r\n    bbbb", id="several-spaces"),
]


@pytest.mark.parametrize(("text", "width", "value"), MADE)
def test_make(text: str, width: int, value: bytes) -> None:
    assert Field.make("X-Y", text, width=width).value == value


@given(st.text(st.sampled_from("ab;= "), max_size=300), st.integers(10, 80))
def test_folding_is_undone_by_unfolding(text: str, width: int) -> None:
    field = Field.make("Verified-Identity", text, width=width)
    assert field.unfolded.decode() == text.strip()
    assert all(line.strip() for line in field.raw.split(b"\r\n")[1:-1])
    assert parse_fields(field.raw) == ((field,), len(field.raw))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("X Y", "a"),
        ("X:", "a"),
        ("", "a"),
        ("X", "a\r\nFrom: b"),
        ("X", "\u00fc"),
        ("X", "a\0"),
        ("X", "a\tb"),
    ],
    ids=["space", "colon", "no-name", "injection", "not-ascii", "nul", "tab"],
)
def test_make_refuses(name: str, text: str) -> None:
    with pytest.raises(ValueError, match=r"field name|US-ASCII"):
        Field.make(name, text)
