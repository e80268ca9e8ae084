"""The steps for one seat, each with its reason, of which ``plan.decide`` makes the way. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from datetime import datetime, timedelta
from typing import Final

from mailsigil.keys.subject import SubjectRequest
from mailsigil.lifecycle.actions import CONTAINS, Action, Cause, Held, Kind, Note, Rules, answers
from mailsigil.lifecycle.desired import ORGANISATIONAL, Desired, Standing
from mailsigil.lifecycle.tables import Status

SKEW: Final = timedelta(minutes=5)
"""So far the clocks of authorities may be ahead."""


def renewal_time(held: Held, rules: Rules) -> datetime | None:
    """When a certificate is to be renewed: some days before its end, each address on a day of its own."""
    if held.valid_until is None or held.valid_from is None:
        return None
    life = held.valid_until - held.valid_from
    # A short-lived certificate is renewed after two thirds of its life at the latest.
    margin = min(rules.renew_before.get(held.source, timedelta(days=30)), life / 3)
    spread = min(rules.jitter, life / 6)
    return held.valid_until - margin - spread * _share(held.address)


def _share(address: str) -> float:
    """A number from 0 to 1 that an address keeps, and that lies anywhere."""
    return int.from_bytes(hashlib.sha256(address.encode()).digest()[:4]) / 2**32


class SeatPlan:
    """One seat's certificates, sorted out."""

    def __init__(
        self, wish: Desired | None, certificates: Sequence[Held], rules: Rules, at: datetime
    ) -> None:
        self.wish, self.rules, self.at = wish, rules, at
        over = [each for each in certificates if each.valid_until is not None and each.valid_until <= at]
        good = [each for each in certificates if each not in over]
        self.over = [each for each in over if each.id]
        self.requested = _only(good, Status.REQUESTED)
        self.found = next((each for each in good if not each.id), None)
        asked = self.requested
        if self.found and asked and answers(self.found.valid_from, asked, node=rules.node):
            # What came, and nobody had the time to write down: bringing the request to its end takes it in.
            self.found = None
        known = _only([each for each in good if each.id], Status.ISSUED)
        self.superseded = [each for each in good if each.status is Status.SUPERSEDED]
        # What lies in the folder and nobody knows was mostly made after what is known: the agent enrolled it.
        # Else a machine that was away for long brings it, and what was made in its place counts.
        self.is_late = self.found is not None and known is not None and not _newer(self.found, known)
        self.issued = self.found if self.found is not None and not self.is_late else known
        if self.found is not None and known is not None and not self.is_late:
            self.superseded.append(known)
        self.held = [each for each in good if each.status is Status.HELD]
        self.place = certificates[0] if certificates else wish

    def step(
        self,
        kind: Kind,
        reason: str,
        *,
        request: SubjectRequest | None = None,
        held: Held | None = None,
        cause: Cause = Cause.NONE,
        at_once: bool = False,
    ) -> Action:
        """One step for this seat."""
        if self.place is None:
            raise ValueError("a seat needs a wish or a certificate")
        return Action(
            kind=kind,
            source=self.place.source,
            address=self.place.address,
            reason=reason,
            request=request,
            held=held,
            cause=cause,
            at_once=at_once,
        )

    def adopted(self) -> Iterator[Action]:
        """A key that the agent enrolled by itself, or that lay there before there was a database."""
        if self.found is not None:
            reason = "its key lies in the state folder"
            if self.is_late:
                reason = f"{reason}, and a newer certificate has taken its place"
            yield self.step(Kind.ADOPT, reason, held=self.found, at_once=self.is_late)

    def expired(self) -> Iterator[Action]:
        """Certificates whose time is over."""
        for each in self.over:
            yield self.step(Kind.EXPIRE, f"it ran out on {each.valid_until:%Y-%m-%d}", held=each)

    def departed(self) -> Iterator[Action]:
        """Everything of somebody who left."""
        why = "nobody in the directory has this address"
        if self.wish is not None:
            why = self.wish.why
        hold = self.rules.on_departure == "hold"
        for each in filter(None, (self.requested, self.issued, *self.superseded)):
            keep = hold and each is self.issued
            step = self.step(Kind.HOLD if keep else Kind.REVOKE, why, held=each, cause=Cause.LEFT)
            yield replace(step, told=each.told)
        if not hold:
            for each in self.held:
                yield self.step(Kind.REVOKE, why, held=each, cause=Cause.LEFT)

    def overlapped(self) -> Iterator[Action]:
        """What was replaced, and has been good for long enough."""
        for each in self.superseded:
            if each.revoke_at is not None and each.revoke_at <= self.at:
                reason = "another took its place, and the overlap is over"
                if each.told is not None:
                    reason = f"{each.reason}: the authority has not heard it yet"
                step = self.step(Kind.REVOKE, reason, held=each, cause=Cause.REPLACED)
                yield replace(step, told=each.told)

    def missing(self, wish: Desired) -> Iterator[Action]:
        """Nothing signs for this seat."""
        yield from self._back_or_gone(wish)
        if any(each.request == wish.request for each in self.held):
            return
        if wish.standing is Standing.WANTED or self.held or self.superseded or self.over:
            why = "it ran out before it was renewed" if self.over else "there is no certificate yet"
            yield self.step(Kind.ISSUE, f"{why} ({wish.request.level})", request=wish.request)

    def lapsed(self, wish: Desired) -> Iterator[Action]:
        """The organisation is not vouched for any more, so its certificates stop at once."""
        if not wish.lapsed or wish.request.level in ORGANISATIONAL:
            return
        kind = Kind.HOLD if self.rules.on_lapse == "hold" else Kind.REVOKE
        for each in (self.issued, *self.superseded):
            if each is not None and each.told is None and each.request.level in ORGANISATIONAL:
                yield self.step(kind, wish.lapsed, held=each, cause=Cause.LAPSED)

    def resumed(self, wish: Desired, requested: Held, *, gone: bool = False) -> Action:
        """What is open is brought to an end; what signs until now goes as it would without that."""
        lowered = self.issued is not None and not gone and _says_too_much(self.issued, wish)
        return self.step(
            Kind.RESUME,
            "an earlier request was not brought to its end",
            request=wish.request,
            held=requested,
            cause=Cause.LOWERED if lowered else Cause.NONE,
            at_once=lowered,
        )

    def changed(self, wish: Desired, issued: Held) -> Iterator[Action]:
        """The certificate says something else than it should."""
        lowered = _says_too_much(issued, wish)
        lapsed = list(self.lapsed(wish))
        if any(step.held is issued for step in lapsed):
            yield from lapsed
            reason = f"in place of {issued.request.level}: {wish.lapsed}"
            yield self.step(Kind.ISSUE, reason, request=wish.request)
            return
        if any(each.request == wish.request for each in self.held):
            yield from self._back_or_gone(wish)
            return
        yield from lapsed
        yield from self._back_or_gone(wish)
        difference = _difference(issued.request, wish.request)
        yield self.step(
            Kind.REISSUE,
            f"{difference}; {wish.why}; the one before is revoked at once" if lowered else difference,
            request=wish.request,
            held=issued,
            cause=Cause.LOWERED if lowered else Cause.REPLACED,
            at_once=lowered,
        )

    def unchanged(self, wish: Desired, issued: Held) -> Iterator[Action | Note]:
        """The certificate says what it should."""
        # While the organisation's validation has lapsed, what was suspended for that waits.
        for each in self.held if not wish.lapsed else ():
            reason = "another has taken its place"
            yield self.step(Kind.REVOKE, reason, held=each, cause=Cause.REPLACED)
        if issued.valid_from is not None and issued.valid_from > self.at + SKEW:
            # Made while a clock was ahead.
            reason = f"it is not good before {issued.valid_from:%Y-%m-%d %H:%M}"
            yield self.step(
                Kind.REISSUE, reason, request=wish.request, held=issued, cause=Cause.REPLACED, at_once=True
            )
            return
        due = renewal_time(issued, self.rules)
        if due is not None and due <= self.at:
            # Until then it signs here as well, and also where it cannot be renewed.
            at_hand = self._at_hand(wish, issued)
            yield from (one for one in at_hand if isinstance(one, Action) and one.kind is Kind.INSTALL)
            reason = f"it runs out on {issued.valid_until:%Y-%m-%d}"
            yield self.step(Kind.RENEW, reason, request=wish.request, held=issued)
            return
        yield from self._at_hand(wish, issued)

    def _at_hand(self, wish: Desired, issued: Held) -> Iterator[Action | Note]:
        """Is the key on this machine, and with the others?"""
        if issued.id == 0:
            return  # What is taken in is shared with it.
        if issued.file_key == issued.key_id:
            if self.rules.shares_keys and not issued.is_shared:
                yield self.step(Kind.SHARE, "the other mail servers need it", held=issued)
        elif issued.is_aside:
            yield self.step(Kind.INSTALL, "it was set aside", held=issued)
        elif issued.is_shared and self.rules.shares_keys:
            yield self.step(Kind.INSTALL, f"{issued.node} made it", held=issued)
        elif issued.node == self.rules.node:
            reason = "its key is no longer on this machine"
            yield self.step(Kind.REISSUE, reason, request=wish.request, held=issued, cause=Cause.REPLACED)
        elif not self.rules.shares_keys:
            sentence = f"its key lies on {issued.node} alone (see share_keys_with)"
            yield Note(source=issued.source, address=issued.address, sentence=sentence)

    def _back_or_gone(self, wish: Desired) -> Iterator[Action]:
        """A suspended certificate that is right again comes back; others are over for good.

        Of several that say the same, the last one signs; those before were suspended while they ran out.
        """
        right = [each for each in self.held if each.request == wish.request]
        back = max(right, key=lambda each: each.id, default=None)
        for each in self.held:
            if each is back:
                yield self.step(Kind.RELEASE, "what stood against it is over", held=each)
            elif each in right:
                reason = "what stood against it is over, and another has taken its place"
                yield self.step(Kind.RELEASE, reason, held=each, cause=Cause.REPLACED)
            elif not wish.lapsed:
                reason = _difference(each.request, wish.request)
                yield self.step(Kind.REVOKE, reason, held=each, cause=Cause.REPLACED)


def _only(certificates: Sequence[Held], status: Status) -> Held | None:
    return next((each for each in certificates if each.status is status), None)


def _newer(one: Held, other: Held) -> bool:
    if one.valid_from is None or other.valid_from is None:
        return False
    return one.valid_from > other.valid_from


def _says_too_much(issued: Held, wish: Desired) -> bool:
    """The certificate says something of the person that is not so any more.

    What is still so, and policy wants said no longer, has the time that every replacement has.
    """
    old, new = issued.request.level, wish.request.level
    return old is not new and CONTAINS[old] > CONTAINS[new] and old not in wish.entitled


def _difference(old: SubjectRequest, new: SubjectRequest) -> str:
    """What changed, for a person."""
    parts = []
    for each in fields(SubjectRequest):
        before, after = getattr(old, each.name), getattr(new, each.name)
        if before != after and each.name != "address":
            parts.append(f"{each.name.replace('_', ' ')}: {before or 'none'} → {after or 'none'}")
    return "; ".join(parts)
