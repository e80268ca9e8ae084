"""The way of one inbound message, top to bottom: from what Postfix gave us to a plan.

Every inbound message loses what others wrote under our names and gets our three fields, signed or
not. Nothing returns early: a path that skipped the removal would let forged fields through.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from mailsigil.dkim.resolver import TxtLookup
from mailsigil.dkim.verdict import DkimResult, verify_dkim
from mailsigil.headers import identity_fields, strip_forged
from mailsigil.message.author import Author, parse_author
from mailsigil.message.fields import Field
from mailsigil.message.spool import Spool
from mailsigil.plan import Event, InsertField, Plan
from mailsigil.verdict import SmimeWord, Verdict
from mailsigil.verification import VerificationParts, verify


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundParts:
    """What the inbound way is handed: verification, DNS, clock, bounds."""

    verification: VerificationParts
    txt: TxtLookup
    now: Callable[[], datetime]
    """The time, aware, in UTC."""
    authserv_id: str
    dkim_max_bytes: int
    dkim_max_signatures: int


def inbound(fields: Sequence[Field], body: Spool, parts: InboundParts, *, damage: str = "") -> Plan:
    """Decides what one message's identity headers say.

    ``damage`` is what was found wrong when header and body were divided (``Message.damage``).
    """
    # 1. What stands under our names did not come from us.
    forged = strip_forged(fields, parts.authserv_id)
    # 2. Who signed it?
    verdict = verify(fields, body, parts.verification, at=parts.now(), damage=damage)
    # 3. Which domains vouch for it?
    dkim = verify_dkim(
        fields,
        body,
        txt=parts.txt,
        max_bytes=parts.dkim_max_bytes,
        max_signatures=parts.dkim_max_signatures,
    )
    # 4. Say so.
    author = parse_author(fields)
    domain = author.address.domain if isinstance(author, Author) else ""
    written = identity_fields(verdict, dkim, parts.authserv_id, author_domain=domain)
    return Plan(
        event=_event(verdict),
        edits=(*forged, *(InsertField(field) for field in written)),
        reason=f"{verdict.reason.token} {verdict.detail}".strip(),
        details=_details(verdict, dkim),
    )


def _event(verdict: Verdict) -> Event:
    if verdict.identity is not None:
        return Event.VERIFIED
    return Event.PASSED if verdict.word is SmimeWord.NONE else Event.FAILED


def _details(verdict: Verdict, dkim: Sequence[DkimResult]) -> tuple[tuple[str, str], ...]:
    details = [("smime", verdict.word.value), ("status", verdict.status.value)]
    if verdict.identity is not None:
        details += [("level", verdict.identity.level.name), ("address", verdict.identity.address)]
    if verdict.serial:
        details.append(("serial", verdict.serial))
    details += [("dkim", f"{result.word.value}:{result.domain}") for result in dkim]
    return tuple(details)
