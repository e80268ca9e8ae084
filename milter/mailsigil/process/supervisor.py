"""A process that keeps a number of worker processes alive, and nothing else.

It forks the workers, restarts the dead, passes reload and retirement on, and reads no mail. It has one
thread, so that forking is safe at any time.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mailsigil.process.control import Closed, Line, Word, WorkerControl
from mailsigil.process.handover import sealed
from mailsigil.process.notify import Notifier
from mailsigil.process.privileges import die_with_parent

log = logging.getLogger("mailsigil.process")

_COLLECT_EVERY = 10_000
"""Objects that are made between two searches for cycles; a message makes hundreds, and next to no cycle."""
_SIGNALS = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
_YOUNG_SECONDS = 5.0
"""A worker that dies before this age counts as one that cannot start."""
_FIRST_DELAY = 0.25
_MAX_DELAY = 30.0
_START_TRIES = 4
"""So many failed starts, before any worker ever was ready, end the supervisor."""


@dataclass(slots=True, eq=False)
class _Beside:
    """One of those who do other work, and when it may be started."""

    spawn: Callable[[WorkerControl], None]
    deaths: int = 0
    start: float = 0.0


@dataclass(slots=True, eq=False)
class _Worker:
    pid: int
    line: Line
    born: float
    ready: bool = False
    leaving: bool = False
    reloading: bool = False
    beside: _Beside | None = None


def _nothing() -> None:
    """The supervisor itself has nothing to do on a stop."""


def _nothing_new() -> bytes:
    """The supervisor itself has nothing to do on a reload, and nothing to hand over."""
    return b""


class Supervisor:
    """Runs ``count`` workers until SIGTERM or SIGINT.

    ``spawn`` runs in each forked child and gets its :class:`WorkerControl`; when it returns the child
    leaves with status 0, when it raises with status 1. ``on_reload`` runs in the supervisor on SIGHUP;
    when it raises, the error is logged and no worker is told. What it gives is handed to each worker, so
    that all of them take what was found good here, whatever becomes of the files meanwhile. ``on_stop``
    runs in the supervisor when workers begin to retire for good; it must not raise. ``drain_seconds`` is
    the time workers have to finish their open work on the way out; a second SIGTERM or SIGINT ends it.

    Each of ``beside`` runs in one more child, which does other work: when it fails, it is started again after
    a pause of its own, and holds no worker up.
    """

    def __init__(
        self,
        *,
        spawn: Callable[[WorkerControl], None],
        count: int,
        drain_seconds: float,
        on_reload: Callable[[], bytes] = _nothing_new,
        on_stop: Callable[[], None] = _nothing,
        notify: Notifier | None = None,
        beside: Sequence[Callable[[WorkerControl], None]] = (),
    ) -> None:
        if count < 1:
            raise ValueError("a supervisor needs at least one worker")
        self._spawn = spawn
        self._beside = [_Beside(each) for each in beside]
        self._count = count
        self._drain_seconds = drain_seconds
        self._on_reload = on_reload
        self._on_stop = on_stop
        self._notify = notify or Notifier()
        self._workers: dict[int, _Worker] = {}
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = socket.socketpair()
        self._early_deaths = 0
        self._next_start = 0.0
        self._ever_ready = False
        self._awaiting_ready = True
        self._stop_deadline: float | None = None
        self._status = 0

    def run(self) -> int:
        """Work until told to stop; the exit status: 0, or 1 when no worker could be started."""
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        old_handlers = {number: signal.signal(number, _wake_only) for number in _SIGNALS}
        old_wakeup = signal.set_wakeup_fd(self._wake_write.fileno(), warn_on_full_buffer=False)
        try:
            while self._stop_deadline is None or self._workers:
                self._fill()
                self._wait()
                self._reap()
                self._mind_deadline()
        finally:
            signal.set_wakeup_fd(old_wakeup)
            for number, handler in old_handlers.items():
                signal.signal(number, handler)
            self._kill_all()
            self._close()
        return self._status

    # Starting

    def _fill(self) -> None:
        """Start what is missing, unless starting has to wait."""
        while self._stop_deadline is None and time.monotonic() >= self._next_start:
            if self._active(None) >= self._count:
                break
            self._fork(self._spawn)
        for other in self._beside:
            if self._stop_deadline is None and not self._active(other) and time.monotonic() >= other.start:
                self._fork(other.spawn, other)

    def _active(self, beside: _Beside | None) -> int:
        return sum(not worker.leaving and worker.beside is beside for worker in self._workers.values())

    def _fork(self, spawn: Callable[[WorkerControl], None], beside: _Beside | None = None) -> None:
        ours, theirs = Line.pair()
        sys.stdout.flush()
        sys.stderr.flush()
        # No signal may reach the child before its own handlers stand.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            log.error("cannot start a worker: %s", error)
            ours.close()
            theirs.close()
            self._delay_start()
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            return
        if pid == 0:
            ours.close()
            self._child(theirs, mask, parent, spawn)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        theirs.close()
        worker = _Worker(pid=pid, line=ours, born=time.monotonic(), beside=beside)
        self._workers[pid] = worker
        self._selector.register(ours.fileno(), selectors.EVENT_READ, worker)

    def _child(
        self,
        line: Line,
        mask: set[int | signal.Signals],
        parent: int,
        spawn: Callable[[WorkerControl], None],
    ) -> None:
        """The life of a worker; never returns."""
        status = 1
        try:
            # Ctrl-C on a terminal goes to the whole group; it is the supervisor's business alone.
            os.setpgid(0, 0)
            signal.set_wakeup_fd(-1)
            control = WorkerControl(line, drain_seconds=self._drain_seconds)
            signal.signal(signal.SIGTERM, lambda *_: control.retiring())
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            # A brother's copy of the supervisor's ends would hide the end of the line.
            self._close()
            die_with_parent(signal.SIGTERM)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            # What the supervisor made lives as long as the worker: no collection has to look at it, or
            # to touch its pages, which are shared.
            gc.freeze()
            gc.set_threshold(_COLLECT_EVERY)
            if os.getppid() == parent:
                spawn(control)
            status = 0
        except Exception as error:
            log.error("worker %d: %s: %s", os.getpid(), type(error).__name__, error, exc_info=True)
        finally:
            # Past this point nothing of the parent's may be tidied up a second time (atexit, libmilter).
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)

    # Listening

    def _wait(self) -> None:
        for key, _ in self._selector.select(self._timeout()):
            if key.fileobj is self._wake_read:
                for number in self._wake_read.recv(512):
                    self._signal(number)
            else:
                self._hear(key.data)

    def _timeout(self) -> float | None:
        now = time.monotonic()
        if self._stop_deadline is not None:
            return max(0.0, self._stop_deadline - now)
        starts = [self._next_start, *(other.start for other in self._beside if not self._active(other))]
        return min((start - now for start in starts if now < start), default=None)

    def _signal(self, number: int) -> None:
        if number == signal.SIGHUP and self._stop_deadline is None:
            self._reload()
        elif number in (signal.SIGTERM, signal.SIGINT):
            self._stop()

    def _hear(self, worker: _Worker) -> None:
        try:
            word = worker.line.hear()
        except Closed:
            self._selector.unregister(worker.line.fileno())
            return
        if word is Word.READY:
            worker.ready = True
            self._ever_ready = self._ever_ready or worker.beside is None
        elif word is Word.RELOADED:
            worker.reloading = False
        elif word is Word.RETIRING:
            log.info("worker %d retires, another takes its place", worker.pid)
            worker.leaving = True
        self._tell_ready()

    def _tell_ready(self) -> None:
        """Tell the service manager once a start or a reload is complete."""
        active = [worker for worker in self._workers.values() if not worker.leaving and worker.beside is None]
        if not self._awaiting_ready or self._stop_deadline is not None or len(active) < self._count:
            return
        if all(worker.ready and not worker.reloading for worker in active):
            self._awaiting_ready = False
            self._notify.ready(f"{self._count} workers running")

    # Reload and stop

    def _reload(self) -> None:
        self._notify.reloading()
        self._awaiting_ready = True
        try:
            descriptor = sealed(self._on_reload())
        except Exception as error:
            log.error("reload refused, the old settings stay: %s", error)
        else:
            log.info("reloading %d workers", len(self._workers))
            for worker in self._workers.values():
                worker.reloading = True
                worker.line.say(Word.RELOAD, descriptor=descriptor)
            os.close(descriptor)
        self._tell_ready()

    def _stop(self) -> None:
        now = time.monotonic()
        if self._stop_deadline is not None:
            self._stop_deadline = now
            return
        self._stop_deadline = now + self._drain_seconds
        log.info(
            "stopping: %d workers have %g s for their open work", len(self._workers), self._drain_seconds
        )
        self._notify.stopping("finishing open work")
        for worker in self._workers.values():
            worker.line.say(Word.RETIRE)
        self._on_stop()

    def _mind_deadline(self) -> None:
        if self._stop_deadline is not None and time.monotonic() >= self._stop_deadline and self._workers:
            log.warning("%d workers still had open work and are ended", len(self._workers))
            self._kill_all()

    def _kill_all(self) -> None:
        for worker in list(self._workers.values()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGKILL)
            os.waitpid(worker.pid, 0)
            self._forget(worker)

    # Ends

    def _reap(self) -> None:
        for worker in list(self._workers.values()):
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if pid:
                self._forget(worker)
                self._bury(worker, os.waitstatus_to_exitcode(status))

    def _bury(self, worker: _Worker, code: int) -> None:
        """Judge a worker's end: expected, an accident, or a start that cannot succeed."""
        if self._stop_deadline is not None or (worker.leaving and code == 0):
            return
        how = f"signal {-code}" if code < 0 else f"status {code}"
        log.error("worker %d ended by %s, another takes its place", worker.pid, how)
        if (other := worker.beside) is not None:
            other.deaths = 0 if time.monotonic() - worker.born >= _MAX_DELAY else other.deaths + 1
            other.start = time.monotonic() + min(_MAX_DELAY, _FIRST_DELAY * 2**other.deaths)
            return
        if time.monotonic() - worker.born >= _YOUNG_SECONDS:
            self._early_deaths = 0
            return
        self._delay_start()
        if not self._ever_ready and self._early_deaths >= _START_TRIES:
            log.error("no worker could be started, giving up")
            self._status = 1
            self._stop()

    def _delay_start(self) -> None:
        self._next_start = time.monotonic() + min(_MAX_DELAY, _FIRST_DELAY * 2**self._early_deaths)
        self._early_deaths += 1

    def _forget(self, worker: _Worker) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(worker.line.fileno())
        worker.line.close()
        del self._workers[worker.pid]

    def _close(self) -> None:
        self._selector.close()
        self._wake_read.close()
        self._wake_write.close()
        for worker in self._workers.values():
            worker.line.close()


def _wake_only(_number: int, _frame: object) -> None:
    """The signal's number arrives through the wakeup descriptor; the handler itself has nothing to do."""
