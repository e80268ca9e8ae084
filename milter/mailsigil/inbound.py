"""The way of one inbound message, top to bottom: from what Postfix gave us to a plan.

Every inbound message loses what others wrote under our names and gets our three fields, signed or
not. Nothing returns early: a path that skipped the removal would let forged fields through.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from mailsigil.direction import Network, is_within
from mailsigil.dkim.arc import ArcResult, verify_arc
from mailsigil.dkim.resolver import TxtLookup, within
from mailsigil.dkim.upstream import upstream_results
from mailsigil.dkim.verdict import DkimResult, DkimWord, aligned, verify_dkim
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
    arc_max_sets: int = 10
    trusted_authserv_ids: frozenset[str] = frozenset()
    """Servers in front of us whose DKIM results are taken over, in lower case."""
    trusted_relays: tuple[Network, ...] = ()
    """Where such a server hands its mail over from."""
    dns_seconds: float = 15.0
    """For all look-ups of one message."""
    clock: Callable[[], float] = time.monotonic
    """Seconds that run on."""


def inbound(
    fields: Sequence[Field],
    body: Spool,
    parts: InboundParts,
    *,
    damage: str = "",
    client: str | None = None,
    as_received: tuple[Sequence[Field], Spool] | None = None,
) -> Plan:
    """Decides what one message's identity headers say.

    ``damage`` is what was found wrong when header and body were divided (``Message.damage``).
    ``client`` is the address of the SMTP client, None where there was none: then who asks vouches for it.
    ``as_received`` is the message that came, where this one was inside of it: DKIM speaks of that one.
    """
    # 1. What stands under our names did not come from us.
    forged = strip_forged(fields, parts.authserv_id)
    # 2. Who signed it?
    received = parts.now()
    verdict = verify(fields, body, parts.verification, at=received, damage=damage)
    # 3. Which domains vouch for it?
    dkim, arc = domain_results(*(as_received or (fields, body)), parts, at=received, client=client)
    # 4. Say so.
    author = parse_author(fields)
    domain = author.address.domain if isinstance(author, Author) else ""
    written = identity_fields(verdict, dkim, parts.authserv_id, author_domain=domain, arc=arc)
    return Plan(
        event=_event(verdict),
        edits=(*forged, *(InsertField(field) for field in written)),
        reason=f"{verdict.reason.token} {verdict.detail}".strip(),
        details=_details(verdict, dkim, arc, domain),
    )


def domain_results(
    fields: Sequence[Field],
    body: Spool,
    parts: InboundParts,
    *,
    at: datetime | None = None,
    client: str | None = None,
) -> tuple[tuple[DkimResult, ...], ArcResult]:
    """DKIM results and the ARC chain; DKIM as a trusted server in front of us told it, when it did.

    ``at`` is the time of receipt, the present when not given. From any other ``client`` than such a server
    everybody could write results in its name.
    """
    txt = within(parts.txt, parts.dns_seconds, parts.clock)
    dkim = None
    if parts.trusted_authserv_ids and (client is None or is_within(client, parts.trusted_relays)):
        dkim = upstream_results(fields, parts.trusted_authserv_ids, most=parts.dkim_max_signatures)
    if dkim is None:
        dkim = verify_dkim(
            fields,
            body,
            txt=txt,
            max_bytes=parts.dkim_max_bytes,
            max_signatures=parts.dkim_max_signatures,
            at=at,
        )
    arc = verify_arc(
        fields, body, txt=txt, max_bytes=parts.dkim_max_bytes, max_sets=parts.arc_max_sets, at=at
    )
    return dkim, arc


def alignment(verdict: Verdict, dkim: Sequence[DkimResult], author_domain: str) -> tuple[str, ...]:
    """What vouches for the author's own domain: ``smime``, the certificate's address; ``dkim``; or both."""
    # A signature that nobody trusts here may name any address.
    signers = verdict.signers if verdict.word is SmimeWord.PASS else ()
    certified = {address.rpartition("@")[2].lower() for address in signers}
    found = {
        "smime": author_domain in certified,
        "dkim": any(each.word is DkimWord.PASS and aligned(each.domain, author_domain) for each in dkim),
    }
    return tuple(name for name, agrees in found.items() if agrees and author_domain)


def _event(verdict: Verdict) -> Event:
    if verdict.identity is not None:
        return Event.VERIFIED
    return Event.PASSED if verdict.word is SmimeWord.NONE else Event.FAILED


def _details(
    verdict: Verdict, dkim: Sequence[DkimResult], arc: ArcResult, author_domain: str
) -> tuple[tuple[str, str], ...]:
    details = [("smime", verdict.word.value), ("status", verdict.status.value)]
    if verdict.identity is not None:
        details += [("level", verdict.identity.level.name), ("address", verdict.identity.address)]
    if verdict.notes:
        details.append(("note", ",".join(note.token for note in verdict.notes)))
    if verdict.serial:
        details.append(("serial", verdict.serial))
    details += [("dkim", f"{result.word.value}:{result.domain}") for result in dkim]
    if arc.word is not DkimWord.NONE:
        details.append(("arc", f"{arc.word.value}:{arc.domain}"))
    details.append(("aligned", ",".join(alignment(verdict, dkim, author_domain)) or "none"))
    return tuple(details)
