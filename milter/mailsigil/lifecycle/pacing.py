"""How fast a plan is carried out: batches that fit an authority's speed, and a bounded rate of requests."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import Final

from mailsigil.lifecycle.actions import Action, Seat

FIRST_BATCH: Final = 8
LAST_BATCH: Final = 256
BATCH_SECONDS: Final = 5.0
"""A batch is to take no longer: a slow authority gets small ones."""


class Pace:
    """No more than so many requests a second. Safe to share between threads."""

    def __init__(
        self,
        per_second: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._gap = 1 / per_second
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._next = clock()

    def wait(self) -> None:
        """Wait for one's turn."""
        with self._lock:
            now = self._clock()
            pause = self._next - now
            self._next = max(now, self._next) + self._gap
        if pause > 0:
            self._sleep(pause)


def by_seat(actions: Iterable[Action]) -> Iterator[tuple[Seat, list[Action]]]:
    """Give the steps of each seat, which stand together."""
    for seat, steps in groupby(actions, key=lambda action: (action.address, action.source)):
        yield seat, list(steps)


def take(seats: Iterator[tuple[Seat, list[Action]]], number: int) -> Iterator[tuple[Seat, list[Action]]]:
    """Give the next seats, so many at the most."""
    for _ in range(number):
        one = next(seats, None)
        if one is None:
            return
        yield one


def next_size(size: int, seconds: float) -> int:
    """Give the size of the next batch, after one of ``size`` took so long."""
    if seconds < BATCH_SECONDS / 2:
        return min(LAST_BATCH, size * 2)
    return max(1, size // 2) if seconds > BATCH_SECONDS else size
