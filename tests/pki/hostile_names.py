"""Name constraints on what mail certificates hold (RFC 5280 4.2.1.10, RFC 9598 6)."""

from __future__ import annotations

import ipaddress
from typing import Any

from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.x509.oid import NameOID

from mailsigil.pki.path import PathStatus as S
from pki.hostile import ROOT, TRUE, authority, below, case
from pki.pki_make import MAIL, leaf, mailbox, make, name, smtp_utf8
from pki.pki_raw import changed

SAN = x509.SubjectAlternativeName


def _mail(*texts: str) -> list[x509.GeneralName]:
    return [x509.RFC822Name._init_without_validation(text) for text in texts]


def _held(
    permitted: list[x509.GeneralName] | None = None,
    excluded: list[x509.GeneralName] | None = None,
    **options: Any,
) -> Any:
    return authority(x509.NameConstraints(permitted, excluded), critical=(x509.NameConstraints,), **options)


def _box(*texts: str) -> x509.SubjectAlternativeName:
    return SAN([x509.RFC822Name._init_without_validation(text) for text in texts])


HOST, DOMAIN, MAILBOX = (
    _held(_mail("bank.example")),
    _held(_mail(".bank.example")),
    _held(_mail("a@bank.example")),
)
FORMS: list[tuple[str, Any, str, S]] = [
    ("host", HOST, "a@bank.example", TRUE),
    ("host, other case", HOST, "a@BANK.Example", TRUE),
    ("host, subdomain", HOST, "a@x.bank.example", S.CONSTRAINT),
    ("host, longer name", HOST, "a@evilbank.example", S.CONSTRAINT),
    ("host, name goes on", HOST, "a@bank.example.evil.example", S.CONSTRAINT),
    ("host in the local part", HOST, '"x@bank.example"@evil.example', S.CONSTRAINT),
    ("domain, its host", DOMAIN, "a@bank.example", S.CONSTRAINT),
    ("domain, subdomain", DOMAIN, "a@x.bank.example", TRUE),
    ("domain, two below", DOMAIN, "a@y.x.bank.example", TRUE),
    ("domain, longer name", DOMAIN, "a@evilbank.example", S.CONSTRAINT),
    ("mailbox", MAILBOX, "a@bank.example", TRUE),
    ("mailbox, host in other case", MAILBOX, "a@Bank.example", TRUE),
    ("mailbox, local part in other case", MAILBOX, "A@bank.example", S.CONSTRAINT),
    ("mailbox, another", MAILBOX, "b@bank.example", S.CONSTRAINT),
]
for _title, _by, _address, _status in FORMS:
    below(_status, f"permitted {_title}", _by, _box(_address))

NO_HOST, NO_DOMAIN = _held(None, _mail("bank.example")), _held(None, _mail(".bank.example"))
NO_MAILBOX = _held(None, _mail("boss@bank.example"))
for _title, _by, _address, _status in (
    ("host", NO_HOST, "a@bank.example", S.CONSTRAINT),
    ("host, other case", NO_HOST, "a@BANK.EXAMPLE", S.CONSTRAINT),
    ("host, subdomain", NO_HOST, "a@x.bank.example", TRUE),
    ("domain, subdomain", NO_DOMAIN, "a@x.bank.example", S.CONSTRAINT),
    ("domain, subdomain in other case", NO_DOMAIN, "a@X.Bank.Example", S.CONSTRAINT),
    ("domain, its host", NO_DOMAIN, "a@bank.example", TRUE),
    ("mailbox", NO_MAILBOX, "boss@bank.example", S.CONSTRAINT),
    ("mailbox, another", NO_MAILBOX, "clerk@bank.example", TRUE),
):
    below(_status, f"excluded {_title}", _by, _box(_address))
below(
    S.CONSTRAINT,
    "excluded mailbox, local part in other case",
    NO_MAILBOX,
    _box("Boss@bank.example"),
    why="hosts do not tell local parts apart by case, so neither does an exclusion here",
)

# --- Several names, several constraints -------------------------------------------------------------------

BOTH = _held(_mail("bank.example"), _mail("boss@bank.example"))
below(TRUE, "permitted and not excluded", BOTH)
below(S.CONSTRAINT, "permitted and excluded", BOTH, _box("boss@bank.example"))
below(S.CONSTRAINT, "one of two addresses outside", HOST, _box("a@bank.example", "a@evil.example"))
below(TRUE, "two permitted hosts", _held(_mail("x.example", "bank.example")))
_UPPER = _held(_mail("bank.example"), subject=name(cn="Upper"))
_WIDER = _held(_mail("bank.example", "evil.example"), by=_UPPER)
case("constraint widened below", S.CONSTRAINT, leaf(_WIDER, _box("a@evil.example")), _WIDER, _UPPER)
case("constraint widened below, inside", TRUE, leaf(_WIDER), _WIDER, _UPPER)
_FREE = authority(by=_UPPER, subject=name(cn="Free"))
case("constraint two above", S.CONSTRAINT, leaf(_FREE, _box("a@evil.example")), _FREE, _UPPER)
_DISJOINT = _held(_mail("other.example"), by=_UPPER)
case("constraints that leave nothing", S.CONSTRAINT, leaf(_DISJOINT), _DISJOINT, _UPPER)
_HELD_ROOT = make(name(o="Held root"), None, x509.NameConstraints(_mail("bank.example"), None), ca=True)
case("constraint of the root", S.CONSTRAINT, leaf(_HELD_ROOT, _box("a@evil.example")), anchor=_HELD_ROOT)
case("constraint of the root, inside", TRUE, leaf(_HELD_ROOT), anchor=_HELD_ROOT)
_LOOSE = authority(x509.NameConstraints(_mail("bank.example"), None))
below(S.CONSTRAINT, "constraint not critical", _LOOSE, _box("a@evil.example"))

