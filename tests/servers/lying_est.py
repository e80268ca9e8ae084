"""An EST server that answers enrolment in whatever way a test asks for; everything else it does right."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from http import HTTPStatus
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from keys.employees import ISSUING, ROOT, certificate
from mailsigil.ca.requests import CertificationRequest, read_request
from mailsigil.ca.web import Bounds, Request, Response, WebServer
from mailsigil.ca.wire import tls_context
from mailsigil.keys.authority import Authority

Lie = Callable[[CertificationRequest], Response]


def bag(*certificates: x509.Certificate) -> bytes:
    """A certs-only PKCS#7, base64."""
    return base64.b64encode(pkcs7.serialize_certificates(list(certificates), Encoding.DER))


def answer(body: bytes, kind: str = "application/pkcs7-mime") -> Response:
    """An answer with status 200."""
    return Response(HTTPStatus.OK, kind, body)


def issued(request: CertificationRequest, **profile: object) -> x509.Certificate:
    """A certificate for the key that was asked about; ``profile`` says what is odd about it."""

    class Asked:
        def public_key(self) -> object:
            return request.key

    return certificate(Asked(), **{"begin": datetime.now(UTC).replace(microsecond=0), **profile})  # type: ignore[arg-type]


class LyingEst:
    """Listens on loopback on entry, with a TLS certificate that ``ca_file`` vouches for.

    ``wishes`` is its answer to csrattrs, DER.
    """

    def __init__(self, home: Path, lie: Lie, *, wishes: bytes = b"") -> None:
        self._wishes = wishes
        authority = Authority.init(home / "tls", organisation="Example Bank", now=datetime.now(UTC))
        address = x509.IPAddress(ip_address("127.0.0.1"))
        file = home / "tls" / "server.pem"
        authority.issue_server([address], shown="127.0.0.1", path=file, now=datetime.now(UTC))
        self.ca_file = home / "tls" / "root.pem"
        self._lie = lie
        self._ended = threading.Event()
        bounds = Bounds(connections=16, seconds=10, idle_seconds=10, request_bytes=65536)
        self._server = WebServer(("127.0.0.1", 0), self._respond, bounds=bounds, context=tls_context(file))

    @property
    def url(self) -> str:
        """Up to the label."""
        return f"https://127.0.0.1:{self._server.port}/.well-known/est"

    def stall(self, seconds: float) -> None:
        """Waits, but not beyond the end of the test."""
        self._ended.wait(seconds)

    def __enter__(self) -> LyingEst:
        threading.Thread(target=self._server.serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._server.stop()

    def _respond(self, request: Request) -> Response:
        if request.path.endswith("/cacerts"):
            return answer(bag(ISSUING, ROOT))
        if request.path.endswith("/csrattrs"):
            if self._wishes:
                return answer(base64.b64encode(self._wishes), "application/csrattrs")
            return Response(HTTPStatus.NO_CONTENT)
        return self._lie(read_request(request.body))
