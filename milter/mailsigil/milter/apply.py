"""Carries a plan out: the only place where edits become calls on the host."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Protocol

from mailsigil.plan import (
    AppendField,
    ChangeField,
    DeleteField,
    InsertField,
    Outcome,
    Plan,
    ReplaceBody,
)

_BODY_PACKET = 65535
"""libmilter's largest packet of body; smaller chunks are gathered up to it."""
_BROKEN_FOLD = re.compile(r"\r|\n(?![ \t])|\0")


class Actions(Protocol):
    """What a milter host can do to a message, in libmilter's terms."""

    def insheader(self, index: int, name: str, value: str) -> None:
        """Insert a field before the ``index``-th, from 0."""

    def addheader(self, name: str, value: str) -> None:
        """Append a field."""

    def chgheader(self, name: str, occurrence: int, value: str | None) -> None:
        """Change the ``occurrence``-th field of a name, from 1; None deletes it."""

    def replacebody(self, chunk: bytes) -> None:
        """The first call empties the body; each call appends to the new one."""

    def setreply(self, code: str, status: str, text: str) -> None:
        """The reply for the client."""


class EditError(Exception):
    """A plan asks for something that the host would write as something else."""


def apply_plan(plan: Plan, actions: Actions) -> None:
    """Carry out ``plan``: the reply when the message is not accepted, the edits when it is.

    Raises :class:`EditError` for a field that cannot be written, and whatever ``actions`` raise.
    """
    if plan.outcome is not Outcome.ACCEPT:
        actions.setreply(plan.outcome.code, plan.outcome.status, plan.outcome.text)
        return
    # Deleting shifts the later fields of the same name: the last ones go first.
    by_place = [edit for edit in plan.edits if isinstance(edit, ChangeField | DeleteField)]
    for place in sorted(by_place, key=lambda edit: edit.occurrence, reverse=True):
        value = _value(place.value) if isinstance(place, ChangeField) else None
        actions.chgheader(_name(place.name), place.occurrence, value)
    # Each new field goes above everything, so the one that shall stand first comes last.
    for edit in reversed(plan.edits):
        if isinstance(edit, InsertField):
            actions.insheader(0, _name(edit.field.name), _value(edit.field.value))
    for edit in plan.edits:
        if isinstance(edit, AppendField):
            actions.addheader(_name(edit.field.name), _value(edit.field.value))
    for edit in plan.edits:
        if isinstance(edit, ReplaceBody):
            for packet in _packets(edit.chunks()):
                actions.replacebody(packet)


def _name(name: bytes) -> str:
    text = name.decode("ascii", "strict") if name.isascii() else ""
    if not text or ":" in text or _BROKEN_FOLD.search(text) or "\n" in text:
        raise EditError(f"a header field cannot have the name {name!r}")
    return text


def _value(value: bytes) -> str:
    """A value as the host wants it: folds as LF, UTF-8 (RFC 6532 3.2) if not ASCII."""
    try:
        text = value.replace(b"\r\n", b"\n").decode()
    except UnicodeDecodeError:
        raise EditError("a header field that is to be written is not UTF-8") from None
    if _BROKEN_FOLD.search(text):
        raise EditError("a header field that is to be written would end in its middle")
    # To the host an empty value means "delete".
    return text or " "


def _packets(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The same octets in few packets; one empty packet for an empty body, which is a body as well."""
    pending: list[bytes] = []
    size = 0
    sent = False
    for chunk in chunks:
        if pending and size + len(chunk) > _BODY_PACKET:
            yield b"".join(pending)
            pending, size, sent = [], 0, True
        pending.append(chunk)
        size += len(chunk)
    if pending or not sent:
        yield b"".join(pending)
