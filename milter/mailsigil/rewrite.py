"""A message with a plan's edits carried out, as bytes: what a host would send on.

The command line and the tests use it; the milter carries the same edits out through the host.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from mailsigil.message.fields import Field
from mailsigil.message.spool import Spool
from mailsigil.plan import AppendField, ChangeField, DeleteField, Edit, InsertField, ReplaceBody

CRLF = b"\r\n"


def rewritten(fields: Sequence[Field], body: Spool, edits: Iterable[Edit]) -> Iterator[bytes]:
    """Gives the edited message in chunks, with CRLF line ends.

    Occurrences in the edits are counted before any edit, as in :mod:`mailsigil.plan`.
    """
    inserted: list[Field] = []
    appended: list[Field] = []
    changes: dict[tuple[bytes, int], Field | None] = {}
    new_body: ReplaceBody | None = None
    for edit in edits:
        match edit:
            case InsertField(field):
                inserted.append(field)
            case AppendField(field):
                appended.append(field)
            case ChangeField(name, occurrence, value):
                changes[name.lower(), occurrence] = Field(name, value)
            case DeleteField(name, occurrence):
                changes[name.lower(), occurrence] = None
            case ReplaceBody():
                new_body = edit
    yield b"".join(field.raw for field in (*inserted, *_changed(fields, changes), *appended))
    yield CRLF
    yield from new_body.chunks() if new_body is not None else body.chunks()


def _changed(fields: Sequence[Field], changes: dict[tuple[bytes, int], Field | None]) -> Iterator[Field]:
    seen: dict[bytes, int] = {}
    for field in fields:
        seen[field.key] = seen.get(field.key, 0) + 1
        new = changes.get((field.key, seen[field.key]), field)
        if new is not None:
            # The name keeps its spelling: only the value is another.
            yield field if new is field else Field(field.name, new.value)
