"""The delivery filter as a service: its socket, its user, its processes."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

from mailsigil.config.delivery import DeliverySettings
from mailsigil.dovecot.filter import DeliveryFilter
from mailsigil.keys.server import listen
from mailsigil.process.callers import Callers
from mailsigil.process.control import WorkerControl
from mailsigil.process.privileges import become, find_user, hide_memory
from mailsigil.process.supervisor import Supervisor

log = logging.getLogger("mailsigil.delivery")

DRAIN_SECONDS: Final = 20.0
"""Time for the messages in work when the service stops."""
ROOT: Final = 0

MakeFilter = Callable[[bytes], DeliveryFilter]
"""Gets what the supervisor hands over with a reload; nothing at first."""


def run_delivery(
    settings: DeliverySettings, *, make_filter: MakeFilter, on_reload: Callable[[], bytes] = lambda: b""
) -> int:
    """Runs the service until SIGTERM or SIGINT; gives the exit status.

    ``make_filter`` is called in each process, and again on SIGHUP, with what ``on_reload`` has given in the
    supervisor; where that raises, everything stays. Raises KeyAgentSetupError for the socket, PrivilegeError
    for a user.
    """
    allowed = {ROOT, os.geteuid(), *(_uid_of(name) for name in settings.allowed_users)}
    path = Path(settings.socket)
    with contextlib.ExitStack() as stack:
        # The check of the caller's user decides, so the socket is open to everybody.
        listener = stack.enter_context(listen(path, mode=0o666))
        stack.callback(_remove, path)
        become(settings.user)
        hide_memory()  # mail is in clear there, and the keys of its contents
        log.info("delivery filter listens on %s", path)
        return Supervisor(
            spawn=lambda control: _work(control, listener, settings, allowed, make_filter),
            count=settings.processes,
            drain_seconds=DRAIN_SECONDS,
            on_reload=on_reload,
        ).run()


def _work(
    control: WorkerControl,
    listener: socket.socket,
    settings: DeliverySettings,
    allowed: Collection[int],
    make_filter: MakeFilter,
) -> None:
    """The life of one process."""
    live = _Live(make_filter)
    service = Callers(
        "delivery",
        listener,
        lambda connected, _uid: live.converse(connected),
        allowed_uids=allowed,
        connections=settings.connections,
    )
    service.start()
    control.serve(on_reload=live.reload, on_retire=service.stop, finished=lambda: not service.busy())


class _Live:
    """The filter for messages that begin now; swapped as a whole."""

    def __init__(self, make_filter: MakeFilter) -> None:
        self._make = make_filter
        self._filter = make_filter(b"")

    def converse(self, connected: socket.socket) -> None:
        self._filter.converse(connected)

    def reload(self, handed: bytes) -> None:
        self._filter = self._make(handed)


def _uid_of(name: str) -> int:
    return int(name) if name.isascii() and name.isdigit() else find_user(name).pw_uid


def _remove(path: Path) -> None:
    # As a lesser user the service may not be able to; a stale socket is replaced by the next start.
    with contextlib.suppress(OSError):
        path.unlink()
