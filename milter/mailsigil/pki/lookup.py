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

from mailsigil.pki.breaker import Breaker
from mailsigil.pki.evidence import Evidence, Link, RevocationStatus, Unusable
from mailsigil.pki.fetch import Fetch, FetchError, Unreachable
from mailsigil.pki.library import Library
from mailsigil.pki.published import Source, sources

log = logging.getLogger("mailsigil.revocation")

Key = tuple[bytes, bytes]

MAX_FLIGHTS: Final = 16
"""Look-ups at a time."""
_KNOWN: Final = 4096
_LOCKS: Final = 16
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
    ) -> None:
        self._fetch = fetch
        self._library = library
        self._now = now
        self._prefetch = prefetch
        self._max_crl = max_crl
        self._breaker = Breaker(clock)
        self._known: OrderedDict[Key, _Known] = OrderedDict()
        self._reasons: OrderedDict[Key, tuple[Link, str]] = OrderedDict()
        self._flights: dict[Key, threading.Event] = {}
        self._lock = threading.Lock()
        self._document_locks = [threading.Lock() for _ in range(_LOCKS)]
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
        # A list is shared by many certificates: the second look-up finds what the first one fetched.
        with self._document_locks[hash(source.name) % _LOCKS]:
            now = self._now()
            with self._lock:
                known = self._known.get(link.key)
            kept = self._library.kept(source, link, at=now)
            if (
                kept is not None
                and _holds(kept, link, now)
                and (known is None or kept.this_update > known.evidence.this_update)
            ):
                return kept
            origin = source.request.origin
            if not self._breaker.may_try(origin):
                raise Unreachable(f"{origin} did not answer a short while ago")
            try:
                data = self._fetch(source.request)
            except Unreachable:
                self._breaker.failed(origin)
                raise
            self._breaker.succeeded(origin)
            now = self._now()
            evidence = self._library.judge(source.kind, data, link, at=now)
            if not _holds(evidence, link, now):
                raise Unusable(f"{origin} gave an answer that is out of date or not for this time")
            self._library.keep(source, data)
            return evidence

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


def _holds(evidence: Evidence, link: Link, now: datetime) -> bool:
    return evidence.judge(link.certificate, at=now, now=now) is not RevocationStatus.UNKNOWN


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
