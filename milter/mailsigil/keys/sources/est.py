"""EST (RFC 7030): certificates over HTTPS, with a server that a configured authority vouches for."""

from __future__ import annotations

import base64
import email.parser
import email.policy
import email.utils
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cryptography import x509

from mailsigil.keys.answers import Question, checked_chain, read_certificates, read_private_key
from mailsigil.keys.errors import NotSupported, Pending, SourceAnswer, SourceRefused, SourceUnavailable
from mailsigil.keys.newkey import CertifiableKey, NewKey
from mailsigil.keys.profile import KeyKind
from mailsigil.keys.secret_files import SecretFile
from mailsigil.keys.source import HeldKey
from mailsigil.keys.sources import est_wishes
from mailsigil.keys.sources.http import Answer, HttpClient, TlsFiles
from mailsigil.keys.subject import SubjectRequest

log = logging.getLogger("mailsigil.keyd")

DEFAULT_RETRY: Final = 300.0
"""Seconds to wait where a 202 names none; RFC 7030 4.2.3 demands that it does."""
_MAX_PARTS: Final = 10


@dataclass(frozen=True, slots=True)
class BasicLogin:
    """HTTP authentication by name and password (RFC 7030 3.2.3)."""

    username: str
    password: SecretFile


class EstAuthority:
    """An EST server as an Issuer, and as a KeyMaker (serverkeygen). ``now`` gives the time, in UTC."""

    def __init__(
        self,
        http: HttpClient,
        *,
        tls: TlsFiles,
        login: BasicLogin | None,
        kind: KeyKind,
        now: Callable[[], datetime],
    ) -> None:
        self._http = http
        self._tls = tls
        self._login = login
        self._kind = kind
        self._now = now
        self._wishes = est_wishes.NONE

    @property
    def name(self) -> str:
        """The source's name."""
        return self._http.source

    def cacerts(self) -> tuple[x509.Certificate, ...]:
        """Gives the authority's own certificates (RFC 7030 4.1)."""
        answer = self._http.request("GET", "/cacerts")
        self._require_success(answer, "cacerts")
        return self._certificates(answer)

    def csrattrs(self) -> bytes:
        """Gives what the server wants in requests (RFC 7030 4.5), DER; empty where it wants nothing."""
        answer = self._http.request("GET", "/csrattrs")
        # RFC 7030 4.5.2: 204 and 404 both say that there is no wish.
        if answer.status in (204, 404):
            return b""
        self._require_success(answer, "csrattrs")
        return self._decoded(answer)

    def wishes(self) -> est_wishes.Wishes:
        """Gives what the server wants in requests, as far as it is heeded here. Raises SourceError."""
        return est_wishes.read_wishes(self.name, self.csrattrs())

    def kind_for(self, kind: KeyKind) -> KeyKind:
        """Asks what the server wants in requests, and gives the kind of key to make. Raises SourceError."""
        try:
            self._wishes = self.wishes()
        except (SourceAnswer, SourceRefused) as error:
            if error.sentence == est_wishes.OTHER_KINDS:
                raise
            # Enrolment may well work without: the conformance test tells of it.
            log.warning("%s Its wishes are taken for none.", error)
            self._wishes = est_wishes.NONE
        wanted = self._wishes.kind(kind)
        if wanted is not kind:
            log.info('source "%s" wants keys of the kind %s, and %s is configured', self.name, wanted, kind)
        return wanted

    def enrol(self, request: SubjectRequest, new: CertifiableKey) -> tuple[bytes, ...]:
        """Has a new key certified (RFC 7030 4.2.1)."""
        answer = self._post("/simpleenroll", new)
        return self._chain(request, answer, new.spki)

    def renew(self, request: SubjectRequest, new: CertifiableKey, *, current: HeldKey) -> tuple[bytes, ...]:
        """Has the next key certified, authenticated by the current one (RFC 7030 4.2.2)."""
        # The request repeats the old certificate's subject and alternative name, as RFC 7030 4.2.2 demands.
        old = x509.load_der_x509_certificate(current.chain[0])
        identity = None
        if current.file is not None:
            identity = TlsFiles(ca_file=self._tls.ca_file, certificate=str(current.file))
        # A key on a token or in a service shows itself in no TLS handshake of ours: then the login counts.
        answer = self._post("/simplereenroll", new, like=old, identity=identity)
        return self._chain(request, answer, new.spki)

    def revoke(self, certificate: bytes) -> None:
        """EST knows no revocation."""
        raise NotSupported(
            self.name, "EST knows no revocation", "Have the certificate revoked at the authority itself"
        )

    def make(self, request: SubjectRequest) -> tuple[NewKey, tuple[bytes, ...]]:
        """Has a key made and certified (RFC 7030 4.4)."""
        # The key in the request only signs it: what comes back belongs to another one (RFC 7030 4.4.1).
        asked = NewKey.generate(request, self._kind)
        answer = self._post("/serverkeygen", asked)
        self._require_success(answer, "serverkeygen")
        key_part, certificate_part = self._key_parts(answer)
        new = NewKey(request, read_private_key(self.name, key_part))
        question = self._question(request, new.spki)
        return new, checked_chain(question, self._with_authority(certificate_part))

    def _post(
        self,
        path: str,
        new: CertifiableKey,
        *,
        like: x509.Certificate | None = None,
        identity: TlsFiles | None = None,
    ) -> Answer:
        headers = {"Content-Type": "application/pkcs10", "Content-Transfer-Encoding": "base64"}
        if self._login is not None:
            pair = self._login.username.encode() + b":" + self._login.password.read()
            headers["Authorization"] = "Basic " + base64.b64encode(pair).decode()
        if self._wishes.password:
            # RFC 7030 3.5: the request cannot be taken out of this connection and into another.
            answer = self._http.bound_request(
                "POST",
                path,
                body=lambda binding: base64.encodebytes(
                    new.csr_with(password=base64.b64encode(binding).decode(), like=like)
                ),
                headers=headers,
                identity=identity,
            )
        else:
            body = base64.encodebytes(new.csr if like is None else new.csr_like(like))
            answer = self._http.request(
                "POST", path, body=body, headers=headers, identity=identity, once=True
            )
        self._require_success(answer, path.strip("/"))
        return answer

    def _chain(self, request: SubjectRequest, answer: Answer, spki: bytes) -> tuple[bytes, ...]:
        return checked_chain(self._question(request, spki), self._with_authority(self._decoded(answer)))

    def _question(self, request: SubjectRequest, spki: bytes) -> Question:
        return Question(source=self.name, address=request.address, now=self._now(), spki=spki)

    def _with_authority(self, body: bytes) -> tuple[x509.Certificate, ...]:
        """The answer carries the certificate alone (RFC 7030 4.2.3); the issuers come from cacerts."""
        return (*read_certificates(self.name, body), *self.cacerts())

    def _certificates(self, answer: Answer) -> tuple[x509.Certificate, ...]:
        return read_certificates(self.name, self._decoded(answer))

    def _decoded(self, answer: Answer) -> bytes:
        """The body without its base64 (RFC 8951 3.1: it is always base64, whatever the header says)."""
        body = answer.body.strip()
        # libest's server ends its text with the octet that ends a string in C.
        text = body.removesuffix(b"\0")
        if re.fullmatch(rb"[A-Za-z0-9+/=\s]+", text):
            try:
                return base64.b64decode(b"".join(text.split()), validate=True)
            except ValueError as error:
                raise SourceAnswer(
                    self.name,
                    "the answer is cut off: its base64 does not end",
                    "Try again; if it stays so, look at that service, or at a proxy between",
                ) from error
        return body

    def _key_parts(self, answer: Answer) -> tuple[bytes, bytes]:
        """The private key and the certificate of a serverkeygen answer (RFC 7030 4.4.2)."""
        kind = answer.headers.get("content-type", "")
        if not kind.lower().startswith("multipart/mixed"):
            raise SourceAnswer(
                self.name, "the answer to serverkeygen is no multipart/mixed", "Ask the service's maker"
            )
        parser = email.parser.BytesParser(policy=email.policy.default)
        message = parser.parsebytes(b"Content-Type: " + kind.encode("latin-1") + b"\r\n\r\n" + answer.body)
        boundary = message.get_boundary() or ""
        parts = [part for part in message.iter_parts() if not part.is_multipart()][:_MAX_PARTS]
        if f"--{boundary}--".encode() not in answer.body or len(parts) < 2:
            raise SourceAnswer(
                self.name,
                "the answer to serverkeygen is cut off before its end: the server announces a Content-Length"
                " that is too short (libest's estserver does)",
                "Use simpleenroll (server_keygen = false), or have the server mended",
            )
        by_kind = {part.get_content_type(): part for part in reversed(parts)}
        key = by_kind.get("application/pkcs8")
        certificate = by_kind.get("application/pkcs7-mime") or by_kind.get("application/pkix-cert")
        if key is None or certificate is None:
            raise SourceAnswer(
                self.name,
                "the answer to serverkeygen holds no unencrypted key (application/pkcs8) and certificate",
                "Switch off the encryption of keys there, or use simpleenroll",
            )
        return _content(key), _content(certificate)

    def _require_success(self, answer: Answer, operation: str) -> None:
        match answer.status:
            case 200:
                return
            case 202:
                raise Pending(self.name, retry_after=self._retry_after(answer))
            case 401 | 403:
                raise SourceRefused(
                    self.name,
                    f"{operation}: it refuses the login ({answer.status})",
                    "Correct username and password, or the client certificate",
                )
            case 400 | 404 | 405 | 406 | 415 | 422 | 501:
                raise SourceRefused(
                    self.name,
                    f"{operation}: it refuses the request ({answer.status}): {_said(answer)}",
                    "Correct the URL, with its label, or ask what the service wants in a request",
                )
            case _:
                raise SourceUnavailable(
                    self.name,
                    f"{operation}: it answers {answer.status}: {_said(answer)}",
                    "Look at that service's log",
                    is_unanswered=True,
                )

    def _retry_after(self, answer: Answer) -> float:
        """RFC 9110 10.2.3: seconds, or a date."""
        text = answer.headers.get("retry-after", "").strip()
        if re.fullmatch(r"[0-9]{1,9}", text):
            return float(text)
        try:
            moment = email.utils.parsedate_to_datetime(text)
        except (ValueError, TypeError):
            return DEFAULT_RETRY
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return max(1.0, (moment - self._now()).total_seconds())


def _content(part: object) -> bytes:
    text = part.get_payload() if isinstance(part, email.message.Message) else ""
    return text.encode("ascii", "replace") if isinstance(text, str) else b""


def _said(answer: Answer) -> str:
    """What a server says in plain text, as one bounded line; HTML is left out."""
    kind = answer.headers.get("content-type", "")
    if not kind.startswith("text/plain"):
        return "no reason is given"
    return " ".join(answer.body[:300].decode("utf-8", "replace").split())[:160] or "no reason is given"
