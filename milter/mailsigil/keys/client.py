"""The client of the key agent: finds credentials and has signatures made in another process."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from mailsigil.folding import fold
from mailsigil.keys.connection import Connection
from mailsigil.keys.errors import (
    KeyAgentRefused,
    KeyAgentUnavailable,
    KeyServiceError,
    ProtocolError,
    Refusal,
)
from mailsigil.keys.protocol import (
    Credential,
    Operation,
    Request,
    decode_found,
    decode_pong,
    decode_signature,
    encode_request,
)

__all__ = [
    "Credential",
    "KeyAgentClient",
    "KeyAgentRefused",
    "KeyAgentUnavailable",
    "KeyServiceError",
    "Refusal",
]

RETRY_DELAYS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.35)
"""Seconds to wait between tries, for an agent that is being restarted: about one second in all."""
MAX_IDLE = 16
IDLE_SECONDS = 45.0
"""Unused connections are not trusted for longer: the agent closes them after a minute."""
CACHE_ENTRIES = 10_000

_T = TypeVar("_T")
_Asked = tuple[str, str, str]
"""An address, the source that was asked (empty for all), and the one that was not."""


class KeyAgentClient:
    """Asks the key agent over its unix socket. Safe to share between threads, and across a fork.

    ``timeout`` bounds each call in seconds. Answers to ``find`` are remembered for ``cache_seconds``,
    also the answer that there is nothing. ``clock`` gives monotonic seconds. With ``at_hand`` the agent tells
    what is there already, and has nothing enrolled: for those who only want to know.
    """

    def __init__(
        self,
        socket_path: str | os.PathLike[str],
        *,
        timeout: float = 5.0,
        cache_seconds: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        at_hand: bool = False,
    ) -> None:
        self._at_hand = at_hand
        self._path = os.fspath(socket_path)
        self._timeout = timeout
        self._cache_seconds = cache_seconds
        self._clock = clock
        self._sleep = sleep
        self._state = _State(os.getpid())

    def find(self, address: str, *, source: str = "", without: str = "") -> tuple[Credential, ...]:
        """Gives all credentials that are valid now for an address (key form), the newest first.

        With ``source`` (the name of a [[source]], "keyd" for the agent's folder) that one alone is asked,
        and the one that ``without`` names is not asked.
        Raises KeyAgentUnavailable or KeyAgentRefused.
        """
        key = (fold(address), source.lower(), without.lower())
        state = self._own_state()
        cached = state.cached(key, self._clock())
        if cached is not None:
            return cached
        request = Request(
            operation=Operation.FIND, address=key[0], source=key[1], without=key[2], at_hand=self._at_hand
        )
        found = self._ask(request, decode_found)
        state.remember(key, found, until=self._clock() + self._cache_seconds)
        return found

    def sign(self, *, key_id: str, address: str, scheme: str, data: bytes) -> bytes:
        """Has ``data`` signed with a key for an address that its certificate names.

        Raises KeyAgentUnavailable or KeyAgentRefused. After a refusal the next ``find`` for the
        address asks the agent again.
        """
        key = fold(address)
        request = Request(operation=Operation.SIGN, address=key, key_id=key_id, scheme=scheme, data=data)
        try:
            return self._ask(request, decode_signature)
        except KeyAgentRefused:
            self._own_state().forget(key)
            raise

    def ping(self) -> int:
        """Gives the number of keys that the agent holds. Raises like ``find``."""
        return self._ask(Request(operation=Operation.PING), decode_pong)

    def close(self) -> None:
        """Closes the idle connections. The client can be used again."""
        self._own_state().close_idle()

    def _own_state(self) -> _State:
        # A connection shared by two processes would mix up their answers, and a lock that another
        # thread held at the fork would stay locked: a child starts afresh.
        if self._state.process_id != os.getpid():
            self._state = _State(os.getpid())
        return self._state

    def _ask(self, request: Request, decode: Callable[[bytes], _T]) -> _T:
        try:
            return decode(self._exchange(encode_request(request)))
        except ProtocolError as error:
            raise KeyAgentUnavailable(f"the key agent at {self._path} was not understood: {error}") from error

    def _exchange(self, payload: bytes) -> bytes:
        state = self._own_state()
        deadline = self._clock() + self._timeout
        delays = iter(RETRY_DELAYS)
        # The first broken connection had gone stale; whatever breaks after it met a restart.
        stale = True
        while True:
            connection = state.take(self._clock()) or self._connect(deadline, delays)
            try:
                answer = _converse(connection, payload, self._remaining(deadline))
            except TimeoutError as error:
                connection.close()
                raise KeyAgentUnavailable(
                    f"the key agent at {self._path} did not answer within {self._timeout:g} seconds"
                ) from error
            except ProtocolError:
                connection.close()
                raise
            except OSError as error:
                # The agent went away, and took what was idle with it.
                connection.close()
                state.close_idle()
                if not stale and not self._pause(delays, deadline):
                    raise KeyAgentUnavailable(
                        f"the key agent at {self._path} broke off the connection: {error}"
                    ) from error
                stale = False
                continue
            state.give_back(connection, self._clock())
            return answer

    def _connect(self, deadline: float, delays: Iterator[float]) -> Connection:
        while True:
            fresh = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            # Without waiting, so that a full queue shows as an error instead of a stall (connect(2)).
            fresh.setblocking(False)
            try:
                fresh.connect(self._path)
            except (ConnectionRefusedError, FileNotFoundError, BlockingIOError) as error:
                fresh.close()
                if not self._pause(delays, deadline):
                    raise self._unreachable(error) from error
            except OSError as error:
                fresh.close()
                raise self._unreachable(error) from error
            else:
                return Connection(fresh)

    def _pause(self, delays: Iterator[float], deadline: float) -> bool:
        """Waits before the next try; False when there is to be none."""
        delay = next(delays, None)
        if delay is None or delay > self._remaining(deadline):
            return False
        self._sleep(delay)
        return True

    def _unreachable(self, error: OSError) -> KeyAgentUnavailable:
        reason = error.strerror or str(error)
        return KeyAgentUnavailable(f"the key agent at {self._path} cannot be reached: {reason}")

    def _remaining(self, deadline: float) -> float:
        return max(0.0, deadline - self._clock())


def _converse(connection: Connection, payload: bytes, within: float) -> bytes:
    # Rounded up, so that the usual call finds the socket's time limit as it left it.
    limit = -(-within // 0.05) * 0.05
    try:
        connection.send(payload, within=limit)
    except BrokenPipeError:
        # The agent may have said why it closed before it was asked.
        answer = connection.receive(wait=limit, within=limit)
        if answer is None:
            raise
        return answer
    answer = connection.receive(wait=limit, within=limit)
    if answer is None:
        raise ConnectionResetError("the agent closed the connection")
    return answer


class _State:
    """What a client keeps in one process: idle connections and remembered answers."""

    def __init__(self, process_id: int) -> None:
        self.process_id = process_id
        self._lock = threading.Lock()
        self._idle: list[tuple[float, Connection]] = []
        self._answers: dict[_Asked, tuple[float, tuple[Credential, ...]]] = {}

    def take(self, now: float) -> Connection | None:
        """Gives the connection that was used last, if it is fresh enough."""
        with self._lock:
            while self._idle:
                since, connection = self._idle.pop()
                if now - since < IDLE_SECONDS:
                    return connection
                connection.close()
        return None

    def give_back(self, connection: Connection, now: float) -> None:
        """Keeps a connection for the next request."""
        with self._lock:
            if len(self._idle) < MAX_IDLE:
                self._idle.append((now, connection))
                return
        connection.close()

    def close_idle(self) -> None:
        """Closes all idle connections."""
        with self._lock:
            idle, self._idle = self._idle, []
        for _, connection in idle:
            connection.close()

    def cached(self, key: _Asked, now: float) -> tuple[Credential, ...] | None:
        """Gives a remembered answer."""
        entry = self._answers.get(key)
        return entry[1] if entry is not None and now < entry[0] else None

    def remember(self, key: _Asked, found: tuple[Credential, ...], *, until: float) -> None:
        """Keeps an answer; the oldest one makes room."""
        with self._lock:
            self._answers.pop(key, None)
            while len(self._answers) >= CACHE_ENTRIES:
                del self._answers[next(iter(self._answers))]
            self._answers[key] = (until, found)

    def forget(self, address: str) -> None:
        """Drops what is remembered of an address."""
        with self._lock:
            for key in [key for key in self._answers if key[0] == address]:
                del self._answers[key]
