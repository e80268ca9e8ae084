"""Purposes, basic constraints, versions and encodings (RFC 5280 4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID as Eku

from mailsigil.pki.path import PathStatus as S
from pki.hostile import ROOT, TRUE, authority, below, case
from pki.pki_make import MAIL, leaf, mailbox, make, name, usage
from pki.pki_raw import changed, extension, spliced

AUTHORITY = make(name(o="Example Bank", cn="Issuing"), ROOT, ca=True)

# --- Purposes -----------------------------------------------------------------------------------------


def _eku(*usages: x509.ObjectIdentifier) -> x509.ExtendedKeyUsage:
    return x509.ExtendedKeyUsage(list(usages))


case("plain", TRUE, leaf(ROOT))
case("plain below an authority", TRUE, leaf(AUTHORITY), AUTHORITY)
case("no purpose", TRUE, make(name(cn="x"), ROOT, mailbox("a@bank.example")))
case(
    "any purpose",
    TRUE,
    leaf(ROOT, _eku(Eku.ANY_EXTENDED_KEY_USAGE)),
    why="OpenSSL wants mail protection by name, RFC 8550 4.4.4 takes any purpose for it",
)
case("TLS server only", S.BAD_PURPOSE, leaf(ROOT, _eku(Eku.SERVER_AUTH)))
case("mail and TLS server, private", TRUE, leaf(ROOT, _eku(Eku.SERVER_AUTH, Eku.EMAIL_PROTECTION)))
case("OCSP signing only", S.BAD_PURPOSE, leaf(ROOT, _eku(Eku.OCSP_SIGNING)))
case("purpose critical", TRUE, leaf(ROOT, MAIL, critical=(x509.ExtendedKeyUsage,)))
below(S.BAD_PURPOSE, "authority for TLS", authority(_eku(Eku.SERVER_AUTH)))
below(S.BAD_PURPOSE, "authority for OCSP and TLS", authority(_eku(Eku.SERVER_AUTH, Eku.OCSP_SIGNING)))
below(TRUE, "authority for mail", authority(MAIL))
below(TRUE, "authority for mail and TLS", authority(_eku(Eku.SERVER_AUTH, Eku.EMAIL_PROTECTION)))
below(
    TRUE,
    "authority for any purpose",
    authority(_eku(Eku.ANY_EXTENDED_KEY_USAGE)),
    why="OpenSSL does not read any purpose as mail protection",
)
_TLS_TOP = authority(_eku(Eku.SERVER_AUTH), subject=name(cn="TLS top"))
_MAIL_BELOW = authority(MAIL, by=_TLS_TOP)
case("authority for mail below one for TLS", S.BAD_PURPOSE, leaf(_MAIL_BELOW), _MAIL_BELOW, _TLS_TOP)
_TLS_ROOT = make(name(o="TLS root"), None, _eku(Eku.SERVER_AUTH), ca=True)
case("root for TLS", S.BAD_PURPOSE, leaf(_TLS_ROOT), anchor=_TLS_ROOT)
case("key usage encryption", S.BAD_PURPOSE, leaf(ROOT, usage("key_encipherment")))
case("key usage nonRepudiation", TRUE, leaf(ROOT, usage("content_commitment")))
case("key usage signing and encryption", TRUE, leaf(ROOT, usage("digital_signature", "key_encipherment")))
case(
    "key usage certificates too",
    S.BAD_PURPOSE,
    leaf(ROOT, usage("digital_signature", "key_cert_sign")),
    why="RFC 5280 4.2.1.9: only an authority has it",
)
case("key usage lists only", S.BAD_PURPOSE, leaf(ROOT, usage("crl_sign")))

# --- Basic constraints and path lengths -----------------------------------------------------------------

_BASIC = x509.BasicConstraints(ca=True, path_length=None)
_SIGNS = usage("key_cert_sign", "crl_sign")


def _plain(*given: x509.ExtensionType, critical: tuple[type, ...] = (), **options: Any) -> Any:
    return authority(*given, ca=False, critical=critical, **options)


below(
    TRUE,
    "basic constraints not critical",
    _plain(_BASIC, _SIGNS),
)
below(S.CONSTRAINT, "authority without basic constraints", _plain(_SIGNS))
below(S.CONSTRAINT, "basic constraints say no", _plain(x509.BasicConstraints(False, None), _SIGNS))
below(S.CONSTRAINT, "authority without any extension", _plain())
below(S.CONSTRAINT, "authority may not sign certificates", _plain(_BASIC, usage("digital_signature")))
below(TRUE, "authority without key usage", _plain(_BASIC, critical=(x509.BasicConstraints,)))
case(
    "sender is an authority",
    S.BAD_PURPOSE,
    authority(MAIL, mailbox("a@bank.example")),
)
case("sender with basic constraints no", TRUE, leaf(ROOT, x509.BasicConstraints(False, None)))
_SENDER = leaf(ROOT)
case("sender issues", S.CONSTRAINT, leaf(_SENDER, subject=name(cn="Mallory")), _SENDER)
_SHORT = authority(path_length=0)
_UNDER_SHORT = authority(by=_SHORT, subject=name(cn="Under"))
case("path length 0, sender directly", TRUE, leaf(_SHORT), _SHORT)
case("path length 0, one more authority", S.CONSTRAINT, leaf(_UNDER_SHORT), _UNDER_SHORT, _SHORT)
_SELF = make(_SHORT.certificate.subject, _SHORT, ca=True, path_length=0)
case("path length 0, self-issued between", TRUE, leaf(_SELF, drop_aki=True), _SELF, _SHORT)
_ROOT0 = make(name(o="Short root"), None, ca=True, path_length=0)
_UNDER_ROOT0 = authority(by=_ROOT0)
case("path length of the root", S.CONSTRAINT, leaf(_UNDER_ROOT0), _UNDER_ROOT0, anchor=_ROOT0)
_LONGER = authority(by=_SHORT, subject=name(cn="Longer"), path_length=5)
_LONGER2 = authority(by=_LONGER, subject=name(cn="Longer 2"))
case("path length that grows below", S.CONSTRAINT, leaf(_LONGER2), _LONGER2, _LONGER, _SHORT)


def _negative_length(tbs: Any) -> None:
    for one in tbs["extensions"]:
        if one["extn_id"].native == "basic_constraints":
            one["extn_value"] = asn1_x509.ParsableOctetString(bytes.fromhex("30060101ff0201ff"))


below(S.UNTRUSTED, "path length below zero", changed(authority(), ROOT, _negative_length))

# --- Versions and encodings ---------------------------------------------------------------------------


def _version(number: int) -> Callable[[Any], None]:
    def change(tbs: Any) -> None:
        tbs["version"] = number

    return change


def _version_1(tbs: Any) -> None:
    tbs["version"] = 0
    del tbs["extensions"]


_V1_KEY = ec.generate_private_key(ec.SECP256R1())
_V1 = changed(authority(key=_V1_KEY, subject=name(cn="V1")), ROOT, _version_1)
_V1_ISSUER = authority(key=_V1_KEY, subject=name(cn="V1"))
case("authority of version 1", S.CONSTRAINT, leaf(_V1_ISSUER, drop_aki=True), _V1)
case(
    "sender of version 1 without extensions",
    TRUE,
    changed(make(name(cn="x", email="a@bank.example"), ROOT), ROOT, _version_1),
)
case(
    "version 1 with extensions",
    S.MALFORMED,
    changed(leaf(ROOT), ROOT, _version(0)),
    why="RFC 5280 4.1.2.1: extensions are those of version 3",
)
case(
    "version 2 with extensions",
    S.MALFORMED,
    changed(leaf(ROOT), ROOT, _version(1)),
    why="RFC 5280 4.1.2.1: extensions are those of version 3",
)
case(
    "version 4",
    S.MALFORMED,
    spliced(leaf(ROOT), ROOT, bytes.fromhex("a003020102"), bytes.fromhex("a003020103")),
    why="there is none",
)


def _twice(kind: str) -> Callable[[Any], None]:
    def change(tbs: Any) -> None:
        for one in list(tbs["extensions"]):
            if one["extn_id"].native == kind:
                tbs["extensions"].append(one.copy())

    return change


for _kind in ("subject_alt_name", "extended_key_usage", "key_usage"):
    case(f"{_kind} twice", S.MALFORMED, changed(leaf(ROOT), ROOT, _twice(_kind)))
case(
    "authority with an extension twice",
    S.UNTRUSTED,
    leaf(AUTHORITY),
    changed(AUTHORITY, ROOT, _twice("basic_constraints")),
)


def _serial(number: int) -> Callable[[Any], None]:
    def change(tbs: Any) -> None:
        tbs["serial_number"] = number

    return change


_SERIALS = "RFC 5280 4.1.2.2: 1 to 20 octets, above zero"
case("serial number 0", S.MALFORMED, changed(leaf(ROOT), ROOT, _serial(0)), why=_SERIALS)
case("serial number -5", S.MALFORMED, changed(leaf(ROOT), ROOT, _serial(-5)), why=_SERIALS)
case("serial number of 21 octets", S.MALFORMED, changed(leaf(ROOT), ROOT, _serial(1 << 161)), why=_SERIALS)
case("serial number of 20 octets", TRUE, changed(leaf(ROOT), ROOT, _serial((1 << 159) - 1)))


def _extra(one: Any) -> Callable[[Any], None]:
    def change(tbs: Any) -> None:
        tbs["extensions"].append(one)

    return change


_UNKNOWN = "1.3.6.1.4.1.99999.1"
case("unknown extension", TRUE, changed(leaf(ROOT), ROOT, _extra(extension(_UNKNOWN, b"\x05\x00"))))
case(
    "unknown critical extension",
    S.CONSTRAINT,
    changed(leaf(ROOT), ROOT, _extra(extension(_UNKNOWN, b"\x05\x00", critical=True))),
)
_ODD = changed(authority(), ROOT, _extra(extension(_UNKNOWN, b"\x05\x00", critical=True)))


def _written_out(kind: str, octets: str) -> Callable[[Any], None]:
    """Spell one extension in these octets."""

    def change(tbs: Any) -> None:
        tbs["extensions"] = [
            asn1_x509.Extension.load(bytes.fromhex(octets)) if one["extn_id"].native == kind else one
            for one in tbs["extensions"]
        ]

    return change


_NO_AUTHORITY = leaf(ROOT, x509.BasicConstraints(False, None))
case(
    "cA FALSE written out",
    TRUE,
    changed(_NO_AUTHORITY, ROOT, _written_out("basic_constraints", "300c0603551d1304053003010100")),
)
case(
    "critical FALSE written out",
    TRUE,
    changed(_NO_AUTHORITY, ROOT, _written_out("basic_constraints", "300c0603551d1301010004023000")),
)
case(
    "critical FALSE and cA FALSE written out",
    TRUE,
    changed(_NO_AUTHORITY, ROOT, _written_out("basic_constraints", "300f0603551d1301010004053003010100")),
)
case(
    "TRUE in another octet than DER's",
    S.MALFORMED,
    changed(_NO_AUTHORITY, ROOT, _written_out("basic_constraints", "300c0603551d1304053003010101")),
    why="DER knows one TRUE; readers that take others see an authority here, or none",
)
below(S.CONSTRAINT, "authority with an unknown critical extension", _ODD)
case("unneeded authority with an unknown critical extension", TRUE, leaf(AUTHORITY), AUTHORITY, _ODD)
case(
    "inhibitAnyPolicy below zero",
    S.MALFORMED,
    changed(leaf(ROOT), ROOT, _extra(extension("2.5.29.54", b"\x02\x01\xff", critical=True))),
    why="OpenSSL reads it only where policies are asked for",
)
case(
    "critical key identifier",
    S.MALFORMED,
    leaf(ROOT, critical=(x509.AuthorityKeyIdentifier,)),
)
case(
    "critical distribution points",
    TRUE,
    changed(
        leaf(ROOT),
        ROOT,
        _extra(
            extension(
                "2.5.29.31", bytes.fromhex("30193017a015a0138611") + b"http://x.example/", critical=True
            )
        ),
    ),
)
case(
    "critical netscape type",
    S.CONSTRAINT,
    changed(leaf(ROOT), ROOT, _extra(extension("2.16.840.1.113730.1.1", b"\x03\x02\x05\x20", critical=True))),
    why="an extension of the nineties that is not read here",
)


# --- Key identifiers and signatures ---------------------------------------------------------------------

_OTHER = authority(subject=AUTHORITY.certificate.subject)
case("key identifier of another authority of that name", S.UNTRUSTED, leaf(AUTHORITY), _OTHER)
case("no key identifiers", TRUE, leaf(AUTHORITY, drop_aki=True), AUTHORITY)
case(
    "no key identifiers, another of that name beside it",
    TRUE,
    leaf(AUTHORITY, drop_aki=True),
    _OTHER,
    AUTHORITY,
    why="OpenSSL follows one path alone, the first it finds",
)


def _aki_serial(tbs: Any) -> None:
    for one in tbs["extensions"]:
        if one["extn_id"].native == "authority_key_identifier":
            value = asn1_x509.AuthorityKeyIdentifier(
                {
                    "authority_cert_issuer": [asn1_x509.GeneralName("directory_name", tbs["issuer"])],
                    "authority_cert_serial_number": 4711,
                }
            )
            one["extn_value"] = asn1_x509.ParsableOctetString(value.dump())


case(
    "issuer named by another serial number",
    TRUE,
    changed(leaf(ROOT), ROOT, _aki_serial),
    why="RFC 5280 4.2.1.1: the identifier helps to find the issuer, the signature decides",
)


def _other_algorithm(tbs: Any) -> None:
    tbs["signature"] = {"algorithm": "sha384_ecdsa"}


case("two signature algorithms", S.MALFORMED, changed(leaf(ROOT), ROOT, _other_algorithm))
_FORGER = make(ROOT.certificate.subject, None, ca=True)
case("signed by a stranger of the root's name", S.UNTRUSTED, leaf(_FORGER, drop_aki=True))
case("the stranger comes along", S.UNTRUSTED, leaf(_FORGER, drop_aki=True), _FORGER)
case("self-signed sender", S.UNTRUSTED, make(name(cn="x"), None, MAIL, mailbox("a@bank.example")))
case("the root signs mail", S.BAD_PURPOSE, ROOT)