# --- Addresses in other places ----------------------------------------------------------------------------


def _subject_only(by: Any, address: str) -> Any:
    return make(name(cn="x", email=address), by, MAIL)


case("address in the subject, inside", TRUE, _subject_only(HOST, "a@bank.example"), HOST)
case("address in the subject, outside", S.CONSTRAINT, _subject_only(HOST, "a@evil.example"), HOST)
case("address in the subject, excluded", S.CONSTRAINT, _subject_only(NO_HOST, "a@bank.example"), NO_HOST)
case(
    "address in the subject beside a DNS name",
    S.CONSTRAINT,
    make(name(cn="x", email="a@evil.example"), HOST, MAIL, SAN([x509.DNSName("bank.example")])),
    HOST,
)
case(
    "address in the subject outside, the alternative inside",
    S.CONSTRAINT,
    make(name(cn="x", email="a@evil.example"), HOST, MAIL, mailbox("a@bank.example")),
    HOST,
)
below(S.CONSTRAINT, "SmtpUTF8Mailbox outside", HOST, SAN([smtp_utf8("ä@evil.example")]))
below(TRUE, "SmtpUTF8Mailbox inside", HOST, SAN([smtp_utf8("ä@bank.example")]))
below(S.CONSTRAINT, "SmtpUTF8Mailbox excluded", NO_HOST, SAN([smtp_utf8("ä@bank.example")]))
below(TRUE, "SmtpUTF8Mailbox below no constraint", authority(), SAN([smtp_utf8("ä@bank.example")]))
IDN = _held(_mail("xn--bnk-qla.example"))
below(TRUE, "A-label permitted", IDN, _box("a@xn--bnk-qla.example"))
below(TRUE, "SmtpUTF8Mailbox in U-labels below an A-label", IDN, SAN([smtp_utf8("ä@bänk.example")]))
SHARP_S = _box("a@xn--strae-oqa.example")
below(TRUE, "A-label of today's rules", authority(), SHARP_S)
below(TRUE, "A-label of today's rules permitted", _held(_mail("xn--strae-oqa.example")), SHARP_S)
below(S.CONSTRAINT, "A-label of today's rules outside", HOST, SHARP_S)
below(S.CONSTRAINT, "A-label permitted, plain name", IDN, _box("a@bank.example"))

# --- Other kinds of names ---------------------------------------------------------------------------------

_DNS = _held([x509.DNSName("bank.example")])
below(TRUE, "constraint on hosts alone", _DNS)
below(
    S.CONSTRAINT,
    "constraint on hosts, host outside",
    _DNS,
    SAN([x509.RFC822Name("a@bank.example"), x509.DNSName("evil.example")]),
)
_IP = _held(None, [x509.IPAddress(ipaddress.ip_network("0.0.0.0/0"))])
below(TRUE, "constraint on IP addresses that no name has", _IP)
below(
    S.CONSTRAINT,
    "constraint on IP addresses, one is there",
    _IP,
    SAN([x509.RFC822Name("a@bank.example"), x509.IPAddress(ipaddress.ip_address("192.0.2.1"))]),
)
_DIRECTORY = x509.DirectoryName(name(o="Example Bank"))
_ORG = _held([_DIRECTORY])
below(TRUE, "directory name inside", _ORG, subject=name(o="Example Bank", cn="x"))
below(S.CONSTRAINT, "directory name outside", _ORG, subject=name(o="Evil Bank", cn="x"))
below(
    S.CONSTRAINT, "directory name excluded", _held(None, [_DIRECTORY]), subject=name(o="Example Bank", cn="x")
)
below(TRUE, "directory name in other case", _ORG, subject=name(o="EXAMPLE  bank", cn="x"))
_UPN = x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3"), b"\x0c\x01a")
below(
    TRUE,
    "login name beside the address, mail constrained",
    HOST,
    SAN([x509.RFC822Name("a@bank.example"), _UPN]),
)
below(
    S.CONSTRAINT,
    "login name below a constraint on login names",
    _held([_UPN]),
    SAN([x509.RFC822Name("a@bank.example"), _UPN]),
)


def _distances(tbs: Any) -> None:
    for one in tbs["extensions"]:
        if one["extn_id"].native == "name_constraints":
            value = asn1_x509.NameConstraints.load(one["extn_value"].contents)
            value["permitted_subtrees"][0]["minimum"] = 1
            one["extn_value"] = asn1_x509.ParsableOctetString(value.dump(force=True))


below(S.CONSTRAINT, "constraint with a least distance", changed(HOST, ROOT, _distances))
_EMPTY = _held(_mail(""))
below(S.CONSTRAINT, "an empty permitted text permits nobody", _EMPTY)
below(
    S.CONSTRAINT,
    "an empty excluded text excludes all",
    _held(None, _mail("")),
    why="OpenSSL has it match nobody",
)

_SUBJECTS = x509.Name([x509.NameAttribute(NameOID.EMAIL_ADDRESS, "ca@evil.example")])
_NAMED = authority(by=_UPPER, subject=_SUBJECTS)
case("authority's own address outside", S.CONSTRAINT, leaf(_NAMED), _NAMED, _UPPER)
