"""Keeps the trouble of one source from everybody else: a time limit, a bound on waiting calls, a breaker.

A call runs in a thread of the source's own. Who waits for it goes on after the time limit, and the call may
end behind it; what it brought is then there for the next one.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final, TypeVar

from mailsigil.keys.errors import SourceError, SourceLeftAlone, SourceUnavailable

log = logging.getLogger("mailsigil.keyd")

CALLS: Final = 8
"""Calls to one source at a time, in one process of the agent."""
_SEE_SERVICE: Final = "See that the service runs and answers in time"

_T = TypeVar("_T")


class Breaker:
    """Opens after some failures in a row; then one call in a while tries whether the source is back."""

    def __init__(self, *, failures: int, pause: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = failures
        self._pause = pause
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._next_try = 0.0

    def admits(self) -> bool:
        """Tells whether a call may be made now; while open, yes once in each pause."""
        with self._lock:
            if self._failures < self._most:
                return True
            now = self._clock()
            if now < self._next_try:
                return False
            self._next_try = now + self._pause
            return True

    def succeeded(self) -> bool:
        """Closes the breaker; True if it was open."""
        with self._lock:
            was_open = self._failures >= self._most
            self._failures = 0
            return was_open

    def failed(self) -> bool:
        """Counts a failure; True if this one opened the breaker."""
        with self._lock:
            self._failures += 1
            self._next_try = self._clock() + self._pause
            return self._failures == self._most


@dataclass(slots=True)
class _Call:
    """One call on its way."""

    action: Callable[[], object]
    fail: Callable[[SourceError], None]
    abandoned: bool = False


class Guard:
    """Makes the calls to one source. Safe to share between threads; belongs to one process."""

    def __init__(self, source: str, *, timeout: float, breaker: Breaker, calls: int = CALLS) -> None:
        self.source = source
        self._timeout = timeout
        self._breaker = breaker
        self._places = threading.BoundedSemaphore(calls)
        self._most = calls
        self._work: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0
        self._retired = False

    def call(self, action: Callable[[], _T], *, timeout: float | None = None) -> _T:
        """Gives what ``action`` gives, in time; ``timeout`` in place of the usual one, in seconds.

        Raises what it raises, when that is a SourceError, and SourceUnavailable in every other case.
        """
        future: Future[_T] = Future()
        call = _Call(lambda: future.set_result(action()), future.set_exception)
        self._submit(call, wait=True)
        seconds = self._timeout if timeout is None else timeout
        try:
            return future.result(seconds)
        except TimeoutError as error:
            call.abandoned = True
            self._failed()
            raise SourceUnavailable(self.source, f"no answer within {seconds:g} s", _SEE_SERVICE) from error

    def start(self, action: Callable[[], object]) -> bool:
        """Has ``action`` run without waiting for it; False when the source is left alone just now."""
        try:
            self._submit(_Call(action, lambda error: log.debug("%s", error)), wait=False)
        except SourceUnavailable:
            return False
        return True

    def reset(self) -> None:
        """Forgets the failures so far: the next call is made."""
        self._breaker.succeeded()

    def retire(self) -> None:
        """Keeps no threads from now on: the source is used no more, and calls on their way are finished."""
        with self._lock:
            self._retired = True
            for _ in range(self._idle):
                self._work.put(None)
            self._idle = 0

    def _submit(self, call: _Call, *, wait: bool) -> None:
        if not self._breaker.admits():
            raise SourceLeftAlone(
                self.source, "it failed several times and is left alone for a while", _SEE_SERVICE
            )
        if not self._places.acquire(timeout=self._timeout if wait else 0):
            if wait:
                self._failed()
            raise SourceUnavailable(
                self.source, f"all {self._most} calls to it still wait for an answer", _SEE_SERVICE
            )
        self._work.put(call)
        self._ensure_thread()

    def _ensure_thread(self) -> None:
        with self._lock:
            if self._idle > 0:
                self._idle -= 1
                return
        # Daemons: a call that never ends must not keep the agent from ending.
        threading.Thread(target=self._serve, name=f"source {self.source}", daemon=True).start()

    def _serve(self) -> None:
        while (call := self._work.get()) is not None:
            self._run(call)
            with self._lock:
                retired = self._retired
                self._idle += not retired
            self._places.release()
            if retired:
                return

    def _run(self, call: _Call) -> None:
        try:
            call.action()
        except SourceUnavailable as error:
            self._failed()
            call.fail(error)
        except SourceError as error:
            # It answered, so it lives, whatever the answer was.
            self._answered(call)
            call.fail(error)
        except Exception as error:
            log.exception('source "%s": unexpected %s', self.source, type(error).__name__)
            self._failed()
            call.fail(SourceUnavailable(self.source, f"it failed: {type(error).__name__}", _SEE_SERVICE))
        else:
            self._answered(call)

    def _failed(self) -> None:
        if self._breaker.failed():
            log.warning('source "%s" failed several times and is left alone for a while', self.source)

    def _answered(self, call: _Call) -> None:
        # An answer that nobody waited for any more is none to lean on.
        if call.abandoned:
            return
        if self._breaker.succeeded():
            log.info('source "%s" answers again', self.source)
