"""The first mail of somebody who has no certificate yet: provisioned while it waits.

The same steps as in a run, for one employee, with the same claims: two mail servers that get a first mail at
the same time ask for one certificate. Only such a mail waits for the database.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from mailsigil.config.errors import ConfigError
from mailsigil.config.settings import Settings
from mailsigil.directory.api import DirectoryUnavailable, OwnAddress, Population
from mailsigil.keys.errors import Pending, SourceError, SourceRefused, SourceUnavailable
from mailsigil.keys.files import address_file_name
from mailsigil.lifecycle.actions import ASKS_FOR_ONE, Action, Held, Kind
from mailsigil.lifecycle.actual import read_file
from mailsigil.lifecycle.carry_out import Carrier
from mailsigil.lifecycle.desired import Desired, Standing, for_domain, wanted
from mailsigil.lifecycle.errors import LifecycleError
from mailsigil.lifecycle.ledger import Ledger
from mailsigil.lifecycle.pacing import Pace
from mailsigil.lifecycle.plan import decide
from mailsigil.lifecycle.rows import held_of
from mailsigil.lifecycle.run import House, open_house
from mailsigil.lifecycle.steps import Hands
from mailsigil.lifecycle.tables import Status
from mailsigil.lifecycle.turnover import Outcome, Result
from mailsigil.lifecycle.workplace import Workplace, rules_of

LEASE: Final = timedelta(seconds=90)
"""So long another process waits for one that died over a first mail."""
LOOK_AGAIN: Final = 0.1
"""Seconds between two looks at whether another process, or mail server, has come to its end."""
_ONLY: Final = frozenset({*ASKS_FOR_ONE, Kind.INSTALL, Kind.ADOPT, Kind.RELEASE, Kind.EXPIRE})
"""What a mail may bring about; everything else is left to the next run."""
_ASK_AGAIN: Final = 60.0


class Provisioner:
    """Gives single addresses their first certificate. Safe to share between threads; made before the fork.

    Database and directory are opened with the first question, so that their troubles keep no agent from
    starting; and anew where the policy file has changed or new settings came: who left must get nothing.
    """

    def __init__(
        self,
        settings: Settings,
        directory: Callable[[Settings], Population],
        *,
        now: Callable[[], datetime],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._settings = settings
        self._directory = directory
        self._now = now
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._house: House | None = None
        self._mark = ""

    def take(self, settings: Settings) -> None:
        """Go by these settings from now on."""
        with self._lock:
            self._settings = settings
            self._mark = ""

    def provision(self, source: str, address: str) -> None:
        """Put key and certificate of an address into the source's state folder. Raises SourceError."""
        try:
            self._provision(source, address)
        except DirectoryUnavailable as error:
            raise SourceUnavailable(
                source, f"the directory does not tell who {address} is: {error}", "See to the directory"
            ) from error
        except LifecycleError as error:
            raise SourceUnavailable(source, error.sentence, error.mend) from error
        except ConfigError as error:
            raise SourceUnavailable(
                source, f"it is not known who {address} is: {error}", "Correct the policy file"
            ) from error

    def _provision(self, source: str, address: str) -> None:
        house = self._opened()
        place = house.places.get(source)
        if place is None:
            raise SourceUnavailable(
                source, "it came with a reload, and its certificates are not looked after yet", "Restart keyd"
            )
        wish = self._wish(house, place, address)
        deadline = self._clock() + house.settings.provision_seconds
        ledger = Ledger(house.database, node=house.node, who="first mail")
        while True:
            result = self._once(house, place, ledger, wish)
            if result is None or result.outcome is Outcome.DONE:
                return
            if result.outcome is not Outcome.LEFT_OPEN or self._clock() >= deadline:
                raise _error(source, result)
            self._sleep(LOOK_AGAIN)

    def _wish(self, house: House, place: Workplace, address: str) -> Desired:
        """What the address is to have; raises SourceRefused where that is nothing."""
        if address in place.rules.domain_addresses:
            return replace(for_domain(place.rules, address), standing=Standing.WANTED)
        directory = house.directory
        facts = directory.identity(address)
        person = directory.person_by_address(address)
        if person is None:
            raise SourceRefused(
                place.name,
                facts.trouble or f"nobody in the directory has the address {address}",
                "Give it to one person in the directory, or in the policy file",
            )
        own = OwnAddress(address=address, identity=facts, policies=directory.policies(address))
        wish = wanted(person, own, place.rules, first=True, at=self._now())
        if wish.standing is not Standing.WANTED:
            raise SourceRefused(
                place.name, f"{address} gets no certificate: {wish.why}", "See mailsigil explain"
            )
        return wish

    def _once(self, house: House, place: Workplace, ledger: Ledger, wish: Desired) -> Result | None:
        """Do what a run would do for this address; None: there is nothing to do."""
        rules = rules_of(house.settings, house.places, node=house.node)
        steps = [
            step
            for step in decide(wish, self._held(place, ledger, wish), rules, at=self._now())
            if isinstance(step, Action) and step.kind in _ONLY
        ]
        steps = self._spared(place, ledger, wish, steps)
        if not steps:
            return None
        hands = Hands(
            ledger=ledger,
            seal=house.seal,
            overlap=timedelta(days=house.settings.overlap_days),
            keep_keys=house.settings.keep_keys,
            now=self._now,
        )
        carrier = Carrier(
            ledger,
            house.places,
            hands,
            pace=Pace(house.settings.per_second),
            at_once=1,
            now=self._now,
            lease=LEASE,
        )
        report = carrier.carry_out(steps)
        if report.trouble:
            raise SourceUnavailable(place.name, report.trouble[0].rstrip("."), "See the log")
        return next((each for each in report.results if each.outcome is not Outcome.DONE), report.results[-1])

    def _spared(self, place: Workplace, ledger: Ledger, wish: Desired, steps: list[Action]) -> list[Action]:
        """Without what was refused again and again; raises SourceRefused where nothing else is to be done."""
        if not any(step.kind in ASKS_FOR_ONE for step in steps):
            return steps
        for refusal in ledger.refusals([place.name], address=wish.address).values():
            if refusal.held.request == wish.request and refusal.again_at > self._now():
                steps = [step for step in steps if step.kind not in ASKS_FOR_ONE]
                if not steps:
                    raise SourceRefused(place.name, refusal.sentence, "See mailsigil keys show")
        return steps

    def _held(self, place: Workplace, ledger: Ledger, wish: Desired) -> list[Held]:
        found = read_file(place, address_file_name(wish.address))
        key_id = found.key_id if found is not None else ""
        aside = place.files.aside()
        held = [
            held_of(
                row,
                is_shared=bool(row["is_shared"]),
                is_aside=row["key_id"] in aside,
                file_key=key_id,
                waits=row["status"] == Status.REQUESTED and place.files.waits(wish.address),
            )
            for row in ledger.open_certificates([place.name], address=wish.address)
        ]
        if found is not None and key_id not in ledger.by_key_id([key_id]):
            held.append(found)
        return held

    def _opened(self) -> House:
        with self._lock:
            mark = _mark(self._settings.policy.file)
            if self._house is None or mark != self._mark:
                before = self._house
                self._house = open_house(self._settings, self._directory(self._settings), now=self._now)
                self._mark = mark
                if before is not None:
                    # Mails that have it go on: a connection in use is closed when it is given back.
                    before.close()
            return self._house


def _mark(policy: str) -> str:
    """What shows that the policy file is another one."""
    try:
        status = os.stat(policy)
    except OSError as error:
        return f"{error.errno}"
    return f"{status.st_ino}:{status.st_size}:{status.st_mtime_ns}"


def _error(source: str, result: Result) -> SourceError:
    """What the key agent is told; it asks again after a while, or with the next mail."""
    if result.error is not None:
        return result.error
    if result.outcome is Outcome.PENDING:
        return Pending(source, retry_after=_ASK_AGAIN)
    return SourceUnavailable(source, result.sentence.rstrip("."), "It is tried again with the next mail")
