"""The words of a plan: what can be done for one employee, to which certificate, and why."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Literal

from mailsigil.keys.register import Reason
from mailsigil.keys.subject import SubjectRequest
from mailsigil.lifecycle.tables import Status
from mailsigil.pki.policies import Level

Seat = tuple[str, str]
"""An address and a source: where one certificate signs at a time."""


BACKDATED: Final = timedelta(hours=1)
"""So far most authorities date certificates back, for receivers whose clocks are late."""
BACKDATED_MOST: Final = timedelta(days=2)
"""So far any does: some let a certificate begin with the day."""

CONTAINS: Final = {
    Level.V1: frozenset({Level.V1}),
    Level.V2: frozenset({Level.V1, Level.V2}),
    Level.V3: frozenset({Level.V1, Level.V3}),
    Level.V4: frozenset(Level),
}
"""What each level says of its owner, by the levels that say it, too."""


class Kind(StrEnum):
    """What can be done for one seat, in the order in which it is done and shown."""

    ADOPT = "adopt"
    """A key that lies in the state folder, and that the database does not know, is taken in."""
    EXPIRE = "expire"
    """A certificate ran out: noted."""
    DISCARD = "discard"
    """A key file of a certificate that is good no more is removed from this machine."""
    REVOKE = "revoke"
    HOLD = "hold"
    """Suspended (RFC 5280 5.3.1, certificateHold), and may come back."""
    RELEASE = "release"
    """A suspended one is good again, and signs."""
    RESUME = "resume"
    """A request that a run left open is brought to an end."""
    ISSUE = "issue"
    RENEW = "renew"
    REISSUE = "reissue"
    """Something that the certificate says has changed."""
    INSTALL = "install"
    """A key that another mail server made, or that was set aside, is put where it signs."""
    SHARE = "share"
    """A key of this machine is put into the database, encrypted, for the others."""


ASKS_FOR_ONE: Final = frozenset({Kind.RESUME, Kind.ISSUE, Kind.RENEW, Kind.REISSUE})
"""After these there is a new certificate."""


class Cause(StrEnum):
    """Why a certificate is taken away; decides what an authority is told."""

    NONE = ""
    LEFT = "left"
    LAPSED = "lapsed"
    LOWERED = "lowered"
    """The person is entitled to less."""
    REPLACED = "replaced"
    """Another has taken its place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A certificate as the database knows it, or as it was found in the state folder (``id`` is 0)."""

    id: int
    source: str
    address: str
    status: Status
    request: SubjectRequest
    """What was asked for."""
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    asked_at: datetime | None = None
    """When it was asked for."""
    node: str = ""
    key_id: str = ""
    serial: str = ""
    reason: str = ""
    revoke_at: datetime | None = None
    told: Reason | None = None
    """What a person wants the authority to be told when it is revoked."""
    is_aside: bool = False
    """The key was set aside on this machine when the certificate was suspended."""
    is_shared: bool = False
    """The database holds the key, encrypted."""
    file_key: str = ""
    """What lies in this machine's state folder for the address: the key_id, or empty."""
    waits: bool = False
    """Of a request: its key lies on this machine and waits for its certificate."""


def answers(found_from: datetime | None, request: Held, *, node: str) -> bool:
    """Tell whether a certificate that nobody knows can be the answer to an open request.

    It lies in the state folder of ``node``, and is good from ``found_from`` on.
    """
    if found_from is None or request.asked_at is None:
        return False
    # A key stops waiting when its certificate is put beside it.
    arrived = request.node == node and not request.waits
    return found_from >= request.asked_at - (BACKDATED_MOST if arrived else BACKDATED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One step for one seat."""

    kind: Kind
    source: str
    address: str
    reason: str
    request: SubjectRequest | None = None
    """What to ask for."""
    held: Held | None = None
    """The certificate that it is about; for a new one, the one whose place it takes."""
    cause: Cause = Cause.NONE
    at_once: bool = False
    """The replaced certificate is not left good for a while."""
    told: Reason | None = None
    """What a person wants the authority to be told; None: what follows from the cause."""

    @property
    def takes_away(self) -> bool:
        """A person loses what signed until now, or may come back: what the safety stop counts.

        It does not come back by itself: a lower certificate in its place is a loss, too.
        """
        if self.cause is Cause.LOWERED:
            # What was asked for before was counted then.
            asked = self.kind is Kind.RESUME and self.held is not None and self.held.request == self.request
            return self.at_once and not asked
        if self.held is None or self.held.status not in (Status.ISSUED, Status.HELD):
            return False
        if self.kind is Kind.REVOKE:
            return self.cause in (Cause.LEFT, Cause.LAPSED)
        return self.kind is Kind.HOLD and self.cause is Cause.LEFT


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Something that is left as it is, and that somebody should know."""

    source: str
    address: str
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the settings say about when and how."""

    node: str
    renew_before: dict[str, timedelta]
    """By source."""
    jitter: timedelta = timedelta(0)
    on_departure: Literal["revoke", "hold"] = "revoke"
    on_lapse: Literal["revoke", "hold"] = "hold"
    shares_keys: bool = False
