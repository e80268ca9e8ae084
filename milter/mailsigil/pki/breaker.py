"""Which servers did not answer lately: they are asked again after a while, and no mail waits for them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

FIRST_PAUSE: Final = 30.0
"""Seconds after a first failure."""
_LONGEST_PAUSE: Final = 900.0
_SERVERS: Final = 1024


@dataclass(frozen=True, slots=True)
class _Trouble:
    pause: float
    again_at: float


class Breaker:
    """Remembers trouble by a key. May be used from several threads."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """``clock`` gives seconds and never goes back."""
        self._clock = clock
        self._troubles: OrderedDict[object, _Trouble] = OrderedDict()
        self._lock = threading.Lock()

    def healthy(self, key: object) -> bool:
        """No trouble is known."""
        with self._lock:
            return key not in self._troubles

    def may_try(self, key: object) -> bool:
        """No trouble is known, or its pause is over."""
        with self._lock:
            trouble = self._troubles.get(key)
            return trouble is None or self._clock() >= trouble.again_at

    def succeeded(self, key: object) -> None:
        """All is well again."""
        with self._lock:
            self._troubles.pop(key, None)

    def failed(self, key: object) -> None:
        """One more failure: the pause doubles."""
        with self._lock:
            trouble = self._troubles.pop(key, None)
            pause = min(trouble.pause * 2, _LONGEST_PAUSE) if trouble and trouble.pause else FIRST_PAUSE
            self._put(key, _Trouble(pause, self._clock() + pause))

    def slow(self, key: object) -> None:
        """Nobody should wait for it, although it has not failed yet."""
        with self._lock:
            if key not in self._troubles:
                self._put(key, _Trouble(0.0, self._clock()))

    def _put(self, key: object, trouble: _Trouble) -> None:
        self._troubles[key] = trouble
        while len(self._troubles) > _SERVERS:
            self._troubles.popitem(last=False)
