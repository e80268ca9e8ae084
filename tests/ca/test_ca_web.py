"""The bounds of the server, on loopback, with raw octets."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from http import HTTPStatus

import pytest

from mailsigil.ca.web import Bounds, Request, Response, WebServer

BOUNDS = Bounds(connections=4, seconds=0.6, idle_seconds=0.6, request_bytes=1000)


def echo(request: Request) -> Response:
    if request.path == "/fail":
        raise RuntimeError("secret detail")
    return Response(HTTPStatus.OK, "text/plain", request.version.encode() + b" " + request.body)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    server = WebServer(("127.0.0.1", 0), echo, bounds=BOUNDS)
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    yield server.port
    server.stop()
    thread.join(5)


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=5)


def read_all(end: socket.socket) -> bytes:
    parts = []
    with contextlib.suppress(ConnectionError):
        while part := end.recv(65536):
            parts.append(part)
    return b"".join(parts)


def ask(port: int, octets: bytes) -> bytes:
    with connect(port) as end:
        end.sendall(octets)
        end.shutdown(socket.SHUT_WR)
        return read_all(end)


@pytest.mark.parametrize(
    ("octets", "start"),
    [
        pytest.param(b"GET / HTTP/1.0\r\n\r\n", b"HTTP/1.0 200 ", id="1.0 is echoed"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 200 ", id="1.1 is echoed"),
        pytest.param(b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi", b"HTTP/1.1 200 ", id="body"),
        pytest.param(b"POST / HTTP/1.1\r\n\r\n", b"HTTP/1.1 411 ", id="no length"),
        pytest.param(b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"HTTP/1.1 411 ", id="bad length"),
        pytest.param(
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\nhi",
            b"HTTP/1.1 411 ",
            id="chunked",
        ),
        pytest.param(b"POST / HTTP/1.1\r\nContent-Length: 1001\r\n\r\n", b"HTTP/1.1 413 ", id="too large"),
        pytest.param(
            b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", b"HTTP/1.1 413 ", id="huge"
        ),
        pytest.param(b"PUT / HTTP/1.1\r\n\r\n", b"HTTP/1.1 501 ", id="method"),
        pytest.param(b"GET /" + b"a" * 70_000, b"HTTP/1.1 414 ", id="line too long"),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n", b"HTTP/1.1 431 ", id="fields"),
        pytest.param(b"GET /fail HTTP/1.1\r\n\r\n", b"HTTP/1.1 500 ", id="application fails"),
    ],
)
def test_answers(port: int, octets: bytes, start: bytes) -> None:
    answer = ask(port, octets)
    assert answer.startswith(start)
    assert b"secret detail" not in answer
    assert b"<html" not in answer.lower()


def test_a_connection_is_kept(port: int) -> None:
    with connect(port) as end:
        for _ in range(3):
            end.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert end.recv(65536).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "octets",
    [b"", b"G", b"POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\nhalf"],
    ids=["silent", "line", "body"],
)
def test_who_stalls_is_left(port: int, octets: bytes) -> None:
    with connect(port) as end:
        end.sendall(octets)
        start = time.monotonic()
        read_all(end)
        assert time.monotonic() - start < 3


def test_who_drips_gains_nothing(port: int) -> None:
    with connect(port) as end:
        start = time.monotonic()
        with contextlib.suppress(OSError):
            for octet in b"GET / HTTP/1.1\r\nA: " + b"x" * 100:
                end.sendall(bytes([octet]))
                time.sleep(0.05)
        assert time.monotonic() - start < 4
        assert b"200" not in read_all(end)


def test_more_clients_than_places(port: int) -> None:
    silent = [connect(port) for _ in range(BOUNDS.connections)]
    try:
        # The silent ones lose their places in time, and who waits in the backlog is served.
        assert ask(port, b"GET / HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.0 200")
    finally:
        for end in silent:
            end.close()
