"""Answers that are used again: for a while, longer where there was nobody, and on when nobody answers."""

from __future__ import annotations

import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from mailsigil.directory.api import DirectoryUnavailable

log = logging.getLogger("mailsigil.directory")

MAX_ANSWERS: Final = 50_000
"""Answers kept; an organisation with more senders asks again a little earlier."""
MAX_NEGATIVE: Final = 10_000
"""Answers "nobody" kept, apart, so that invented senders push no real ones out."""

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetimes:
    """Seconds; see the settings of the same names."""

    cache: float
    negative: float
    grace: float


class Answers(Generic[K, V]):
    """Remembers what ``load`` gave. Safe to share between threads; a child process starts empty.

    ``negative`` tells an answer that means nobody. Such an answer has no grace: while nobody can be
    asked, a sender who was unknown may have come since, and the mail has to wait.
    """

    def __init__(
        self,
        load: Callable[[K], V],
        *,
        negative: Callable[[V], bool],
        lifetimes: Lifetimes,
        clock: Callable[[], float],
        name: str,
    ) -> None:
        self._load = load
        self._negative = negative
        self._lifetimes = lifetimes
        self._clock = clock
        self._name = name
        self._reset()

    def get(self, key: K) -> V:
        """Give the answer, fresh or remembered; raises DirectoryUnavailable."""
        if self._process != os.getpid():
            self._reset()
        now = self._clock()
        remembered = self._positive.get(key) or self._nobody.get(key)
        if remembered is not None and now < remembered.until:
            return remembered.value
        try:
            value = self._load(key)
        except DirectoryUnavailable as error:
            if remembered is None or now >= remembered.grace_until:
                raise
            self._say_stale(now, error)
            return remembered.value
        self._remember(key, value)
        return value

    def forget(self) -> None:
        """Drop everything."""
        self._reset()

    def _reset(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._positive: OrderedDict[K, _Answer[V]] = OrderedDict()
        self._nobody: OrderedDict[K, _Answer[V]] = OrderedDict()
        self._said_stale = float("-inf")

    def _remember(self, key: K, value: V) -> None:
        now = self._clock()
        negative = self._negative(value)
        seconds = self._lifetimes.negative if negative else self._lifetimes.cache
        until = now + seconds
        answer = _Answer(value, until, until if negative else until + self._lifetimes.grace)
        with self._lock:
            keep, drop = (self._nobody, self._positive) if negative else (self._positive, self._nobody)
            drop.pop(key, None)
            keep[key] = answer
            keep.move_to_end(key)
            while len(keep) > (MAX_NEGATIVE if negative else MAX_ANSWERS):
                keep.popitem(last=False)

    def _say_stale(self, now: float, error: DirectoryUnavailable) -> None:
        if now - self._said_stale >= 60:
            self._said_stale = now
            log.warning("%s: answers from before serve on: %s", self._name, error)


@dataclass(frozen=True, slots=True)
class _Answer(Generic[V]):
    value: V
    until: float
    grace_until: float
