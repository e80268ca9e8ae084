"""Finding out about revocation over the network, outside of the mail's way.

Each look-up runs in a thread of its own, and there is one at a time for a certificate. A mail may wait for
it a while; the look-up goes on when the mail does not. What was found is looked up again before it runs
out, and a server that does not answer is asked again after growing pauses, with no mail waiting.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from mailsigil.pki.asking import Asker
from mailsigil.pki.breaker import Breaker
from mailsigil.pki.evidence import Evidence, Link, RevocationStatus, Unusable
from mailsigil.pki.fetch import Fetch, FetchError
from mailsigil.pki.library import Library, LocalLists
from mailsigil.pki.published import Kind, Source, sources
from mailsigil.pki.responder import is_responder, weigh

log = logging.getLogger("mailsigil.revocation")

Key = tuple[bytes, bytes]

MAX_FLIGHTS: Final = 16
"""Look-ups at a time."""
_KNOWN: Final = 4096
_ROUND_SECONDS: Final = 20.0
_UNUSED: Final = timedelta(days=7)
_AT_LEAST_EVERY: Final = timedelta(hours=12)
_AT_MOST_EVERY: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class _Known:
    link: Link
    evidence: Evidence
    due: datetime
    """When it is looked up again."""
    used: datetime


class Lookup:
    """Knows what the network said. May be used from several threads; starts its own only on first use."""

    def __init__(
        self,
        *,
        fetch: Fetch,
        library: Library,
        now: Callable[[], datetime],
        prefetch: timedelta,
        max_crl: int,
        clock: Callable[[], float] = time.monotonic,
        local: LocalLists | None = None,
    ) -> None:
        """Prepare; ``local`` lists may speak against OCSP responders."""
        self._local = local or LocalLists()
        self._library = library
        self._now = now
        self._prefetch = prefetch
        self._max_crl = max_crl
        self._breaker = Breaker(clock)
        self._asker = Asker(fetch=fetch, library=library, breaker=self._breaker, now=now)
        self._known: OrderedDict[Key, _Known] = OrderedDict()
        self._reasons: OrderedDict[Key, tuple[Link, str]] = OrderedDict()
        self._flights: dict[Key, threading.Event] = {}
        self._lock = threading.Lock()
        self._refresher = 0

    def known(self, link: Link) -> Evidence | None:
        """Give what is known already."""
        with self._lock:
            known = self._known.get(link.key)
            if known is None:
                return None
            self._known[link.key] = _Known(known.link, known.evidence, known.due, self._now())
            self._known.move_to_end(link.key)
            return known.evidence

    def reason(self, link: Link) -> str:
        """Tell why nothing was found."""
        with self._lock:
            return self._reasons.get(link.key, (link, "it was not found in time"))[1]

    def sources(self, link: Link) -> tuple[Source, ...]:
        """Give the places that would be asked."""
        return sources(link, max_crl=self._max_crl)

    def find(self, links: Iterable[Link], *, patience: float) -> None:
        """Look several certificates up at once, and wait for it no longer than ``patience`` seconds.

        Nobody waits for what failed before, or for servers that did not answer.
        """
        deadline = time.monotonic() + patience
        waiting = []
        for link in links:
            worth_it = self._breaker.healthy(link.key) and any(
                self._breaker.healthy(source.request.origin) for source in self.sources(link)
            )
            flight = self._start(link)
            if flight is not None and worth_it:
                waiting.append((link, flight))
        for link, flight in waiting:
            if not flight.wait(max(deadline - time.monotonic(), 0)):
                self._breaker.slow(link.key)
                for source in self.sources(link):
                    self._breaker.slow(source.request.origin)

    def refresh_due(self) -> None:
        """Look up again what is about to run out, and what failed before, one after another."""
        now = self._now()
        with self._lock:
            due = [known.link for known in self._known.values() if known.due <= now < known.used + _UNUSED]
            due += [link for link, _ in self._reasons.values()]
        for link in due:
            if self._breaker.may_try(link.key):
                self._search(link)

    def _start(self, link: Link) -> threading.Event | None:
        with self._lock:
            flight = self._flights.get(link.key)
            if flight is not None:
                return flight
            if len(self._flights) >= MAX_FLIGHTS or not self._breaker.may_try(link.key):
                return None
            flight = self._flights[link.key] = threading.Event()
        threading.Thread(target=self._fly, args=(link, flight), daemon=True, name="revocation").start()
        return flight

    def _fly(self, link: Link, flight: threading.Event) -> None:
        try:
            self._search(link)
        except Exception:
            # A thread has nobody above it; what is not known stays unknown.
            log.exception("a look-up of revocation failed")
            self._breaker.failed(link.key)
        finally:
            with self._lock:
                del self._flights[link.key]
            flight.set()
            self._watch()

    def _search(self, link: Link) -> None:
        """Ask one place after another until one gives an answer that holds now."""
        reasons = []
        for source in self.sources(link):
            try:
                evidence = self._ask(source, link)
            except (Unusable, FetchError) as error:
                reasons.append(str(error))
                continue
            self._remember(link, evidence)
            return
        reason = "; ".join(dict.fromkeys(reasons))[:500] or "the certificate names no place to ask"
        log.warning("revocation of %s is not known: %s", link.certificate.label, reason)
        self._breaker.failed(link.key)
        now = self._now()
        with self._lock:
            self._reasons[link.key] = (link, reason)
            known = self._known.get(link.key)
            if known is not None:
                self._known[link.key] = _Known(known.link, known.evidence, now + _AT_MOST_EVERY, known.used)
            while len(self._reasons) > _KNOWN:
                self._reasons.popitem(last=False)

    def _ask(self, source: Source, link: Link) -> Evidence:
        """Give evidence from one place that holds now. Raises ``Unusable`` or ``FetchError``."""
        with self._lock:
            known = self._known.get(link.key)
        newer_than = known.evidence.this_update if known is not None else None
        answer = self._asker.ask(source, link, newer_than=newer_than)
        try:
            return self._vouched(answer.evidence, link)
        except Unusable:
            if answer.fetched:
                raise
        # What was kept came from a responder that was revoked since: the authority may have a new one.
        answer = self._asker.ask(source, link, newer_than=answer.evidence.this_update)
        return self._vouched(answer.evidence, link)

    def _vouched(self, evidence: Evidence, link: Link) -> Evidence:
        if evidence.responder is None:
            return evidence
        return weigh(evidence, link, self._of_responder(evidence.responder, link))

    def _of_responder(self, responder: Link, about: Link) -> RevocationStatus:
        """Find out whether a responder was revoked. One that is no responder's ends this: see ``weigh``."""
        now = self._now()
        if is_responder(about):
            return RevocationStatus.UNKNOWN
        found = self._at_hand(responder, about, now)
        if found is RevocationStatus.REVOKED or not self.sources(responder):
            return found
        known = self.known(responder)
        if known is None and self._breaker.may_try(responder.key):
            self._search(responder)
            known = self.known(responder)
        if known is not None:
            return known.judge(responder.certificate, at=now, now=now)
        return RevocationStatus.GOOD if found is RevocationStatus.GOOD else RevocationStatus.UNKNOWN

    def _at_hand(self, responder: Link, about: Link, now: datetime) -> RevocationStatus:
        """Give what lists say that are there anyhow: of the administrator, or fetched for others."""
        lists = (source for source in self.sources(about) if source.kind is Kind.CRL)
        found = [self._library.kept(source, responder, at=now) for source in lists]
        found += [*self._local.judge(self._library, responder, at=now)]
        statuses = {one.judge(responder.certificate, at=now, now=now) for one in found if one is not None}
        for status in (RevocationStatus.REVOKED, RevocationStatus.GOOD):
            if status in statuses:
                return status
        return RevocationStatus.UNPUBLISHED

    def _remember(self, link: Link, evidence: Evidence) -> None:
        self._breaker.succeeded(link.key)
        now = self._now()
        with self._lock:
            self._reasons.pop(link.key, None)
            known = self._known.pop(link.key, None)
            if known is not None and known.evidence.this_update > evidence.this_update:
                evidence = known.evidence  # an older answer, played again, does not undo a newer one
            used = known.used if known is not None else now
            self._known[link.key] = _Known(link, evidence, self._due(evidence, now), used)
            while len(self._known) > _KNOWN:
                self._known.popitem(last=False)

    def _due(self, evidence: Evidence, now: datetime) -> datetime:
        lifetime = evidence.until - evidence.this_update
        # Workers of one machine do not all ask at the same time: the first one's answer serves the others.
        early = min(self._prefetch, lifetime / 4) * (1 + os.getpid() % 8 / 8)
        due = min(evidence.until - early, now + _AT_LEAST_EVERY)
        left = max(evidence.until - now, timedelta(0))
        return max(due, now + min(_AT_MOST_EVERY, left / 2 or _AT_MOST_EVERY))

    def _watch(self) -> None:
        """Start the thread that looks up again, once in each process."""
        with self._lock:
            if self._refresher == os.getpid():
                return
            self._refresher = os.getpid()
        threading.Thread(
            target=_refresh, args=(weakref.ref(self),), daemon=True, name="revocation-refresh"
        ).start()


def _refresh(reference: weakref.ref[Lookup]) -> None:
    """Go on as long as anybody uses the look-up: a reload replaces it."""
    while True:
        time.sleep(_ROUND_SECONDS)
        lookup = reference()
        if lookup is None:
            return
        try:
            lookup.refresh_due()
        except Exception:
            log.exception("looking revocation up again failed")
        del lookup
