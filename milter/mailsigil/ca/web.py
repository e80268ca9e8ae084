"""A small HTTP server: bounded in connections, octets and time; one application answers each request."""

from __future__ import annotations

import io
import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any, Final

from cryptography import x509
from OpenSSL import SSL

from mailsigil.ca.wire import Stream

log = logging.getLogger("mailsigil.ca")

BACKLOG: Final = 256
LOOK_SECONDS: Final = 0.5
"""So often a server looks whether it is to stop."""
REQUESTS: Final = 1000
"""Requests on one connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What clients are granted; times in seconds."""

    connections: int
    seconds: float
    idle_seconds: float
    request_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request. Header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    peer: str
    """The client's IP address."""
    version: str = "HTTP/1.1"
    certificate: x509.Certificate | None = None
    """The client's, whose key it has shown to hold; nobody has looked at it."""


@dataclass(frozen=True, slots=True)
class Response:
    """One answer."""

    status: HTTPStatus
    content_type: str = ""
    body: bytes = field(default=b"", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def say(cls, status: HTTPStatus, sentence: str, **headers: str) -> Response:
        """Makes an answer that is a sentence (RFC 7030 4.2.3: readable for people)."""
        return cls(status, "text/plain; charset=utf-8", f"{sentence}.\n".encode(), {**_dashed(headers)})


Application = Callable[[Request], Response]


def listen(address: tuple[str, int]) -> socket.socket:
    """Opens a listening socket. Raises OSError."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    return socket.create_server(address, family=family, backlog=BACKLOG)


class WebServer:
    """Listens on an address, or on a socket that does so already, and hands requests to an application, one
    thread a connection."""

    def __init__(
        self,
        address: tuple[str, int] | socket.socket,
        application: Application,
        *,
        bounds: Bounds,
        context: SSL.Context | None = None,
    ) -> None:
        self._listener = address if isinstance(address, socket.socket) else listen(address)
        self._listener.settimeout(LOOK_SECONDS)
        self.application = application
        """Answers new requests; may be exchanged."""
        self._bounds = bounds
        self._places = threading.BoundedSemaphore(bounds.connections)
        self._stop = threading.Event()
        self.context = context
        """TLS for new connections; may be exchanged."""

    @property
    def port(self) -> int:
        """The port it listens on."""
        port: int = self._listener.getsockname()[1]
        return port

    def serve(self) -> None:
        """Takes connections until :meth:`stop`."""
        while not self._stop.is_set():
            if not self._places.acquire(timeout=LOOK_SECONDS):
                continue  # Who waits meanwhile, waits in the backlog.
            try:
                connected, peer = self._listener.accept()
            except OSError as error:
                self._places.release()
                if not isinstance(error, TimeoutError) and not self._stop.is_set():
                    log.error("cannot take a connection: %s", error)
                    self._stop.wait(LOOK_SECONDS)
                continue
            thread = threading.Thread(target=self._converse, args=(connected, str(peer[0])), daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                log.error("cannot serve a connection: %s", error)
                connected.close()
                self._places.release()

    def stop(self) -> None:
        """Takes no new connection."""
        self._stop.set()
        self._listener.close()

    def _converse(self, connected: socket.socket, peer: str) -> None:
        stream = Stream(connected, self.context)
        try:
            stream.deadline = time.monotonic() + self._bounds.seconds
            stream.handshake()
            _Conversation(stream, peer, self.application, self._bounds).run()
        except (TimeoutError, ConnectionError) as error:
            log.debug("peer=%s connection ended: %s", peer, error)
        except Exception as error:
            # One connection's trouble is nobody else's.
            log.exception("peer=%s connection failed: %s", peer, type(error).__name__)
        finally:
            stream.close()
            self._places.release()


class _Conversation(BaseHTTPRequestHandler):
    """The standard library's reading of requests, on a stream of ours."""

    protocol_version = "HTTP/1.1"
    server_version = "mailsigil"
    sys_version = ""

    def __init__(self, stream: Stream, peer: str, application: Application, bounds: Bounds) -> None:
        # Not the base class's: it would take a socket, and begin at once.
        self._stream = stream
        self._peer = peer
        self._application = application
        self._bounds = bounds
        self._reader = io.BufferedReader(stream)
        self.rfile = self._reader
        self.wfile = io.BufferedWriter(stream)
        self.client_address = (peer, 0)
        self.close_connection = True

    def run(self) -> None:
        """Answers requests until one side has enough."""
        for _ in range(REQUESTS):
            self._stream.deadline = time.monotonic() + self._bounds.idle_seconds
            if not self._reader.peek(1):
                return
            self._stream.deadline = time.monotonic() + self._bounds.seconds
            self.protocol_version = "HTTP/1.1"
            self.handle_one_request()
            if self.close_connection:
                return

    def do_GET(self) -> None:
        self._respond(b"")

    def do_POST(self) -> None:
        body = self._body()
        if body is not None:
            self._respond(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answers what cannot be handed to the application, without HTML."""
        self.close_connection = True
        status = HTTPStatus(code)
        self._send(Response.say(status, message or status.phrase))

    def log_message(self, format: str, *args: Any) -> None:
        """Leaves the log to the application: it knows what was done."""

    def _body(self) -> bytes | None:
        length = self.headers.get("Content-Length", "")
        if "Transfer-Encoding" in self.headers or not (length.isascii() and length.isdigit()):
            self.send_error(HTTPStatus.LENGTH_REQUIRED, "Say the length of the request in Content-Length")
            return None
        if len(length) > 9 or int(length) > self._bounds.request_bytes:
            self.send_error(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"A request has at most {self._bounds.request_bytes} octets here",
            )
            return None
        if self.headers.get("Expect", "").lower() == "100-continue" and self.request_version != "HTTP/1.0":
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.wfile.flush()
        body = self._reader.read(int(length))
        if len(body) < int(length):
            raise ConnectionResetError("the client has gone")
        return body

    def handle_expect_100(self) -> bool:
        """Waits until the length is known to be within the bounds."""
        return True

    def _respond(self, body: bytes) -> None:
        request = Request(
            method=self.command,
            path=self.path,
            headers={name.lower(): value for name, value in self.headers.items()},
            body=body,
            peer=self._peer,
            version=self.request_version,
            certificate=self._stream.client_certificate(),
        )
        try:
            response = self._application(request)
        except Exception as error:
            # The one catch-all of the server: the client learns nothing of its inside.
            log.exception(
                "peer=%s %s %s failed: %s", self._peer, self.command, self.path, type(error).__name__
            )
            response = Response.say(HTTPStatus.INTERNAL_SERVER_ERROR, "The server failed, its log tells why")
        self._send(response)

    def _send(self, response: Response) -> None:
        # Some clients take no other version than that of their request.
        self.protocol_version = "HTTP/1.0" if self.request_version in ("HTTP/1.0", "HTTP/0.9") else "HTTP/1.1"
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        if response.content_type:
            self.send_header("Content-Type", response.content_type)
        if response.status is not HTTPStatus.NO_CONTENT:
            self.send_header("Content-Length", str(len(response.body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(response.body)
        self.wfile.flush()


def _dashed(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}
