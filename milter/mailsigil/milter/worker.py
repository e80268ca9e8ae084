"""The milter as a service: one socket, several workers, a supervisor."""

from __future__ import annotations

import itertools
import logging
import os
import threading
import time
from collections.abc import Callable

from mailsigil.milter.listener import ListenError, identity, parse_address, withdraw
from mailsigil.milter.server import MilterServer
from mailsigil.milter.session import Handler, SessionLimits
from mailsigil.process.control import WorkerControl
from mailsigil.process.notify import Notifier
from mailsigil.process.privileges import become, find_user
from mailsigil.process.supervisor import Supervisor

log = logging.getLogger("mailsigil.milter")

__all__ = ["ListenError", "default_workers", "run_workers"]

_SETTLE_SECONDS = 0.2
"""An accept that was under way when the socket was diverted is over after this time."""
_RECYCLE_SPREAD = 10
"""Workers recycle up to a tenth later than told, so that not all do it at once."""


def _nothing_new() -> bytes:
    """No reload work in the supervisor, and nothing to hand over."""
    return b""


def run_workers(
    *,
    socket: str,
    make_handler: Callable[[bytes], Handler],
    limits: SessionLimits | None = None,
    socket_mode: int = 0o660,
    socket_group: str = "",
    workers: int = 0,
    recycle_after: int = 20_000,
    drain_seconds: float = 30.0,
    user: str = "",
    on_reload: Callable[[], bytes] = _nothing_new,
    notify: Notifier | None = None,
) -> int:
    """Serve until SIGTERM or SIGINT; the exit status of the process.

    ``socket`` is ``unix:/path`` or ``inet:HOST:PORT``. ``workers`` 0 means four for each core this process
    may use. A worker leaves for a fresh one after ``recycle_after`` connections (0: never). With ``user``
    a process that was started by root goes on as that user once the socket is open.

    ``make_handler`` is called in each worker after the fork, with nothing, and again on SIGHUP, with what
    ``on_reload`` has given, which is called before in the supervisor. If ``on_reload`` raises, no worker
    reloads; if ``make_handler`` raises, that worker keeps what it had. Because workers that are started later
    are copies of the supervisor, an ``on_reload`` that keeps good settings in the supervisor keeps them for
    those as well.

    Raises :class:`ListenError` or ``PrivilegeError`` when the service cannot start.
    """
    # Threads of libmilter's are unknown to Python, and each would leave an entry behind.
    logging.logThreads = False
    address = parse_address(socket)
    box = _HandlerBox()
    server = MilterServer(limits=limits or SessionLimits(), current_handler=box.get)
    owner = find_user(user).pw_uid if user and os.geteuid() == 0 else -1
    server.open(address, mode=socket_mode, group=socket_group, owner=owner)
    ours = identity(address)

    def leave() -> None:
        # Who connects while the last messages are finished is told at once, not after the drain time.
        withdraw(address, ours)
        server.stop_accepting()

    try:
        become(user)
        count = workers or default_workers()
        log.info("milter listens on %s with %d workers", socket, count)
        return Supervisor(
            spawn=lambda control: _work(control, server, box, make_handler, recycle_after),
            count=count,
            drain_seconds=drain_seconds,
            on_reload=on_reload,
            on_stop=leave,
            notify=notify,
        ).run()
    finally:
        withdraw(address, ours)


def default_workers() -> int:
    """How many workers serve a machine well: four for each core this process may use.

    Python's threads take turns in a worker, and each turn costs two switches of the scheduler; with about
    as many workers as open sessions there is next to no turn to take.
    """
    return 4 * len(os.sched_getaffinity(0))


class _HandlerBox:
    """The handler for messages that begin now; swapped as a whole."""

    def __init__(self) -> None:
        self._handler: Handler | None = None

    def get(self) -> Handler:
        """The handler of this moment."""
        if self._handler is None:
            raise RuntimeError("a message came before the worker was ready")
        return self._handler

    def put(self, handler: Handler) -> None:
        """From now on this one."""
        self._handler = handler


def _work(
    control: WorkerControl,
    server: MilterServer,
    box: _HandlerBox,
    make_handler: Callable[[bytes], Handler],
    recycle_after: int,
) -> None:
    """The life of one worker, in its main thread."""
    box.put(make_handler(b""))
    spread = recycle_after // _RECYCLE_SPREAD
    limit = recycle_after + (os.getpid() % (spread + 1))
    count = itertools.count(1)
    lock = threading.Lock()
    settled_at = float("inf")

    def on_connection() -> None:
        with lock:
            number = next(count)
        if recycle_after and number == limit:
            control.retiring()

    def on_retire() -> None:
        nonlocal settled_at
        server.stop_accepting()
        settled_at = time.monotonic() + _SETTLE_SECONDS

    server.start(on_connection=on_connection, on_end=lambda: os._exit(1))
    control.serve(
        on_reload=lambda handed: box.put(make_handler(handed)),
        on_retire=on_retire,
        finished=lambda: time.monotonic() >= settled_at and server.idle(),
    )
