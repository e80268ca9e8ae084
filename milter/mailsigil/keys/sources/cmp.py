"""CMP (RFC 9483): requests for certificates (p10cr, kur) and revocation (rr) over HTTP."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final

from asn1crypto import core, csr
from asn1crypto import x509 as asn1_x509
from cryptography import x509

from mailsigil.cms.algorithms import Scheme
from mailsigil.keys.answers import Question, checked_chain
from mailsigil.keys.errors import Pending, SourceAnswer, SourceRefused, SourceUnavailable
from mailsigil.keys.newkey import CertifiableKey
from mailsigil.keys.source import HeldKey
from mailsigil.keys.sources import cmp_asn1 as asn1
from mailsigil.keys.sources.cmp_messages import (
    body_value,
    confirmation_hash,
    directory_name,
    dumped,
    key_update,
    needs_no_confirmation,
    protected_part,
    said_in,
)
from mailsigil.keys.sources.cmp_protection import (
    Protector,
    SharedSecret,
    SignatureProtector,
    check_protection,
)
from mailsigil.keys.sources.http import HttpClient
from mailsigil.keys.subject import SubjectRequest

ACCEPTED: Final = frozenset({0, 1})
"""PKIStatus: accepted, grantedWithMods (RFC 4210 5.2.3)."""
WAITING: Final = 3
MAX_WAITING: Final = 1000
"""Transactions that wait for a decision."""


class _Transaction:
    """One exchange with its identifiers (RFC 4210 5.1.1)."""

    def __init__(self) -> None:
        self.identifier = secrets.token_bytes(16)
        self.nonce = b""
        self.theirs = b""


class CmpAuthority:
    """A CMP server as an Issuer. ``now`` gives the time, aware, in UTC."""

    def __init__(
        self,
        http: HttpClient,
        *,
        protector: Callable[[], Protector],
        secret: SharedSecret | None,
        trusted: Callable[[], Sequence[x509.Certificate]],
        now: Callable[[], datetime],
    ) -> None:
        self._http = http
        self._protector = protector
        self._secret = secret
        self._trusted = trusted
        self._now = now
        self._waiting: dict[bytes, tuple[_Transaction, str]] = {}

    @property
    def name(self) -> str:
        """The source's name."""
        return self._http.source

    def enrol(self, request: SubjectRequest, new: CertifiableKey) -> tuple[bytes, ...]:
        """Has a new key certified by a PKCS#10 request (RFC 9483 4.1.4)."""
        body = ("p10cr", csr.CertificationRequest.load(new.csr))
        return self._certified(request, new, body, self._protector(), expected="cp")

    def renew(self, request: SubjectRequest, new: CertifiableKey, *, current: HeldKey) -> tuple[bytes, ...]:
        """Has the next key certified, authenticated by the current one (RFC 9483 4.1.3)."""
        old = x509.load_der_x509_certificate(current.chain[0])
        scheme = Scheme(current.key.credential.schemes[0])
        protector = SignatureProtector(
            current.chain, scheme, lambda data: current.key.sign(scheme.value, data)
        )
        body = ("kur", [key_update(new, old)])
        return self._certified(request, new, body, protector, expected="kup")

    def revoke(self, certificate: bytes) -> None:
        """Has a certificate revoked (RFC 9483 4.2)."""
        old = asn1_x509.Certificate.load(certificate)
        reason = {
            "extn_id": "2.5.29.21",
            "critical": False,
            "extn_value": core.ParsableOctetString(b"\x0a\x01\x00"),
        }
        details = {
            "cert_details": {"serial_number": old.serial_number, "issuer": old.issuer},
            "crl_entry_details": [reason],
        }
        answer = self._exchange(_Transaction(), ("rr", [details]), self._protector())
        statuses = self._expect(answer, "rp")["status"]
        if len(statuses) != 1:
            raise self._wrong("the answer to a revocation has not exactly one outcome")
        self._require_accepted(statuses[0])

    def _certified(
        self,
        request: SubjectRequest,
        new: CertifiableKey,
        body: tuple[str, Any],
        protector: Protector,
        *,
        expected: str,
    ) -> tuple[bytes, ...]:
        waiting = self._waiting.pop(new.spki, None)
        if waiting is None:
            transaction, number = _Transaction(), -1 if body[0] == "p10cr" else 0
            answer = self._exchange(transaction, body, protector)
        else:
            transaction, number = waiting[0], -1 if waiting[1] == "cp" else 0
            answer = self._exchange(transaction, ("poll_req", [{"cert_req_id": number}]), protector)
        if answer["body"].name == "poll_rep":
            self._wait(new, transaction, expected, answer)
        responses = self._expect(answer, expected)["response"]
        if len(responses) != 1:
            raise self._wrong("the answer holds not exactly one outcome")
        if responses[0]["status"]["status"].native == WAITING:
            polled = self._exchange(transaction, ("poll_req", [{"cert_req_id": number}]), protector)
            if polled["body"].name == "poll_rep":
                self._wait(new, transaction, expected, polled)
            answer = polled
            responses = self._expect(answer, expected)["response"]
        return self._accept(request, new, transaction, answer, responses[0], protector)

    def _accept(
        self,
        request: SubjectRequest,
        new: CertifiableKey,
        transaction: _Transaction,
        answer: asn1.Message,
        response: asn1.CertResponse,
        protector: Protector,
    ) -> tuple[bytes, ...]:
        self._require_accepted(response["status"])
        pair = response["pair"]
        if isinstance(pair, core.Void) or pair["cert"].name != "certificate":
            raise self._wrong("the answer holds no plain certificate")
        leaf = pair["cert"].chosen.untag().dump()
        certificates = [leaf, *dumped(answer["extra_certs"]), *dumped(answer["body"].chosen["ca_pubs"])]
        try:
            loaded = [x509.load_der_x509_certificate(each) for each in certificates[:32]]
        except ValueError as error:
            raise self._wrong("a certificate in the answer cannot be read") from error
        question = Question(source=self.name, address=request.address, now=self._now(), spki=new.spki)
        chain = checked_chain(question, loaded)
        if not needs_no_confirmation(answer):
            digest = hashlib.new(confirmation_hash(loaded[0]), leaf).digest()
            number = response["cert_req_id"].native
            confirm = ("cert_conf", [{"cert_hash": digest, "cert_req_id": number}])
            self._expect(self._exchange(transaction, confirm, protector), "pkiconf")
        return chain

    def _exchange(
        self, transaction: _Transaction, body: tuple[str, Any], protector: Protector
    ) -> asn1.Message:
        transaction.nonce = secrets.token_bytes(16)
        sent = self._message(transaction, body, protector)
        answer = self._http.request(
            "POST",
            "",
            body=sent,
            headers={"Content-Type": "application/pkixcmp"},  # RFC 6712 3.4
            once=True,
        )
        if answer.status >= 500 and not answer.body:
            raise SourceUnavailable(
                self.name,
                f"it answers {answer.status}",
                "Look at that service's log",
                is_unanswered=True,
            )
        kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/pkixcmp":
            raise SourceAnswer(
                self.name,
                f"the answer is {'HTML' if b'<' in answer.body[:64] else 'something else'} instead of CMP"
                f" (status {answer.status})",
                "Correct the URL, and see that no proxy is between",
            )
        return self._understood(transaction, answer.body)

    def _message(self, transaction: _Transaction, body: tuple[str, Any], protector: Protector) -> bytes:
        algorithm = protector.algorithm()
        header: dict[str, Any] = {
            "pvno": 2,
            "sender": directory_name(protector.sender),
            "recipient": directory_name(self._recipient()),
            "message_time": self._now().replace(microsecond=0),
            "protection_alg": algorithm,
            "transaction_id": transaction.identifier,
            "sender_nonce": transaction.nonce,
        }
        if protector.key_id:
            header["sender_kid"] = protector.key_id
        if transaction.theirs:
            header["recip_nonce"] = transaction.theirs
        if body[0] in ("p10cr", "kur"):
            header["general_info"] = [{"type": asn1.IMPLICIT_CONFIRM, "value": core.Any(core.Null())}]
        message = asn1.Message({"header": header, "body": asn1.Body(name=body[0], value=body_value(*body))})
        data = protected_part(message)
        message["protection"] = core.OctetBitString(protector.protect(algorithm, data))
        if protector.extra_certificates:
            message["extra_certs"] = [asn1_x509.Certificate.load(one) for one in protector.extra_certificates]
        encoded: bytes = message.dump()
        return encoded

    def _understood(self, transaction: _Transaction, body: bytes) -> asn1.Message:
        try:
            message: asn1.Message = asn1.Message.load(body, strict=True)
            header, kind = message["header"], message["body"].name
            data = protected_part(message)
            identifier, nonce = header["transaction_id"].native, header["recip_nonce"].native
        except (ValueError, TypeError, KeyError) as error:
            raise self._wrong("the answer is no CMP message that can be read, or it is cut off") from error
        if kind == "error" and isinstance(message["protection"], core.Void):
            # RFC 9483 3.6.4: one who could not even check our message may answer so. It changes nothing.
            raise self._refused(message["body"].chosen["status"])
        check_protection(
            self.name, message, data, secret=self._secret, trusted=self._trusted(), now=self._now()
        )
        if identifier != transaction.identifier or nonce != transaction.nonce:
            raise self._wrong("the answer belongs to another request")
        transaction.theirs = header["sender_nonce"].native or b""
        return message

    def _expect(self, message: asn1.Message, kind: str) -> Any:
        name = message["body"].name
        if name == "error":
            raise self._refused(message["body"].chosen["status"])
        if name != kind:
            raise self._wrong(f"the answer is {name} where {kind} should be")
        return message["body"].chosen

    def _wait(
        self, new: CertifiableKey, transaction: _Transaction, expected: str, answer: asn1.Message
    ) -> None:
        """Keeps the transaction, so that the next try asks after it, and says when that may be."""
        while len(self._waiting) >= MAX_WAITING:
            del self._waiting[next(iter(self._waiting))]
        self._waiting[new.spki] = (transaction, expected)
        items = answer["body"].chosen
        seconds = items[0]["check_after"].native if len(items) else 60
        raise Pending(self.name, retry_after=float(min(max(1, seconds), 86_400)))

    def _require_accepted(self, status: asn1.StatusInfo) -> None:
        if status["status"].native not in ACCEPTED:
            raise self._refused(status)

    def _refused(self, status: asn1.StatusInfo) -> SourceRefused:
        return SourceRefused(
            self.name,
            f"it refuses the request: {said_in(status)}",
            "Correct login or request, or look at that service",
        )

    def _recipient(self) -> x509.Name:
        trusted = self._trusted()
        return trusted[0].subject if trusted else x509.Name([])

    def _wrong(self, sentence: str) -> SourceAnswer:
        return SourceAnswer(self.name, sentence, "Look at that service's log")
