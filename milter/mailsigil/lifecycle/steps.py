"""One step of a plan, done: keys, files and the authority. What becomes of it is written down by the caller.

A step that is done twice does no harm, because nobody knows where the first one was interrupted. What takes a
certificate away first stops it from signing here, and then tells the authority.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from mailsigil.keys.errors import NotSupported, Pending, SourceError, SourceRefused, SourceUnavailable
from mailsigil.keys.register import Reason
from mailsigil.keys.source import Withdraws
from mailsigil.lifecycle.actions import Action, Cause, Held, Kind
from mailsigil.lifecycle.certifying import Certifying
from mailsigil.lifecycle.errors import DatabaseError, LifecycleError
from mailsigil.lifecycle.ledger import Ledger
from mailsigil.lifecycle.records import Copy, NewCertificate, Turn
from mailsigil.lifecycle.rows import facts_of
from mailsigil.lifecycle.sealing import Seal
from mailsigil.lifecycle.tables import UNANSWERED, Status
from mailsigil.lifecycle.turnover import Outcome, Result, Turnover, reason_of, seat_of
from mailsigil.lifecycle.workplace import Workplace


@dataclass(frozen=True, slots=True, kw_only=True)
class Hands:
    """Does steps. Safe to share between threads; a seat belongs to one of them."""

    ledger: Ledger
    seal: Seal | None
    overlap: timedelta
    keep_keys: bool
    now: Callable[[], datetime]

    def do(self, place: Workplace, seat: Turnover) -> None:
        """Do the steps of one seat, in their order, up to one that fails."""
        ended = False
        for step in seat.steps:
            if ended:
                self._note(seat, step, Outcome.LEFT_OPEN, "the step before it was not done")
                continue
            try:
                place.state.prepare()
                # One at a time, also beside the key agent's own processes.
                with place.state.alone(step.address):
                    sentence = self._do(place, seat, step)
            except Pending as error:
                self._note(seat, step, Outcome.PENDING, str(error), error)
            except SourceError as error:
                self._note(seat, step, Outcome.FAILED, str(error), error)
            except DatabaseError:
                raise
            except LifecycleError as error:
                self._note(seat, step, Outcome.FAILED, str(error))
            except OSError as error:
                self._note(seat, step, Outcome.FAILED, f"{error.filename or 'a file'}: {error.strerror}.")
            else:
                self._note(seat, step, Outcome.DONE, sentence)
            ended = seat.results[-1].outcome is not Outcome.DONE and not _stands_alone(step)

    def sealed(self, content: bytes, source: str, address: str, serial: str) -> bytes | None:
        """Give a key file encrypted for the other mail servers; None where nothing is shared."""
        if self.seal is None:
            return None
        return self.seal.close(content, source=source, address=address, serial=serial)

    def _do(self, place: Workplace, seat: Turnover, step: Action) -> str:
        held = step.held
        if step.kind in (Kind.RESUME, Kind.ISSUE, Kind.RENEW, Kind.REISSUE):
            return self._ask(place, seat, step)
        if held is None:
            raise ValueError(f"{step.kind} needs a certificate")
        match step.kind:
            case Kind.ADOPT:
                return step.reason
            case Kind.EXPIRE:
                return self._expire(place, seat, step, held)
            case Kind.DISCARD:
                return self._discard(place, seat, step, held)
            case Kind.REVOKE if held.status is Status.REQUESTED:
                return self._call_off(place, seat, step, held)
            case Kind.REVOKE:
                return self._revoke(place, seat, step, held)
            case Kind.HOLD:
                return self._hold(place, seat, step, held)
            case Kind.RELEASE:
                return self._release(place, seat, step, held)
            case Kind.INSTALL:
                return self._install(place, seat, step, held)
            case _:
                return self._share(place, seat, held)

    # A new certificate

    @property
    def _certifying(self) -> Certifying:
        return Certifying(ledger=self.ledger, keep_keys=self.keep_keys)

    def _ask(self, place: Workplace, seat: Turnover, step: Action) -> str:
        asked, request = seat.asked, step.request
        if asked is None or request is None:
            raise ValueError("nothing is written down to be asked for")
        place.state.prepare()
        made = self._certifying.certified(place, seat, step, request)
        facts = facts_of(made.chain[0])
        sealed = self.sealed(made.content, place.name, request.address, facts.serial)
        self._make_room(place, seat, step)
        seat.changes.news.append(
            NewCertificate(
                id=asked.id,
                held=asked,
                request=made.request,
                facts=facts,
                sealed=sealed,
                mark=place.files.mark(request.address),
                why=step.reason,
            )
        )
        level = made.request.level
        less = f" (certified as {facts.certified})" if facts.certified is not level else ""
        late = "" if made.request == request else "; it says what was wanted before, so it is replaced next"
        doubt = f"; {made.remark}" if made.remark else ""
        return f"{level}{less} until {facts.valid_until:%Y-%m-%d}, serial {facts.serial}{late}{doubt}"

    def _make_room(self, place: Workplace, seat: Turnover, step: Action) -> None:
        """What signed until now gives way."""
        old = seat.issued()
        if old is None:
            return
        why = f"another took its place: {step.reason}"
        if step.at_once:
            try:
                self._tell_authority(place, seat, old, reason_of(step), why)
            except SourceError as error:
                # The new one is there, so this does not hold it up: the next run revokes the old one.
                late = f"{why}; {error}"
                seat.changes.turns.append(
                    Turn(held=old, status=Status.SUPERSEDED, why=late, revoke_at=self.now())
                )
            return
        # A certificate that was renewed as it is still tells the truth, and runs out by itself.
        end = None if old.request == step.request else self.now() + self.overlap
        seat.changes.turns.append(Turn(held=old, status=Status.SUPERSEDED, why=why, revoke_at=end))

    # Taking away

    def _revoke(self, place: Workplace, seat: Turnover, step: Action, held: Held) -> str:
        self._remove(place, seat, held)
        try:
            self._tell_authority(place, seat, held, reason_of(step), step.reason)
        except SourceError:
            if step.told is not None:
                # A person said so once: each run says it to the authority until it hears.
                late = Turn(held, Status.SUPERSEDED, step.reason, revoke_at=self.now(), told=step.told)
                seat.changes.turns.append(late)
            raise
        return seat.changes.turns[-1].status.value

    def _tell_authority(self, place: Workplace, seat: Turnover, held: Held, reason: Reason, why: str) -> None:
        certificate, _ = self.ledger.material(held.id)
        try:
            if isinstance(place.issuer, Withdraws):
                place.issuer.withdraw(certificate, reason)
            else:
                place.issuer.revoke(certificate)
        except NotSupported as error:
            told = f"{why}. {error.sentence}: {error.mend[0].lower()}{error.mend[1:]}"
            seat.changes.turns.append(Turn(held=held, status=Status.WITHDRAWN, why=told))
        else:
            seat.changes.turns.append(Turn(held=held, status=Status.REVOKED, why=why))

    def _hold(self, place: Workplace, seat: Turnover, step: Action, held: Held) -> str:
        if place.files.content(held.address, held.key_id) is not None:
            seat.changes.files.append((seat_of(held), None))
        place.files.set_aside(held.address, held.key_id)
        if not isinstance(place.issuer, Withdraws):
            why = f"{step.reason}; its key is set aside, the authority knows no suspension"
            seat.changes.turns.append(Turn(held=held, status=Status.HELD, why=why))
            return why
        certificate, _ = self.ledger.material(held.id)
        why = step.reason
        try:
            place.issuer.withdraw(certificate, Reason.CERTIFICATE_HOLD)
        except SourceRefused as error:
            why = f"{why}; its key is set aside, and the authority was not told: {error}"
        seat.changes.turns.append(Turn(held=held, status=Status.HELD, why=why))
        return why

    def _release(self, place: Workplace, seat: Turnover, step: Action, held: Held) -> str:
        # The key is looked for first: without it the certificate would be good, and nothing would sign.
        content = self._key_file(place, held)
        if isinstance(place.issuer, Withdraws):
            certificate, _ = self.ledger.material(held.id)
            try:
                place.issuer.release(certificate)
            except SourceRefused as error:
                # Somebody revoked it for good there: the next run asks for another one.
                seat.changes.turns.append(Turn(held, Status.REVOKED, f"it does not come back: {error}"))
                raise
        if step.cause is Cause.REPLACED:
            seat.changes.turns.append(Turn(held=held, status=Status.SUPERSEDED, why=step.reason))
            return step.reason
        self._make_room(place, seat, step)
        if content is not None:
            self._put(place, seat, held, content)
        seat.changes.turns.append(Turn(held=held, status=Status.ISSUED, why=step.reason))
        return step.reason

    def _call_off(self, place: Workplace, seat: Turnover, step: Action, held: Held) -> str:
        said = self._certifying.call_off(place, seat, held)
        seat.changes.turns.append(Turn(held=held, status=Status.FAILED, why=f"{said}: {step.reason}"))
        return said

    def _expire(self, place: Workplace, seat: Turnover, step: Action, held: Held) -> str:
        self._remove(place, seat, held)
        seat.changes.turns.append(Turn(held=held, status=Status.EXPIRED, why=step.reason))
        return step.reason

    def _discard(self, place: Workplace, seat: Turnover, step: Action, held: Held) -> str:
        if held.status is Status.HELD:
            place.files.set_aside(held.address, held.key_id)
        else:
            place.files.remove(held.address, held.key_id)
        seat.changes.files.append((seat_of(held), None))
        seat.changes.remarks.append((held, "discarded", step.reason))
        return step.reason

    def _remove(self, place: Workplace, seat: Turnover, held: Held) -> None:
        if place.files.content(held.address, held.key_id) is not None:
            seat.changes.files.append((seat_of(held), None))
        place.files.remove(held.address, held.key_id)

    # Keys of other machines

    def _install(self, place: Workplace, seat: Turnover, step: Action, held: Held) -> str:
        content = self._key_file(place, held)
        if content is None:
            raise LifecycleError(
                f"the key of {held.address} (serial {held.serial}) is neither here nor in the database",
                "See whether the mail server that made it shares its keys (share_keys_with)",
            )
        self._put(place, seat, held, content)
        seat.changes.remarks.append((held, "installed", step.reason))
        return step.reason

    def _key_file(self, place: Workplace, held: Held) -> bytes | None:
        """What signs with a certificate, from aside or out of the database; None: it is in neither."""
        content = place.files.set_aside_content(held.key_id)
        if content is None and self.seal is not None:
            _, sealed = self.ledger.material(held.id)
            if sealed is not None:
                content = self.seal.open(sealed, source=held.source, address=held.address, serial=held.serial)
        return content

    def _put(self, place: Workplace, seat: Turnover, held: Held, content: bytes) -> None:
        copy = Copy(held.key_id, place.files.bring_back(held.address, held.key_id, content))
        seat.changes.files.append((seat_of(held), copy))

    def _share(self, place: Workplace, seat: Turnover, held: Held) -> str:
        content = place.files.content(held.address, held.key_id)
        sealed = self.sealed(content, held.source, held.address, held.serial) if content else None
        if sealed is None:
            return "there is nothing to share"
        seat.changes.sealed.append((held.id, sealed))
        seat.changes.remarks.append((held, "shared", "encrypted, for the other mail servers"))
        return "shared"

    def _note(
        self, seat: Turnover, step: Action, outcome: Outcome, sentence: str, error: SourceError | None = None
    ) -> None:
        seat.results.append(Result(step, outcome, sentence, error))
        held = step.held or seat.asked
        if outcome is not Outcome.DONE and held is not None:
            lost = isinstance(error, SourceUnavailable) and error.is_unanswered
            what = UNANSWERED if lost else outcome.value
            seat.changes.remarks.append((held, what, f"{step.kind}: {sentence}"))


def _stands_alone(step: Action) -> bool:
    """What follows does not need it: who is refused this one for good, is kept from nothing else."""
    replaced = step.held is not None and step.held.status is Status.SUPERSEDED
    return step.kind is Kind.INSTALL or (step.kind is Kind.REVOKE and replaced)
