"""What an OCSP response says about a certificate (RFC 6960).

The response must be signed by the issuer of the certificate, or by a responder whose certificate that
issuer signed for this purpose; whether that one was revoked is left to ``responder.py``. Requests go without
a nonce, so that answers can be kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from asn1crypto import keys as asn1_keys
from asn1crypto import ocsp as asn1_ocsp
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from mailsigil.pki.evidence import Evidence, Link, RevocationStatus, Unusable
from mailsigil.pki.names import UNREADABLE
from mailsigil.pki.parsed import Parsed, UnreadableCertificate, parse_certificate
from mailsigil.pki.signatures import Scheme, pss_scheme, require_octets, require_strong, signature_holds

MAX_RESPONSE: Final = 65_536
"""Octets. Real ones have one to four thousand."""
WITHOUT_NEXT_UPDATE: Final = timedelta(hours=1)
"""How long an answer counts that says by leaving out nextUpdate that a newer one is there at any time."""
MAX_RESPONDERS: Final = 8
_MAX_ANSWERS: Final = 64
_KNOWN: Final = frozenset(
    {"nonce", "extended_revoke", "archive_cutoff", "crl_reference", "acceptable_responses"}
)
_RSA: Final = frozenset(
    {
        x509.SignatureAlgorithmOID.RSA_WITH_SHA256,
        x509.SignatureAlgorithmOID.RSA_WITH_SHA384,
        x509.SignatureAlgorithmOID.RSA_WITH_SHA512,
        x509.SignatureAlgorithmOID.RSA_WITH_SHA1,
    }
)


def ocsp_request(link: Link) -> bytes:
    """Ask about one certificate, in DER (RFC 6960 4.1). SHA-1 names the issuer here and protects nothing."""
    builder = ocsp.OCSPRequestBuilder().add_certificate(
        link.certificate.certificate,
        link.issuer.certificate,
        hashes.SHA1(),  # noqa: S303  # RFC 5019 2.1.1: what every responder understands
    )
    return builder.build().public_bytes(Encoding.DER)


def judge_ocsp(data: bytes, link: Link, *, at: datetime) -> Evidence:
    """Give what a response says about a certificate, its signer's certificate judged at a time.

    Raises ``Unusable``.
    """
    if len(data) > MAX_RESPONSE:
        raise Unusable(f"the OCSP response is larger than {MAX_RESPONSE} octets")
    try:
        response = ocsp.load_der_ocsp_response(data)
        if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            # RFC 6960 2.3: unsigned, so it proves nothing.
            raise Unusable(f"the responder answered {response.response_status.name.lower()}")
        _require_known_extensions(data)
        answers = [answer for answer in _answers(response) if _is_about(answer, link)]
        found = _newest([_evidence(answer) for answer in answers])
        return replace(found, responder=_signer(response, _signature(response, data), link.issuer, at))
    except Unusable:
        raise
    except (*UNREADABLE, UnsupportedAlgorithm) as error:
        raise Unusable(f"the OCSP response cannot be read: {error}"[:200]) from error


def _require_known_extensions(data: bytes) -> None:
    """RFC 6960 4.4: a critical extension that is not understood makes the response unusable."""
    content = _basic(data)["tbs_response_data"]
    groups = [content["response_extensions"], *(one["single_extensions"] for one in content["responses"])]
    for group in groups:
        for extension in group:
            if extension["critical"].native and extension["extn_id"].native not in _KNOWN:
                raise Unusable(
                    f"the OCSP response has the critical extension {extension['extn_id'].dotted},"
                    " which is not known here"
                )


def _basic(data: bytes) -> Any:
    return asn1_ocsp.OCSPResponse.load(data, strict=True)["response_bytes"]["response"].parsed


def _answers(response: ocsp.OCSPResponse) -> Iterator[ocsp.OCSPSingleResponse]:
    for number, answer in enumerate(response.responses):
        if number == _MAX_ANSWERS:
            raise Unusable("the OCSP response speaks of too many certificates")
        yield answer


def _is_about(answer: ocsp.OCSPSingleResponse, link: Link) -> bool:
    """RFC 6960 3.2.1: the answer identifies the certificate that was asked about, and its issuer."""
    certificate, issuer = link.certificate.certificate, link.issuer
    if answer.serial_number != certificate.serial_number:
        return False
    if answer.hash_algorithm.name not in {"sha1", "sha256", "sha384", "sha512"}:
        return False
    name = hashlib.new(answer.hash_algorithm.name, issuer.certificate.subject.public_bytes())
    spelled = hashlib.new(answer.hash_algorithm.name, certificate.issuer.public_bytes())
    digest = hashlib.new(answer.hash_algorithm.name, _key_bits(issuer))
    return answer.issuer_key_hash == digest.digest() and answer.issuer_name_hash in {
        name.digest(),
        spelled.digest(),  # the same name may be spelled otherwise in the certificate (RFC 5280 7.1)
    }


def _key_bits(parsed: Parsed) -> bytes:
    # Parsed anew: asn1crypto's objects change on access, and several threads ask about one issuer.
    return bytes(asn1_keys.PublicKeyInfo.load(parsed.key)["public_key"])


def _evidence(answer: ocsp.OCSPSingleResponse) -> Evidence:
    if answer.certificate_status is ocsp.OCSPCertStatus.UNKNOWN:
        raise Unusable("the responder does not know the certificate")
    this_update = answer.this_update_utc
    until = answer.next_update_utc or this_update + WITHOUT_NEXT_UPDATE
    if until < this_update:
        raise Unusable("the OCSP response ends before it begins")
    if answer.certificate_status is ocsp.OCSPCertStatus.GOOD:
        return Evidence(status=RevocationStatus.GOOD, this_update=this_update, until=until)
    return Evidence(
        status=RevocationStatus.REVOKED,
        this_update=this_update,
        until=until,
        revoked_at=answer.revocation_time_utc,
        final=answer.revocation_reason is not x509.ReasonFlags.certificate_hold,
    )


def _newest(found: list[Evidence]) -> Evidence:
    """Of several answers about one certificate the worst counts, then the newest."""
    if not found:
        raise Unusable("the OCSP response speaks of other certificates")
    return max(found, key=lambda one: (one.status is RevocationStatus.REVOKED, one.this_update))


def _signer(response: ocsp.OCSPResponse, signature: _Signature, issuer: Parsed, at: datetime) -> Link | None:
    """RFC 6960 4.2.2.2: the issuer itself, or whom it appointed. Give the latter, unless for ever trusted."""
    if _is_responder(issuer, response) and signature.made_by(issuer.certificate):
        return None
    if len(response.certificates) > MAX_RESPONDERS:
        raise Unusable("the OCSP response carries too many certificates")
    for certificate in response.certificates:
        try:
            responder = parse_certificate(certificate.public_bytes(Encoding.DER))
        except UnreadableCertificate:
            continue
        if not _is_responder(responder, response):
            continue
        _require_appointed(responder, issuer, at)
        if signature.made_by(responder.certificate):
            return None if trusted_for_life(responder) else Link(responder, issuer)
    raise Unusable("the OCSP response was not signed by the authority or whom it appointed")


def _is_responder(candidate: Parsed, response: ocsp.OCSPResponse) -> bool:
    # RFC 6960 4.2.1: by name or by the SHA-1 of the key, as an identifier only.
    if response.responder_key_hash is not None:
        digest = hashlib.sha1(_key_bits(candidate), usedforsecurity=False).digest()
        return digest == response.responder_key_hash
    return response.responder_name == candidate.certificate.subject


def trusted_for_life(responder: Parsed) -> bool:
    """RFC 6960 4.2.2.2.1: the authority says that this responder's revocation is not to be asked for."""
    try:
        responder.certificate.extensions.get_extension_for_class(x509.OCSPNoCheck)
    except x509.ExtensionNotFound:
        return False
    return True


