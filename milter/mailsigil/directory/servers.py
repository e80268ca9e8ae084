"""Several servers that hold one directory: connections are kept, a server that fails is left alone a while.

Knows nothing of LDAP's wire: it is handed ``connect``, which opens a :class:`Session`.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeVar

from mailsigil.directory.api import DirectoryUnavailable
from mailsigil.directory.entry import Entry

log = logging.getLogger("mailsigil.directory")

T = TypeVar("T")

FIRST_PAUSE: Final = 1.0
"""Seconds for which a server that failed is left alone; doubled with each further failure."""
LAST_PAUSE: Final = 10.0
REFUSED_PAUSE: Final = 10.0
"""Seconds after a refused login, so that a wrong password does not lock the account."""
IDLE_SECONDS: Final = 60.0
"""Unused connections are not trusted for longer: firewalls forget them silently."""


class SessionBroken(Exception):
    """The connection is gone, or could not be made."""


class SessionTimeout(SessionBroken):
    """No answer came in time."""


class LoginRefused(SessionBroken):
    """The server does not let us in, or cannot show who it is."""


class SearchFailed(Exception):
    """The server answered, and the answer is that it cannot tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """One question."""

    base: str
    filter: str
    attributes: tuple[str, ...]
    limit: int
    """Entries that are wanted at most; where there are more, the search fails."""
    just_base: bool = False


class Session(Protocol):
    """A connection that is logged in. Used by one thread at a time."""

    def search(self, search: Search, *, seconds: float) -> tuple[Entry, ...]:
        """Ask, for ``seconds`` in all.

        Raises SearchFailed, and SessionBroken or SessionTimeout after which it is closed.
        """
        ...

    def pages(self, search: Search, *, seconds: float) -> Iterator[tuple[Entry, ...]]:
        """Ask, and give the entries page by page, each within ``seconds``; raises like :meth:`search`."""
        ...

    def close(self) -> None:
        """Say goodbye, without waiting."""
        ...


Connect = Callable[[str, float], Session]
"""Opens a session with a server (its URL) within some seconds; raises SessionBroken."""


@dataclass(slots=True)
class _Server:
    url: str
    idle: list[tuple[float, Session]] = field(default_factory=list)
    failures: int = 0
    pause_until: float = 0.0
    probing: bool = False


