"""A new certificate: its key, the question to the authority, and what an earlier question may have brought.

A key is kept before anybody is asked to certify it, and a request whose answer was lost is made again for the
same key. Before that the authority is asked whether it certified the key, where it can tell (``Recalls``).
Where it cannot, whoever reads the report is told to look.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from mailsigil.keys.errors import NotSupported, Pending, SourceAnswer, SourceRefused
from mailsigil.keys.register import Reason
from mailsigil.keys.source import CertifiableKey, Recalls, Withdraws, key_id_of
from mailsigil.keys.subject import SubjectRequest
from mailsigil.lifecycle.actions import Action, Kind, answers
from mailsigil.lifecycle.ledger import Ledger
from mailsigil.lifecycle.records import Turn
from mailsigil.lifecycle.rows import facts_of
from mailsigil.lifecycle.tables import Status
from mailsigil.lifecycle.turnover import Turnover
from mailsigil.lifecycle.workplace import Workplace

log = logging.getLogger("mailsigil.lifecycle")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Certified:
    """A key file in its place, and what stands in it."""

    content: bytes
    chain: tuple[bytes, ...]
    """DER, the certificate first."""
    remark: str = ""
    """What somebody should look at; empty where all is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certifying:
    """Has keys certified. Safe to share between threads; a seat belongs to one of them."""

    ledger: Ledger
    keep_keys: bool

    def certified(self, place: Workplace, seat: Turnover, step: Action, request: SubjectRequest) -> Certified:
        """Give key and chain, which are in their place by then. Raises SourceError, DatabaseError."""
        files = place.files
        if step.kind is Kind.RESUME and (found := self._stored(place, seat, request)) is not None:
            return found
        maker = place.maker
        if maker is not None:
            # A key that was made over there, and got lost on its way, is nobody's.
            remark = self._disown(place, seat, step) if step.kind is Kind.RESUME else ""
            made, chain = self._answered(place, seat, lambda: maker.make(request))
            return Certified(files.store(made, chain), chain, remark)
        waits = files.waits(request.address)
        new = files.new_key(request, place.key_kind(), keep=self.keep_keys)
        knows = isinstance(place.issuer, Recalls)
        try:
            recalled = recall(place, _lost(step, request), new) if waits else None
        except NotSupported as error:
            log.warning("%s", error)
            recalled, knows = None, False
        if recalled is not None:
            return Certified(files.store(new, recalled), recalled)
        remark = ""
        if step.kind is Kind.RESUME and not (waits and self._is_mine(seat)):
            remark = self._disown(place, seat, step)
        elif step.kind is Kind.RESUME and not knows:
            remark = self._doubt(place, seat)
        current = files.held_key(request.address) if step.kind is Kind.RENEW else None

        def ask() -> tuple[bytes, ...]:
            if current is not None:
                return place.issuer.renew(request, new, current=current)
            return place.issuer.enrol(request, new)

        chain = self._answered(place, seat, ask)
        return Certified(files.store(new, chain), chain, remark)

    def _answered(self, place: Workplace, seat: Turnover, ask: Callable[[], T]) -> T:
        """Asks the authority. After a no, nothing is open; a key that was certified is never forgotten."""
        try:
            return ask()
        except Pending:
            raise
        except (SourceRefused, SourceAnswer) as error:
            if seat.asked is not None:
                place.files.refused(seat.asked.address)
                seat.changes.turns.append(Turn(held=seat.asked, status=Status.FAILED, why=str(error)))
            raise

    def _stored(self, place: Workplace, seat: Turnover, request: SubjectRequest) -> Certified | None:
        """A certificate that came, and that nobody had the time to write down."""
        chain = place.files.chain(request.address)
        facts = facts_of(chain[0]) if chain else None
        if facts is None or seat.asked is None or not answers(facts.valid_from, seat.asked):
            return None
        if facts.key_id in self.ledger.by_key_id([facts.key_id]):
            return None
        content = place.files.content(request.address, facts.key_id)
        if content is None:
            return None
        place.files.drop_waiting(request.address)
        return Certified(content, chain)

    def _is_mine(self, seat: Turnover) -> bool:
        return seat.asked is not None and seat.asked.node == self.ledger.node

    def _disown(self, place: Workplace, seat: Turnover, step: Action) -> str:
        """What was issued to a key that nobody has (any more) is revoked; gives what is left in doubt."""
        asked = seat.asked
        if asked is None or asked.asked_at is None:
            return ""
        if not isinstance(place.issuer, Recalls):
            return self._doubt(place, seat)
        try:
            found = place.issuer.issued_since(_lost(step, asked.request), asked.asked_at)
        except NotSupported:
            return self._doubt(place, seat)
        known = self.ledger.by_key_id(map(key_id_of, found))
        for der in found:
            if key_id_of(der) not in known:
                _take_back(place, der)
                why = f"{asked.node} had asked for it, and the key got lost"
                seat.changes.remarks.append((asked, "disowned", why))
        return ""

    def _doubt(self, place: Workplace, seat: Turnover) -> str:
        """Did an earlier request bring a certificate that nobody knows of? Empty where that is known."""
        asked = seat.asked
        if asked is None or not self.ledger.is_in_doubt(asked):
            return ""
        why = (
            f'an answer of "{place.name}" was lost before, and it cannot tell whether a certificate came of'
            f" it: if there is a second one for {asked.address} there, have that one revoked"
        )
        seat.changes.remarks.append((asked, "in doubt", why))
        return why


def recall(place: Workplace, request: SubjectRequest, new: CertifiableKey) -> tuple[bytes, ...] | None:
    """Give what the authority issued for this key, and what never arrived; None where it issued nothing.

    Raises NotSupported where an authority that usually knows cannot tell, and other SourceErrors.
    """
    return place.issuer.recall(request, new) if isinstance(place.issuer, Recalls) else None


def _lost(step: Action, request: SubjectRequest) -> SubjectRequest:
    """What was asked for when the answer got lost; today something else may be wanted."""
    return step.held.request if step.kind is Kind.RESUME and step.held is not None else request


def _take_back(place: Workplace, der: bytes) -> None:
    if isinstance(place.issuer, Withdraws):
        place.issuer.withdraw(der, Reason.SUPERSEDED)
    else:
        place.issuer.revoke(der)
