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
from mailsigil.lifecycle.actions import Action, Held, Kind, answers
from mailsigil.lifecycle.ledger import CALLED_OFF, Ledger
from mailsigil.lifecycle.records import Turn
from mailsigil.lifecycle.rows import facts_of, request_behind
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
    request: SubjectRequest
    """What was asked for to get it."""
    remark: str = ""
    """What somebody should look at; empty where all is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certifying:
    """Has keys certified. Safe to share between threads; a seat belongs to one of them."""

    ledger: Ledger
    keep_keys: bool

    def certified(self, place: Workplace, seat: Turnover, step: Action, request: SubjectRequest) -> Certified:
        """Give key and chain, which are in their place by then. Raises SourceError, DatabaseError.

        An answer that was lost before may say what was wanted then, and not what is wanted today.
        """
        files = place.files
        lost = step.held if step.kind is Kind.RESUME else None
        if lost is not None and (stored := self._stored(place, lost)) is not None:
            files.drop_waiting(request.address)
            return Certified(*stored, _behind(stored[1], request, lost))
        maker = place.maker
        if maker is not None:
            # A key that was made over there, and got lost on its way, is nobody's.
            remark = self._disown(place, seat, lost) if lost is not None else ""
            made, chain = self._answered(place, seat, lambda: maker.make(request))
            return Certified(files.store(made, chain), chain, request, remark)
        waits = files.waits(request.address) and not self._drop_revoked(place, request.address)
        new = files.new_key(request, place.key_kind(), keep=self._keeps(place, seat, step))
        knows = isinstance(place.issuer, Recalls)
        try:
            recalled = recall(place, lost.request if lost is not None else request, new) if waits else None
        except NotSupported as error:
            log.warning("%s", error)
            recalled, knows = None, False
        if recalled is not None:
            return Certified(files.store(new, recalled), recalled, _behind(recalled, request, lost))
        remark = ""
        if lost is not None and not (waits and lost.node == self.ledger.node):
            remark = self._disown(place, seat, lost)
        elif lost is not None and not knows:
            remark = self._doubt(place, seat, lost)
        current = files.held_key(request.address) if _is_renewal(seat, step, request) else None

        def ask() -> tuple[bytes, ...]:
            if current is not None:
                return place.issuer.renew(request, new, current=current)
            return place.issuer.enrol(request, new)

        chain = self._answered(place, seat, ask)
        return Certified(files.store(new, chain), chain, request, remark)

    def call_off(self, place: Workplace, seat: Turnover, lost: Held) -> str:
        """End a request that is not wanted any more: what it has brought is revoked. Gives what became of it.

        Raises SourceError, DatabaseError.
        """
        files = place.files
        stored = self._stored(place, lost)
        if stored is not None:
            # It signs here already, so it goes first.
            files.remove(lost.address, facts_of(stored[1][0]).key_id)
            _take_back(place, stored[1][0])
            doubt = ""
        elif files.waits(lost.address) and lost.node == self.ledger.node:
            doubt = self._recall_and_revoke(place, seat, lost)
        else:
            doubt = self._disown(place, seat, lost)
        files.drop_waiting(lost.address)
        return f"{CALLED_OFF}; {doubt}" if doubt else CALLED_OFF

    def _recall_and_revoke(self, place: Workplace, seat: Turnover, lost: Held) -> str:
        new = place.files.new_key(lost.request, place.kind, keep=False)
        try:
            chain = recall(place, lost.request, new)
        except NotSupported:
            return self._doubt(place, seat, lost)
        if chain is not None:
            _take_back(place, chain[0])
        return "" if isinstance(place.issuer, Recalls) else self._doubt(place, seat, lost)

    def _keeps(self, place: Workplace, seat: Turnover, step: Action) -> bool:
        """Is the present key to be certified again? Only the key of what signs now, and is good."""
        signs = seat.issued()
        if not self.keep_keys or signs is None or step.kind not in (Kind.RENEW, Kind.REISSUE):
            return False
        return place.files.content(signs.address, signs.key_id) is not None

    def _drop_revoked(self, place: Workplace, address: str) -> bool:
        """A key that waits, and whose certificate was revoked meanwhile, may be in wrong hands."""
        key = place.files.waiting_spki(address)
        if key is None or key not in self.ledger.revoked_keys(place.name, address):
            return False
        log.warning("%s: the key that waits was revoked, so another one is made", address)
        place.files.drop_waiting(address)
        return True

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

    def _stored(self, place: Workplace, lost: Held) -> tuple[bytes, tuple[bytes, ...]] | None:
        """A key file and its chain that came, and that nobody had the time to write down."""
        chain = place.files.chain(lost.address)
        facts = facts_of(chain[0]) if chain else None
        if facts is None or not answers(facts.valid_from, lost, node=self.ledger.node):
            return None
        if facts.key_id in self.ledger.by_key_id([facts.key_id]):
            return None
        content = place.files.content(lost.address, facts.key_id)
        return None if content is None else (content, chain)

    def _disown(self, place: Workplace, seat: Turnover, lost: Held) -> str:
        """What was issued to a key that nobody has (any more) is revoked; gives what is left in doubt."""
        if lost.asked_at is None:
            return ""
        if not isinstance(place.issuer, Recalls):
            return self._doubt(place, seat, lost)
        try:
            found = place.issuer.issued_since(lost.request, lost.asked_at)
        except NotSupported:
            return self._doubt(place, seat, lost)
        known = self.ledger.by_key_id(map(key_id_of, found))
        for der in found:
            if key_id_of(der) not in known:
                _take_back(place, der)
                why = f"{lost.node} had asked for it, and the key got lost"
                seat.changes.remarks.append((lost, "disowned", why))
        return ""

    def _doubt(self, place: Workplace, seat: Turnover, lost: Held) -> str:
        """Did an earlier request bring a certificate that nobody knows of? Empty where that is known."""
        if not self.ledger.is_in_doubt(lost):
            return ""
        why = (
            f'an answer of "{place.name}" was lost before, and it cannot tell whether a certificate came of'
            f" it: if there is a second one for {lost.address} there, have that one revoked"
        )
        seat.changes.remarks.append((lost, "in doubt", why))
        return why


def _behind(chain: tuple[bytes, ...], request: SubjectRequest, lost: Held | None) -> SubjectRequest:
    """What was asked for to get a certificate that came late."""
    before = (lost.request,) if lost is not None else ()
    return request_behind(chain[0], request.address, (request, *before))


def recall(place: Workplace, request: SubjectRequest, new: CertifiableKey) -> tuple[bytes, ...] | None:
    """Give what the authority issued for this key, and what never arrived; None where it issued nothing.

    Raises NotSupported where an authority that usually knows cannot tell, and other SourceErrors.
    """
    return place.issuer.recall(request, new) if isinstance(place.issuer, Recalls) else None


def _is_renewal(seat: Turnover, step: Action, request: SubjectRequest) -> bool:
    """What signs now says the same, and vouches for its successor; also where that was asked for before."""
    if step.kind is Kind.RESUME:
        # Who goes on with a request shows himself as before: RFC 9483 4.1.3 (CMP), RFC 7030 4.2.2 (EST).
        signing = seat.issued()
        return signing is not None and signing.request == request
    return step.kind is Kind.RENEW


def _take_back(place: Workplace, der: bytes) -> None:
    if isinstance(place.issuer, Withdraws):
        place.issuer.withdraw(der, Reason.SUPERSEDED)
    else:
        place.issuer.revoke(der)
