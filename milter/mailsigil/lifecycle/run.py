"""One look at the directory, and what follows from it: for `mailsigil sync`, and for the key agent's timer.

:meth:`Run.plan` asks for nothing and takes nothing away. :meth:`Run.carry_out` does; it refuses what a person
should look at first.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from mailsigil.config.lifecycle import LifecycleSettings
from mailsigil.config.settings import Settings
from mailsigil.directory.api import Population
from mailsigil.lifecycle.actions import ASKS_FOR_ONE, Action, Note, Seat
from mailsigil.lifecycle.actual import LocalFiles, actual, local_files, strays
from mailsigil.lifecycle.carry_out import Carrier, Report
from mailsigil.lifecycle.database import Database, connect
from mailsigil.lifecycle.desired import desired
from mailsigil.lifecycle.errors import DatabaseError, RunRefused
from mailsigil.lifecycle.ledger import TAKEN, Ledger
from mailsigil.lifecycle.pacing import Pace
from mailsigil.lifecycle.plan import Plan, make_plan
from mailsigil.lifecycle.records import Copy
from mailsigil.lifecycle.rehearsal import refuse_behind, rehearse
from mailsigil.lifecycle.safety import LATELY, Stop, check_clock, losers, refuse, safety_stop
from mailsigil.lifecycle.sealing import Seal, load_seal
from mailsigil.lifecycle.served import Served
from mailsigil.lifecycle.steps import Hands
from mailsigil.lifecycle.turnover import Outcome, Result
from mailsigil.lifecycle.upgrade import upgrade
from mailsigil.lifecycle.workplace import Workplace, rules_of, workplaces

log = logging.getLogger("mailsigil.lifecycle")

_LOCK: Final = ".sync"


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """What a run needs: settings, database, directory, sources. Made by :func:`open_house`."""

    settings: LifecycleSettings
    database: Database
    directory: Population
    places: Mapping[str, Workplace]
    seal: Seal | None
    now: Callable[[], datetime]

    @property
    def node(self) -> str:
        """The name of this mail server."""
        return node_name(self.settings)

    def close(self) -> None:
        """Close the database."""
        self.database.close()


def node_name(settings: LifecycleSettings) -> str:
    """Give the name of this mail server in the database."""
    return (settings.node or socket.gethostname())[:64]


def open_house(
    settings: Settings, directory: Population, *, now: Callable[[], datetime], rehearsing: bool = False
) -> House:
    """Open the database and bring it up to date. Raises LifecycleError.

    ``rehearsing``: what is changed in it is gone when it is closed (rehearsal.py).
    """
    places = workplaces(settings.source, now=now)
    if not places:
        raise RunRefused(
            "no [[source]] certifies keys, so there is nobody to ask for certificates",
            'Add one of kind "est", "cmp", "embedded" or "openbao"',
        )
    seal = load_seal(settings.lifecycle.share_keys_with)
    database = rehearse(settings.lifecycle) if rehearsing else connect(settings.lifecycle)
    try:
        if rehearsing:
            refuse_behind(database)
        upgrade(database)
    except BaseException:
        database.close()
        raise
    return House(
        settings=settings.lifecycle,
        database=database,
        directory=directory,
        places=places,
        seal=seal,
        now=now,
    )


class Run:
    """One run; ``who`` is by whose hand. Made by :func:`begin`, or by :func:`look` where it only plans."""

    def __init__(self, house: House, *, who: str, prefix: str) -> None:
        self._house = house
        self._ledger = Ledger(house.database, node=house.node, who=who, prefix=prefix)
        self._started = house.now()

    def check_clock(self) -> None:
        """Refuse a clock that jumped. Raises RunRefused, DatabaseError."""
        check_clock(
            self._started,
            last_run=self._ledger.last_run(),
            database=self._house.database.clock(),
            longest=timedelta(days=self._house.settings.clock_days),
        )

    def plan(self, *, only: str = "", patient: bool = False) -> Plan:
        """Tell what is to be done, for everybody or one address; changes nothing but what it knows of files.

        ``patient``: what was refused again and again is left for a while. Raises DirectoryUnavailable,
        DatabaseError, SourceRefused.
        """
        house, at = self._house, self._started
        served = Served(house.places)
        wishes = desired(
            served.people(house.directory.people()),
            [place.rules for place in house.places.values()],
            aliases=house.settings.aliases,
            at=at,
        )
        files = local_files(self._ledger, house.places)
        self._note_moved(files)
        rules = rules_of(house.settings, house.places, node=house.node)
        held = served.held(actual(self._ledger, house.places, files))
        if only:
            wishes = [wish for wish in wishes if wish.address == only]
            held = (each for each in held if each.address == only)
        plan = make_plan(wishes, held, rules, at=at)
        if patient:
            self._spare(plan)
        plan.actions = _first(strays(self._ledger, files), plan.actions)
        plan.notes += served.notes()
        if only:
            _narrow(plan, only)
        return plan

    def other_sources(self) -> dict[str, int]:
        """Give sources that the settings no longer name, and their certificates, which are left alone."""
        return self._ledger.other_sources(self._house.places)

    def stop(self, plan: Plan, *, allowed: int | None = None) -> Stop | None:
        """Tell whether a person has to be asked first."""
        settings = self._house.settings
        return safety_stop(
            plan,
            percent=settings.max_revoked_percent,
            at_least=settings.max_revoked,
            lately=self._ledger.taken_since(self._started - LATELY),
            allowed=allowed,
        )

    def carry_out(
        self,
        plan: Plan,
        *,
        allowed: int | None = None,
        on_result: Callable[[Result], None] = lambda result: None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> Report:
        """Do what the plan says. Raises RunRefused where a person has to be asked, and DatabaseError."""
        stop = self.stop(plan, allowed=allowed)
        if stop is not None:
            raise refuse(stop)
        house = self._house
        # Where it dies on its way, what it had meant to take counts.
        meant = losers(plan.actions) if allowed is None else 0
        number = self._ledger.begin_run(now=self._started, taken=meant)
        hands = Hands(
            ledger=self._ledger,
            seal=house.seal,
            overlap=timedelta(days=house.settings.overlap_days),
            keep_keys=house.settings.keep_keys,
            now=house.now,
        )
        carrier = Carrier(
            self._ledger,
            house.places,
            hands,
            pace=Pace(house.settings.per_second),
            at_once=house.settings.at_once,
            now=house.now,
            lease=timedelta(minutes=house.settings.lease_minutes),
        )
        report = carrier.carry_out(plan.actions, on_result=on_result, stopping=stopping)
        # What a person allowed is not held against what comes by itself later.
        taken = losers(each.action for each in report.results if each.outcome is Outcome.DONE)
        self._end(number, report, taken=taken if allowed is None else 0)
        return report

    def _end(self, number: int, report: Report, *, taken: int) -> None:
        outcome = "done" if report.is_whole else "stopped" if report.trouble else "failed in part"
        try:
            self._ledger.forget_failed(before=self._started - timedelta(days=30))
            self._ledger.end_run(
                number, outcome=outcome, counts={**report.counts(), TAKEN: taken}, now=self._house.now()
            )
        except DatabaseError as error:
            if not report.trouble:
                report.trouble.append(str(error))

    def _spare(self, plan: Plan) -> None:
        """An authority that says no is not asked the same each hour: it may charge for each answer."""
        refusals = self._ledger.refusals(self._house.places)
        kept = []
        for step in plan.actions:
            refusal = refusals.get((step.address, step.source)) if step.kind in ASKS_FOR_ONE else None
            if refusal is None or refusal.held.request != step.request or refusal.again_at <= self._started:
                kept.append(step)
            else:
                plan.notes.append(Note(source=step.source, address=step.address, sentence=refusal.sentence))
        plan.actions = kept

    def _note_moved(self, files: LocalFiles) -> None:
        """A known key whose file was copied or restored: it is where it should be."""
        if not files.moved:
            return
        marks = {name: place.files for name, place in self._house.places.items()}
        noted = [(seat, Copy(key_id, marks[seat[1]].mark(seat[0]))) for seat, key_id in files.moved]
        with self._house.database.change() as connection:
            self._ledger.records.note_files(connection, noted)


def _narrow(plan: Plan, only: str) -> None:
    """A plan for one address says nothing of others, and says so where nobody has it."""
    plan.is_whole = False
    plan.actions = [action for action in plan.actions if action.address == only]
    plan.notes = [note for note in plan.notes if note.address == only]
    if not (plan.people or plan.live or plan.actions or plan.notes):
        sentence = "nobody for whom a source certifies has this address, and there is no certificate of it"
        plan.notes.append(Note(source="", address=only, sentence=sentence))


def _first(strays: Sequence[Action], planned: Sequence[Action]) -> list[Action]:
    """What must not sign goes before anything else is tried for its seat, and whatever becomes of that."""
    waiting: dict[Seat, list[Action]] = {}
    for step in strays:
        waiting.setdefault((step.address, step.source), []).append(step)
    actions = []
    for step in planned:
        actions += waiting.pop((step.address, step.source), [])
        actions.append(step)
    return [*actions, *(step for steps in waiting.values() for step in steps)]


def look(house: House) -> Run:
    """A run that only plans: it may look while another one is at work, and leaves nothing behind."""
    return Run(house, who="rehearsal", prefix=f"{house.node[:40]}/rehearsal")


@contextmanager
def begin(house: House, *, who: str) -> Iterator[Run]:
    """One run on this machine at a time. Raises RunRefused where another one is at work."""
    folder = next(iter(sorted(place.state.path for place in house.places.values())))
    with _alone(folder) as identity:
        yield Run(house, who=who, prefix=f"{house.node[:40]}.{identity}/sync")


@contextmanager
def _alone(folder: Path) -> Iterator[str]:
    """Hold the lock of this machine; gives a name that no machine of the same host name has."""
    path = folder / _LOCK
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise RunRefused(
            f"the state folder {folder} cannot be used: {error.strerror}",
            "Create it for the key agent's user, with mode 0700",
        ) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunRefused(
                "another sync is at work on this machine", "Wait until it has come to its end"
            ) from None
        identity = os.pread(handle, 64, 0).decode("ascii", "replace")
        if len(identity) != 16 or not identity.isalnum():
            identity = secrets.token_hex(8)
            os.ftruncate(handle, 0)
            os.pwrite(handle, identity.encode(), 0)
        yield identity
    finally:
        os.close(handle)
