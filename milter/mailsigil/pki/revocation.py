"""Was a certificate of a path revoked? (RFC 5280 6.3, RFC 6960)

Three kinds of evidence count alike, each only by its signature: what the message carries (RFC 5652 10.2.1,
RFC 5940), lists that the administrator keeps in files, and what was fetched. A revocation that any of them
proves counts, whatever the others say.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol, TypeVar

from mailsigil.pki.evidence import Evidence, Link, RevocationStatus, Unusable
from mailsigil.pki.library import Library, LocalLists
from mailsigil.pki.lookup import Lookup
from mailsigil.pki.parsed import parse_certificate
from mailsigil.pki.published import Kind, sources
from mailsigil.pki.responder import weigh

_T = TypeVar("_T")
Path = tuple[bytes, ...]

CARRIED_FRESH: Final = timedelta(days=1)
"""A sender chooses what to send along: what is older counts only where nothing newer can be had."""
MAX_CARRIED: Final = 10
"""Lists and responses of one message that are looked at, each."""
MAX_RESPONDERS: Final = 2
"""OCSP responders of one message that are looked up for one certificate."""
_KEPT_FOR: Final = timedelta(minutes=1)
_PATHS: Final = 4096


@dataclass(frozen=True, slots=True)
class Carried:
    """What a message carries about revocation, in DER."""

    crls: tuple[bytes, ...] = ()
    ocsp_responses: tuple[bytes, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.crls or self.ocsp_responses)


NOTHING: Final = Carried()


@dataclass(frozen=True, slots=True)
class RevocationVerdict:
    """Whether any certificate of a path, the anchor apart, was revoked."""

    status: RevocationStatus
    reason: str = ""
    """Which certificate and why; empty when all are good."""
    certificate: bytes = b""
    """The same certificate in DER."""


class Revocation(Protocol):
    """Tells about the certificates of a validated path, DER from the leaf to the anchor."""

    def status(
        self, chain: Path, *, carried: Carried, at: datetime, waited: float = 0.0
    ) -> RevocationVerdict: ...


class RevocationChecker:
    """The :class:`Revocation` that works. May be used from several threads, and forked before first use."""

    def __init__(
        self,
        *,
        now: Callable[[], datetime],
        library: Library | None = None,
        local: LocalLists | None = None,
        lookup: Lookup | None = None,
        patience: float = 3.0,
    ) -> None:
        """Prepare; without a ``lookup`` nothing is fetched.

        ``patience`` is in seconds, for all that one message asks.
        """
        self._now = now
        self._library = library or Library()
        self._local = local or LocalLists()
        self._lookup = lookup
        self._patience = patience
        self._good: dict[Path, tuple[datetime, datetime]] = {}
        self._links: dict[Path, tuple[Link, ...]] = {}
        self._lock = threading.Lock()

    def status(
        self, chain: Path, *, carried: Carried = NOTHING, at: datetime, waited: float = 0.0
    ) -> RevocationVerdict:
        """Tell whether a path's certificates were good at a time (aware).

        ``waited`` is how many seconds the message has waited for other paths already; they count. Raises
        ``UnreadableCertificate`` for a chain that was not validated before.
        """
        if not carried:
            good = self._good.get(chain)
            if good is not None and good[0] <= at <= good[1]:
                return _GOOD
        links = self._links_of(chain)
        if not links:
            return RevocationVerdict(RevocationStatus.UNPUBLISHED, "the path is empty")
        # 1. What is at hand.
        findings = [self._at_hand(link, carried, at) for link in links]
        # 2. What is to be had: looked up together, within one bound.
        lookup = self._lookup
        if lookup is not None and not any(f.status is RevocationStatus.REVOKED for f in findings):
            missing = [link for link, f in zip(links, findings, strict=True) if not f.settled]
            missing += [responder for finding in findings for responder in finding.responders]
            missing = [link for link in missing if lookup.sources(link)]
            if missing:
                lookup.find(missing, patience=max(self._patience - waited, 0.0))
        # 3. What a sender chose to send along although there is newer, if that could not be had.
        findings = [
            finding if finding.settled else self._at_hand(link, carried, at, desperate=True)
            for link, finding in zip(links, findings, strict=True)
        ]
        # 4. The worst counts.
        verdict = _worst(findings)
        if verdict.status is RevocationStatus.GOOD and not carried:
            self._keep(chain, at, findings)
        return verdict

    def _at_hand(self, link: Link, carried: Carried, at: datetime, *, desperate: bool = False) -> _Finding:
        now = self._now()
        best: Evidence | None = None
        fresh = False
        responders: list[Link] = []
        for statement, ours in self._evidence(link, carried, at):
            evidence = self._vouched(statement, link, carried, at)
            if evidence is None:
                responders += [statement.responder] if statement.responder else []
                continue
            status = evidence.judge(link.certificate, at=at, now=now)
            if status is RevocationStatus.REVOKED:
                return _Finding(link, status, _revoked(link, evidence), settled=True)
            if status is RevocationStatus.GOOD:
                best = evidence if best is None or evidence.until > best.until else best
                fresh = fresh or ours or now - evidence.this_update <= CARRIED_FRESH
        if best is not None and (fresh or desperate):
            return _Finding(link, RevocationStatus.GOOD, until=best.until, settled=True)
        if responders:
            reason = f"{link.certificate.label}: the OCSP responder that answers may be revoked itself"
            return _Finding(
                link, RevocationStatus.UNKNOWN, reason, responders=tuple(responders[:MAX_RESPONDERS])
            )
        return self._unknown(link)

    def _vouched(self, evidence: Evidence, link: Link, carried: Carried, at: datetime) -> Evidence | None:
        """Give evidence again if the responder that made it is not in doubt (RFC 6960 4.2.2.2.1)."""
        if evidence.responder is None:
            return evidence
        try:
            return weigh(evidence, link, self._of_responder(evidence.responder, carried, at))
        except Unusable:
            return None

    def _of_responder(self, responder: Link, carried: Carried, at: datetime) -> RevocationStatus:
        now = self._now()
        statuses = {
            evidence.judge(responder.certificate, at=at, now=now)
            for evidence, _ in self._evidence(responder, Carried(carried.crls), at)
        }
        for status in (RevocationStatus.REVOKED, RevocationStatus.GOOD):
            if status in statuses:
                return status
        # What names a place has to be found out there; the names alone are looked at here.
        named = bool(sources(responder, max_crl=1))
        return RevocationStatus.UNKNOWN if named else RevocationStatus.UNPUBLISHED

    def _evidence(self, link: Link, carried: Carried, at: datetime) -> Iterator[tuple[Evidence, bool]]:
        """Give all evidence about a certificate, and whether it is ours and not the sender's."""
        known = self._lookup.known(link) if self._lookup is not None else None
        if known is not None:
            yield known, True
        for evidence in self._local.judge(self._library, link, at=at):
            yield evidence, True
        theirs = [
            *((Kind.CRL, data) for data in carried.crls[:MAX_CARRIED]),
            *((Kind.OCSP, data) for data in carried.ocsp_responses[:MAX_CARRIED]),
        ]
        for kind, data in theirs:
            try:
                yield self._library.judge(kind, data, link, at=at), False
            except Unusable:
                continue

    def _unknown(self, link: Link) -> _Finding:
        if self._lookup is None:
            reason = "nothing was handed in, and nothing is fetched here"
            return _Finding(link, RevocationStatus.UNPUBLISHED, f"{link.certificate.label}: {reason}")
        if not self._lookup.sources(link):
            reason = "it names no place where revocation is published"
            return _Finding(link, RevocationStatus.UNPUBLISHED, f"{link.certificate.label}: {reason}")
        reason = self._lookup.reason(link)
        return _Finding(link, RevocationStatus.UNKNOWN, f"{link.certificate.label}: {reason}")

    def _links_of(self, chain: Path) -> tuple[Link, ...]:
        links = self._links.get(chain)
        if links is None:
            parsed = [parse_certificate(der) for der in chain]
            links = tuple(map(Link, parsed, parsed[1:]))
            with self._lock:
                _bounded(self._links)[chain] = links
        return links

    def _keep(self, chain: Path, at: datetime, findings: list[_Finding]) -> None:
        # For a moment only: lists in files may change, and what was looked up again should count soon.
        end = min([at + _KEPT_FOR, *(f.until for f in findings if f.until is not None)])
        with self._lock:
            _bounded(self._good)[chain] = (at, end)


@dataclass(frozen=True, slots=True)
class _Finding:
    link: Link
    status: RevocationStatus
    reason: str = ""
    until: datetime | None = None
    settled: bool = False
    responders: tuple[Link, ...] = ()
    """Those whose answers would count if it were known that they were not revoked."""


_GOOD: Final = RevocationVerdict(RevocationStatus.GOOD)
_ORDER: Final = (
    RevocationStatus.REVOKED,
    RevocationStatus.UNKNOWN,
    RevocationStatus.UNPUBLISHED,
)


def _worst(findings: list[_Finding]) -> RevocationVerdict:
    for status in _ORDER:
        for finding in findings:
            if finding.status is status:
                return RevocationVerdict(status, finding.reason, finding.link.certificate.der)
    return _GOOD


def _revoked(link: Link, evidence: Evidence) -> str:
    since = f" on {evidence.revoked_at:%Y-%m-%d}" if evidence.revoked_at else ""
    return f"{link.certificate.label} was revoked{since}"


def _bounded(cache: dict[Path, _T]) -> dict[Path, _T]:
    while len(cache) >= _PATHS:
        cache.pop(next(iter(cache)))
    return cache