def _require_appointed(responder: Parsed, issuer: Parsed, at: datetime) -> None:
    certificate = responder.certificate
    extensions = certificate.extensions
    if responder.key_weakness or responder.signature_weakness:
        raise Unusable(f"the OCSP responder: {responder.key_weakness or responder.signature_weakness}")
    # RFC 6960 4.2.2.2: issued directly, and for this purpose by name; "any purpose" is not that.
    try:
        usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound as error:
        raise Unusable("the OCSP responder was not appointed by the authority") from error
    if ExtendedKeyUsageOID.OCSP_SIGNING not in usage or not _issued(certificate, issuer.certificate):
        raise Unusable("the OCSP responder was not appointed by the authority")
    if not responder.not_before <= at <= responder.not_after:
        raise Unusable("the OCSP responder's certificate was not valid at the time")
    for extension in extensions:
        value = extension.value
        if isinstance(value, x509.KeyUsage) and not (value.digital_signature or value.content_commitment):
            raise Unusable("the OCSP responder's certificate may not sign")
        if extension.critical and isinstance(value, x509.UnrecognizedExtension):
            raise Unusable("the OCSP responder's certificate has a critical extension not known here")


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        # Compares the names octet by octet; one that is spelled otherwise is refused with the rest.
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


@dataclass(frozen=True, slots=True)
class _Signature:
    """The signature on a response."""

    octets: bytes
    signed: bytes
    scheme: Scheme
    digest: hashes.HashAlgorithm | None

    def made_by(self, certificate: x509.Certificate) -> bool:
        return signature_holds(
            certificate.public_key(), self.octets, self.signed, scheme=self.scheme, digest=self.digest
        )


def _signature(response: ocsp.OCSPResponse, data: bytes) -> _Signature:
    scheme: Scheme
    digest: hashes.HashAlgorithm | None
    basic = _basic(data)
    require_octets(basic["signature"].contents[0])
    if response.signature_algorithm_oid == x509.SignatureAlgorithmOID.RSASSA_PSS:
        # The library does not read the hash algorithm of these.
        parameters = basic["signature_algorithm"]["parameters"]
        scheme, digest = pss_scheme(parameters, "the OCSP response")
        return _Signature(response.signature, response.tbs_response_bytes, scheme, digest)
    digest = response.signature_hash_algorithm
    if response.signature_algorithm_oid in _RSA:
        scheme = padding.PKCS1v15()
    else:
        scheme = ec.ECDSA(digest) if digest is not None else None
    require_strong(digest, "the OCSP response")
    return _Signature(response.signature, response.tbs_response_bytes, scheme, digest)
