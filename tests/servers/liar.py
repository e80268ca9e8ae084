"""A service that answers wrongly: each connection gets the octets, or the silence, that the test asks for."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable

Reply = Callable[[bytes], bytes | None]
"""From the request's first line to what is sent; None says nothing, and leaves the connection open."""


def http(
    body: bytes, *, status: str = "200 OK", kind: str = "application/pkcs7-mime", length: int = -1
) -> bytes:
    """An HTTP answer; ``length`` is what it announces, the true one when it is negative."""
    size = len(body) if length < 0 else length
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {size}\r\n\r\n".encode() + body


class Liar:
    """Listens on loopback on entry. ``drip`` sends one octet each so many seconds."""

    def __init__(self, reply: Reply, *, drip: float = 0) -> None:
        self._reply = reply
        self._drip = drip
        self._stop = threading.Event()
        self.requests = 0

    def __enter__(self) -> Liar:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            request = _whole_request(connection)
            if not request:
                return
            self.requests += 1
            answer = self._reply(request.split(b"\r\n", 1)[0])
            if answer is None:
                self._stop.wait(20)
                return
            if not self._drip:
                connection.sendall(answer)
                return
            for octet in answer:
                if self._stop.is_set():
                    return
                connection.sendall(bytes([octet]))
                time.sleep(self._drip)


def _whole_request(connection: socket.socket) -> bytes:
    """Head and body; nothing if the caller leaves before. A body left unread would make closing a reset."""
    request = b""
    while b"\r\n\r\n" not in request:
        part = connection.recv(65536)
        if not part:
            return b""
        request += part
    head, _, body = request.partition(b"\r\n\r\n")
    announced = re.search(rb"(?i)\r\ncontent-length:\s*(\d+)", head)
    missing = int(announced[1]) - len(body) if announced else 0
    while missing > 0:
        part = connection.recv(65536)
        if not part:
            return b""
        request += part
        missing -= len(part)
    return request
