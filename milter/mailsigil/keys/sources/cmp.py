"""CMP (RFC 9483): requests for certificates (p10cr, kur) and revocation (rr) over HTTP."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, NoReturn

from asn1crypto import core, csr
from asn1crypto import x509 as asn1_x509
from cryptography import x509

from mailsigil.cms.algorithms import Scheme
from mailsigil.keys.answers import Question, checked_chain
from mailsigil.keys.errors import Pending, SourceAnswer, SourceError, SourceRefused, SourceUnavailable
from mailsigil.keys.newkey import CertifiableKey
from mailsigil.keys.source import HeldKey
from mailsigil.keys.sources import cmp_asn1 as asn1
from mailsigil.keys.sources.cmp_messages import (
    Transaction,
    confirmation_hash,
    dumped,
    key_update,
    message,
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
from mailsigil.keys.sources.cmp_waiting import KINDS, MAX_PAUSE, NUMBERS, Waiting, WaitingRequests
from mailsigil.keys.sources.http import HttpClient
from mailsigil.keys.subject import SubjectRequest

ACCEPTED: Final = frozenset({0, 1})
"""PKIStatus: accepted, grantedWithMods (RFC 4210 5.2.3)."""
WAITING: Final = 3
DEFAULT_PAUSE: Final = 60
"""Seconds until a request is asked after again, where the authority names none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wish:
    """A certificate for a key: how it is asked for, unless it has been already."""

    request: SubjectRequest
    new: CertifiableKey
    kind: str
    body: Callable[[], Any]
    protector: Callable[[str], Protector]
    """What protects the transaction of a request of this kind."""


