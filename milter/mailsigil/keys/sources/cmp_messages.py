"""The parts of CMP messages (RFC 4210, RFC 4211): values in, ASN.1 out, and back."""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import Any, Final

from asn1crypto import core, keys
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from mailsigil.keys.newkey import CertifiableKey, subject_name
from mailsigil.keys.sources import cmp_asn1 as asn1
from mailsigil.keys.sources.cmp_protection import Protector, signature_algorithm

_FAILURES: Final = (
    "badAlg",
    "badMessageCheck",
    "badRequest",
    "badTime",
    "badCertId",
    "badDataFormat",
    "wrongAuthority",
    "incorrectData",
    "missingTimeStamp",
    "badPOP",
    "certRevoked",
    "certConfirmed",
    "wrongIntegrity",
    "badRecipientNonce",
    "timeNotAvailable",
    "unacceptedPolicy",
    "unacceptedExtension",
    "addInfoNotAvailable",
    "badSenderNonce",
    "badCertTemplate",
    "signerNotTrusted",
    "transactionIdInUse",
    "unsupportedVersion",
    "notAuthorized",
    "systemUnavail",
    "systemFailure",
    "duplicateCertReq",
)
"""PKIFailureInfo, by its bits (RFC 4210 5.2.3)."""


class Transaction:
    """One exchange with its identifiers (RFC 4210 5.1.1)."""

    def __init__(self) -> None:
        self.identifier = secrets.token_bytes(16)
        self.nonce = b""
        self.theirs = b""
        self.asked = b""
        """The nonce of the request, while it is asked after."""


def message(
    transaction: Transaction,
    body: tuple[str, Any],
    protector: Protector,
    *,
    recipient: x509.Name,
    time: datetime,
) -> bytes:
    """The next message of a transaction, protected, DER. Raises SourceError."""
    algorithm = protector.algorithm()
    header: dict[str, Any] = {
        "pvno": 2,
        "sender": directory_name(protector.sender),
        "recipient": directory_name(recipient),
        "message_time": time.replace(microsecond=0),
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
    sent = asn1.Message({"header": header, "body": asn1.Body(name=body[0], value=body_value(*body))})
    data = protected_part(sent)
    sent["protection"] = core.OctetBitString(protector.protect(algorithm, data))
    if protector.extra_certificates:
        sent["extra_certs"] = [asn1_x509.Certificate.load(one) for one in protector.extra_certificates]
    encoded: bytes = sent.dump()
    return encoded


def key_update(new: CertifiableKey, old: x509.Certificate) -> asn1.CertReqMsg:
    """A request of RFC 4211 for the successor of a certificate, signed with the new key."""
    subject = old.subject if list(old.subject) else subject_name(new.request)
    template: dict[str, Any] = {
        "subject": _name(subject),
        "public_key": keys.PublicKeyInfo.load(new.spki),
    }
    parsed = asn1_x509.Certificate.load(old.public_bytes(Encoding.DER))
    named = [
        each for each in parsed["tbs_certificate"]["extensions"] if each["extn_id"].dotted == "2.5.29.17"
    ]
    if named:
        template["extensions"] = named
    issuer = asn1_x509.GeneralName(name="directory_name", value=_name(old.issuer))
    replaced = asn1.CertId({"issuer": issuer, "serial_number": old.serial_number})
    request = asn1.CertRequest(
        {
            "cert_req_id": 0,
            "cert_template": template,
            "controls": [{"type": asn1.OLD_CERT_ID, "value": core.Any(replaced)}],
        }
    )
    # RFC 4211 4.1, clause 3: the signature is over the request's own octets.
    proof = {"algorithm": signature_algorithm(new.scheme), "signature": new.sign(request.dump())}
    return asn1.CertReqMsg({"cert_req": request, "popo": asn1.Popo(name="signature", value=proof)})


def body_value(name: str, value: Any) -> Any:
    """The value of a body of this name."""
    specs = {entry[0]: entry[1] for entry in asn1.Body._alternatives}
    return value if isinstance(value, core.Asn1Value) else specs[name](value)


def protected_part(message: asn1.Message) -> bytes:
    """ProtectedPart (RFC 4210 5.1.3): header and body in a SEQUENCE of their own."""
    content = message["header"].dump() + message["body"].dump()
    return _sequence(content)


def _sequence(content: bytes) -> bytes:
    size = len(content)
    if size < 128:
        return b"\x30" + bytes([size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return b"\x30" + bytes([0x80 | len(length)]) + length + content


def _name(name: x509.Name) -> asn1_x509.Name:
    return asn1_x509.Name.load(name.public_bytes())


def directory_name(name: x509.Name) -> asn1_x509.GeneralName:
    """A name as a GeneralName."""
    return asn1_x509.GeneralName(name="directory_name", value=_name(name))


def needs_no_confirmation(answer: asn1.Message) -> bool:
    """The server needs no confirmation (RFC 4210 5.1.1.1)."""
    extras = answer["header"]["general_info"]
    if isinstance(extras, core.Void):
        return False
    return any(each["type"].dotted == asn1.IMPLICIT_CONFIRM for each in extras)


def confirmation_hash(certificate: x509.Certificate) -> str:
    """RFC 4210 5.3.18: the hash of the certificate's own signature; RFC 9480 2.10: SHA-512 for Ed25519."""
    algorithm = certificate.signature_hash_algorithm
    return algorithm.name if algorithm is not None else "sha512"


def dumped(certificates: Any) -> list[bytes]:
    """Certificates of a field that may be absent, DER."""
    return [] if isinstance(certificates, core.Void) else [each.dump() for each in certificates]


def texts_of(texts: Any) -> list[str]:
    """Texts of a field that may be absent, each one bounded line."""
    if isinstance(texts, core.Void):
        return []
    return [" ".join(str(each.native).split())[:100] for each in list(texts)[:3]]


def said_in(status: asn1.StatusInfo) -> str:
    """What a refusal says: the names of its failures, and its text."""
    bits = status["fail_info"]
    failed = (
        [] if isinstance(bits, core.Void) else [n for n, b in zip(_FAILURES, bits.native, strict=False) if b]
    )
    said = "; ".join(texts_of(status["status_string"]))
    return ", ".join(filter(None, (*failed, said))) or "no reason is given"
