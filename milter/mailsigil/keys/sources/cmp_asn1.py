"""The messages of CMP (RFC 4210, RFC 9480) and CRMF (RFC 4211), as far as a client needs them."""

# ruff: noqa: RUF012  # asn1crypto has its fields as lists on the class

from __future__ import annotations

from asn1crypto import core, csr, keys, x509

PBM = "1.2.840.113533.7.66.13"
"""Password-based MAC (RFC 4210 5.1.3.1)."""
IMPLICIT_CONFIRM = "1.3.6.1.5.5.7.4.13"
OLD_CERT_ID = "1.3.6.1.5.5.7.5.1.5"


class AlgorithmIdentifier(core.Sequence):  # type: ignore[misc]
    """Any algorithm; its parameters stay as they are."""

    _fields = [("algorithm", core.ObjectIdentifier), ("parameters", core.Any, {"optional": True})]


class FreeText(core.SequenceOf):  # type: ignore[misc]
    """PKIFreeText."""

    _child_spec = core.UTF8String


class InfoTypeAndValue(core.Sequence):  # type: ignore[misc]
    """An extra of a header."""

    _fields = [("type", core.ObjectIdentifier), ("value", core.Any, {"optional": True})]


class GeneralInfo(core.SequenceOf):  # type: ignore[misc]
    """All extras of a header."""

    _child_spec = InfoTypeAndValue


class Header(core.Sequence):  # type: ignore[misc]
    """PKIHeader (RFC 4210 5.1.1)."""

    _fields = [
        ("pvno", core.Integer),
        ("sender", x509.GeneralName),
        ("recipient", x509.GeneralName),
        ("message_time", core.GeneralizedTime, {"explicit": 0, "optional": True}),
        ("protection_alg", AlgorithmIdentifier, {"explicit": 1, "optional": True}),
        ("sender_kid", core.OctetString, {"explicit": 2, "optional": True}),
        ("recip_kid", core.OctetString, {"explicit": 3, "optional": True}),
        ("transaction_id", core.OctetString, {"explicit": 4, "optional": True}),
        ("sender_nonce", core.OctetString, {"explicit": 5, "optional": True}),
        ("recip_nonce", core.OctetString, {"explicit": 6, "optional": True}),
        ("free_text", FreeText, {"explicit": 7, "optional": True}),
        ("general_info", GeneralInfo, {"explicit": 8, "optional": True}),
    ]


class StatusInfo(core.Sequence):  # type: ignore[misc]
    """PKIStatusInfo (RFC 4210 5.2.3)."""

    _fields = [
        ("status", core.Integer),
        ("status_string", FreeText, {"optional": True}),
        ("fail_info", core.BitString, {"optional": True}),
    ]


class CertOrEncCert(core.Choice):  # type: ignore[misc]
    """The certificate of an answer, plain or encrypted."""

    _alternatives = [
        ("certificate", x509.Certificate, {"explicit": 0}),
        ("encrypted", core.Any, {"explicit": 1}),
    ]


class CertifiedKeyPair(core.Sequence):  # type: ignore[misc]
    """A certificate, and what goes with it."""

    _fields = [
        ("cert", CertOrEncCert),
        ("private_key", core.Any, {"explicit": 0, "optional": True}),
        ("publication", core.Any, {"explicit": 1, "optional": True}),
    ]


class CertResponse(core.Sequence):  # type: ignore[misc]
    """What became of one request."""

    _fields = [
        ("cert_req_id", core.Integer),
        ("status", StatusInfo),
        ("pair", CertifiedKeyPair, {"optional": True}),
        ("rsp_info", core.OctetString, {"optional": True}),
    ]


class CertResponses(core.SequenceOf):  # type: ignore[misc]
    """What became of all requests."""

    _child_spec = CertResponse


class Certificates(core.SequenceOf):  # type: ignore[misc]
    """Certificates beside."""

    _child_spec = x509.Certificate


class CertRepMessage(core.Sequence):  # type: ignore[misc]
    """The body of ip, cp and kup (RFC 4210 5.3.4)."""

    _fields = [("ca_pubs", Certificates, {"explicit": 1, "optional": True}), ("response", CertResponses)]


class CertTemplate(core.Sequence):  # type: ignore[misc]
    """What a certificate should say (RFC 4211 5)."""

    _fields = [
        ("serial_number", core.Integer, {"implicit": 1, "optional": True}),
        ("issuer", x509.Name, {"explicit": 3, "optional": True}),
        ("subject", x509.Name, {"explicit": 5, "optional": True}),
        ("public_key", keys.PublicKeyInfo, {"implicit": 6, "optional": True}),
        ("extensions", x509.Extensions, {"implicit": 9, "optional": True}),
    ]


class CertId(core.Sequence):  # type: ignore[misc]
    """Names a certificate (RFC 4211 6.5)."""

    _fields = [("issuer", x509.GeneralName), ("serial_number", core.Integer)]


