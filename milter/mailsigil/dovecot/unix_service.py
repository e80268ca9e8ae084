"""A unix socket with one short conversation a connection: who may call, how many at a time, how long."""

from __future__ import annotations

import logging
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Collection
from typing import Final

from mailsigil.keys.connection import time_limit

log = logging.getLogger("mailsigil.keyd")

_LOOK: Final = 0.25
"""Seconds: so often the acceptor looks whether it is to stop."""
_COMPLAINT_SECONDS: Final = 60.0


class UnixService:
    """Takes connections and has each served by ``converse`` in a thread of its own, which may raise OSError.

    ``clock`` gives monotonic seconds.
    """

    def __init__(
        self,
        name: str,
        listener: socket.socket,
        converse: Callable[[socket.socket], None],
        *,
        allowed_uids: Collection[int],
        connections: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._listener = listener
        self._converse = converse
        self._allowed = frozenset(allowed_uids)
        self._most = connections
        self._room = threading.Semaphore(connections)
        self._clock = clock
        self._stop = threading.Event()
        self._turned_away: dict[int, float] = {}
        self._lock = threading.Lock()
        self._open = 0

    def start(self) -> None:
        """Serves in a thread."""
        threading.Thread(target=self.serve, name=self._name, daemon=True).start()

    def serve(self) -> None:
        """Takes connections until :meth:`stop`."""
        # As in keys/server.py: processes that wait in accept(2) take turns.
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, time_limit(_LOOK))
        while not self._stop.is_set():
            # Who finds no room waits in the kernel's queue.
            if self._room.acquire(timeout=_LOOK) and not self._accept():
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
            log.error("%s: cannot take a connection: %s", self._name, error)
            self._stop.wait(_LOOK)
            return False
        uid = peer_uid(connected)
        if uid not in self._allowed:
            self._turn_away(connected, uid)
            return False
        with self._lock:
            self._open += 1
        try:
            threading.Thread(target=self._serve_one, args=(connected,), daemon=True).start()
        except RuntimeError as error:
            log.error("%s: cannot serve a connection: %s", self._name, error)
            self._leave(connected)
            return False
        return True

    def _serve_one(self, connected: socket.socket) -> None:
        try:
            self._converse(connected)
        except OSError as error:
            log.debug("%s: connection lost: %s", self._name, error)
        except Exception as error:
            # The one catch-all of this socket: the caller sees the connection end, which is a failure to it.
            log.exception("%s: request failed: %s", self._name, type(error).__name__)
        finally:
            self._leave(connected)
            self._room.release()

    def _turn_away(self, connected: socket.socket, uid: int) -> None:
        connected.close()
        now = self._clock()
        if now - self._turned_away.get(uid, -_COMPLAINT_SECONDS) >= _COMPLAINT_SECONDS:
            self._turned_away[uid] = now
            log.warning("%s: refused connection peer_uid=%d: this user may not ask here", self._name, uid)

    def _leave(self, connected: socket.socket) -> None:
        connected.close()
        with self._lock:
            self._open -= 1


def peer_uid(connected: socket.socket) -> int:
    """The user of who called connect(2), as the kernel knows it (unix(7), SO_PEERCRED)."""
    form = struct.Struct("iII")
    uid: int = form.unpack(connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, form.size))[1]
    return uid


def receive(
    connected: socket.socket, *, until: float, size: int, descriptors: list[int] | None = None
) -> bytes:
    """Gives what comes next, empty at the end. ``until`` is in monotonic seconds.

    Descriptors that come along (SCM_RIGHTS, unix(7)) are put into ``descriptors``: they are the caller's to
    close, whatever happens; without a list they are closed here. Raises TimeoutError, OSError.
    """
    remaining = until - time.monotonic()
    if remaining <= 0:
        raise TimeoutError("the request did not come in time")
    connected.settimeout(remaining)
    room = socket.CMSG_SPACE(_MOST_DESCRIPTORS * _INT.size)
    data, ancillary, _, _ = connected.recvmsg(size, room, socket.MSG_CMSG_CLOEXEC)
    came: list[int] = []
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            whole = len(content) - len(content) % _INT.size
            came.extend(number for (number,) in _INT.iter_unpack(content[:whole]))
    if descriptors is None:
        close_all(came)
    else:
        descriptors.extend(came)
    return data


def answer_line(
    connected: socket.socket, answer: Callable[[bytes], str], *, most: int, seconds: float
) -> None:
    """Holds a conversation of one line for one line: ``answer`` gives, for what came, one without its end.

    ``most`` bounds the request in octets, ``seconds`` each of the two ways. Raises OSError when the other
    side is gone or too slow.
    """
    until = time.monotonic() + seconds
    data = b""
    while b"\n" not in data and len(data) <= most:
        piece = receive(connected, until=until, size=4096)
        if not piece:
            return
        data += piece
    said = answer(data)
    connected.settimeout(seconds)
    connected.sendall(said.encode("ascii") + b"\n")


def close_all(descriptors: Collection[int]) -> None:
    """Closes descriptors, each whatever happened to the others."""
    for descriptor in descriptors:
        try:
            os.close(descriptor)
        except OSError as error:
            log.debug("a descriptor could not be closed: %s", error)


_INT: Final = struct.Struct("i")
_MOST_DESCRIPTORS: Final = 8
"""The kernel closes what finds no room."""
