"""Sockets that systemd opened for us and keeps over a restart (sd_listen_fds(3))."""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping
from typing import Final

_FIRST: Final = 3
_MOST: Final = 64


def inherited_sockets(environment: MutableMapping[str, str] = os.environ) -> dict[str, socket.socket]:
    """Takes the listening unix sockets by the names that their units give them (FileDescriptorName=).

    The variables are removed: a second call finds none, and neither does a program that is started. What is
    no listening unix socket is closed.
    """
    told = {name: environment.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")}
    if told["LISTEN_PID"] != str(os.getpid()) or not told["LISTEN_FDS"].isdigit():
        return {}
    names = told["LISTEN_FDNAMES"].split(":")
    found: dict[str, socket.socket] = {}
    for number in range(min(int(told["LISTEN_FDS"]), _MOST)):
        name = names[number] if number < len(names) else ""
        listener = _listener(_FIRST + number)
        if listener is None:
            continue
        if name in found:
            listener.close()
        else:
            found[name] = listener
    return found


def _listener(descriptor: int) -> socket.socket | None:
    try:
        taken = socket.socket(fileno=descriptor)
    except OSError:
        return None
    listens = taken.family == socket.AF_UNIX and taken.type == socket.SOCK_STREAM
    if not listens or not taken.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        taken.close()
        return None
    taken.set_inheritable(False)
    taken.setblocking(True)
    return taken
