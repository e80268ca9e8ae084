"""A plan carried out: a bounded number of steps at a time, at a bounded rate, and so that it may break off.

For each batch of seats there are two transactions. The first takes the claims, looks again at what is there,
and writes down what is about to be asked for; the second writes down what came, and gives the claims back.
In between keys and certificates are made. Whoever dies there leaves requests that the next run ends.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection

from mailsigil.keys.errors import SourceError
from mailsigil.lifecycle.actions import ASKS_FOR_ONE, Action, Held, Kind, Seat
from mailsigil.lifecycle.errors import DatabaseError
from mailsigil.lifecycle.ledger import Ledger
from mailsigil.lifecycle.pacing import FIRST_BATCH, Pace, by_seat, next_size, take
from mailsigil.lifecycle.publishing import CHANGES_LISTS, Publishing
from mailsigil.lifecycle.records import Changes, Found, Turn
from mailsigil.lifecycle.rows import facts_of
from mailsigil.lifecycle.steps import Hands
from mailsigil.lifecycle.tables import Status
from mailsigil.lifecycle.turnover import Outcome, Result, Turnover
from mailsigil.lifecycle.workplace import Workplace

log = logging.getLogger("mailsigil.lifecycle")

BATCH_SHARE: Final = 0.4
"""What of a batch was not begun in this part of the lease is left to the next run, well before its claims run
out."""


@dataclass(slots=True)
class Report:
    """What happened to whom."""

    results: list[Result] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)
    """What keeps a run from its end, or an authority from publishing."""

    def owe(self, sentences: Iterable[str]) -> None:
        """Note what is not published, each once."""
        self.trouble += [sentence for sentence in sentences if sentence not in self.trouble]

    def counts(self) -> dict[str, int]:
        """How many steps ended how."""
        found = dict.fromkeys((outcome.value for outcome in Outcome), 0)
        for result in self.results:
            found[result.outcome.value] += 1
        return found

    @property
    def is_whole(self) -> bool:
        """Everything was done."""
        return not self.trouble and all(each.outcome is Outcome.DONE for each in self.results)


class Carrier:
    """Carries out plans on one mail server.

    A claim holds for ``lease``; a node that dies keeps its employees from the others no longer.
    """

    def __init__(
        self,
        ledger: Ledger,
        places: Mapping[str, Workplace],
        hands: Hands,
        *,
        pace: Pace,
        at_once: int,
        now: Callable[[], datetime],
        clock: Callable[[], float] = time.monotonic,
        lease: timedelta,
    ) -> None:
        self._lease = lease
        self._publishing = Publishing(places)
        self._ledger = ledger
        self._places = places
        self._hands = hands
        self._pace = pace
        self._at_once = at_once
        self._now = now
        self._clock = clock

    def carry_out(
        self,
        actions: Sequence[Action],
        *,
        on_result: Callable[[Result], None] = lambda result: None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> Report:
        """Do all steps; those of a seat stand together. A database that goes away ends it early."""
        report = Report()
        size = FIRST_BATCH
        seats = by_seat(actions)
        with ThreadPoolExecutor(self._at_once, thread_name_prefix="sync") as pool:
            while batch := list(take(seats, size)):
                if stopping():
                    report.trouble.append("it was told to stop; the next run goes on where this one ended")
                    break
                started = self._clock()
                try:
                    done = self._batch(pool, batch, report)
                except DatabaseError as error:
                    report.trouble.append(
                        f"{error} What was done so far is whole; the next run goes on where this one stopped."
                    )
                    break
                for result in done:
                    report.results.append(result)
                    on_result(result)
                size = next_size(size, self._clock() - started)
        # Also what an earlier run could not have published.
        report.owe(self._publishing.settle())
        return report

    def _batch(
        self, pool: ThreadPoolExecutor, batch: Sequence[tuple[Seat, list[Action]]], report: Report
    ) -> list[Result]:
        planned = dict(batch)
        mine, results = self._begin(planned)
        deadline = self._clock() + BATCH_SHARE * self._lease.total_seconds()
        self._owe(mine, report)
        futures = [pool.submit(self._work, turnover, deadline) for turnover in mine.values()]
        wait(futures)
        report.owe(self._publishing.settle())
        try:
            for future in futures:
                future.result()
            self._end(mine)
        except DatabaseError:
            report.results += [_unwritten(one) for turnover in mine.values() for one in turnover.results]
            raise
        for turnover in mine.values():
            results.extend(turnover.results)
        return results

    # The first transaction

    def _begin(self, planned: Mapping[Seat, list[Action]]) -> tuple[dict[Seat, Turnover], list[Result]]:
        now = self._now()
        results: list[Result] = []
        with self._ledger.database.change() as connection:
            claimed = self._ledger.claim(connection, list(planned), now=now, lease=self._lease)
            mine: dict[Seat, Turnover] = {}
            stale: list[Seat] = []
            busy = self._ledger.holders(connection, [seat for seat in planned if seat not in claimed])
            for seat, steps in planned.items():
                if seat not in claimed:
                    results += _left_open(steps, _at_work(busy.get(seat)))
                elif not _still_so(steps, claimed[seat]):
                    results += _left_open(steps, "it has changed since the plan was made")
                    stale.append(seat)
                else:
                    mine[seat] = Turnover(steps, claimed[seat])
            self._adopt(connection, mine, now)
            self._write_intents(connection, mine, now)
            self._ledger.give_back(connection, stale)
        return mine, results

    def _adopt(self, connection: Connection, mine: Mapping[Seat, Turnover], now: datetime) -> None:
        """Takes in what lay in the state folders; what signed until now makes room for it."""
        found: list[tuple[Turnover, Found]] = []
        room = Changes()
        for turnover in mine.values():
            step = turnover.steps[0]
            if step.kind is not Kind.ADOPT or step.held is None:
                continue
            one = self._found(step, step.held, now)
            if one is None:  # It was taken away in this moment; the next run sees what is there then.
                turnover.steps = []
                continue
            known = turnover.issued()
            if known is not None and one.revoke_at is None:
                why = "a newer certificate was found in the state folder"
                end = None if known.request == one.held.request else now + self._hands.overlap
                room.turns.append(Turn(held=known, status=Status.SUPERSEDED, why=why, revoke_at=end))
                turnover.current = [each for each in turnover.current if each is not known]
            found.append((turnover, one))
        self._ledger.records.write(connection, room, now=now)
        made = self._ledger.records.adopt(connection, [one for _, one in found], now=now)
        for (turnover, _), held in zip(found, made, strict=True):
            turnover.current.append(held)
            turnover.steps = [_with_id(step, held) for step in turnover.steps]

    def _found(self, step: Action, held: Held, now: datetime) -> Found | None:
        place = self._places[step.source]
        content = place.files.content(step.address, held.key_id)
        chain = place.files.chain_in(content, step.address) if content is not None else ()
        if content is None or not chain:
            return None
        facts = facts_of(chain[0])
        return Found(
            held=held,
            facts=facts,
            sealed=self._hands.sealed(content, held.source, held.address, facts.serial),
            mark=place.files.mark(step.address),
            why=step.reason,
            revoke_at=now if step.at_once else None,
        )

    def _write_intents(self, connection: Connection, mine: Mapping[Seat, Turnover], now: datetime) -> None:
        new, again = [], []
        for turnover in mine.values():
            for step in turnover.steps:
                if step.kind is Kind.RESUME and step.held is not None and step.request is not None:
                    turnover.asked = replace(step.held, request=step.request)
                    again.append((step.held, step.request))
                elif step.kind in ASKS_FOR_ONE and step.request is not None:
                    replaces = step.held.id if step.held is not None else None
                    new.append((turnover, (step.request, step.source, step.reason, replaces)))
        self._ledger.records.ask_again(connection, again, now=now)
        made = self._ledger.records.ask(connection, [each for _, each in new], now=now)
        for (turnover, _), held in zip(new, made, strict=True):
            turnover.asked = held

    # Between them

    def _work(self, turnover: Turnover, deadline: float) -> None:
        if not turnover.steps:
            return
        step = turnover.steps[0]
        if self._clock() > deadline:
            turnover.results += _left_open(turnover.steps, "there was no time for it in this run")
            return
        self._pace.wait()
        try:
            self._hands.do(self._places[step.source], turnover)
        except DatabaseError:
            raise
        except Exception as error:
            # One employee's trouble is nobody else's; what was asked for stays written down as open.
            log.exception("%s: unexpected %s", step.address, type(error).__name__)
            sentence = f"it failed: {type(error).__name__}, see the log"
            turnover.results.append(Result(step, Outcome.FAILED, sentence))

    def _owe(self, mine: Mapping[Seat, Turnover], report: Report) -> None:
        try:
            self._publishing.owe(
                step.source
                for turnover in mine.values()
                for step in turnover.steps
                if step.kind in CHANGES_LISTS
            )
        except SourceError as error:
            # It is published all the same, unless this process dies before.
            report.owe([str(error)])

    # The second transaction

    def _end(self, mine: Mapping[Seat, Turnover]) -> None:
        changes = Changes(seats=list(mine))
        for turnover in mine.values():
            one = turnover.changes
            changes.turns += one.turns
            changes.news += one.news
            changes.files += one.files
            changes.sealed += one.sealed
            changes.remarks += one.remarks
        self._ledger.write(changes, now=self._now())


def _left_open(steps: Iterable[Action], sentence: str) -> list[Result]:
    return [Result(step, Outcome.LEFT_OPEN, sentence) for step in steps]


def _at_work(claim: tuple[str, datetime] | None) -> str:
    if claim is None:
        return "another mail server was at work on it"
    node, until = claim
    return f"{node} is at work on it; if it died, this is done after {until:%H:%M} UTC (lease_minutes)"


def _unwritten(result: Result) -> Result:
    """What was done, and cannot be written down now: the next run finds it, and writes it down."""
    if result.outcome is not Outcome.DONE:
        return result
    sentence = f"{result.sentence}; it could not be written down, and the next run takes it in"
    return replace(result, outcome=Outcome.FAILED, sentence=sentence)


def _with_id(step: Action, held: Held) -> Action:
    """A step about a certificate that was just taken in, with its number."""
    if step.held is not None and step.held.id == 0:
        return replace(step, held=held)
    return step


def _still_so(steps: Sequence[Action], current: Sequence[Held]) -> bool:
    """Is everything as it was when the plan was made? Another mail server may have been quicker."""
    now = {each.id: each.status for each in current}
    requested = any(status is Status.REQUESTED for status in now.values())
    planned = {step.held.id for step in steps if step.held is not None}
    for step in steps:
        held = step.held
        if step.kind is Kind.ADOPT:
            if held is None or any(each.key_id == held.key_id for each in current):
                return False
        elif step.kind is Kind.DISCARD:
            continue
        elif held is not None and held.id and now.get(held.id) is not held.status:
            return False
        if step.kind in (Kind.ISSUE, Kind.RENEW, Kind.REISSUE) and requested:
            return False
        if step.kind is Kind.ISSUE and any(
            status is Status.ISSUED and number not in planned for number, status in now.items()
        ):
            return False
    return True
