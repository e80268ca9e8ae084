"""A way to a server on loopback that loses answers: requests arrive, and what comes back does not."""

from __future__ import annotations

import contextlib
import socket
import threading

_TLS_HANDSHAKE = 22  # RFC 8446 5.1: the type of a record, before version and length


class LossyWay:
    """A port that leads to another one, TLS or not. Started on entry.

    While ``loses`` is set, the answer to whatever is longer than ``request`` octets is swallowed, and the
    connection is closed when the server has said something. TLS's first message does not count: its size is
    another with each release of OpenSSL.
    """

    def __init__(self, port: int, *, request: int) -> None:
        self._port = port
        self._request = request
        self.loses = False
        self.lost = 0

    def __enter__(self) -> LossyWay:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._port))
            _Connection(self, client, server).start()

    def is_request(self, sent: int) -> bool:
        """Tells whether so many octets are one whose answer gets lost."""
        return self.loses and sent > self._request


class _Connection:
    def __init__(self, way: LossyWay, client: socket.socket, server: socket.socket) -> None:
        self._way, self._client, self._server = way, client, server
        self._sent = 0

    def start(self) -> None:
        for target in (self._there, self._back):
            threading.Thread(target=target, daemon=True).start()

    def _there(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._client.recv(65536):
                if not self._sent and data[0] == _TLS_HANDSHAKE:
                    self._sent -= 5 + int.from_bytes(data[3:5], "big")
                self._sent += len(data)
                self._server.sendall(data)
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_WR)

    def _back(self) -> None:
        swallowed = 0
        with contextlib.suppress(OSError):
            while data := self._server.recv(65536):
                if not self._way.is_request(self._sent):
                    self._client.sendall(data)
                    continue
                swallowed += len(data)
                if swallowed > 500:  # More than the tickets of TLS: this is the answer.
                    self._way.lost += 1
                    break
        for end in (self._client, self._server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
