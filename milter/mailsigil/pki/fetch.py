"""Fetching over HTTP from addresses that stand in certificates, which whoever made them has chosen.

Names are resolved here, each address is checked, and the connection goes to exactly the address that was
checked. Nothing of the environment (proxies) and nothing of earlier answers (cookies) plays a part. Time,
size and redirects are bounded for the fetch as a whole.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol
from urllib.parse import SplitResult, urljoin, urlsplit

MAX_URL: Final = 2048
_BLOCK: Final = 65_536
_PORTS: Final = {"http": 80, "https": 443}
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_ADDRESSES: Final = 4
"""Addresses of one name that are tried."""

# Addresses that carry an IPv4 address inside, and where in it (RFC 6052, RFC 3056).
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")

Resolve = Callable[[str, int], Sequence[str]]
"""Gives the addresses of a host; raises ``OSError``."""


class FetchError(Exception):
    """Nothing was fetched; the message is a sentence."""


class Unreachable(FetchError):
    """The server did not answer, in time or at all: the next request to it would fare no better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to fetch. With a body it is a POST, without one a GET."""

    url: str
    max_bytes: int
    body: bytes = b""
    content_type: str = ""

    @property
    def origin(self) -> str:
        """The server: scheme, host and port."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}".lower()


class Fetch(Protocol):
    """Fetches a document. Raises ``FetchError``."""

    def __call__(self, request: Request) -> bytes: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpFetch:
    """The :class:`Fetch` that really opens connections."""

    timeout: float = 15.0
    """Seconds for a fetch as a whole, redirects and trickling servers included."""
    redirects: int = 3
    allow_private_addresses: bool = False
    resolve: Resolve = field(default_factory=lambda: system_resolver)

    def __call__(self, request: Request) -> bytes:
        deadline = time.monotonic() + self.timeout
        url = request.url
        for _ in range(self.redirects + 1):
            found = self._once(url, request, deadline)
            if isinstance(found, bytes):
                return found
            url = urljoin(url, found.location)
        raise FetchError(f"{request.url} redirects more than {self.redirects} times")

    def _once(self, url: str, request: Request, deadline: float) -> bytes | _Redirect:
        parts = check_url(url)
        try:
            connection, sock = self._connect(parts, deadline)
        except TimeoutError as error:
            raise Unreachable(f"{parts.netloc} did not answer in time") from error
        except OSError as error:
            raise Unreachable(f"{parts.netloc} cannot be reached: {error}") from error
        # Each read has its own timeout, so a server that sends an octet a second is cut off from outside.
        guard = threading.Timer(max(deadline - time.monotonic(), 0), _cut, (sock,))
        guard.daemon = True
        guard.start()
        try:
            return _exchange(connection, parts, request, deadline)
        except (OSError, http.client.HTTPException) as error:
            if time.monotonic() >= deadline or isinstance(error, TimeoutError):
                raise Unreachable(f"{parts.netloc} did not answer in time") from error
            raise Unreachable(f"{parts.netloc} broke off: {type(error).__name__} {error}"[:200]) from error
        finally:
            guard.cancel()
            connection.close()

    def _connect(
        self, parts: SplitResult, deadline: float
    ) -> tuple[http.client.HTTPConnection, socket.socket]:
        host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
        addresses = self.resolve(host, port)
        allowed = [one for one in addresses if self.allow_private_addresses or is_public(one)]
        if not allowed:
            raise FetchError(
                f"{host} is not fetched from: its address {', '.join(addresses) or '(none)'} is not public"
            )
        raw = _dial(allowed[:_ADDRESSES], port, deadline)
        if parts.scheme == "http":
            connection = http.client.HTTPConnection(host, port)
            connection.sock = raw
            return connection, raw
        try:
            context = ssl.create_default_context()
            secured = context.wrap_socket(raw, server_hostname=host)
        except OSError:
            raw.close()
            raise
        over_tls = http.client.HTTPSConnection(host, port)
        over_tls.sock = secured
        return over_tls, secured


@dataclass(frozen=True, slots=True)
class _Redirect:
    location: str


def check_url(url: str) -> SplitResult:
    """Take apart an address that may be fetched. Raises ``FetchError`` for any other."""
    try:
        if len(url) > MAX_URL or not url.isascii() or not url.isprintable() or " " in url:
            raise ValueError
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise FetchError(f"{url[:100]!r} is no address to fetch from") from error
    if parts.scheme not in _PORTS or not parts.hostname or parts.username is not None:
        raise FetchError(f"{url[:100]!r} is not fetched: only http and https, without a user, are")
    return parts


def is_public(address: str) -> bool:
    """Tell whether an address is one of the Internet's: not loopback, private, link-local, multicast..."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        if ip.is_site_local:
            return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)


def system_resolver(host: str, port: int) -> Sequence[str]:
    """Ask the system's resolver."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _dial(addresses: Sequence[str], port: int, deadline: float) -> socket.socket:
    failure: OSError = TimeoutError()
    for number, address in enumerate(addresses):
        left = deadline - time.monotonic()
        if left <= 0:
            break
        try:
            # An address, never a name: nothing is resolved a second time.
            return socket.create_connection((address, port), timeout=left / (len(addresses) - number))
        except OSError as error:
            failure = error
    raise failure


def _exchange(
    connection: http.client.HTTPConnection, parts: SplitResult, request: Request, deadline: float
) -> bytes | _Redirect:
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = {"User-Agent": "mailsigil", "Accept": "*/*", "Connection": "close"}
    if request.body:
        headers["Content-Type"] = request.content_type
    if connection.sock is not None:
        connection.sock.settimeout(max(deadline - time.monotonic(), 0.001))
    connection.request("POST" if request.body else "GET", target, body=request.body or None, headers=headers)
    response = connection.getresponse()
    location = response.getheader("Location")
    if response.status in _REDIRECTS and location:
        return _Redirect(location)
    if response.status != http.client.OK:
        raise FetchError(f"{parts.netloc} answered {response.status}")
    if response.length is not None and response.length > request.max_bytes:
        raise FetchError(f"{parts.netloc} sends more than {request.max_bytes} octets")
    data = bytearray()
    while block := response.read1(_BLOCK):
        data += block
        if len(data) > request.max_bytes:
            raise FetchError(f"{parts.netloc} sends more than {request.max_bytes} octets")
    if time.monotonic() >= deadline:
        raise Unreachable(f"{parts.netloc} did not answer in time")
    if response.length:
        raise FetchError(f"{parts.netloc} sent less than it said")
    return bytes(data)


def _cut(sock: socket.socket) -> None:
    try:
        # Of an SSL socket too this is the plain call, which other threads may make while one reads.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
    except OSError:
        return
