"""When a person is asked before anything is done: too much would be taken away, or the clock looks wrong."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from mailsigil.lifecycle.actions import Action
from mailsigil.lifecycle.errors import RunRefused
from mailsigil.lifecycle.plan import Plan

BACKWARDS: Final = timedelta(minutes=5)
"""So far the clock may lie behind the last run, for mail servers whose clocks differ a little."""
APART: Final = timedelta(minutes=2)
"""So far this machine's clock and the database's may differ: claims run out by them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """A plan that takes away more than it may without being asked."""

    takes_away: int
    """People."""
    live: int
    """People for whom a certificate signs."""
    allowed: int
    lately: int = 0
    """People from whom runs of the last day took one, without a word of anybody."""

    @property
    def sentence(self) -> str:
        """What a person is asked about."""
        lately = f" after {self.lately} within a day" if self.lately else ""
        return (
            f"the plan would take the certificates of {self.takes_away} of {self.live} people away{lately},"
            f" and {self.allowed} are allowed without asking; the directory may have gone wrong"
        )


LATELY: Final = timedelta(days=1)
"""So long it counts what runs took away unasked: a directory may also lose its people one by one."""


def losers(actions: Iterable[Action]) -> int:
    """Tell how many people lose what signs for them."""
    return len({action.address for action in actions if action.takes_away})


def safety_stop(
    plan: Plan, *, percent: float, at_least: int, lately: int = 0, allowed: int | None = None
) -> Stop | None:
    """Tell whether a plan needs a person's word; ``allowed`` is that word, given before."""
    takes = losers(plan.actions)
    limit = max(at_least, int(plan.signers * percent / 100))
    if plan.people == 0 and plan.is_whole:
        limit = 0  # A directory that tells of nobody has gone wrong, in a small house as in a large one.
    stop = Stop(takes_away=takes, live=plan.signers, allowed=limit, lately=lately)
    if not takes or takes + lately <= limit or (allowed is not None and takes <= allowed):
        return None
    return stop


def refuse(stop: Stop) -> RunRefused:
    """The refusal that goes with a stop."""
    return RunRefused(
        stop.sentence,
        "Look at it with `mailsigil sync --dry-run`; if it is right, run"
        f" `mailsigil sync --allow-revocations {stop.takes_away}`",
    )


def check_clock(
    now: datetime, *, last_run: datetime | None, database: datetime | None, longest: timedelta
) -> None:
    """Refuse to act on a clock that jumped. Raises RunRefused.

    ``last_run`` is when any mail server last acted, ``database`` the clock of the database's machine.
    """
    if database is not None and abs(now - database) > APART:
        raise RunRefused(
            f"this machine's clock says {now:%Y-%m-%d %H:%M:%S} UTC, and the database's"
            f" {database:%Y-%m-%d %H:%M:%S} UTC",
            "Set the clocks (NTP), and run again",
        )
    if last_run is None:
        return
    if now < last_run - BACKWARDS:
        raise RunRefused(
            f"the clock says {now:%Y-%m-%d %H:%M} UTC, which is before the last run at"
            f" {last_run:%Y-%m-%d %H:%M} UTC: it was set back, or it was wrong then",
            "Set the clock; if it is right now, run `mailsigil sync --accept-clock`",
        )
    if now > last_run + longest:
        days = (now - last_run).days
        raise RunRefused(
            f"the clock says {now:%Y-%m-%d %H:%M} UTC, {days} days after the last run at"
            f" {last_run:%Y-%m-%d %H:%M} UTC: it may have jumped",
            "If it is right, run `mailsigil sync --accept-clock`",
        )
