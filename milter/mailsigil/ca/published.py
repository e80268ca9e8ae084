"""What everybody may look up, over plain HTTP: revocation lists, the authorities' certificates, OCSP."""

from __future__ import annotations

import base64
import binascii
import logging
from http import HTTPStatus
from typing import Final
from urllib.parse import unquote, urlsplit

from cryptography.hazmat.primitives.serialization import Encoding

from mailsigil.ca.web import Request, Response
from mailsigil.keys.authority import Authority
from mailsigil.keys.ocsp_responder import OcspResponder
from mailsigil.keys.register import RegisterError

log = logging.getLogger("mailsigil.ca")

_LONGEST_GET: Final = 8192


class PublishedApplication:
    """Answers GET NAME.crl, NAME.cer, and OCSP below /ocsp, under whatever path the URL has."""

    def __init__(self, authority: Authority, responder: OcspResponder) -> None:
        self._authority = authority
        self._responder = responder
        self._base = urlsplit(authority.settings.publish.url).path
        self._certificates = {
            f"/{name}.cer": issuer.certificate.public_bytes(Encoding.DER)
            for name, issuer in authority.issuers.items()
        }
        self._lists = {f"/{name}.crl": f"{name}.crl" for name in authority.issuers}

    def __call__(self, request: Request) -> Response:
        """Answers one request."""
        path = request.path.partition("?")[0]
        path = path.removeprefix(self._base) if self._base else path
        if request.method == "POST":
            if path.rstrip("/") == "/ocsp":
                return self._ocsp(request.body, request.peer)
        elif path in self._lists:
            return self._list(self._lists[path])
        elif path in self._certificates:
            return Response(HTTPStatus.OK, "application/pkix-cert", self._certificates[path])
        elif path.startswith("/ocsp/"):
            return self._ocsp_by_get(path.removeprefix("/ocsp/"), request.peer)
        return Response.say(HTTPStatus.NOT_FOUND, "Here are revocation lists, certificates and OCSP")

    def _list(self, name: str) -> Response:
        try:
            content = (self._authority.directory / name).read_bytes()
        except OSError as error:
            log.error("%s cannot be read: %s", name, error.strerror)
            return Response.say(HTTPStatus.SERVICE_UNAVAILABLE, "There is no list yet", Retry_After="30")
        # RFC 2585 4.2.
        return Response(HTTPStatus.OK, "application/pkix-crl", content, {"Cache-Control": "max-age=300"})

    def _ocsp_by_get(self, text: str, peer: str) -> Response:
        # RFC 6960 A.1: base64, then URL encoding; several clients leave the second out.
        try:
            if len(text) > _LONGEST_GET:
                raise ValueError("too long")
            request = base64.b64decode(unquote(text, errors="strict"), validate=True)
        except (binascii.Error, ValueError):
            request = b""
        return self._ocsp(request, peer)

    def _ocsp(self, request: bytes, peer: str) -> Response:
        try:
            answer = self._responder.answer(request)
        except RegisterError as error:
            log.error("ocsp failed peer=%s: %s", peer, error)
            return Response.say(HTTPStatus.SERVICE_UNAVAILABLE, "Try again later", Retry_After="30")
        log.debug("ocsp answered peer=%s", peer)
        return Response(HTTPStatus.OK, "application/ocsp-response", answer)
