"""Policies, algorithms, validity, and chains in every shape (RFC 5280 6, RFC 8550 4)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from asn1crypto import core as asn1_core
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding

from mailsigil.pki.path import PathStatus as S
from pki.hostile import ROOT, TRUE, authority, below, case
from pki.pki_make import MAIL, NOW, Made, leaf, mailbox, make, name, policies, root
from pki.pki_raw import Raw, changed, sha1_signed, spliced
from spare_keys import dsa_key, rsa_key

ANY_POLICY = "2.5.29.32.0"

# --- Policies -----------------------------------------------------------------------------------------


def _limits(explicit: int | None = None, mapping: int | None = None) -> x509.PolicyConstraints:
    return x509.PolicyConstraints(explicit, mapping)


def _mapped(*pairs: tuple[str, str]) -> x509.UnrecognizedExtension:
    mapping = asn1_x509.PolicyMappings(
        [{"issuer_domain_policy": one, "subject_domain_policy": other} for one, other in pairs]
    )
    return x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.33"), mapping.dump())


CHECKED = ("-policy_check", "-policy", ANY_POLICY)
_EXPLICIT = authority(policies("1.2.3"), _limits(0), critical=(x509.PolicyConstraints,))
POLICIES: list[tuple[str, Any, tuple[Any, ...], S]] = [
    ("required, the same", _EXPLICIT, (policies("1.2.3"),), TRUE),
    ("required, none", _EXPLICIT, (), S.CONSTRAINT),
    ("required, another", _EXPLICIT, (policies("1.2.4"),), S.CONSTRAINT),
    ("required, any", _EXPLICIT, (policies(ANY_POLICY),), TRUE),
    (
        "required, any forbidden",
        authority(policies("1.2.3"), _limits(0), x509.InhibitAnyPolicy(0)),
        (policies(ANY_POLICY),),
        S.CONSTRAINT,
    ),
    ("required one below, so not here yet", authority(policies("1.2.3"), _limits(2)), (), TRUE),
    (
        "required, mapped",
        authority(policies("1.2.3"), _limits(0), _mapped(("1.2.3", "1.2.9"))),
        (policies("1.2.9"),),
        TRUE,
    ),
    (
        "required, mapped, the old one",
        authority(policies("1.2.3"), _limits(0), _mapped(("1.2.3", "1.2.9"))),
        (policies("1.2.3"),),
        S.CONSTRAINT,
    ),
    (
        "any policy mapped",
        authority(policies(ANY_POLICY), _mapped((ANY_POLICY, "1.2.9"))),
        (policies("1.2.9"),),
        S.CONSTRAINT,
    ),
]
for _title, _by, _given, _status in POLICIES:
    case(f"policy {_title}", _status, leaf(_by, *_given), _by, options=CHECKED)
_NO_MAPPING = authority(policies("1.2.3"), _limits(0, 0), subject=name(cn="No mapping"))
_MAPS = authority(policies("1.2.3"), _mapped(("1.2.3", "1.2.9")), by=_NO_MAPPING)
case(
    "policy mapped where it must not",
    S.CONSTRAINT,
    leaf(_MAPS, policies("1.2.9")),
    _MAPS,
    _NO_MAPPING,
    options=CHECKED,
)
_FAR = authority(policies("1.2.3"), _limits(1), subject=name(cn="Far"))
_NEAR = authority(by=_FAR)
case("policy required two below, none there", S.CONSTRAINT, leaf(_NEAR), _NEAR, _FAR, options=CHECKED)
case("policy twice", S.MALFORMED, leaf(ROOT, policies("1.2.3", "1.2.3")), options=CHECKED)

# --- Keys and signatures --------------------------------------------------------------------------------


_RSA1024, _RSA2048 = rsa_key(1024), rsa_key()
_WEAK = "OpenSSL's default is 80 bits of security, RFC 8550 4.3 and we want 2048 bits of RSA"
case("RSA 1024, sender", S.WEAK, leaf(ROOT, key=_RSA1024), why=_WEAK)
below(S.WEAK, "RSA 1024, authority", authority(key=_RSA1024), why=_WEAK)
_WEAK_ROOT = root(key=_RSA1024)
case("RSA 1024, root", S.WEAK, leaf(_WEAK_ROOT), anchor=_WEAK_ROOT, why=_WEAK)
case("RSA 2048 with exponent 3", TRUE, leaf(ROOT, key=rsa_key(2048, 3)))
case("RSA 2040", S.WEAK, leaf(ROOT, key=rsa_key(2040)), why=_WEAK)


def _exponent(number: int) -> Callable[[Any], None]:
    def change(tbs: Any) -> None:
        key = tbs["subject_public_key_info"]["public_key"].parsed
        key["public_exponent"] = number
        tbs["subject_public_key_info"]["public_key"] = asn1_core.ParsableOctetBitString(key.dump(force=True))

    return change


for _number, _note in ((1, "1"), (2, "2"), ((1 << 1024) + 1, "of a thousand bits")):
    case(
        f"RSA exponent {_note}",
        S.WEAK,
        changed(leaf(ROOT, key=_RSA2048), ROOT, _exponent(_number)),
        why="a verification with it proves nothing, or costs too much",
    )
case("DSA", S.WEAK, leaf(ROOT, key=dsa_key()), why="RFC 8550 4.3: historic")
case("secp256k1", S.WEAK, leaf(ROOT, key=ec.generate_private_key(ec.SECP256K1())), why="a curve not for mail")
case("P-224", S.WEAK, leaf(ROOT, key=ec.generate_private_key(ec.SECP224R1())), why="112 bits of security")
case("P-521", TRUE, leaf(ROOT, key=ec.generate_private_key(ec.SECP521R1())))
case("Ed25519", TRUE, leaf(ROOT, key=ed25519.Ed25519PrivateKey.generate()))
_ED = root(key=ed25519.Ed25519PrivateKey.generate())
case("signed with Ed25519", TRUE, leaf(_ED), anchor=_ED)
_PSS_ROOT = root(key=_RSA2048)
for _hash, _salt, _status in (
    (hashes.SHA256(), 32, TRUE),
    (hashes.SHA512(), 64, TRUE),
    (hashes.SHA256(), 20, TRUE),
):
    _pss = padding.PSS(padding.MGF1(_hash), _salt)
    case(
        f"PSS {_hash.name} with a salt of {_salt}",
        _status,
        leaf(_PSS_ROOT, hash_=_hash, padding=_pss),
        anchor=_PSS_ROOT,
    )
case("SHA-384", TRUE, leaf(ROOT, hash_=hashes.SHA384()))
case("SHA3-256", S.WEAK, leaf(ROOT, hash_=hashes.SHA3_256()), depends=True)  # known from 3.5 on
case("SHA-224", S.WEAK, leaf(ROOT, hash_=hashes.SHA224()), why="not used by anybody, 112 bits of security")

_RSA_ROOT = make(name(o="RSA root"), None, ca=True, key=_RSA2048)
_OLD_STYLE = "RFC 8550 4.3: SHA-1 is historic; OpenSSL's level here still lets it pass"
case("SHA-1, sender", S.WEAK, sha1_signed(leaf(_RSA_ROOT), _RSA_ROOT), anchor=_RSA_ROOT, why=_OLD_STYLE)
_SHA1_SUB = make(name(cn="Sub"), _RSA_ROOT, ca=True)
_SHA1_CHANGED = sha1_signed(_SHA1_SUB, _RSA_ROOT)
case("SHA-1, authority", S.WEAK, leaf(_SHA1_SUB), _SHA1_CHANGED, anchor=_RSA_ROOT, why=_OLD_STYLE)
_SHA1_ROOT = sha1_signed(_RSA_ROOT, _RSA_ROOT)
case("SHA-1, the root's own signature", TRUE, leaf(_RSA_ROOT), anchor=_SHA1_ROOT)

# --- Validity -------------------------------------------------------------------------------------------

SECOND = timedelta(seconds=1)
_DATED = leaf(ROOT, days=(-1, 1))
_FROM, _UNTIL = NOW - timedelta(days=1), NOW + timedelta(days=1)
for _title, _at, _status in (
    ("the second before", _FROM - SECOND, S.NOT_YET_VALID),
    ("the first second", _FROM, TRUE),
    ("the last second", _UNTIL, TRUE),
    ("the second after", _UNTIL + SECOND, S.EXPIRED),
):
    why = (
        "to OpenSSL the last second is one too late, RFC 5280 4.1.2.5 has it belong" if _at == _UNTIL else ""
    )
    case(f"validity, {_title}", _status, _DATED, at=_at, why=why)
_OLD, _NEXT = authority(days=(-10, -5)), authority(days=(5, 10))
below(S.EXPIRED, "authority expired", _OLD)
below(S.NOT_YET_VALID, "authority not yet valid", _NEXT)
_GONE = root(days=(-10, -5))
case("root expired", S.EXPIRED, leaf(_GONE), anchor=_GONE)


def _times(start: Any, end: Any) -> Callable[[Any], None]:
    def change(tbs: Any) -> None:
        tbs["validity"]["not_before"], tbs["validity"]["not_after"] = start, end

    return change


def _utc(year: int) -> Any:
    return asn1_x509.Time("utc_time", asn1_core.UTCTime(datetime(year, 1, 1, tzinfo=UTC)))


def _general(year: int) -> Any:
    return asn1_x509.Time("general_time", asn1_core.GeneralizedTime(datetime(year, 1, 1, tzinfo=UTC)))


case(
    "valid until 2050 and later",
    TRUE,
    changed(leaf(ROOT), ROOT, _times(_utc(2020), _general(2060))),
    anchor=ROOT,
)
case("valid for ever", TRUE, changed(leaf(ROOT), ROOT, _times(_utc(2020), _general(9999))))
case("GeneralizedTime before 2050", TRUE, changed(leaf(ROOT), ROOT, _times(_utc(2020), _general(2040))))
case("begins after its end", S.NOT_YET_VALID, changed(leaf(ROOT), ROOT, _times(_utc(2030), _utc(2020))))
_STAMP = b"\x17\x0d" + f"{_UNTIL:%y%m%d%H%M%SZ}".encode()
case("time without a zone", S.MALFORMED, spliced(_DATED, ROOT, _STAMP, _STAMP[:-1] + b"0"))
case("month 13", S.MALFORMED, spliced(_DATED, ROOT, _STAMP, _STAMP[:4] + b"13" + _STAMP[6:]))

# --- Chains in every shape -------------------------------------------------------------------------------

AUTHORITY = authority()
_KEY = ec.generate_private_key(ec.SECP256R1())
_OTHER_ROOT = make(name(o="Other root"), None, ca=True)
_CROSS = make(AUTHORITY.certificate.subject, _OTHER_ROOT, ca=True, key=AUTHORITY.key)
case("cross-certificate to another root", TRUE, leaf(AUTHORITY), _CROSS, anchor=_OTHER_ROOT)
ONE_TRY = "OpenSSL follows one path alone, the first it finds"
case("cross-certificate to a root nobody knows", TRUE, leaf(AUTHORITY), _CROSS, AUTHORITY, why=ONE_TRY)
case("all authorities missing", S.UNTRUSTED, leaf(AUTHORITY))
_LOOP_A, _LOOP_B = name(cn="Loop A"), name(cn="Loop B")
_KEY_A, _KEY_B = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
_A_SELF, _B_SELF = make(_LOOP_A, None, ca=True, key=_KEY_A), make(_LOOP_B, None, ca=True, key=_KEY_B)
_A_BY_B, _B_BY_A = make(_LOOP_A, _B_SELF, ca=True, key=_KEY_A), make(_LOOP_B, _A_SELF, ca=True, key=_KEY_B)
case("two authorities in a circle", S.UNTRUSTED, leaf(_A_SELF), _A_BY_B, _B_BY_A, _A_SELF, _B_SELF)
_A_BY_ROOT = make(_LOOP_A, ROOT, ca=True, key=_KEY_A)
case("a circle with a way out", TRUE, leaf(_B_SELF), _A_BY_B, _B_BY_A, _A_BY_ROOT, why=ONE_TRY)
_DEEP: list[Any] = [ROOT]
for _depth in range(10):
    _DEEP.append(authority(by=_DEEP[-1], subject=name(cn=f"Depth {_depth}")))
case("eight authorities", TRUE, leaf(_DEEP[8]), *_DEEP[1:9])
case("ten authorities", S.LIMIT, leaf(_DEEP[10]), *_DEEP[1:], why="more than anybody has, and a bound")
_SAME = leaf(AUTHORITY)
case("sender among the authorities", TRUE, _SAME, AUTHORITY, _SAME)
case(
    "an authority as anchor of its own", TRUE, leaf(AUTHORITY), anchor=AUTHORITY, options=("-partial_chain",)
)
_BROKEN = Raw(AUTHORITY.der[:-1] + bytes([AUTHORITY.der[-1] ^ 1]), AUTHORITY.key)
case("authority with a spoilt signature", S.UNTRUSTED, leaf(AUTHORITY), _BROKEN)
case(
    "authority with a spoilt signature, and the true one",
    TRUE,
    leaf(AUTHORITY),
    _BROKEN,
    AUTHORITY,
    why=ONE_TRY,
)


def _printable(tbs: Any) -> None:
    tbs["issuer"] = asn1_x509.Name.build({"organization_name": "EXAMPLE   bank", "common_name": "root"})


case("issuer spelt otherwise", TRUE, changed(leaf(ROOT), ROOT, _printable))
case(
    "empty subject",
    TRUE,
    make(x509.Name([]), ROOT, MAIL, mailbox("a@bank.example"), critical=(x509.SubjectAlternativeName,)),
)
_NAMELESS = authority(subject=x509.Name([]))
below(S.MALFORMED, "authority without a name", _NAMELESS, why="RFC 5280 4.1.2.6: an authority has a name")
case("key for nobody", S.UNTRUSTED, Raw(Made(leaf(AUTHORITY).certificate, _KEY).der, _KEY))
