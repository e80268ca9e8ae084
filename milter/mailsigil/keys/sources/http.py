"""HTTP as the sources speak it: one request, one bounded answer, an end to patience, no redirects."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any, Final
from urllib.parse import urlsplit

import urllib3
from urllib3.connection import HTTPSConnection
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    IncompleteRead,
    MaxRetryError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
    SSLError,
)

from mailsigil.keys.answers import MAX_ANSWER
from mailsigil.keys.errors import SourceAnswer, SourceRefused, SourceUnavailable

_PIECE: Final = 16_384
CONNECTIONS: Final = 8
"""That are kept open, where nothing else is said; more are made when they are needed, and closed again."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """Who vouches for the server, and who we are. Paths of PEM files; empty for none."""

    ca_file: str = ""
    """Empty: the authorities of the system."""
    certificate: str = ""
    key: str = ""
    """Empty: in the same file as the certificate."""


class HttpClient:
    """Speaks with one server. Safe to share between threads; belongs to one process.

    ``timeout`` bounds each request as a whole, in seconds; ``connections`` are kept open. The files of TLS
    are read with the first request: what is wrong with them is the trouble of those who need this server, and
    of nobody else.
    """

    def __init__(
        self,
        source: str,
        url: str,
        *,
        tls: TlsFiles,
        timeout: float,
        connections: int = CONNECTIONS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.source = source
        self.url = url
        self._tls = tls
        self._timeout = timeout
        self._connections = connections
        self._clock = clock
        self._base = urlsplit(url).path.rstrip("/")
        self._lock = threading.Lock()
        self._pool: urllib3.HTTPConnectionPool | None = None

    def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        identity: TlsFiles | None = None,
        once: bool = False,
    ) -> Answer:
        """Makes one request; ``path`` is appended to the URL's, ``identity`` is another TLS client.

        A request that must not be carried out twice goes ``once``: over a connection of its own, and it is
        not sent again. Raises SourceUnavailable when nothing complete came in time, SourceAnswer when it was
        too large, SourceRefused when a file that TLS needs cannot be used.
        """
        own = self._make_pool(identity or self._tls) if once or identity is not None else None
        pool = own or self._kept()
        deadline = self._clock() + self._timeout
        try:
            answer = self._open(pool, method, path, body, headers or {}, once=once)
            try:
                content = self._read(answer, deadline)
            finally:
                answer.release_conn()
        except HTTPError as error:
            raise self._unreachable(error) from error
        finally:
            if own is not None:
                own.close()
        return Answer(answer.status, {name.lower(): value for name, value in answer.headers.items()}, content)

    def bound_request(
        self,
        method: str,
        path: str,
        *,
        body: Callable[[bytes], bytes],
        headers: Mapping[str, str],
        identity: TlsFiles | None = None,
    ) -> Answer:
        """Makes one request whose body is bound to its TLS connection; sent once.

        ``body`` gets the binding "tls-unique" (RFC 5929 3), so the connection is one of TLS 1.2: later
        versions have none. Raises as ``request``.
        """
        parts = urlsplit(self.url)
        context = self._context(identity or self._tls)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        deadline = self._clock() + self._timeout
        timeout = urllib3.Timeout(total=self._timeout).connect_timeout
        connection = HTTPSConnection(
            parts.hostname or "", parts.port, ssl_context=context, timeout=timeout, blocksize=_PIECE
        )
        try:
            connection.connect()
            secured: Any = connection.sock
            binding = secured.get_channel_binding("tls-unique")
            connection.request(
                method, self._base + path, body(binding), _full(headers), preload_content=False
            )
            answer = connection.getresponse()
            content = self._read(answer, deadline)
        except (HTTPError, OSError, HTTPException) as error:
            raise self._unreachable(error) from error
        finally:
            connection.close()
        return Answer(answer.status, {name.lower(): value for name, value in answer.headers.items()}, content)

    def _kept(self) -> urllib3.HTTPConnectionPool:
        with self._lock:
            if self._pool is None:
                self._pool = self._make_pool(self._tls)
            return self._pool

    def _open(
        self,
        pool: urllib3.HTTPConnectionPool,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
        *,
        once: bool,
    ) -> urllib3.BaseHTTPResponse:
        def attempt() -> urllib3.BaseHTTPResponse:
            return pool.urlopen(
                method,
                self._base + path,
                body=body,
                headers=_full(headers),
                timeout=urllib3.Timeout(total=self._timeout),
                retries=False,
                redirect=False,
                preload_content=False,
                decode_content=False,
            )

        try:
            return attempt()
        except ProtocolError:
            # RFC 9110 9.2.2 and RFC 9112 9.3.1: a kept connection may have been closed meanwhile. Who would
            # do a thing twice on hearing it twice is not told again: it may have been heard.
            if once:
                raise
            return attempt()

    def _read(self, answer: urllib3.BaseHTTPResponse, deadline: float) -> bytes:
        parts: list[bytes] = []
        size = 0
        # What is there, and not a full piece: a body that drips must not hold the clock up.
        while part := answer.read1(_PIECE, decode_content=False):
            size += len(part)
            parts.append(part)
            if size > MAX_ANSWER:
                answer.close()
                raise SourceAnswer(
                    self.source, f"the answer is larger than {MAX_ANSWER} octets", "Correct the URL"
                )
            if self._clock() > deadline:
                answer.close()
                raise SourceUnavailable(
                    self.source,
                    f"{self.url} answers too slowly",
                    "See that the service answers in time",
                    is_unanswered=True,
                )
        return b"".join(parts)

    def _make_pool(self, tls: TlsFiles) -> urllib3.HTTPConnectionPool:
        parts = urlsplit(self.url)
        host = parts.hostname or ""
        if parts.scheme == "http":
            return urllib3.HTTPConnectionPool(host, parts.port, maxsize=self._connections, block=False)
        return urllib3.HTTPSConnectionPool(
            host, parts.port, maxsize=self._connections, block=False, ssl_context=self._context(tls)
        )

    def _context(self, tls: TlsFiles) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=tls.ca_file or None)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if tls.certificate:
                context.load_cert_chain(tls.certificate, tls.key or None, password=_no_passphrase)
        except (OSError, ValueError) as error:
            files = ", ".join(filter(None, (tls.ca_file, tls.certificate, tls.key)))
            raise SourceRefused(
                self.source,
                f"TLS cannot use one of the files {files}: {error}",
                "Correct the path, let the key agent's user read it, and see that certificate and key fit",
            ) from error
        return context

    def _unreachable(self, error: Exception) -> SourceUnavailable:
        reason = error.reason if isinstance(error, MaxRetryError) and error.reason else error
        if isinstance(reason, SSLError | ssl.SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(reason):
            return SourceUnavailable(
                self.source,
                f"the TLS certificate of {self.url} is not vouched for: {_short(reason)}",
                "Correct ca_file, or the service's certificate",
            )
        if isinstance(reason, SSLError | ssl.SSLError):
            return SourceUnavailable(
                self.source,
                f"TLS with {self.url} fails: {_short(reason)}",
                "See whether the service wants a client certificate, and whether the URL is right",
            )
        if isinstance(reason, NewConnectionError | ConnectTimeoutError | ReadTimeoutError):
            what = (
                "cannot be reached" if isinstance(reason, NewConnectionError) else "does not answer in time"
            )
            return SourceUnavailable(
                self.source,
                f"{self.url} {what}",
                "See that the service runs, and that no firewall is between",
                is_unanswered=isinstance(reason, ReadTimeoutError),
            )
        if any(isinstance(each, IncompleteRead) for each in (reason, *reason.args)):
            return SourceUnavailable(
                self.source,
                f"the answer of {self.url} is cut off: it is shorter than it announces",
                "Try again; if it stays so, look at that service, or at a proxy between",
                is_unanswered=True,
            )
        return SourceUnavailable(
            self.source,
            f"{self.url} breaks off, or answers in another language than HTTP: {_short(reason)}",
            "See that the URL is right and the service runs",
            is_unanswered=True,
        )


def _full(headers: Mapping[str, str]) -> dict[str, str]:
    return {"User-Agent": "mailsigil", "Accept": "*/*", **headers}


def _no_passphrase() -> str:
    # Without this, OpenSSL asks on the terminal.
    raise ValueError("the private key has a passphrase; store it without one, readable by the agent alone")


def _short(error: object) -> str:
    return " ".join(str(error).split())[:160]
