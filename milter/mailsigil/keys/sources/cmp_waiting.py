"""CMP requests that an authority has taken and not decided: they outlive the process that made them.

An authority where a person approves makes callers wait for days (RFC 9810 5.3.22, pollReq and pollRep). Who
asks after a request need not be who made it: `mailsigil sync`, the key agent's timer and its processes each
go on with what one of them began. So a request that waits stands in a file beside the key that waits for it.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import astuple, dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from mailsigil.keys.errors import SourceRefused
from mailsigil.keys.keyring import MAX_TRANSACTION, StateFolder
from mailsigil.keys.newkey import CertifiableKey
from mailsigil.keys.subject import SubjectRequest

log = logging.getLogger("mailsigil.keyd")

VERSION: Final = 1
LONGEST: Final = timedelta(days=30)
"""So long is asked after a request. Who has not decided by then has forgotten it, and is asked anew."""
MAX_PAUSE: Final = timedelta(days=1)
"""The longest time until a request is asked after again, whatever the authority says."""
KINDS: Final = {"p10cr": "cp", "kur": "kup"}
"""Requests, and what answers them (RFC 9810 5.1.2)."""
NUMBERS: Final = frozenset({-1, 0})
"""certReqId of a request that stands alone (RFC 9483 4.1.1, 4.1.4)."""
_FIELDS: Final = frozenset(
    {"version", "for", "transaction", "asked", "theirs", "kind", "number", "begun", "again"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A request that is not decided yet."""

    identifier: bytes
    """transactionID."""
    asked: bytes
    """senderNonce of the request itself."""
    theirs: bytes
    """senderNonce of what the authority said last."""
    kind: str
    """One of ``KINDS``."""
    number: int
    """certReqId, as the authority gave it back."""
    begun: datetime
    again: datetime
    """Not asked after before (RFC 9810 5.3.22, checkAfter)."""


class WaitingRequests:
    """What waits at the authority of one source. ``now`` gives the time, aware, in UTC.

    The caller has the address for itself (``StateFolder.alone``). Troubles with files cost a request its
    memory and nothing else: never raises.
    """

    def __init__(self, state: StateFolder, *, now: Callable[[], datetime]) -> None:
        self._state = state
        self._now = now

    def find(self, request: SubjectRequest, new: CertifiableKey) -> Waiting | None:
        """Give what waits for this key and these names; what waits for others, or too long, is forgotten."""
        try:
            content = self._state.transaction(request.address)
        except SourceRefused as error:
            self._tell(request, error.sentence)
            return None
        if content is None:
            return None
        try:
            subject, waiting = _decoded(content)
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            why = "what was written down of it cannot be read"
        else:
            why = self._why_not(waiting, is_this=subject == _digest(request, new))
            if not why:
                return waiting
        log.warning(
            'source "%s": %s is asked for anew. An earlier request may wait at the authority still: %s.'
            " If it does, refuse it there.",
            self._state.source,
            request.address,
            why,
        )
        self.end(request)
        return None

    def keep(self, request: SubjectRequest, new: CertifiableKey, waiting: Waiting) -> None:
        """Write down a request that is to be asked after."""
        content = _encoded(_digest(request, new), waiting)
        if len(content) > MAX_TRANSACTION:
            self._tell(request, "what the authority wants repeated is too long")
            return
        try:
            self._state.write(self._state.transaction_file(request.address), content)
        except SourceRefused as error:
            self._tell(request, error.sentence)

    def end(self, request: SubjectRequest) -> None:
        """Forget a request that was decided."""
        try:
            self._state.drop_transaction(request.address)
        except OSError as error:
            log.warning('source "%s": %s: %s', self._state.source, error.filename, error.strerror)

    def _why_not(self, waiting: Waiting, *, is_this: bool) -> str:
        """Why a request is not asked after any more; empty where it is."""
        if not is_this:
            return "it was for another key, or for other names"
        # A time that has not come is another clock's: a little is nothing, and much would last for ever.
        if abs(self._now() - waiting.begun) > LONGEST:
            return f"it was not decided in {LONGEST.days} days"
        return ""

    def _tell(self, request: SubjectRequest, why: str) -> None:
        log.warning(
            'source "%s": the request for %s that waits is not kept, and will be made anew: %s.',
            self._state.source,
            request.address,
            why,
        )


def _digest(request: SubjectRequest, new: CertifiableKey) -> str:
    """Tells one request from another: the key, and what is asked to be certified of whom."""
    names = json.dumps([str(each) for each in astuple(request)]).encode()
    return hashlib.sha256(hashlib.sha256(new.spki).digest() + names).hexdigest()


def _encoded(subject: str, waiting: Waiting) -> bytes:
    values = {
        "version": VERSION,
        "for": subject,
        "transaction": waiting.identifier.hex(),
        "asked": waiting.asked.hex(),
        "theirs": waiting.theirs.hex(),
        "kind": waiting.kind,
        "number": waiting.number,
        "begun": waiting.begun.isoformat(),
        "again": waiting.again.isoformat(),
    }
    return json.dumps(values, indent=1).encode() + b"\n"


def _decoded(content: bytes) -> tuple[str, Waiting]:
    """Reads what :func:`_encoded` wrote. Raises ValueError, TypeError, KeyError, RecursionError and
    OverflowError for everything else."""
    if len(content) > MAX_TRANSACTION:
        raise ValueError("too long")
    values: dict[str, Any] = json.loads(content)
    if not isinstance(values, dict) or values.keys() != _FIELDS or values["version"] != VERSION:
        raise ValueError("another version, or something else")
    if values["kind"] not in KINDS or type(values["number"]) is not int or values["number"] not in NUMBERS:
        raise ValueError("no such request is made here")
    waiting = Waiting(
        identifier=bytes.fromhex(values["transaction"]),
        asked=bytes.fromhex(values["asked"]),
        theirs=bytes.fromhex(values["theirs"]),
        kind=values["kind"],
        number=values["number"],
        begun=_time(values["begun"]),
        again=_time(values["again"]),
    )
    if not waiting.identifier or not waiting.asked:
        raise ValueError("an identifier is missing")
    return values["for"], waiting


def _time(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    if found.utcoffset() != timedelta(0):
        raise ValueError("not in UTC")
    return found
