"""An SMTP server that keeps each message byte for byte: where the demonstration's mail arrives."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from mailsigil.demo.programs import wait_until

_MAX_LINE = 1 << 20


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message as it arrived."""

    mail_from: str
    recipients: tuple[str, ...]
    content: bytes
    """With CRLF line ends, dots unstuffed (RFC 5321 4.5.2)."""
    options: str = ""
    """The parameters of MAIL FROM."""


@dataclass(slots=True)
class _Transaction:
    mail_from: str = ""
    options: str = ""
    recipients: list[str] = field(default_factory=list)


class _Conversation(socketserver.StreamRequestHandler):
    disable_nagle_algorithm: ClassVar[bool] = True
    server: _Server

    def handle(self) -> None:
        self._say("220 sink.example ESMTP")
        transaction = _Transaction()
        for line in self._lines():
            verb = line[:4].upper()
            if verb == b"QUIT":
                self._say("221 2.0.0 bye")
                return
            if verb in {b"EHLO", b"HELO"}:
                self._greet(extended=verb == b"EHLO")
            elif verb == b"MAIL":
                path, _, options = line.partition(b":")[2].decode("utf-8", "replace").partition(">")
                transaction = _Transaction(path.strip().lstrip("<"), options.strip())
                self._say("250 2.1.0 ok")
            elif verb == b"RCPT":
                path = line.partition(b":")[2].decode("utf-8", "replace").partition(">")[0]
                transaction.recipients.append(path.strip().lstrip("<"))
                self._say("250 2.1.5 ok")
            elif verb == b"DATA":
                self._say("354 go on")
                self._keep(transaction)
                self._say("250 2.0.0 kept")
            else:
                self._say("250 2.0.0 ok")

    def _greet(self, *, extended: bool) -> None:
        lines = ["sink.example"]
        if extended:
            lines += ["SIZE 0", "ENHANCEDSTATUSCODES"]
            lines += ["8BITMIME", "SMTPUTF8"] if self.server.eight_bit else []
        for line in lines[:-1]:
            self._say(f"250-{line}")
        self._say(f"250 {lines[-1]}")

    def _keep(self, transaction: _Transaction) -> None:
        kept = bytearray()
        while (line := self.rfile.readline(_MAX_LINE)) not in {b".\r\n", b""}:
            kept += line[1:] if line.startswith(b".") else line
        self.server.keep(
            Delivery(
                transaction.mail_from,
                tuple(transaction.recipients),
                bytes(kept),
                transaction.options,
            )
        )

    def _lines(self) -> Iterator[bytes]:
        while line := self.rfile.readline(_MAX_LINE):
            yield line.rstrip(b"\r\n")

    def _say(self, line: str) -> None:
        self.wfile.write(line.encode("ascii") + b"\r\n")


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, *, eight_bit: bool) -> None:
        super().__init__(("127.0.0.1", 0), _Conversation)
        self.eight_bit = eight_bit
        self._lock = threading.Lock()
        self._deliveries: list[Delivery] = []

    def keep(self, delivery: Delivery) -> None:
        with self._lock:
            self._deliveries.append(delivery)

    def kept(self) -> list[Delivery]:
        with self._lock:
            return list(self._deliveries)


class Sink:
    """Listens on a free loopback port while it is entered.

    With ``eight_bit=False`` it announces no 8BITMIME, so that Postfix converts what is not 7-bit.
    """

    def __init__(self, *, eight_bit: bool = True) -> None:
        self._server = _Server(eight_bit=eight_bit)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def port(self) -> int:
        """Its TCP port."""
        port: int = self._server.server_address[1]
        return port

    @property
    def deliveries(self) -> list[Delivery]:
        """All that has arrived, in order."""
        return self._server.kept()

    def wait_for(self, count: int, *, timeout: float = 30) -> list[Delivery]:
        """Waits until ``count`` messages are there, and gives all."""
        wait_until(lambda: len(self.deliveries) >= count, what=f"delivery {count}", timeout=timeout)
        return self.deliveries

    def __enter__(self) -> Sink:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
