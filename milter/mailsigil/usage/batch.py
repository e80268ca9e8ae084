"""Counts on their way to the database, as values and as the text of a small file."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from mailsigil.pki.policies import Level

MAX_TEXT: Final = 320
_MONTH: Final = re.compile(r"(?!0000)[0-9]{4}-(0[1-9]|1[0-2])\Z")
_LEVELS: Final = frozenset(level.value for level in Level)


class BatchUnreadable(Exception):
    """A file holds no batch, with what is wrong in it."""


class Counted(NamedTuple):
    """What is counted: a sender's signatures in a month with one certificate."""

    month: str
    """``2026-11``, in UTC."""
    address: str
    key_id: str
    serial: str
    level: str


@dataclass(slots=True)
class Batch:
    """Counts that go into the database together, once: ``id`` is drawn by nobody else."""

    id: str
    made_at: datetime
    counts: dict[Counted, int] = field(default_factory=dict)

    def add(self, what: Counted, number: int) -> None:
        """Count on."""
        self.counts[what] = self.counts.get(what, 0) + number

    @property
    def total(self) -> int:
        """How many signatures these are."""
        return sum(self.counts.values())

    def encode(self) -> bytes:
        """Give the file's content."""
        rows = [[*what, number] for what, number in self.counts.items()]
        value = {"id": self.id, "made_at": self.made_at.astimezone(UTC).isoformat(), "counts": rows}
        return json.dumps(value, separators=(",", ":")).encode()


def is_month(text: str) -> bool:
    """Tell whether a text is a month as counts have it: ``2026-11``."""
    return _MONTH.match(text) is not None


def decode(content: bytes, *, name: str) -> Batch:
    """Read a file; ``name`` is the id that it must have. Raises BatchUnreadable."""
    try:
        value = json.loads(content)
        made_at = datetime.fromisoformat(value["made_at"])
        if value["id"] != name or made_at.utcoffset() is None:
            raise BatchUnreadable("it is not what its name says")
        batch = Batch(name, made_at)
        for row in value["counts"]:
            batch.add(_counted(row[:-1]), _number(row[-1]))
    except BatchUnreadable:
        raise
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise BatchUnreadable("it is damaged") from error
    return batch


def _counted(row: Any) -> Counted:
    what = Counted(*row)
    if not all(isinstance(text, str) and len(text) <= MAX_TEXT and text.isprintable() for text in what):
        raise BatchUnreadable("it has a value that is no text")
    if not is_month(what.month) or what.level not in _LEVELS:
        raise BatchUnreadable("it has a month or level that is none")
    return what


def _number(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**53:
        raise BatchUnreadable("it has a number that is none")
    return value