class CmpAuthority:
    """A CMP server as an Issuer. ``now`` gives the time, aware, in UTC."""

    def __init__(
        self,
        http: HttpClient,
        *,
        protector: Callable[[], Protector],
        secret: SharedSecret | None,
        trusted: Callable[[], Sequence[x509.Certificate]],
        waiting: WaitingRequests,
        now: Callable[[], datetime],
    ) -> None:
        self._http = http
        self._protector = protector
        self._secret = secret
        self._trusted = trusted
        self._now = now
        self._waiting = waiting

    @property
    def name(self) -> str:
        """The source's name."""
        return self._http.source

    def enrol(self, request: SubjectRequest, new: CertifiableKey) -> tuple[bytes, ...]:
        """Has a new key certified by a PKCS#10 request (RFC 9483 4.1.4)."""
        return self._certified(
            _Wish(
                request=request,
                new=new,
                kind="p10cr",
                body=lambda: csr.CertificationRequest.load(new.csr),
                protector=lambda kind: self._protector(),
            )
        )

    def renew(self, request: SubjectRequest, new: CertifiableKey, *, current: HeldKey) -> tuple[bytes, ...]:
        """Has the next key certified, authenticated by the current one (RFC 9483 4.1.3)."""
        old = x509.load_der_x509_certificate(current.chain[0])

        def protector(kind: str) -> Protector:
            if kind != "kur":  # What waits was begun as a first request, and goes on as one.
                return self._protector()
            scheme = Scheme(current.key.credential.schemes[0])
            return SignatureProtector(
                current.chain, scheme, lambda data: current.key.sign(scheme.value, data)
            )

        return self._certified(
            _Wish(
                request=request,
                new=new,
                kind="kur",
                body=lambda: [key_update(new, old)],
                protector=protector,
            )
        )

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
        answer = self._exchange(Transaction(), ("rr", [details]), self._protector())
        statuses = self._expect(answer, "rp")["status"]
        if len(statuses) != 1:
            raise self._wrong("the answer to a revocation has not exactly one outcome")
        self._require_accepted(statuses[0])

    def _certified(self, wish: _Wish) -> tuple[bytes, ...]:
        waiting = self._waiting.find(wish.request, wish.new)
        if waiting is not None:
            return self._asked_after(wish, waiting)
        transaction, protector = Transaction(), wish.protector(wish.kind)
        answer = self._exchange(transaction, (wish.kind, wish.body()), protector)
        response = self._response(answer, wish.kind)
        if response["status"]["status"].native != WAITING:
            return self._accept(wish, transaction, answer, response, protector)
        number = response["cert_req_id"].native
        if number not in NUMBERS:
            raise self._wrong("the answer belongs to a request that was not made")
        begun = self._now()
        waiting = Waiting(
            identifier=transaction.identifier,
            asked=transaction.nonce,
            theirs=transaction.theirs,
            kind=wish.kind,
            number=number,
            begun=begun,
            again=begun,
        )
        # Before it is asked after: whatever becomes of that answer, the next try goes on from here.
        self._waiting.keep(wish.request, wish.new, waiting)
        return self._asked_after(wish, waiting)

    def _asked_after(self, wish: _Wish, waiting: Waiting) -> tuple[bytes, ...]:
        """RFC 9483 4.4: asks whether a request is decided, in the transaction that it was made in."""
        left = waiting.again - self._now()
        # RFC 9810 5.3.22: not before checkAfter. More than ever was agreed is a clock that was put back.
        if timedelta(0) < left <= MAX_PAUSE:
            raise Pending(self.name, retry_after=max(1.0, left.total_seconds()))
        transaction, protector, answer = self._polled(wish, waiting)
        waiting = replace(waiting, theirs=transaction.theirs)
        if answer["body"].name == "poll_rep":
            items = answer["body"].chosen
            self._wait(wish, waiting, items[0]["check_after"].native if len(items) else DEFAULT_PAUSE)
        try:
            response = self._response(answer, waiting.kind)
        except SourceError:
            # RFC 9810 5.3.21: an error ends the transaction.
            self._waiting.end(wish.request)
            raise
        if response["status"]["status"].native == WAITING:
            self._wait(wish, waiting, DEFAULT_PAUSE)
        self._waiting.end(wish.request)
        return self._accept(wish, transaction, answer, response, protector)

    def _polled(self, wish: _Wish, waiting: Waiting) -> tuple[Transaction, Protector, asn1.Message]:
        """Asks once; gives what belongs to the answer, which is the authority's own word."""
        transaction = Transaction()
        transaction.identifier, transaction.theirs = waiting.identifier, waiting.theirs
        transaction.asked = waiting.asked
        try:
            protector = wish.protector(waiting.kind)
            answer = self._exchange(transaction, ("poll_req", [{"cert_req_id": waiting.number}]), protector)
        except SourceError as error:
            # Nobody who may decide has said anything: the request waits on, and is asked after again. A no
            # or a wrong answer would cost it its key.
            raise SourceUnavailable(
                self.name, f"asking after the request that waits there failed: {error.sentence}", error.mend
            ) from error
        return transaction, protector, answer

    def _response(self, answer: asn1.Message, kind: str) -> asn1.CertResponse:
        """What became of a request of this kind."""
        responses = self._expect(answer, KINDS[kind])["response"]
        if len(responses) != 1:
            raise self._wrong("the answer holds not exactly one outcome")
        response: asn1.CertResponse = responses[0]
        return response

    def _accept(
        self,
        wish: _Wish,
        transaction: Transaction,
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
        question = Question(
            source=self.name, address=wish.request.address, now=self._now(), spki=wish.new.spki
        )
        chain = checked_chain(question, loaded)
        if not needs_no_confirmation(answer):
            digest = hashlib.new(confirmation_hash(loaded[0]), leaf).digest()
            number = response["cert_req_id"].native
            confirm = ("cert_conf", [{"cert_hash": digest, "cert_req_id": number}])
            self._expect(self._exchange(transaction, confirm, protector), "pkiconf")
        return chain

    def _exchange(
        self, transaction: Transaction, body: tuple[str, Any], protector: Protector
    ) -> asn1.Message:
        transaction.nonce = secrets.token_bytes(16)
        trusted = self._trusted()
        recipient = trusted[0].subject if trusted else x509.Name([])
        sent = message(transaction, body, protector, recipient=recipient, time=self._now())
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

    def _understood(self, transaction: Transaction, body: bytes) -> asn1.Message:
        try:
            answer: asn1.Message = asn1.Message.load(body, strict=True)
            header, kind = answer["header"], answer["body"].name
            data = protected_part(answer)
            identifier, nonce = header["transaction_id"].native, header["recip_nonce"].native
        except (ValueError, TypeError, KeyError) as error:
            raise self._wrong("the answer is no CMP message that can be read, or it is cut off") from error
        if kind == "error" and isinstance(answer["protection"], core.Void):
            # RFC 9483 3.6.4: one who could not even check our message may answer so. It changes nothing.
            raise self._refused(answer["body"].chosen["status"])
        check_protection(
            self.name, answer, data, secret=self._secret, trusted=self._trusted(), now=self._now()
        )
        # RFC 9483 4.4: a delayed answer may name the nonce of the request that it answers.
        delayed = {transaction.asked} if transaction.asked and kind != "poll_rep" else set()
        if identifier != transaction.identifier or nonce not in {transaction.nonce, *delayed}:
            raise self._wrong("the answer belongs to another request")
        transaction.asked = transaction.asked if kind == "poll_rep" else b""
        transaction.theirs = header["sender_nonce"].native or b""
        return answer

    def _expect(self, answer: asn1.Message, kind: str) -> Any:
        name = answer["body"].name
        if name == "error":
            raise self._refused(answer["body"].chosen["status"])
        if name != kind:
            raise self._wrong(f"the answer is {name} where {kind} should be")
        return answer["body"].chosen

    def _wait(self, wish: _Wish, waiting: Waiting, seconds: int) -> NoReturn:
        """Writes down that it waits on, so that the next try asks after it, and says when that may be."""
        pause = min(max(1, seconds), int(MAX_PAUSE.total_seconds()))
        again = self._now() + timedelta(seconds=pause)
        self._waiting.keep(wish.request, wish.new, replace(waiting, again=again))
        raise Pending(self.name, retry_after=float(pause))

    def _require_accepted(self, status: asn1.StatusInfo) -> None:
        if status["status"].native not in ACCEPTED:
            raise self._refused(status)

    def _refused(self, status: asn1.StatusInfo) -> SourceRefused:
        return SourceRefused(
            self.name,
            f"it refuses the request: {said_in(status)}",
            "Correct login or request, or look at that service",
        )

    def _wrong(self, sentence: str) -> SourceAnswer:
        return SourceAnswer(self.name, sentence, "Look at that service's log")