class Control(core.Sequence):  # type: ignore[misc]
    """A wish beside a template."""

    _fields = [("type", core.ObjectIdentifier), ("value", core.Any)]


class Controls(core.SequenceOf):  # type: ignore[misc]
    """All wishes."""

    _child_spec = Control


class CertRequest(core.Sequence):  # type: ignore[misc]
    """One request (RFC 4211 5)."""

    _fields = [
        ("cert_req_id", core.Integer),
        ("cert_template", CertTemplate),
        ("controls", Controls, {"optional": True}),
    ]


class PopoSigningKey(core.Sequence):  # type: ignore[misc]
    """Shows that the key is ours: a signature over the request (RFC 4211 4.1)."""

    _fields = [("algorithm", AlgorithmIdentifier), ("signature", core.OctetBitString)]


class Popo(core.Choice):  # type: ignore[misc]
    """ProofOfPossession."""

    _alternatives = [
        ("ra_verified", core.Null, {"implicit": 0}),
        ("signature", PopoSigningKey, {"implicit": 1}),
    ]


class CertReqMsg(core.Sequence):  # type: ignore[misc]
    """A request with its proof."""

    _fields = [("cert_req", CertRequest), ("popo", Popo, {"optional": True})]


class CertReqMessages(core.SequenceOf):  # type: ignore[misc]
    """The body of kur."""

    _child_spec = CertReqMsg


class RevDetails(core.Sequence):  # type: ignore[misc]
    """Which certificate to revoke, and why."""

    _fields = [("cert_details", CertTemplate), ("crl_entry_details", x509.Extensions, {"optional": True})]


class RevReqContent(core.SequenceOf):  # type: ignore[misc]
    """The body of rr."""

    _child_spec = RevDetails


class Statuses(core.SequenceOf):  # type: ignore[misc]
    """Outcomes, one a request."""

    _child_spec = StatusInfo


class RevRepContent(core.Sequence):  # type: ignore[misc]
    """The body of rp."""

    _fields = [
        ("status", Statuses),
        ("rev_certs", core.Any, {"explicit": 0, "optional": True}),
        ("crls", core.Any, {"explicit": 1, "optional": True}),
    ]


class ErrorContent(core.Sequence):  # type: ignore[misc]
    """The body of error."""

    _fields = [
        ("status", StatusInfo),
        ("error_code", core.Integer, {"optional": True}),
        ("details", FreeText, {"optional": True}),
    ]


class CertStatus(core.Sequence):  # type: ignore[misc]
    """Says that a certificate has arrived."""

    _fields = [("cert_hash", core.OctetString), ("cert_req_id", core.Integer)]


class CertConfirm(core.SequenceOf):  # type: ignore[misc]
    """The body of certConf."""

    _child_spec = CertStatus


class PollReqItem(core.Sequence):  # type: ignore[misc]
    """Which request is asked after."""

    _fields = [("cert_req_id", core.Integer)]


class PollReq(core.SequenceOf):  # type: ignore[misc]
    """The body of pollReq."""

    _child_spec = PollReqItem


class PollRepItem(core.Sequence):  # type: ignore[misc]
    """When to ask again."""

    _fields = [
        ("cert_req_id", core.Integer),
        ("check_after", core.Integer),
        ("reason", FreeText, {"optional": True}),
    ]


class PollRep(core.SequenceOf):  # type: ignore[misc]
    """The body of pollRep."""

    _child_spec = PollRepItem


class Body(core.Choice):  # type: ignore[misc]
    """PKIBody (RFC 4210 5.1.2): the kinds that a client sends or receives."""

    _alternatives = [
        ("ip", CertRepMessage, {"explicit": 1}),
        ("cp", CertRepMessage, {"explicit": 3}),
        ("p10cr", csr.CertificationRequest, {"explicit": 4}),
        ("kur", CertReqMessages, {"explicit": 7}),
        ("kup", CertRepMessage, {"explicit": 8}),
        ("rr", RevReqContent, {"explicit": 11}),
        ("rp", RevRepContent, {"explicit": 12}),
        ("pkiconf", core.Null, {"explicit": 19}),
        ("error", ErrorContent, {"explicit": 23}),
        ("cert_conf", CertConfirm, {"explicit": 24}),
        ("poll_req", PollReq, {"explicit": 25}),
        ("poll_rep", PollRep, {"explicit": 26}),
    ]


class Message(core.Sequence):  # type: ignore[misc]
    """PKIMessage (RFC 4210 5.1)."""

    _fields = [
        ("header", Header),
        ("body", Body),
        ("protection", core.OctetBitString, {"explicit": 0, "optional": True}),
        ("extra_certs", Certificates, {"explicit": 1, "optional": True}),
    ]


class PbmParameter(core.Sequence):  # type: ignore[misc]
    """How a MAC is made of a password (RFC 4211 4.4)."""

    _fields = [
        ("salt", core.OctetString),
        ("owf", AlgorithmIdentifier),
        ("iterations", core.Integer),
        ("mac", AlgorithmIdentifier),
    ]
