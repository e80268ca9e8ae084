"""The key agent on its unix socket: who may connect, for how long, and how many."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from mailsigil.keys.connection import Connection
from mailsigil.keys.errors import KeyAgentSetupError, ProtocolError, Refusal
from mailsigil.keys.protocol import encode_refusal
from mailsigil.process.callers import LOOK_SECONDS, Callers

log = logging.getLogger("mailsigil.keyd")

BACKLOG: Final = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """What one process of the agent grants its callers; times in seconds."""

    connections: int = 256
    idle: float = 60.0
    """An unused connection is closed after this time."""
    frame: float = 5.0
    """A frame that has begun must be complete after this time, and an answer be taken."""
    look: float = LOOK_SECONDS
    """So often the acceptor looks whether it is to stop; a connection silent for less keeps its place."""


class Answering(Protocol):
    """Who answers the requests: the agent, or its administrator's desk."""

    def answer(self, payload: bytes, *, peer_uid: int) -> bytes:
        """Answers one request payload. Never raises: trouble is an answer too."""
        ...


class Listener(socket.socket):
    """A listening unix socket whose close ends it for all who hold a copy; for its owner to close alone.

    A program that this process starts has a copy of each descriptor from fork to exec. Until then the kernel
    would let callers queue up on a socket that nobody serves, and a successor would meet "another agent".
    """

    def close(self) -> None:
        """Ends it, and closes this descriptor."""
        with contextlib.suppress(OSError):  # closed already, or not listening yet
            self.shutdown(socket.SHUT_RDWR)
        super().close()


def listen(path: Path, *, mode: int) -> Listener:
    """Opens the agent's socket; a stale one is replaced.

    Raises KeyAgentSetupError when another agent answers there, or the place cannot be used.
    """
    listener = Listener(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        # Right from the beginning: to change it afterwards, as root, would change whatever has that name by
        # then, where somebody else may write to the folder.
        old = os.umask(0o777 & ~mode)
        try:
            listener.bind(os.fspath(path))
        finally:
            os.umask(old)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise KeyAgentSetupError(
            f"the key agent cannot listen on {path}: {error.strerror or error}",
            "See that its folder exists and that the key agent's user may write there",
        ) from error
    except KeyAgentSetupError:
        listener.close()
        raise
    return listener


def _remove_stale(path: Path) -> None:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise KeyAgentSetupError(
            f"{path} is there already and is no socket", "Remove it, or name another path"
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except BlockingIOError:
            pass  # Its queue is full, so it lives.
    raise KeyAgentSetupError(
        f"another key agent answers on {path}", "Stop it first, or give this one a socket of its own"
    )


class KeyAgentServer:
    """Serves an agent on a listening socket, one thread a connection, until it is told to stop."""

    def __init__(
        self,
        agent: Answering,
        listener: socket.socket,
        *,
        allowed_uids: Collection[int],
        allowed_by: str = "keyd.allowed_users",
        limits: ServerLimits = ServerLimits(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._agent = agent
        self._limits = limits
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting: dict[Connection, float] = {}
        refusal = encode_refusal(Refusal.PEER, f"your user is not among {allowed_by}")
        self._callers = Callers(
            "key agent",
            listener,
            self._converse,
            allowed_uids=allowed_uids,
            connections=limits.connections,
            refusal=f"the user is not among {allowed_by}",
            farewell=lambda connected: _say(Connection(connected), refusal),
            on_full=self._make_room,
            look=limits.look,
            clock=clock,
        )

    def serve(self) -> None:
        """Takes connections until :meth:`stop`; the open requests are not waited for."""
        self._callers.take()

    def stop(self) -> None:
        """Takes no new connection and ends those that wait; requests that have begun are finished."""
        self._callers.stop()
        with self._lock:
            waiting = list(self._waiting)
        for connection in waiting:
            connection.interrupt()

    def open_connections(self) -> int:
        """Tells how many connections are open."""
        return self._callers.busy()

    def _converse(self, connected: socket.socket, uid: int) -> None:
        connection = Connection(connected)
        try:
            while not self._callers.stopping:
                payload = self._next(connection)
                if payload is None:
                    return
                answer = self._agent.answer(payload, peer_uid=uid)
                connection.send(answer, within=self._limits.frame)
        except ProtocolError as error:
            log.warning("peer_uid=%d: %s", uid, error)
            _say(connection, encode_refusal(Refusal.MALFORMED, str(error)))
        except TimeoutError:
            log.debug("peer_uid=%d: a connection was idle or too slow", uid)

    def _next(self, connection: Connection) -> bytes | None:
        with self._lock:
            self._waiting[connection] = self._clock()
        try:
            if self._callers.stopping:
                return None
            return connection.receive(wait=self._limits.idle, within=self._limits.frame)
        finally:
            with self._lock:
                self._waiting.pop(connection, None)

    def _make_room(self) -> None:
        """All places are taken: who has been silent for longest goes, and may come back."""
        with self._lock:
            longest = min(self._waiting, key=lambda connection: self._waiting[connection], default=None)
            if longest is not None and self._clock() - self._waiting[longest] < self._limits.look:
                longest = None
        if longest is not None:
            longest.interrupt()


def _say(connection: Connection, payload: bytes) -> None:
    try:
        connection.send(payload, within=0.1)
    except OSError:
        return  # Who does not listen need not know.
