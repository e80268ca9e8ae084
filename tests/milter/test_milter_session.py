"""Collecting one message after the other."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailsigil.message.fields import Field
from mailsigil.message.spool import Spool
from mailsigil.milter.session import Session, SessionError, SessionLimits
from mailsigil.plan import Envelope, Event, Plan


@dataclass
class Recorder:
    """A handler that keeps what it was asked."""

    name: str = "recorder"
    envelopes: list[Envelope] = field(default_factory=list)
    fields: list[tuple[Field, ...]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    bounds: list[str] = field(default_factory=list)

    def handle(
        self, envelope: Envelope, fields: tuple[Field, ...], body: Spool, *, over_limit: str = ""
    ) -> Plan:
        self.envelopes.append(envelope)
        self.fields.append(fields)
        self.bodies.append(b"".join(body.chunks()))
        self.bounds.append(over_limit)
        return Plan(event=Event.PASSED, reason=self.name)


def begun(handler: Recorder, **limits: int) -> Session:
    session = Session(limits=SessionLimits(**limits), current_handler=lambda: handler)  # type: ignore[arg-type]
    session.connect("192.0.2.1")
    session.begin("<alice@bank.example>", login="alice", daemon_name="submission")
    return session


def test_whole_message() -> None:
    handler = Recorder()
    session = begun(handler)
    session.add_recipient("<bob@shop.example>")
    session.add_field(b"Subject", b" hello")
    session.add_body(b"one ")
    session.add_body(b"two")
    assert session.finish("4Q").reason == "recorder"
    assert handler.envelopes == [
        Envelope(
            queue_id="4Q",
            client_address="192.0.2.1",
            login="alice",
            daemon_name="submission",
            mail_from="alice@bank.example",
            recipients=("bob@shop.example",),
        )
    ]
    assert handler.fields == [(Field(b"Subject", b" hello"),)]
    assert handler.bodies == [b"one two"]
    assert handler.bounds == [""]


@pytest.mark.parametrize(
    ("path", "bare"),
    [
        pytest.param("<>", "", id="bounce"),
        pytest.param("<a@b>", "a@b", id="brackets"),
        pytest.param("a@b", "a@b", id="none"),
        pytest.param('<"a>b"@c>', '"a>b"@c', id="bracket inside"),
        pytest.param("<a@b", "<a@b", id="only one"),
    ],
)
def test_paths_lose_their_brackets(path: str, bare: str) -> None:
    handler = Recorder()
    session = begun(handler)
    session.begin(path, login="", daemon_name="")
    session.finish("-")
    assert handler.envelopes[0].mail_from == bare


def test_message_keeps_the_handler_it_began_with() -> None:
    current = Recorder("old")
    session = Session(limits=SessionLimits(), current_handler=lambda: current)
    session.begin("<>", login="", daemon_name="")
    current = Recorder("new")
    assert session.finish("-").reason == "old"
    session.begin("<>", login="", daemon_name="")
    assert session.finish("-").reason == "new"


def test_fault_is_raised_at_the_end_and_gone_with_the_message() -> None:
    session = begun(Recorder())
    session.fail(OSError("no space left"))
    session.fail(ValueError("a consequence"))
    with pytest.raises(OSError, match="no space left"):
        session.finish("-")
    session.reset()
    session.begin("<>", login="", daemon_name="")
    assert session.finish("-").event is Event.PASSED


def test_fault_before_the_message_began_is_the_one_reported() -> None:
    session = Session(limits=SessionLimits(), current_handler=Recorder)
    session.fail(ValueError("the login cannot be read"))
    with pytest.raises(ValueError, match="login"):
        session.finish("-")


@pytest.mark.parametrize("step", ["add_recipient", "add_field", "add_body", "finish"])
def test_parts_without_a_message_are_out_of_order(step: str) -> None:
    session = Session(limits=SessionLimits(), current_handler=Recorder)
    arguments = (b"X", b" y") if step == "add_field" else (b"x",)
    with pytest.raises(SessionError):
        getattr(session, step)(*arguments)


def test_recipients_are_bounded() -> None:
    handler = Recorder()
    session = begun(handler, recipients=2)
    for _ in range(3):
        session.add_recipient("<x@y>")
    session.finish("-")
    assert handler.bounds == ["recipients"]
    assert handler.envelopes[0].recipients == ("x@y", "x@y")


def test_first_bound_is_named_and_nothing_more_is_kept() -> None:
    handler = Recorder()
    session = begun(handler, header_fields=1, message_bytes=10)
    session.add_field(b"A", b" 1")
    session.add_field(b"B", b" 2")
    session.add_body(b"x" * 100)
    session.finish("-")
    assert (handler.bounds, handler.bodies, len(handler.fields[0])) == (["header_fields"], [b""], 1)


def test_body_is_let_go_with_the_message() -> None:
    kept: list[Spool] = []

    class Keeper:
        def handle(
            self, envelope: Envelope, fields: tuple[Field, ...], body: Spool, *, over_limit: str = ""
        ) -> Plan:
            kept.append(body)
            return Plan(event=Event.PASSED)

    session = Session(limits=SessionLimits(memory_bytes=4), current_handler=Keeper)
    session.begin("<>", login="", daemon_name="")
    session.add_body(b"more than four octets")
    session.finish("-")
    assert kept[0].read(0, 4) == b"more"
    session.reset()
    with pytest.raises(ValueError, match="closed"):
        kept[0].read(0, 4)


@settings(max_examples=60)
@given(
    values=st.lists(st.binary(max_size=40), max_size=30),
    chunks=st.lists(st.binary(max_size=200), max_size=10),
    header_fields=st.integers(1, 20),
    header_bytes=st.integers(0, 400),
    message_bytes=st.integers(0, 600),
)
def test_no_message_makes_a_session_keep_more_than_allowed(
    values: list[bytes], chunks: list[bytes], header_fields: int, header_bytes: int, message_bytes: int
) -> None:
    handler = Recorder()
    session = begun(
        handler, header_fields=header_fields, header_bytes=header_bytes, message_bytes=message_bytes
    )
    for value in values:
        session.add_field(b"X", value)
    for chunk in chunks:
        session.add_body(chunk)
    session.finish("-")
    kept = handler.fields[0]
    header = sum(len(field.raw) for field in kept)
    assert len(kept) <= header_fields
    assert header <= header_bytes
    assert not message_bytes or not handler.bodies[0] or header + len(handler.bodies[0]) <= message_bytes
    whole = len(kept) == len(values) and handler.bodies[0] == b"".join(chunks)
    assert whole or handler.bounds[0]
