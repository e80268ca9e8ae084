"""Enrolment over Secure Transport (RFC 7030) for the embedded authority."""

from __future__ import annotations

import base64
import logging
import secrets
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    pkcs7,
)

from mailsigil.ca.approvals import Approvals, Full, State, Waiting
from mailsigil.ca.grants import Grant, NotGranted, grant, renewable
from mailsigil.ca.logins import Logins, Refused
from mailsigil.ca.requests import BadRequest, CertificationRequest, read_request, same_subject
from mailsigil.ca.web import Request, Response
from mailsigil.keys.authority import Authority, AuthorityError
from mailsigil.keys.profile import KeyKind, PublicKey, Subject
from mailsigil.pki.policies import Level

log = logging.getLogger("mailsigil.ca")

PREFIX: Final = "/.well-known/est"
_CERTIFICATES: Final = "application/pkcs7-mime; smime-type=certs-only"
_LINE: Final = 64
_LABELS: Final = {level.value.lower(): level for level in Level}


class _Stop(Exception):
    """The answer is known before the end."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


@dataclass(frozen=True, slots=True)
class _Client:
    """Who asks: a user with a password, or the holder of a certificate of ours."""

    name: str
    certificate: x509.Certificate | None = None


class EstApplication:
    """Answers the five operations. ``now`` gives the time, aware, in UTC."""

    def __init__(
        self, authority: Authority, logins: Logins, approvals: Approvals, *, now: Callable[[], datetime]
    ) -> None:
        self._authority = authority
        self._logins = logins
        self._approvals = approvals
        self._approving = threading.Lock()
        self._now = now
        self._settings = authority.settings

    def __call__(self, request: Request) -> Response:
        """Answers one request."""
        try:
            return self._answer(request)
        except _Stop as stop:
            return stop.response
        except BadRequest as error:
            log.warning("est refused peer=%s: %s", request.peer, error)
            return Response.say(HTTPStatus.BAD_REQUEST, _sentence(error))
        except NotGranted as error:
            log.warning("est refused peer=%s: %s", request.peer, error)
            return Response.say(HTTPStatus.FORBIDDEN, _sentence(error))
        except Full as error:
            log.warning("est refused peer=%s: %s", request.peer, error)
            return Response.say(HTTPStatus.SERVICE_UNAVAILABLE, _sentence(error), Retry_After="3600")
        except AuthorityError as error:
            log.error("est failed peer=%s: %s", request.peer, error)
            return Response.say(
                HTTPStatus.SERVICE_UNAVAILABLE, "The authority cannot do it now, its log tells why"
            )

    def _answer(self, request: Request) -> Response:
        level, operation = _operation(request.path)
        match request.method, operation:
            case "GET", "cacerts":
                return self._certificates(request, [self._authority.issuing, self._authority.root])
            case "GET", "csrattrs":
                return Response(
                    HTTPStatus.OK, "application/csrattrs", _encoded(_ATTRIBUTES, request), _BASE64
                )
            case "POST", "simpleenroll" | "simplereenroll":
                return self._enrol(request, level, renewing=operation == "simplereenroll")
            case "POST", "serverkeygen":
                return self._make_key(request, level)
            case _, "cacerts" | "csrattrs" | "simpleenroll" | "simplereenroll" | "serverkeygen":
                return Response.say(HTTPStatus.METHOD_NOT_ALLOWED, "This operation has another method")
        return Response.say(HTTPStatus.NOT_FOUND, f"EST is found at {PREFIX}")

    def _enrol(self, request: Request, level: Level | None, *, renewing: bool) -> Response:
        client = self._renewing(request) if renewing else None
        client = client or self._client(request)
        asked = self._asked(request)
        granted = self._granted(client, asked, level)
        with self._approvals_of(granted):
            approved = self._approved(request, client, granted, spki_of(asked.key))
            certificate = self._issue(request, client, granted.subject, asked.key)
            self._finish(approved)
        # RFC 7030 4.2.3: the certificate alone; its issuers are told by cacerts.
        return self._certificates(request, [certificate])

    def _make_key(self, request: Request, level: Level | None) -> Response:
        """RFC 7030 4.4: a key and its certificate, in two parts."""
        client = self._client(request)
        kind = self._settings.est.server_keygen
        if not kind:
            return Response.say(
                HTTPStatus.NOT_IMPLEMENTED, "This server makes no keys; make one and enrol it"
            )
        asked = self._asked(request)
        granted = self._granted(client, asked, level)
        with self._approvals_of(granted):
            approved = self._approved(request, client, granted, b"")
            private = KeyKind(kind).generate()
            certificate = self._issue(request, client, granted.subject, private.public_key())
            self._finish(approved)
        boundary = f"mailsigil-{secrets.token_hex(12)}"
        key = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        parts = (("application/pkcs8", key), (_CERTIFICATES, _bag([certificate])))
        body = b"".join(
            f"--{boundary}\r\nContent-Type: {kind}\r\nContent-Transfer-Encoding: base64\r\n\r\n".encode()
            + _encoded(octets, request)
            + b"\r\n"
            for kind, octets in parts
        )
        closing = f"--{boundary}--\r\n".encode()
        return Response(HTTPStatus.OK, f"multipart/mixed; boundary={boundary}", body + closing)

    def _client(self, request: Request) -> _Client:
        """RFC 7030 3.2.3 and 3.3.2: a user logs in, or the holder of a certificate has shown its key."""
        login = self._logins.user(request.headers.get("authorization"), request.peer)
        if isinstance(login, str):
            return _Client(login)
        if login is Refused.NONE and request.certificate is not None:
            return self._holder(request, request.certificate)
        if login is not Refused.NONE:
            log.warning("est login refused peer=%s: %s", request.peer, login.value)
        if login is Refused.TOO_MANY:
            answer = Response.say(HTTPStatus.TOO_MANY_REQUESTS, "Too many wrong passwords", Retry_After="60")
            raise _Stop(answer)
        challenge = 'Basic realm="mailsigil", charset="UTF-8"'
        raise _Stop(
            Response.say(
                HTTPStatus.UNAUTHORIZED,
                "Log in with user and password, or with the certificate to renew",
                WWW_Authenticate=challenge,
            )
        )

    def _renewing(self, request: Request) -> _Client | None:
        """Who renews a certificate of ours has shown its key, and needs no login beside it."""
        certificate = request.certificate
        if certificate is None or self._authority.entry_of(certificate) is None:
            return None
        return self._holder(request, certificate)

    def _holder(self, request: Request, certificate: x509.Certificate) -> _Client:
        entry = self._authority.entry_of(certificate)
        if entry is None:
            raise NotGranted("the client certificate was not issued by this authority, or its record is lost")
        if entry.revocation is not None:
            raise NotGranted("the client certificate is revoked")
        if not certificate.not_valid_before_utc <= self._now() <= certificate.not_valid_after_utc:
            raise NotGranted("the client certificate has expired; log in with user and password")
        return _Client(f"{entry.address}/{entry.serial:x}", certificate)

    def _asked(self, request: Request) -> CertificationRequest:
        content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if content_type not in ("application/pkcs10", "application/x-pkcs10"):
            sentence = "A request is of the type application/pkcs10"
            raise _Stop(Response.say(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, sentence))
        return read_request(request.body)

    def _approvals_of(self, granted: Grant) -> AbstractContextManager[object]:
        """One at a time: an approval is for one certificate, however often its client asks at once."""
        return self._approving if granted.approval else nullcontext()

    def _approved(self, request: Request, client: _Client, granted: Grant, spki: bytes) -> Waiting | None:
        """What a person approved; None where nobody has to. Otherwise the client is told to ask again."""
        if not granted.approval:
            return None
        decided = self._approvals.decision(
            user=client.name, subject=granted.subject, spki=spki, peer=request.peer
        )
        if decided.state is State.REFUSED:
            raise NotGranted(f"the request was refused: {decided.reason or 'no reason is given'}")
        if decided.state is State.WAITING:
            log.info("est waits for approval id=%s client=%s", decided.identifier, client.name)
            # RFC 7030 4.2.3: accepted, and not decided yet.
            sentence = f"The request {decided.identifier} waits for approval"
            seconds = str(self._settings.est.retry_seconds)
            raise _Stop(Response.say(HTTPStatus.ACCEPTED, sentence, Retry_After=seconds))
        return decided

    def _finish(self, approved: Waiting | None) -> None:
        if approved is not None:
            self._approvals.done(approved)

    def _granted(self, client: _Client, asked: CertificationRequest, level: Level | None) -> Grant:
        if client.certificate is None:
            return grant(self._settings.enrol, user=client.name, wish=asked.wish, level=level)
        if not same_subject(asked, client.certificate):
            raise NotGranted(
                "with a certificate it is renewed for the same subject and addresses, and nothing else"
            )
        subject = renewable(client.certificate)
        if level not in (None, subject.level):
            raise NotGranted(f"with a certificate it is renewed at its own level, {subject.level}")
        return Grant(subject)

    def _issue(self, request: Request, client: _Client, subject: Subject, key: PublicKey) -> x509.Certificate:
        certificate = self._authority.certify(subject, key=key, days=self._settings.est.days, now=self._now())
        log.info(
            "est enrolled client=%s address=%s level=%s serial=%x peer=%s",
            client.name,
            subject.mailbox,
            subject.level.value,
            certificate.serial_number,
            request.peer,
        )
        return certificate

    def _certificates(self, request: Request, certificates: list[x509.Certificate]) -> Response:
        return Response(HTTPStatus.OK, _CERTIFICATES, _encoded(_bag(certificates), request), _BASE64)


def _operation(path: str) -> tuple[Level | None, str]:
    """RFC 7030 3.2.2: the operation stands behind the well-known path, perhaps after a label: our level."""
    if not path.startswith(f"{PREFIX}/"):
        return None, ""
    label, slash, operation = path.removeprefix(f"{PREFIX}/").partition("?")[0].partition("/")
    if not slash:
        return None, label
    return (_LABELS[label.lower()], operation) if label.lower() in _LABELS else (None, "")


def spki_of(key: PublicKey) -> bytes:
    """A public key as SubjectPublicKeyInfo, DER."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _bag(certificates: list[x509.Certificate]) -> bytes:
    return pkcs7.serialize_certificates(certificates, Encoding.DER)


def _encoded(octets: bytes, request: Request) -> bytes:
    """RFC 7030 4.1.3 and RFC 8951 3.1: everything is base64.

    libest's client reads it in lines alone, strongSwan's without line breaks alone, as RFC 4648 3.1 has it;
    the one speaks HTTP/1.0 and the other HTTP/1.1.
    """
    text = base64.b64encode(octets)
    if request.version != "HTTP/1.0":
        return text
    return b"".join(text[at : at + _LINE] + b"\n" for at in range(0, len(text), _LINE))


def _sentence(error: Exception) -> str:
    text = str(error).rstrip(".")
    return text[:1].upper() + text[1:]


# RFC 7030 4.5.2: what a request should carry; here, in an extensionRequest, a subject alternative name.
_ATTRIBUTES: Final = bytes.fromhex("3014 3012 0609 2a864886f70d01090e 3105 0603 551d11")
_BASE64: Final = {"Content-Transfer-Encoding": "base64"}
