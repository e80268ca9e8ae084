"""One end of a conversation with frames, over a blocking unix socket.

Time limits are the kernel's (SO_RCVTIMEO, SO_SNDTIMEO), so that the usual exchange costs one system
call to send and one to receive.
"""

from __future__ import annotations

import socket
import time

from mailsigil.keys.protocol import HEADER_SIZE, frame, frame_size
from mailsigil.process.callers import time_limit

READ_SIZE = 65_536


class Connection:
    """Sends and receives whole frames. Not to be shared between threads."""

    __slots__ = ("_buffer", "_receive_limit", "_send_limit", "_socket")

    def __init__(self, connected: socket.socket) -> None:
        connected.setblocking(True)
        self._socket = connected
        self._buffer = b""
        self._receive_limit = self._send_limit = 0.0

    def receive(self, *, wait: float, within: float) -> bytes | None:
        """Gives the payload of the next frame, or None when the other side has closed.

        ``wait`` seconds may pass before its first octet comes, ``within`` from there to its last.
        Raises TimeoutError, ConnectionError when the frame breaks off, ProtocolError when the
        announced size is out of bounds.
        """
        data = self._buffer
        if not data:
            data = self._read(wait)
            if not data:
                return None
        if len(data) < HEADER_SIZE or len(data) < HEADER_SIZE + frame_size(data[:HEADER_SIZE]):
            data = self._read_rest(data, time.monotonic() + within)
        end = HEADER_SIZE + frame_size(data[:HEADER_SIZE])
        self._buffer = data[end:]
        return data[HEADER_SIZE:end]

    def send(self, payload: bytes, *, within: float) -> None:
        """Sends one frame. Raises TimeoutError, ConnectionError, or ProtocolError when it is too long."""
        if within != self._send_limit:
            self._send_limit = within
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, time_limit(within))
        try:
            self._socket.sendall(frame(payload))
        except BlockingIOError as error:
            raise TimeoutError("the other side does not read") from error

    def interrupt(self) -> None:
        """Ends the conversation from another thread: who waits in ``receive`` gets None."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # It has ended already.

    def close(self) -> None:
        """Closes the socket."""
        self._socket.close()

    def _read_rest(self, data: bytes, deadline: float) -> bytes:
        parts, size = [data], len(data)
        need = HEADER_SIZE
        while True:
            if need == HEADER_SIZE and size >= HEADER_SIZE:
                parts = [b"".join(parts)]
                need += frame_size(parts[0][:HEADER_SIZE])
            if size >= need > HEADER_SIZE:
                return b"".join(parts)
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise TimeoutError("the frame did not come in time")
            chunk = self._read(remaining)
            if not chunk:
                raise ConnectionError("the other side closed within a frame")
            parts.append(chunk)
            size += len(chunk)

    def _read(self, within: float) -> bytes:
        if within != self._receive_limit:
            self._receive_limit = within
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, time_limit(within))
        try:
            return self._socket.recv(READ_SIZE)
        except BlockingIOError as error:
            raise TimeoutError("nothing came in time") from error
