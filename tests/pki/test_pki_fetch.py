"""Fetching from servers that lie, hang, trickle and point elsewhere; every one of them is real."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from mailsigil.pki.fetch import FetchError, HttpFetch, Request, Unreachable, check_url, is_public

Answer = Callable[[socket.socket, bytes], None]


@contextmanager
def _serving(answer: Answer) -> Iterator[tuple[int, list[bytes]]]:
    """A server on loopback that answers each request with what ``answer`` writes; gives port and requests."""
    requests: list[bytes] = []

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.settimeout(5)
            data = b""
            while b"\r\n\r\n" not in data:
                block = self.request.recv(65536)
                if not block:
                    return
                data += block
            requests.append(data)
            try:
                answer(self.request, data)
            except OSError:
                return

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server.server_address[1], requests
        server.shutdown()


def _says(status: str, *fields: str, body: bytes = b"") -> Answer:
    head = "".join(f"{field}\r\n" for field in fields)
    return lambda sock, _: sock.sendall(f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body)


def _fetch(port: int, path: str = "/list.crl", *, host: str = "127.0.0.1", **options: object) -> bytes:
    given = {"timeout": 2.0, "allow_private_addresses": True} | options
    return HttpFetch(**given)(Request(url=f"http://{host}:{port}{path}", max_bytes=1000))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.8.9.1", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254"),
        *("100.64.0.1", "224.0.0.1", "255.255.255.255", "240.0.0.1", "192.0.2.1", "198.18.0.1"),
        *("::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "ff02::1", "fec0::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::"),
        *("2002:c0a8:101::", "2001:db8::1", "nonsense", ""),
    ],
)
def test_addresses_that_are_not_the_internets(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_addresses_of_the_internet(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://x/", "file:///etc/passwd", "ldap://x/", "http://", "http:///x", "x", "", "//x/y"),
        *("http://user@x/", "http://user:pass@x/", "http://x:99999/", "http://x:y/", "http://[::1/"),
        *("http://x/ y", "http://x/\r\nHost: y", "http://x/\0", "http://ü/", "http://x/" + "a" * 3000),
    ],
)
def test_urls_that_are_not_fetched(url: str) -> None:
    with pytest.raises(FetchError):
        check_url(url)


def test_a_document_comes_whole_and_nothing_of_ours_goes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    with _serving(_says("200 OK", "Content-Length: 5", "Set-Cookie: a=b", body=b"hello")) as (port, requests):
        assert _fetch(port) == _fetch(port) == b"hello"
    for request in requests:
        assert request.startswith(b"GET /list.crl HTTP/1.1\r\n")
        assert f"Host: 127.0.0.1:{port}".encode() in request
        assert b"Cookie" not in request


def test_a_question_is_posted() -> None:
    def echo(sock: socket.socket, data: bytes) -> None:
        while not data.endswith(b"question"):
            data += sock.recv(1000)
        sock.sendall(b"HTTP/1.0 200 OK\r\n\r\nanswer")

    with _serving(echo) as (port, requests):
        request = Request(
            url=f"http://127.0.0.1:{port}/",
            max_bytes=100,
            body=b"question",
            content_type="application/ocsp-request",
        )
        assert HttpFetch(timeout=2, allow_private_addresses=True)(request) == b"answer"
    assert requests[0].startswith(b"POST / ")
    assert b"Content-Type: application/ocsp-request" in requests[0]


def test_loopback_is_refused_unless_allowed() -> None:
    with _serving(_says("200 OK", body=b"secret")) as (port, requests):
        for host in ("127.0.0.1", "localhost", "127.1", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"):
            with pytest.raises(FetchError):
                _fetch(port, host=host, allow_private_addresses=False)
    assert requests == []


def test_the_checked_address_is_the_one_that_is_connected_to() -> None:
    """A name that says something else the second time is asked only once."""
    asked: list[str] = []

    def rebinding(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["10.0.0.1"]

    with _serving(_says("200 OK", body=b"x")) as (port, requests):
        assert _fetch(port, host="rebind.example", resolve=rebinding) == b"x"
    assert asked == ["rebind.example"]
    assert b"Host: rebind.example" in requests[0]


def test_of_several_addresses_only_public_ones_are_used() -> None:
    tried: list[str] = []

    def both(host: str, port: int) -> Sequence[str]:
        tried.append(host)
        return ["127.0.0.1", "::1"]

    with _serving(_says("200 OK", body=b"x")) as (port, requests):
        with pytest.raises(FetchError, match="not public"):
            _fetch(port, host="both.example", resolve=both, allow_private_addresses=False)
        assert requests == []


def test_a_redirect_to_loopback_is_refused() -> None:
    """The first server counts as public here; the second is where it points to."""
    with _serving(_says("200 OK", body=b"secret")) as (inside, requests):
        target = f"http://localhost:{inside}/"
        with _serving(_says("302 Found", f"Location: {target}", "Content-Length: 0")) as (port, _):
            fetch = HttpFetch(
                timeout=2, resolve=lambda host, _: ["::ffff:127.0.0.1"] if host == "out" else ["127.0.0.1"]
            )
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("mailsigil.pki.fetch.is_public", lambda address: address.startswith("::ffff"))
                with pytest.raises(FetchError, match="localhost is not fetched from"):
                    fetch(Request(url=f"http://out:{port}/", max_bytes=100))
        assert requests == []


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://x/", "http://u@x/", "http://"])
def test_redirects_to_what_is_not_fetched(location: str) -> None:
    answer = _says("301 Moved", f"Location: {location}", "Content-Length: 0")
    with _serving(answer) as (port, _), pytest.raises(FetchError):
        _fetch(port)


def test_redirects_are_followed_and_counted() -> None:
    def step(sock: socket.socket, data: bytes) -> None:
        number = int(data.split()[1][1:])
        if number == 0:
            _says("200 OK", body=b"there")(sock, data)
        else:
            _says("307 On", f"Location: /{number - 1}", "Content-Length: 0")(sock, data)

    with _serving(step) as (port, requests):
        assert _fetch(port, "/3") == b"there"
        with pytest.raises(FetchError, match="more than 3 times"):
            _fetch(port, "/99")
    assert len(requests) == 8


@pytest.mark.parametrize(
    "answer",
    [
        _says("200 OK", "Content-Length: 999999999"),
        _says("200 OK", body=bytes(5000)),
        _says("200 OK", "Transfer-Encoding: chunked", body=b"fff\r\n" + bytes(4095) + b"\r\n0\r\n\r\n"),
        _says("200 OK", "Content-Length: 100", body=b"short"),
        _says("404 Not Found", body=b"x"),
        _says("500 Oh", body=b"x"),
        _says("304 Not Modified"),
        _says("200 OK", *(f"X-{n}: y" for n in range(500))),
        _says("200 OK", "X: " + "y" * 100_000),
        lambda sock, _: sock.sendall(b"SSH-2.0-OpenSSH\r\n"),
        lambda sock, _: None,
    ],
    ids=[
        *("huge by its word", "huge", "huge in chunks", "cut off", "absent", "broken", "not modified"),
        *("many fields", "long field", "not HTTP", "closes"),
    ],
)
def test_servers_that_lie(answer: Answer) -> None:
    with _serving(answer) as (port, _), pytest.raises(FetchError):
        _fetch(port)


def _trickle(what: bytes) -> Answer:
    def send(sock: socket.socket, _: bytes) -> None:
        sock.sendall(what)
        for _ in range(100):
            sock.sendall(b"a")
            time.sleep(0.05)

    return send


@pytest.mark.parametrize(
    "answer",
    [
        lambda _sock, _: time.sleep(5),
        _trickle(b"HTTP/1.1 200 OK\r\nX-Slow: "),
        _trickle(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n"),
        _trickle(b"HTTP/1.1 200 OK\r\n\r\n"),
    ],
    ids=["says nothing", "trickles its header", "trickles its body", "trickles without end"],
)
def test_time_is_bounded_as_a_whole(answer: Answer) -> None:
    with _serving(answer) as (port, _):
        start = time.monotonic()
        with pytest.raises(Unreachable, match="in time"):
            _fetch(port, timeout=0.4)
        assert time.monotonic() - start < 1.0


def test_a_server_that_is_not_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(Unreachable, match="cannot be reached"):
            _fetch(taken.getsockname()[1])


def test_a_name_that_is_not_there() -> None:
    def nowhere(host: str, port: int) -> Sequence[str]:
        raise socket.gaierror("no such name")

    with pytest.raises(Unreachable, match="no such name"):
        _fetch(80, host="nowhere.example", resolve=nowhere)


def test_https_to_a_server_without_tls() -> None:
    with _serving(_says("200 OK")) as (port, _), pytest.raises(Unreachable):
        HttpFetch(timeout=1, allow_private_addresses=True)(
            Request(url=f"https://127.0.0.1:{port}/", max_bytes=10)
        )
