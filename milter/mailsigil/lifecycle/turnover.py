"""One seat on its way through a plan: its steps, and what became of each."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from mailsigil.keys.errors import SourceError
from mailsigil.keys.register import Reason
from mailsigil.lifecycle.actions import Action, Cause, Held, Seat
from mailsigil.lifecycle.records import Changes
from mailsigil.lifecycle.tables import Status

_REASONS: Final = {
    Cause.NONE: Reason.UNSPECIFIED,
    Cause.LEFT: Reason.AFFILIATION_CHANGED,
    Cause.LAPSED: Reason.PRIVILEGE_WITHDRAWN,
    Cause.LOWERED: Reason.PRIVILEGE_WITHDRAWN,
    Cause.REPLACED: Reason.SUPERSEDED,
}
"""What an authority is told (RFC 5280 5.3.1)."""


class Outcome(StrEnum):
    """What became of a step."""

    DONE = "done"
    PENDING = "pending"
    """The authority has not decided yet."""
    FAILED = "failed"
    """The next run tries again."""
    LEFT_OPEN = "left open"
    """Somebody else is at work on it, or it has changed since the plan was made."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one step, in a sentence."""

    action: Action
    outcome: Outcome
    sentence: str
    error: SourceError | None = None
    """What the source said, where that was no."""


@dataclass(slots=True)
class Turnover:
    """One seat on its way: its steps, its certificates as they are now, and what came of it."""

    steps: list[Action]
    current: list[Held]
    asked: Held | None = None
    """The request that is written down for this seat."""
    changes: Changes = field(default_factory=Changes)
    results: list[Result] = field(default_factory=list)

    def issued(self) -> Held | None:
        """What signs now, unless a step before this one ended that."""
        ended = {turn.held.id for turn in self.changes.turns}
        for each in self.current:
            if each.status is Status.ISSUED and each.id not in ended:
                return each
        return None


def reason_of(step: Action) -> Reason:
    """What the authority is told of a step that takes away."""
    return step.told or _REASONS[step.cause]


def seat_of(held: Held) -> Seat:
    """The seat of a certificate."""
    return held.address, held.source