class Servers:
    """Asks the first server that answers. Safe to share between threads, and across a fork."""

    def __init__(
        self,
        name: str,
        urls: Sequence[str],
        *,
        connect: Connect,
        clock: Callable[[], float],
        timeout: float,
        failover_seconds: float,
        connections: int,
    ) -> None:
        self._name = name
        self._urls = tuple(urls)
        self._connect = connect
        self._clock = clock
        self._timeout = timeout
        self._failover = min(failover_seconds, timeout)
        self._connections = connections
        self._reset()

    def search(self, search: Search) -> tuple[Entry, ...]:
        """Ask the servers in turn; raises DirectoryUnavailable where none can tell."""
        self._own_process()
        reasons = []
        candidates = self._candidates()
        for number, server in enumerate(candidates):
            if not self._claim(server):
                continue
            seconds = self._timeout if number == len(candidates) - 1 else self._failover
            try:
                found = self._ask(server, search, seconds)
            except SessionBroken as error:
                self._failed(server, error)
                reasons.append(f"{server.url}: {error}")
            except SearchFailed as error:
                # The server is well; asking another one would bring the same answer.
                self._succeeded(server)
                raise DirectoryUnavailable(f"{self._name}: {server.url}: {error}") from error
            else:
                self._succeeded(server)
                return found
            finally:
                server.probing = False
        why = "; ".join(reasons) or "no server answers; the next try is due soon"
        raise DirectoryUnavailable(f"{self._name}: {why}")

    def pages(self, search: Search) -> Iterator[tuple[Entry, ...]]:
        """Ask the first server that answers, page by page; raises DirectoryUnavailable.

        What one server has begun no other goes on with: their orders differ, and somebody would be missed.
        """
        self._own_process()
        reasons = []
        for server in self._candidates():
            begun = False
            try:
                session = self._connect(server.url, self._timeout)
            except SessionBroken as error:
                self._failed(server, error)
                reasons.append(f"{server.url}: {error}")
                continue
            try:
                for page in session.pages(search, seconds=self._timeout):
                    begun = True
                    yield page
            except SearchFailed as error:
                raise DirectoryUnavailable(f"{self._name}: {server.url}: {error}") from error
            except SessionBroken as error:
                self._failed(server, error)
                reasons.append(f"{server.url}: {error}")
                if begun:
                    break
            else:
                self._succeeded(server)
                return
            finally:
                session.close()
        why = "; ".join(reasons) or "no server answers; the next try is due soon"
        raise DirectoryUnavailable(f"{self._name}: {why}")

    def each(self, search: Search) -> list[tuple[str, tuple[Entry, ...] | str]]:
        """Ask every server, for ``mailsigil check``: its URL, and the entries or why there are none."""
        found: list[tuple[str, tuple[Entry, ...] | str]] = []
        for url in self._urls:
            try:
                session = self._connect(url, self._timeout)
                try:
                    found.append((url, session.search(search, seconds=self._timeout)))
                finally:
                    session.close()
            except (SessionBroken, SearchFailed) as error:
                found.append((url, str(error)))
        return found

    def close(self) -> None:
        """Close what is idle."""
        for server in self._servers:
            self._close_idle(server)

    def _reset(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._servers = [_Server(url) for url in self._urls]

    def _own_process(self) -> None:
        # A connection that two processes share would mix up their answers, and a lock that another
        # thread held at the fork would stay locked: a child starts afresh.
        if self._process != os.getpid():
            self._reset()

    def _candidates(self) -> list[_Server]:
        """Servers that may be asked now, in the order of the settings."""
        now = self._clock()
        return [one for one in self._servers if one.failures == 0 or now >= one.pause_until]

    def _claim(self, server: _Server) -> bool:
        """Tell whether this thread may ask a server: one that failed is tried by one thread at a time."""
        with self._lock:
            if server.failures > 0:
                if server.probing:
                    return False
                server.probing = True
            return True

    def _ask(self, server: _Server, search: Search, seconds: float) -> tuple[Entry, ...]:
        started = self._clock()
        session = self._take(server)
        if session is not None:
            try:
                return self._use(server, session, search, seconds)
            except SessionTimeout:
                raise
            except SessionBroken:
                # A restarted server closed what was idle: that says nothing about its health now.
                self._close_idle(server)
        session = self._connect(server.url, max(0.05, seconds - (self._clock() - started)))
        return self._use(server, session, search, max(0.05, seconds - (self._clock() - started)))

    def _use(self, server: _Server, session: Session, search: Search, seconds: float) -> tuple[Entry, ...]:
        try:
            found = session.search(search, seconds=seconds)
        except SearchFailed:
            self._give_back(server, session)
            raise
        except BaseException:
            session.close()
            raise
        self._give_back(server, session)
        return found

    def _take(self, server: _Server) -> Session | None:
        now = self._clock()
        stale = []
        taken = None
        with self._lock:
            while server.idle and taken is None:
                since, session = server.idle.pop()
                if now - since < IDLE_SECONDS:
                    taken = session
                else:
                    stale.append(session)
        for session in stale:
            session.close()
        return taken

    def _give_back(self, server: _Server, session: Session) -> None:
        with self._lock:
            if len(server.idle) < self._connections:
                server.idle.append((self._clock(), session))
                return
        session.close()

    def _close_idle(self, server: _Server) -> None:
        with self._lock:
            idle, server.idle = server.idle, []
        for _, session in idle:
            session.close()

    def _failed(self, server: _Server, error: SessionBroken) -> None:
        with self._lock:
            server.failures += 1
            pause = min(LAST_PAUSE, FIRST_PAUSE * 2 ** (server.failures - 1))
            if isinstance(error, LoginRefused):
                pause = max(pause, REFUSED_PAUSE)
            server.pause_until = self._clock() + pause
        self._close_idle(server)
        log.warning("%s: server %s failed: %s; next try in %g s", self._name, server.url, error, pause)

    def _succeeded(self, server: _Server) -> None:
        with self._lock:
            was_failed = server.failures > 0
            server.failures = 0
        if was_failed:
            log.info("%s: server %s answers again", self._name, server.url)
