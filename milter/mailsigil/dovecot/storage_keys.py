"""Which private storage keys does a user get? Remembered for a while, and asked for once at a time.

Many connections of one user log in at the same moment: the first asks the key server, the others wait for its
answer. Failures are not remembered here; the breaker of the store's guard does that.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final

from mailsigil.keys.errors import SourceError, SourceUnavailable
from mailsigil.keys.storage.key import StorageKey
from mailsigil.keys.storage.routes import StorageRoute, StorageRoutes

MAX_USERS: Final = 10_000
"""Users whose keys are remembered; who logged in longest ago makes room."""
_MARGIN: Final = 1.0
"""Seconds that somebody who waits for another's answer waits beyond the store's own limit."""

Keys = tuple[StorageKey, ...]


class StorageKeys:
    """Safe to share between threads; belongs to one process. ``clock`` gives monotonic seconds."""

    def __init__(self, routes: StorageRoutes, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.routes = routes
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[float, Keys]] = OrderedDict()
        self._asking: dict[str, Future[Keys]] = {}

    def private(self, route: StorageRoute, address: str) -> Keys:
        """Gives the keys of an address, the newest first; none for somebody who has none.

        Raises SourceError.
        """
        with self._lock:
            kept = self._kept.get(address)
            if kept is not None and self._clock() < kept[0]:
                return kept[1]
            asking = self._asking.get(address)
            ours = asking is None
            if asking is None:
                asking = self._asking[address] = Future()
        if ours:
            return self._ask(route, address, asking)
        try:
            # A place in the guard, then the call itself.
            return asking.result(2 * route.settings.timeout + _MARGIN)
        except TimeoutError as error:
            raise SourceUnavailable(
                route.name, "no answer in time", "See that the service runs and answers in time"
            ) from error

    def forget(self) -> None:
        """Drops all keys, and has the stores open their connections anew."""
        with self._lock:
            self._kept.clear()
        for route in self.routes.all:
            route.guard.reset()
            route.store.reload()

    def sweep(self) -> None:
        """Drops keys whose time is over, so that they do not stay in memory until the next login."""
        with self._lock:
            now = self._clock()
            for address in [each for each, (until, _) in self._kept.items() if until <= now]:
                del self._kept[address]

    def _ask(self, route: StorageRoute, address: str, asking: Future[Keys]) -> Keys:
        try:
            keys = self.routes.fetch(route, address)
        except BaseException as error:
            self._settle(address)
            asking.set_exception(
                error
                if isinstance(error, SourceError)
                else SourceUnavailable(route.name, f"it failed: {type(error).__name__}", "See the log")
            )
            raise
        self._settle(address, keys, until=self._clock() + route.settings.key_seconds)
        asking.set_result(keys)
        return keys

    def _settle(self, address: str, keys: Keys = (), *, until: float = 0.0) -> None:
        with self._lock:
            del self._asking[address]
            self._kept.pop(address, None)
            if keys and until > self._clock():
                self._kept[address] = (until, keys)
            while len(self._kept) > MAX_USERS:
                self._kept.popitem(last=False)
