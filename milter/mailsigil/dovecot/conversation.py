"""One short conversation on a unix socket: what comes in, within what time, and one line in answer."""

from __future__ import annotations

import logging
import os
import socket
import struct
import time
from collections.abc import Callable, Collection
from typing import Final

log = logging.getLogger("mailsigil.keyd")

_INT: Final = struct.Struct("i")
_MOST_DESCRIPTORS: Final = 8
"""The kernel closes what finds no room."""


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
