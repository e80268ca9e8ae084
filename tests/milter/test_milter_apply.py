"""Plans become calls on the host, in an order that keeps places right."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailsigil.message.fields import Field
from mailsigil.milter.apply import EditError, apply_plan
from mailsigil.plan import (
    AppendField,
    ChangeField,
    DeleteField,
    Edit,
    Event,
    InsertField,
    Outcome,
    Plan,
    ReplaceBody,
)


class Host:
    """A message as a milter host holds it: it carries the calls out and lists them."""

    def __init__(self, fields: list[tuple[str, str]] | None = None) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.fields = list(fields or [])
        self.body: bytes | None = None

    def insheader(self, index: int, name: str, value: str) -> None:
        self.calls.append(("insert", index, name, value))
        self.fields.insert(index, (name, value))

    def addheader(self, name: str, value: str) -> None:
        self.calls.append(("add", name, value))
        self.fields.append((name, value))

    def chgheader(self, name: str, occurrence: int, value: str | None) -> None:
        self.calls.append(("change", name, occurrence, value))
        places = [place for place, (held, _) in enumerate(self.fields) if held.lower() == name.lower()]
        if occurrence > len(places):
            return
        place = places[occurrence - 1]
        if value is None:
            del self.fields[place]
        else:
            self.fields[place] = (self.fields[place][0], value)

    def replacebody(self, chunk: bytes) -> None:
        self.calls.append(("body", len(chunk)))
        self.body = (self.body or b"") + chunk

    def setreply(self, code: str, status: str, text: str) -> None:
        self.calls.append(("reply", code, status, text))


def chunks_of(*chunks: bytes) -> Callable[[], Iterator[bytes]]:
    return lambda: iter(chunks)


def applied(*edits: Edit, fields: list[tuple[str, str]] | None = None) -> Host:
    host = Host(fields)
    apply_plan(Plan(event=Event.PASSED, edits=edits), host)
    return host


def test_inserted_fields_stand_on_top_in_the_order_of_the_plan() -> None:
    host = applied(
        InsertField(Field(b"One", b" 1")),
        AppendField(Field(b"Last", b" 9")),
        InsertField(Field(b"Two", b" 2")),
        fields=[("Old", " 0")],
    )
    assert host.fields == [("One", " 1"), ("Two", " 2"), ("Old", " 0"), ("Last", " 9")]


def test_places_are_those_before_any_edit() -> None:
    host = applied(
        DeleteField(b"x", 1),
        ChangeField(b"X", 2, b" changed"),
        InsertField(Field(b"X", b" new")),
        DeleteField(b"X", 3),
        DeleteField(b"Y", 1),
        fields=[("X", " 1"), ("Y", " 1"), ("x", " 2"), ("X", " 3"), ("X", " 4")],
    )
    assert host.fields == [("X", " new"), ("x", " changed"), ("X", " 4")]


@settings(max_examples=100)
@given(
    names=st.lists(st.sampled_from(["X", "x", "Y"]), max_size=12),
    doomed=st.sets(st.tuples(st.sampled_from([b"X", b"Y"]), st.integers(1, 12)), max_size=8),
)
def test_deleting_hits_exactly_the_fields_meant(names: list[str], doomed: set[tuple[bytes, int]]) -> None:
    fields = [(name, f" {place}") for place, name in enumerate(names)]
    host = applied(*(DeleteField(name, occurrence) for name, occurrence in doomed), fields=fields)
    counts: dict[str, int] = {}
    expected = []
    for name, value in fields:
        counts[name.upper()] = counts.get(name.upper(), 0) + 1
        if (name.upper().encode(), counts[name.upper()]) not in doomed:
            expected.append((name, value))
    assert host.fields == expected


@pytest.mark.parametrize(
    ("value", "written"),
    [
        pytest.param(b" a\r\n b", " a\n b", id="folds become LF"),
        pytest.param(b" a\r\n\tb", " a\n\tb", id="also before a tab"),
        pytest.param(b"\r\n a", "\n a", id="fold first"),
        pytest.param(" é".encode(), " é", id="UTF-8"),
        pytest.param(b"", " ", id="empty is not deletion"),
        pytest.param(b" 100%", " 100%", id="percent"),
    ],
)
def test_values(value: bytes, written: str) -> None:
    assert applied(InsertField(Field(b"X", value))).fields == [("X", written)]


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(InsertField(Field(b"X", b" a\r\nEvil: b")), id="a second field inside"),
        pytest.param(InsertField(Field(b"X", b" a\r\n\r\nbody")), id="end of header inside"),
        pytest.param(ChangeField(b"X", 1, b" a\r\n"), id="line break at the end"),
        pytest.param(AppendField(Field(b"X", b" a\rb")), id="bare CR"),
        pytest.param(AppendField(Field(b"X", b" a\0b")), id="NUL"),
        pytest.param(AppendField(Field(b"X", b" \xe9")), id="not UTF-8"),
        pytest.param(InsertField(Field(b"", b" a")), id="no name"),
        pytest.param(InsertField(Field(b"X:Y", b" a")), id="colon in the name"),
        pytest.param(InsertField(Field(b"X\n", b" a")), id="line break in the name"),
        pytest.param(DeleteField(b"X\xe9", 1), id="name not ASCII"),
    ],
)
def test_what_cannot_be_written_is_refused(edit: Edit) -> None:
    with pytest.raises(EditError):
        applied(edit)


@pytest.mark.parametrize(
    ("chunks", "packets"),
    [
        pytest.param((), [0], id="empty body"),
        pytest.param((b"",), [0], id="empty chunk"),
        pytest.param((b"ab", b"", b"c"), [3], id="small chunks are gathered"),
        pytest.param((b"a" * 65_535, b"b"), [65_535, 1], id="a full packet"),
        pytest.param((b"a" * 40_000, b"b" * 40_000), [40_000, 40_000], id="two that do not fit in one"),
        pytest.param((b"a" * 200_000,), [200_000], id="a large chunk is libmilter's to cut"),
    ],
)
def test_body_packets(chunks: tuple[bytes, ...], packets: list[int]) -> None:
    host = applied(ReplaceBody(chunks_of(*chunks)))
    assert host.calls == [("body", size) for size in packets]
    assert host.body == b"".join(chunks)


@pytest.mark.parametrize("outcome", [outcome for outcome in Outcome if outcome.code], ids=lambda o: o.name)
def test_refusal_is_a_reply_and_no_edit(outcome: Outcome) -> None:
    host = Host()
    edits = (InsertField(Field(b"X", b" y")),)
    apply_plan(Plan(outcome=outcome, event=Event.REFUSED, edits=edits), host)
    assert host.calls == [("reply", outcome.code, outcome.status, outcome.text)]
