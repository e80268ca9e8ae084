"""Who calls on a unix socket: which users may, how many at a time, and what becomes of the others."""

from __future__ import annotations

import logging
import socket
import struct
import threading
import time
from collections.abc import Callable, Collection
from typing import Final

log = logging.getLogger("mailsigil.process")

LOOK_SECONDS: Final = 0.25
"""So often the acceptor looks whether it is to stop."""
_COMPLAINT_SECONDS: Final = 60.0


def _in_silence(connected: socket.socket) -> None:
    """Say nothing to who is turned away."""


def _wait_for_room() -> None:
    """Who finds no room waits in the kernel's queue."""


class Callers:
    """Takes connections and has each served by ``serve`` in a thread of its own.

    ``serve`` gets the connection and the caller's user, and may raise: the connection is closed after it,
    whatever happens. Who is not among ``allowed_uids`` is turned away: ``farewell`` may say something to him,
    and the log says ``refusal``, once in a while. ``on_full`` is called while ``connections`` are open and
    nobody leaves. ``look`` is in seconds; ``clock`` gives monotonic seconds.
    """

    def __init__(
        self,
        name: str,
        listener: socket.socket,
        serve: Callable[[socket.socket, int], None],
        *,
        allowed_uids: Collection[int],
        connections: int,
        refusal: str = "this user may not ask here",
        farewell: Callable[[socket.socket], None] = _in_silence,
        on_full: Callable[[], None] = _wait_for_room,
        look: float = LOOK_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._listener = listener
        self._serve = serve
        self._allowed = frozenset(allowed_uids)
        self._room = threading.Semaphore(connections)
        self._refusal = refusal
        self._farewell = farewell
        self._on_full = on_full
        self._look = look
        self._clock = clock
        self._stop = threading.Event()
        self._turned_away: dict[int, float] = {}
        self._lock = threading.Lock()
        self._open = 0

    @property
    def stopping(self) -> bool:
        """Whether it has been told to stop."""
        return self._stop.is_set()

    def start(self) -> None:
        """Takes connections in a thread."""
        threading.Thread(target=self.take, name=self._name, daemon=True).start()

    def take(self) -> None:
        """Takes connections until :meth:`stop`; those that are open then are not waited for."""
        # The listener stays blocking, with the kernel's time limit: several processes that wait in
        # accept(2) take turns, where a poll would wake them all or always the same one.
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, time_limit(self._look))
        while not self._stop.is_set():
            if not self._room.acquire(timeout=self._look):
                self._on_full()
            elif not self._accept():
                self._room.release()

    def stop(self) -> None:
        """Takes no new connection; those that are open are finished."""
        self._stop.set()

    def busy(self) -> int:
        """Tells how many connections are open."""
        with self._lock:
            return self._open

    def _accept(self) -> bool:
        """Takes one connection, if there is one; True when a thread serves it now."""
        try:
            connected, _ = self._listener.accept()
        except BlockingIOError:
            return False
        except OSError as error:
            # Out of descriptors, or a caller that left at once: pause, so as not to spin.
            log.error("%s: cannot take a connection: %s", self._name, error)
            self._stop.wait(self._look)
            return False
        uid = peer_uid(connected)
        if uid not in self._allowed:
            self._turn_away(connected, uid)
            return False
        with self._lock:
            self._open += 1
        try:
            threading.Thread(target=self._serve_one, args=(connected, uid), daemon=True).start()
        except RuntimeError as error:
            log.error("%s: cannot serve a connection: %s", self._name, error)
            self._leave(connected)
            return False
        return True

    def _serve_one(self, connected: socket.socket, uid: int) -> None:
        try:
            self._serve(connected, uid)
        except OSError as error:
            log.debug("%s: connection lost: peer_uid=%d: %s", self._name, uid, error)
        except Exception as error:
            # The one catch-all of a socket: the caller sees the connection end, which is a failure to it.
            log.exception("%s: request failed: %s", self._name, type(error).__name__)
        finally:
            self._leave(connected)
            self._room.release()

    def _turn_away(self, connected: socket.socket, uid: int) -> None:
        now = self._clock()
        # Once in a while for each user: who may not ask may not fill the log either.
        if now - self._turned_away.get(uid, -_COMPLAINT_SECONDS) >= _COMPLAINT_SECONDS:
            self._turned_away[uid] = now
            log.warning("%s: refused connection peer_uid=%d: %s", self._name, uid, self._refusal)
        self._farewell(connected)
        connected.close()

    def _leave(self, connected: socket.socket) -> None:
        connected.close()
        with self._lock:
            self._open -= 1


def peer_uid(connected: socket.socket) -> int:
    """The user of who called connect(2), as the kernel knows it (unix(7), SO_PEERCRED)."""
    form = struct.Struct("iII")
    uid: int = form.unpack(connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, form.size))[1]
    return uid


def time_limit(seconds: float) -> bytes:
    """The value of SO_RCVTIMEO and SO_SNDTIMEO."""
    # Zero would mean no limit at all (socket(7)).
    microseconds = max(1000, round(seconds * 1_000_000))
    return struct.pack("ll", *divmod(microseconds, 1_000_000))
