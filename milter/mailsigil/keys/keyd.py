"""The key agent as a service: its socket, its user, its processes."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from mailsigil.keys.admin import AdminDesk
from mailsigil.keys.agent import KeyAgent
from mailsigil.keys.companion import Companion
from mailsigil.keys.folder import KeyFolder
from mailsigil.keys.hygiene import allow_memory_lock, guard_memory
from mailsigil.keys.secret_files import SecretFile
from mailsigil.keys.server import KeyAgentServer, ServerLimits, listen
from mailsigil.keys.source import KeySource
from mailsigil.process.control import WorkerControl
from mailsigil.process.privileges import become, find_user
from mailsigil.process.supervisor import Supervisor

log = logging.getLogger("mailsigil.keyd")

REFRESH_SECONDS: Final = 3.0
"""So often the folder is looked at for changes."""
DRAIN_SECONDS: Final = 10.0
"""Time for open requests when the agent stops."""
STACK_SIZE: Final = 1_048_576
"""Octets of a thread's stack: requests are flat, and signing needs little."""


class MoreSources(Protocol):
    """The sources beside the folder (sources/live.py)."""

    def check(self) -> bytes:
        """In the supervisor, on a reload: gives the new settings; raises when they cannot be used."""
        ...

    def first(self) -> Sequence[KeySource]:
        """Makes the sources of a process that begins."""
        ...

    def again(self, handed: bytes) -> Sequence[KeySource]:
        """Makes the sources of these settings; raises when they cannot be used, and the old stay."""
        ...


def run_agent(
    *,
    socket_path: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    allowed_users: Sequence[str],
    user: str = "",
    processes: int = 0,
    socket_mode: int | None = None,
    refresh_seconds: float = REFRESH_SECONDS,
    more: MoreSources | None = None,
    admin_socket: str | os.PathLike[str] = "",
    companions: Sequence[Companion] = (),
    together: Sequence[Companion] = (),
    passphrase: SecretFile | None = None,
    beside: Callable[[WorkerControl], None] | None = None,
) -> int:
    """Runs the key agent until SIGTERM or SIGINT; gives the exit status.

    SIGHUP reads the folder anew; 0 ``processes`` means one for each core. ``allowed_users`` are names or
    numbers; root and the agent's own user may always ask, for nothing in the agent is hidden from them.
    Without ``socket_mode`` the socket is open to everybody if others than those two are allowed: the check
    of the caller's user decides.
    ``more`` makes further sources, in each process anew: sessions and connections survive no fork. On
    SIGHUP it reads their settings anew; when they cannot be used, the old sources stay, everywhere.
    On ``admin_socket`` (admin.py) root and the agent's own user alone are heard.
    ``companions`` are further services that live in each of the agent's processes; those of ``together``
    live in one more process, so that what one of them fetched is at hand for the others and the next time.
    ``passphrase`` opens encrypted keys of the folder. ``beside`` runs in a process of its own.
    Raises KeyAgentSetupError, or PrivilegeError for a user that is missing or cannot be changed to.
    """
    path = Path(socket_path)
    # Threads of one process take turns at all that is Python: with P-256 that is more than the signature.
    processes = processes or len(os.sched_getaffinity(0))
    trusted = {0, find_user(user).pw_uid if user else os.geteuid()}
    allowed = trusted | {_uid_of(name) for name in allowed_users}
    if socket_mode is None:
        socket_mode = 0o600 if allowed == trusted else 0o666
    started = datetime.now(UTC)
    with contextlib.ExitStack() as sockets:
        listener = _listen(path, socket_mode, sockets)
        admin = _listen(Path(admin_socket), 0o600, sockets) if admin_socket else None
        if admin is not None and user:
            os.chown(admin_socket, find_user(user).pw_uid, -1, follow_symlinks=False)
        for companion in companions:
            companion.open(sockets)
        # A process that would serve nothing is not started.
        together = [companion for companion in together if companion.open(sockets)]
        allow_memory_lock()
        become(user)
        guard_memory()
        keys = KeyFolder(folder, passphrase=passphrase)
        # Read before the first fork: all processes share the memory, and findings are logged once.
        keys.reload()
        log.info("key agent listens on %s with %d keys", path, keys.count())

        def new_agent() -> KeyAgent:
            return KeyAgent([keys, *(more.first() if more else ())], now=lambda: datetime.now(UTC))

        def work_together(control: WorkerControl) -> None:
            agent = new_agent()
            _work_together(
                agent,
                control,
                refresh_seconds=refresh_seconds,
                companions=together,
                reload=partial(_reload, agent, keys, more),
            )

        def work(control: WorkerControl) -> None:
            agent = new_agent()
            if admin is not None:
                desk = AdminDesk(
                    lambda: agent.sources,
                    # The supervisor has every process read anew.
                    reload=lambda: os.kill(os.getppid(), signal.SIGHUP),
                    started=started,
                    now=lambda: datetime.now(UTC),
                    processes=processes,
                )
                _serve_admin(desk, admin, allowed_uids=trusted)
            _work(
                agent,
                listener,
                control,
                allowed_uids=allowed,
                refresh_seconds=refresh_seconds,
                companions=companions,
                reload=partial(_reload, agent, keys, more),
            )

        return Supervisor(
            spawn=work,
            count=processes,
            drain_seconds=DRAIN_SECONDS,
            on_reload=more.check if more else lambda: b"",
            beside=[*([work_together] if together else []), *([beside] if beside else [])],
        ).run()


