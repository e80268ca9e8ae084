"""Answers whether certificates of the embedded authority are revoked (RFC 6960)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from asn1crypto import core, ocsp
from asn1crypto import x509 as asn1_x509
from cryptography.hazmat.primitives.serialization import Encoding

from mailsigil.cms.algorithms import Scheme, default_scheme, sign_with
from mailsigil.keys.profile import Issuer
from mailsigil.keys.register import Entry, Register

MAX_REQUEST: Final = 16_384
MAX_QUESTIONS: Final = 20
"""Certificates in one request."""
MAX_NONCE: Final = 128
"""Octets (RFC 9654 2.1)."""
_SIGNATURES: Final = {
    Scheme.RSA_PKCS1_SHA256: "sha256_rsa",
    Scheme.ECDSA_SHA256: "sha256_ecdsa",
    Scheme.ECDSA_SHA384: "sha384_ecdsa",
    Scheme.ED25519: "ed25519",
}
_HASHES: Final = {"sha1": hashlib.sha1, "sha256": hashlib.sha256}


@dataclass(frozen=True, slots=True)
class _Authority:
    """One of the two authorities, as requests name it."""

    name: str
    issuer: Issuer
    certificate: asn1_x509.Certificate

    def is_meant(self, question: Any) -> bool:
        """RFC 6960 4.1.1: a request names the issuer by digests of its name and its key."""
        make = _HASHES.get(question["hash_algorithm"]["algorithm"].native)
        if make is None:
            return False
        name = make(self.certificate.subject.dump(), usedforsecurity=False).digest()
        key = make(bytes(self.certificate.public_key["public_key"]), usedforsecurity=False).digest()
        return (question["issuer_name_hash"].native, question["issuer_key_hash"].native) == (name, key)


class OcspResponder:
    """Makes signed answers. Safe to share between threads; ``now`` gives the time, aware, in UTC."""

    def __init__(
        self,
        issuers: Mapping[str, Issuer],
        register: Register,
        *,
        now: Callable[[], datetime],
        keep: timedelta,
    ) -> None:
        self._authorities = tuple(
            _Authority(
                name, issuer, asn1_x509.Certificate.load(issuer.certificate.public_bytes(Encoding.DER))
            )
            for name, issuer in issuers.items()
        )
        # Certificates of the authorities themselves, which the register does not hold.
        self._own = {issuer.certificate.serial_number for issuer in issuers.values()}
        self._register = register
        self._now = now
        self._keep = keep

    def answer(self, request: bytes) -> bytes:
        """Gives the response (DER) to a request; raises RegisterError where the register cannot be read."""
        if len(request) > MAX_REQUEST:
            return _error("malformed_request")
        try:
            parsed = ocsp.OCSPRequest.load(request, strict=True)
            body = parsed["tbs_request"]
            questions = [_canonical(each["req_cert"]) for each in body["request_list"]]
            nonce = _nonce(body)
            asked = [self._meant(question) for question in questions]
            serials = [int(question["serial_number"].native) for question in questions]
        except (ValueError, TypeError, KeyError, OverflowError):
            return _error("malformed_request")
        if not 1 <= len(questions) <= MAX_QUESTIONS:
            return _error("malformed_request")
        if asked[0] is None:
            return _error("unauthorized")  # RFC 5019 2.2.3: this is not the responder for that issuer.
        signer = asked[0]
        answers = [
            self._single(question, serial, signer if authority is signer else None)
            for question, serial, authority in zip(questions, serials, asked, strict=True)
        ]
        return self._signed(signer, answers, nonce)

    def _meant(self, question: Any) -> _Authority | None:
        return next((each for each in self._authorities if each.is_meant(question)), None)

    def _single(self, question: Any, serial: int, authority: _Authority | None) -> dict[str, Any]:
        now = self._now().replace(microsecond=0)
        return {
            "cert_id": question,
            "cert_status": self._status(serial, authority),
            "this_update": now,
            "next_update": now + self._keep,
        }

    def _status(self, serial: int, authority: _Authority | None) -> ocsp.CertStatus:
        entry = self._register.entry(serial) if authority is not None else None
        if authority is not None and entry is None and serial in self._own:
            return ocsp.CertStatus("good", core.Null())
        if authority is None or entry is None or entry.issuer != authority.name:
            return ocsp.CertStatus("unknown", core.Null())
        if entry.revocation is None:
            return ocsp.CertStatus("good", core.Null())
        return ocsp.CertStatus("revoked", _revoked(entry))

    def _signed(self, authority: _Authority, answers: list[dict[str, Any]], nonce: bytes | None) -> bytes:
        issuer = authority.issuer
        data: dict[str, Any] = {
            "responder_id": ocsp.ResponderId(
                # RFC 6960 4.2.1: KeyHash is SHA-1 of the key's bits.
                "by_key",
                hashlib.sha1(
                    bytes(authority.certificate.public_key["public_key"]), usedforsecurity=False
                ).digest(),
            ),
            "produced_at": self._now().replace(microsecond=0),
            "responses": answers,
        }
        if nonce is not None:
            data["response_extensions"] = [
                {"extn_id": "nonce", "critical": False, "extn_value": core.OctetString(nonce)}
            ]
        response = ocsp.ResponseData(data)
        scheme = default_scheme(issuer.key.public_key())
        basic = ocsp.BasicOCSPResponse(
            {
                "tbs_response_data": response,
                "signature_algorithm": {"algorithm": _SIGNATURES[scheme]},
                "signature": sign_with(issuer.key, scheme, response.dump()),
                "certs": [authority.certificate],
            }
        )
        whole = ocsp.OCSPResponse(
            {
                "response_status": "successful",
                "response_bytes": {"response_type": "basic_ocsp_response", "response": basic},
            }
        )
        der: bytes = whole.dump()
        return der


def _canonical(question: Any) -> ocsp.CertId:
    """Gives the question in DER; raises ValueError for octets that stand for it in another way.

    It comes back in the answer, and what is read leniently here may be unreadable for whoever asked.
    """
    algorithm = {"algorithm": question["hash_algorithm"]["algorithm"].native}
    parts = {name: question[name].native for name in ("issuer_name_hash", "issuer_key_hash", "serial_number")}
    for parameters in ({"parameters": core.Null()}, {}):
        same = ocsp.CertId({"hash_algorithm": algorithm | parameters, **parts})
        if same.dump() == question.dump():
            return same
    raise ValueError("a question that is not in DER")


def _nonce(body: Any) -> bytes | None:
    """Gives the nonce, raises ValueError for one of a length that nobody needs."""
    extensions = body["request_extensions"]
    if isinstance(extensions, core.Void):
        return None
    for extension in extensions:
        if extension["extn_id"].native == "nonce":
            nonce: bytes = extension["extn_value"].parsed.native
            if not isinstance(nonce, bytes) or not 1 <= len(nonce) <= MAX_NONCE:
                raise ValueError("the nonce is out of bounds")
            return nonce
        if extension["critical"].native:
            raise ValueError("an extension that must be understood, and is not")
    return None


def _revoked(entry: Entry) -> dict[str, Any]:
    revocation = entry.revocation
    if revocation is None:
        return {}
    found: dict[str, Any] = {"revocation_time": revocation.at}
    if revocation.reason.value != "unspecified":
        found["revocation_reason"] = _snake(revocation.reason.value)
    return found


def _snake(reason: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in reason)


def _error(status: str) -> bytes:
    der: bytes = ocsp.OCSPResponse({"response_status": status}).dump()
    return der
