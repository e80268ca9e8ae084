"""What a person does to certificates by hand. The same steps and claims as in a run, for few of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from mailsigil.config.settings import Settings
from mailsigil.keys.register import Reason
from mailsigil.lifecycle.actions import Action, Held, Kind
from mailsigil.lifecycle.carry_out import Carrier, Report
from mailsigil.lifecycle.database import Database
from mailsigil.lifecycle.errors import RunRefused
from mailsigil.lifecycle.ledger import Ledger
from mailsigil.lifecycle.pacing import Pace
from mailsigil.lifecycle.run import node_name
from mailsigil.lifecycle.steps import Hands
from mailsigil.lifecycle.tables import Status
from mailsigil.lifecycle.workplace import workplaces

REVOCABLE = frozenset({Status.ISSUED, Status.SUPERSEDED, Status.HELD})
"""What a person may have revoked: everything that is, or may become, good."""


def revoke(
    settings: Settings,
    database: Database,
    held: Sequence[Held],
    *,
    reason: Reason,
    why: str,
    who: str,
    now: Callable[[], datetime],
) -> Report:
    """Have certificates revoked by their authorities, and drop their keys on this machine.

    A run may be at work meanwhile: what it has just claimed is left open, and told. Raises LifecycleError.
    """
    places = workplaces(settings.source, now=now)
    for each in held:
        if each.source not in places:
            raise RunRefused(
                f'the certificate of {each.address} is of a source "{each.source}" that certifies none',
                "Name it in the settings, or have it revoked by its authority",
            )
    ledger = Ledger(database, node=node_name(settings.lifecycle), who=who)
    hands = Hands(
        ledger=ledger,
        seal=None,
        overlap=timedelta(0),
        keep_keys=False,
        now=now,
    )
    carrier = Carrier(
        ledger,
        places,
        hands,
        pace=Pace(settings.lifecycle.per_second),
        at_once=1,
        now=now,
        lease=timedelta(minutes=settings.lifecycle.lease_minutes),
    )
    ordered = sorted(held, key=lambda each: (each.address, each.source, each.id))
    return carrier.carry_out([_step(each, reason, why) for each in ordered])


def _step(held: Held, reason: Reason, why: str) -> Action:
    return Action(
        kind=Kind.REVOKE,
        source=held.source,
        address=held.address,
        reason=why,
        held=held,
        told=reason,
    )