def _work(
    agent: KeyAgent,
    listener: socket.socket,
    control: WorkerControl,
    *,
    allowed_uids: Collection[int],
    refresh_seconds: float,
    companions: Sequence[Companion],
    reload: Callable[[bytes], None],
) -> None:
    """The life of one process of the agent."""
    _begin(agent, refresh_seconds)
    server = KeyAgentServer(agent, listener, allowed_uids=allowed_uids)
    for companion in companions:
        companion.start(agent)
    control.start(
        on_reload=lambda handed: _each(
            partial(reload, handed), *(companion.reload for companion in companions)
        ),
        on_retire=lambda: _each(server.stop, *(companion.stop for companion in companions)),
    )
    server.serve()
    deadline = time.monotonic() + DRAIN_SECONDS
    while time.monotonic() < deadline and (
        server.open_connections() or any(companion.busy() for companion in companions)
    ):
        time.sleep(0.01)


def _work_together(
    agent: KeyAgent,
    control: WorkerControl,
    *,
    refresh_seconds: float,
    companions: Sequence[Companion],
    reload: Callable[[bytes], None],
) -> None:
    """The life of the process of those companions that share what they know."""
    _begin(agent, refresh_seconds)
    for companion in companions:
        companion.start(agent)
    control.serve(
        on_reload=lambda handed: _each(
            partial(reload, handed), *(companion.reload for companion in companions)
        ),
        on_retire=lambda: _each(*(companion.stop for companion in companions)),
        finished=lambda: not any(companion.busy() for companion in companions),
    )


def _begin(agent: KeyAgent, refresh_seconds: float) -> None:
    guard_memory()
    threading.stack_size(STACK_SIZE)
    # A process that takes a dead one's place knows the folder as it was when the agent started.
    agent.refresh()
    threading.Thread(target=_watch, args=(agent, refresh_seconds), name="watch", daemon=True).start()


def _reload(agent: KeyAgent, keys: KeyFolder, more: MoreSources | None, handed: bytes) -> None:
    if more is not None:
        try:
            agent.replace([keys, *more.again(handed)])
        except Exception as error:
            # The supervisor found the settings good; whatever this process lacks, keys go on signing.
            log.error("the old sources stay: %s", error)
    agent.reload()


def _each(*actions: Callable[[], object]) -> None:
    for action in actions:
        action()


def _serve_admin(desk: AdminDesk, listener: socket.socket, *, allowed_uids: Collection[int]) -> None:
    limits = ServerLimits(connections=4, idle=10.0)
    by = "root and the key agent's own user"
    server = KeyAgentServer(desk, listener, allowed_uids=allowed_uids, allowed_by=by, limits=limits)
    threading.Thread(target=server.serve, name="admin", daemon=True).start()


def _listen(path: Path, mode: int, sockets: contextlib.ExitStack) -> socket.socket:
    listener = sockets.enter_context(listen(path, mode=mode))
    sockets.enter_context(_removed_at_end(path))
    return listener


def _watch(agent: KeyAgent, seconds: float) -> None:
    while True:
        time.sleep(seconds)
        try:
            agent.refresh()
        except Exception as error:
            # Whatever it was, the keys that are held go on signing.
            log.exception("the sources could not be looked at: %s", type(error).__name__)


def _uid_of(name: str) -> int:
    return int(name) if name.isascii() and name.isdigit() else find_user(name).pw_uid


@contextlib.contextmanager
def _removed_at_end(path: Path) -> Iterator[None]:
    ours = path.stat().st_ino
    try:
        yield
    finally:
        # A successor may listen there by now; and as a lesser user the agent may not be able to.
        with contextlib.suppress(OSError):
            if path.stat().st_ino == ours:
                path.unlink()
