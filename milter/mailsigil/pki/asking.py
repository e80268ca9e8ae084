"""Asking one place about one certificate, and asking no place twice.

A list is shared by many certificates, and workers share a machine: whoever comes second waits for what the
first one fetches and finds it in memory or in the folder. A server that did not answer one of them is left
alone by all for a while.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from mailsigil.pki.breaker import FIRST_PAUSE, Breaker
from mailsigil.pki.evidence import Evidence, Link, RevocationStatus, Unusable
from mailsigil.pki.fetch import Fetch, Unreachable
from mailsigil.pki.library import Library
from mailsigil.pki.published import Source

_LOCKS: Final = 64
_OTHERS_SECONDS: Final = 20.0
"""How long another worker may take for what this one wants, too. A fetch is bounded below this by default."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a place says, and whether it was asked just now."""

    evidence: Evidence
    fetched: bool


class Asker:
    """Fetches, or finds what was fetched. May be used from several threads."""

    def __init__(
        self, *, fetch: Fetch, library: Library, breaker: Breaker, now: Callable[[], datetime]
    ) -> None:
        self._fetch = fetch
        self._library = library
        self._breaker = breaker
        self._now = now
        self._locks = [threading.Lock() for _ in range(_LOCKS)]

    def ask(self, source: Source, link: Link, *, newer_than: datetime | None) -> Answer:
        """Give evidence that holds now; what was kept counts only where it is newer than what is known.

        Raises ``Unusable`` or ``FetchError``.
        """
        with self._locks[hash(source.name) % _LOCKS], self._alone(source):
            # Looked for here, because somebody may have fetched it while this one waited.
            kept = self._kept(source, link, newer_than)
            return kept if kept is not None else self._fetched(source, link)

    def _kept(self, source: Source, link: Link, newer_than: datetime | None) -> Answer | None:
        now = self._now()
        kept = self._library.kept(source, link, at=now)
        if kept is None or not holds(kept, link, now):
            return None
        if newer_than is not None and kept.this_update <= newer_than:
            return None
        return Answer(kept, False)

    def _fetched(self, source: Source, link: Link) -> Answer:
        origin, store = source.request.origin, self._library.store
        if not self._breaker.may_try(origin):
            raise Unreachable(f"{origin} did not answer a short while ago")
        age = store.trouble_age(origin, at=self._now()) if store is not None else None
        if age is not None and age < FIRST_PAUSE:
            self._breaker.failed(origin)
            raise Unreachable(f"{origin} did not answer another worker a short while ago")
        try:
            data = self._fetch(source.request)
        except Unreachable:
            self._breaker.failed(origin)
            if store is not None:
                store.trouble(origin, at=self._now())
            raise
        self._breaker.succeeded(origin)
        if age is not None and store is not None:
            store.well(origin)
        now = self._now()
        evidence = self._library.judge(source.kind, data, link, at=now)
        if not holds(evidence, link, now):
            raise Unusable(f"{origin} gave an answer that is out of date or not for this time")
        self._library.keep(source, data)
        return Answer(evidence, True)

    @contextlib.contextmanager
    def _alone(self, source: Source) -> Iterator[None]:
        if self._library.store is None:
            yield
            return
        with self._library.store.alone(source.name, patience=_OTHERS_SECONDS):
            yield


def holds(evidence: Evidence, link: Link, now: datetime) -> bool:
    """Tell whether evidence says anything about a certificate today."""
    return evidence.judge(link.certificate, at=now, now=now) is not RevocationStatus.UNKNOWN
