"""What is to be done: what should be, held against what is. Pure: no clock, no chance, no database.

The way of one employee, top to bottom, is :func:`decide`. Steps have a stable order, and each says why.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby

from mailsigil.lifecycle.actions import Action, Held, Kind, Note, Rules
from mailsigil.lifecycle.desired import Desired, Standing
from mailsigil.lifecycle.seat_plan import SeatPlan
from mailsigil.lifecycle.tables import Status


@dataclass(slots=True)
class Plan:
    """All that is to be done, by address; and what is not."""

    actions: list[Action] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    live: int = 0
    """Certificates that sign now."""
    signers: int = 0
    """Addresses that they sign for."""
    people: int = 0
    """Seats that should have one."""
    is_whole: bool = True
    """It is about everybody."""

    def counts(self) -> dict[Kind, int]:
        """How many steps of each kind."""
        found = dict.fromkeys(Kind, 0)
        for action in self.actions:
            found[action.kind] += 1
        return {kind: number for kind, number in found.items() if number}


def make_plan(wishes: Iterable[Desired], held: Iterable[Held], rules: Rules, *, at: datetime) -> Plan:
    """Compare both, each sorted by address and source; reads them once, side by side."""
    plan = Plan()
    last = ""
    for wish, certificates in _side_by_side(wishes, held):
        signing = [each for each in certificates if each.status is Status.ISSUED]
        plan.live += len(signing)
        if signing and signing[0].address != last:
            last = signing[0].address
            plan.signers += 1
        plan.people += wish is not None and wish.standing is Standing.WANTED
        for step in decide(wish, certificates, rules, at=at):
            if isinstance(step, Action):
                plan.actions.append(step)
            else:
                plan.notes.append(step)
    return plan


def decide(
    wish: Desired | None, certificates: Sequence[Held], rules: Rules, *, at: datetime
) -> Iterator[Action | Note]:
    """Give what is to be done for one seat; ``wish`` is None for whom the directory does not know."""
    seat = SeatPlan(wish, certificates, rules, at)
    # 1. What is known nowhere is taken in, and what ran out is noted.
    yield from seat.adopted()
    yield from seat.expired()
    if wish is not None and wish.standing is Standing.DISPUTED:
        yield Note(source=wish.source, address=wish.address, sentence=f"left as it is: {wish.why}")
        return
    # 2. Whoever left keeps nothing.
    if wish is None or wish.standing is Standing.GONE:
        yield from seat.departed()
        return
    # 3. What was replaced a while ago goes now.
    yield from seat.overlapped()
    # 4. Mail that is never signed needs nothing new.
    if wish.standing is Standing.KEPT:
        if not certificates:
            return
        yield from seat.lapsed(wish)
        yield Note(source=wish.source, address=wish.address, sentence=f"not renewed: {wish.why}")
        return
    # 5. One request at a time.
    if seat.requested is not None:
        lapsed = list(seat.lapsed(wish))
        yield from lapsed
        yield seat.resumed(wish, seat.requested, gone=any(step.held is seat.issued for step in lapsed))
        return
    # 6. What should be there, and is not, or not as it should be.
    if seat.issued is None:
        yield from seat.missing(wish)
    elif seat.issued.request != wish.request:
        yield from seat.changed(wish, seat.issued)
    else:
        yield from seat.unchanged(wish, seat.issued)


def _side_by_side(
    wishes: Iterable[Desired], held: Iterable[Held]
) -> Iterator[tuple[Desired | None, list[Held]]]:
    """Both sorted streams as one; keeps no more than one seat of each."""
    left, right = iter(wishes), groupby(held, key=lambda each: (each.address, each.source))
    wish, group = next(left, None), next(right, None)
    while wish is not None or group is not None:
        place = (wish.address, wish.source) if wish is not None else None
        if group is None or (place is not None and place < group[0]):
            yield wish, []
            wish = next(left, None)
        elif place is None or group[0] < place:
            yield None, list(group[1])
            group = next(right, None)
        else:
            yield wish, list(group[1])
            wish, group = next(left, None), next(right, None)
