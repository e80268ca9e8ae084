"""Reaches a server that insists on all interfaces: it runs in a network namespace of its own.

As a program: ``relay.py SOCKET PORT`` brings its namespace's loopback up, listens on a unix socket, and
passes on to a port of that loopback.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import socket
import struct
import sys
import threading
from pathlib import Path


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


def _join(one: socket.socket, other: socket.socket) -> None:
    back = threading.Thread(target=_pump, args=(other, one), daemon=True)
    back.start()
    _pump(one, other)
    back.join()
    one.close()
    other.close()


def _serve(listener: socket.socket, target: str | tuple[str, int]) -> None:
    while True:
        try:
            accepted, _ = listener.accept()
        except OSError:
            return
        out = socket.socket(socket.AF_UNIX if isinstance(target, str) else socket.AF_INET)
        try:
            out.connect(target)
        except OSError:
            accepted.close()
            continue
        threading.Thread(target=_join, args=(accepted, out), daemon=True).start()


class Relay:
    """A loopback port of this namespace that leads to a unix socket."""

    def __init__(self, path: Path) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=_serve, args=(self._listener, str(path)), daemon=True).start()

    def close(self) -> None:
        """Takes no more connections."""
        self._listener.close()


def _bring_loopback_up() -> None:
    """What ``ip link set lo up`` does; a bare Debian has no ``ip``. See netdevice(7)."""
    get_flags, set_flags, up = 0x8913, 0x8914, 1
    form = struct.Struct("16sh14x")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        name, flags = form.unpack(fcntl.ioctl(any_socket, get_flags, form.pack(b"lo", 0)))
        fcntl.ioctl(any_socket, set_flags, form.pack(name, flags | up))


def _end_with_parent() -> None:
    """The server beside is the parent, for the shell became it. See prctl(2)."""
    set_death_signal = 1
    ctypes.CDLL(None, use_errno=True).prctl(set_death_signal, signal.SIGKILL)


if __name__ == "__main__":
    _end_with_parent()
    _bring_loopback_up()
    inside = socket.socket(socket.AF_UNIX)
    inside.bind(sys.argv[1])
    inside.listen(64)
    os.chmod(sys.argv[1], 0o600)
    _serve(inside, ("127.0.0.1", int(sys.argv[2])))
