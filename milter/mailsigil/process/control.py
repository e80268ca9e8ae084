"""The line between the supervisor and one worker, as the worker sees it.

Commands travel over a socket pair, not as signals: libmilter keeps SIGHUP and SIGTERM for itself and
answers both by dropping open sessions. The end of the line means that the supervisor died.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from mailsigil.process.handover import unsealed

log = logging.getLogger("mailsigil.process")

_MAX_WORD = 64
_POLL_SECONDS = 0.05


class Word(Enum):
    """What is said on the line; one packet each."""

    READY = b"ready"
    """Worker: I take work now."""
    RELOADED = b"reloaded"
    """Worker: the reload you asked for was tried (and logged if it failed)."""
    RETIRING = b"retiring"
    """Worker: I take no new work and leave when the open work is done; replace me."""
    RELOAD = b"reload"
    """Supervisor: take new settings; what they are made of comes along, as a sealed descriptor."""
    RETIRE = b"retire"
    """Supervisor: take no new work, finish the open work, leave."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a worker is told."""

    word: Word
    handed: bytes = b""
    """What came along."""


class Closed(Exception):
    """The other end of the line is gone."""


class Line:
    """One end of the socket pair. Sending never blocks and never raises."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._end.setblocking(False)

    @staticmethod
    def pair() -> tuple[Line, Line]:
        """The supervisor's end and the worker's end."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return Line(ours), Line(theirs)

    def fileno(self) -> int:
        """For ``select``."""
        return self._end.fileno()

    def say(self, word: Word, *, descriptor: int | None = None) -> None:
        """Send a word, and a descriptor along with it. A lost other end shows on the next :meth:`hear`."""
        with contextlib.suppress(OSError):
            if descriptor is None:
                self._end.send(word.value, socket.MSG_DONTWAIT)
            else:
                socket.send_fds(self._end, [word.value], [descriptor], socket.MSG_DONTWAIT)

    def hear(self) -> Word | None:
        """The next word, or None when nothing waits. Raises :class:`Closed` at the end of the line.

        Descriptors that come along are not taken: a supervisor wants none from a worker.
        """
        try:
            packet = self._end.recv(_MAX_WORD)
        except BlockingIOError:
            return None
        except OSError as error:
            raise Closed from error
        return _word(packet)

    def hear_order(self) -> Order | None:
        """The same for a worker, with what came along. Raises :class:`Closed`."""
        try:
            packet, descriptors, _, _ = socket.recv_fds(self._end, _MAX_WORD, 1)
        except BlockingIOError:
            return None
        except OSError as error:
            raise Closed from error
        try:
            handed = b"".join(map(unsealed, descriptors))
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        word = _word(packet)
        return None if word is None else Order(word, handed)

    def close(self) -> None:
        """Give the descriptor back."""
        self._end.close()


def _word(packet: bytes) -> Word | None:
    """The word of a packet. One that is none must not end whoever hears it, with all other workers."""
    if not packet:
        raise Closed
    try:
        return Word(packet)
    except ValueError:
        log.warning("process %d: an unknown word on the line: %r", os.getpid(), packet)
        return None


def _nothing() -> None:
    """The default of a callback that a worker has no use for."""


def _no_settings(handed: bytes) -> None:
    """The default of a worker that has nothing to reload."""


def _always() -> bool:
    """The default of ``finished``: nothing keeps the worker."""
    return True


class WorkerControl:
    """A worker's way to hear its supervisor and to tell it things.

    A worker calls :meth:`serve` in its main thread, or :meth:`start` to have the same done by a thread
    while its main thread works. Both say "ready" first.
    """

    def __init__(self, line: Line, *, drain_seconds: float) -> None:
        self._line = line
        self._drain_seconds = drain_seconds
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._retiring = False
        self._deadline = float("inf")

    def serve(
        self,
        *,
        on_reload: Callable[[bytes], None] = _no_settings,
        on_retire: Callable[[], None] = _nothing,
        finished: Callable[[], bool] = _always,
    ) -> None:
        """Obey the supervisor; return when the worker is to leave.

        ``on_reload`` gets what the supervisor hands over, and may raise: the error is logged and the worker
        goes on as before. ``on_retire`` is called once; from then on ``finished`` is asked every 50 ms, and
        its first True ends the call. Only a worker that lost its supervisor leaves after the drain time
        whatever ``finished`` says: otherwise the supervisor minds the time.
        """
        self._line.say(Word.READY)
        poller = select.poll()
        poller.register(self._line.fileno(), select.POLLIN)
        poller.register(self._wake_read, select.POLLIN)
        while True:
            for fd, _ in poller.poll(_POLL_SECONDS * 1000 if self._retiring else None):
                if fd == self._wake_read:
                    os.read(self._wake_read, _MAX_WORD)
                    self._line.say(Word.RETIRING)
                    self._retire(on_retire)
                elif not self._obey(on_reload, on_retire):
                    poller.unregister(fd)
                    self._deadline = time.monotonic() + self._drain_seconds
                    self._retire(on_retire)
            if self._retiring and (finished() or time.monotonic() >= self._deadline):
                return

    def start(
        self,
        *,
        on_reload: Callable[[bytes], None] = _no_settings,
        on_retire: Callable[[], None] = _nothing,
    ) -> None:
        """The same in a daemon thread, for a worker whose main thread has its own loop.

        ``on_retire`` must make that loop end.
        """
        threading.Thread(
            target=self.serve,
            kwargs={"on_reload": on_reload, "on_retire": on_retire},
            name="control",
            daemon=True,
        ).start()

    def retiring(self) -> None:
        """The worker wants to leave (recycling): the supervisor is told, ``on_retire`` is called.

        Safe from any thread and from a signal handler.
        """
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_write, b"x")

    def _obey(self, on_reload: Callable[[bytes], None], on_retire: Callable[[], None]) -> bool:
        """Take one word from the line; False when the supervisor is gone."""
        try:
            order = self._line.hear_order()
        except Closed:
            log.warning("worker %d: the supervisor is gone, leaving", os.getpid())
            return False
        if order is None:
            return True
        if order.word is Word.RELOAD:
            try:
                on_reload(order.handed)
            except Exception as error:
                log.error("worker %d: reload failed, the old settings stay: %s", os.getpid(), error)
            self._line.say(Word.RELOADED)
        elif order.word is Word.RETIRE:
            self._retire(on_retire)
        return True

    def _retire(self, on_retire: Callable[[], None]) -> None:
        if not self._retiring:
            self._retiring = True
            on_retire()
