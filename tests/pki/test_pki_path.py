from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from mailsigil.pki.anchors import AnchorSet, TrustStore
from mailsigil.pki.path import PathStatus, PathValidator
from pki.pki_make import MAIL, NOW, Made, leaf, mailbox, make, name, policies, root, smtp_utf8, usage
from spare_keys import dsa_key, rsa_key
from stopwatch import work_of_less_than

ROOT = root()
ISSUING = make(name(cn="Issuing"), ROOT, policies("2.5.29.32.0"), ca=True, path_length=0)
RSA_KEY = rsa_key()
PSS = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
SAN = x509.SubjectAlternativeName
EKU = x509.ExtendedKeyUsage


def trust(*roots: Made, public: bool = False) -> TrustStore:
    asserts = frozenset({"br"} if public else {"mailsigil"})
    certificates = tuple(made.certificate for made in roots)
    return TrustStore((AnchorSet(name="set", certificates=certificates, asserts=asserts),))


def judge(made: Made, *others: Made, anchors: Made = ROOT, public: bool = False, at: datetime = NOW) -> Any:
    return PathValidator(trust(anchors, public=public)).validate(made.der, [o.der for o in others], at=at)


def constrained(**trees: list[x509.GeneralName]) -> Made:
    permitted, excluded = trees.get("permitted"), trees.get("excluded")
    return make(name(cn="Held"), ROOT, x509.NameConstraints(permitted, excluded), ca=True)


def test_trusted_with_chain_policies_and_set() -> None:
    made = leaf(ISSUING, policies("1.2.3"))
    verdict = judge(made, ISSUING)
    assert verdict.status is PathStatus.TRUSTED
    assert verdict.chain == (made.der, ISSUING.der, ROOT.der)
    assert verdict.policies == {"1.2.3"}
    assert verdict.anchor_set.name == "set"


@pytest.mark.parametrize(
    ("key", "options"),
    [
        pytest.param(ec.generate_private_key(ec.SECP384R1()), {"hash_": hashes.SHA384()}, id="P-384"),
        pytest.param(ec.generate_private_key(ec.BrainpoolP256R1()), {}, id="brainpool"),
        pytest.param(ed25519.Ed25519PrivateKey.generate(), {}, id="Ed25519"),
        pytest.param(RSA_KEY, {}, id="RSA"),
        pytest.param(RSA_KEY, {"padding": PSS}, id="RSA-PSS"),
    ],
)
def test_algorithms(key: Any, options: dict[str, Any]) -> None:
    anchor = root(key=key)
    made = leaf(anchor, key=key, **options)
    assert judge(made, anchors=anchor).status is PathStatus.TRUSTED


def test_pathlen_of_the_anchor_counts() -> None:
    short = root(path_length=0)
    assert judge(leaf(short), anchors=short).status is PathStatus.TRUSTED
    below = make(name(cn="Below"), short, ca=True)
    assert judge(leaf(below), below, anchors=short).status is PathStatus.CONSTRAINT
    long = root(path_length=1)
    middle = make(name(cn="Middle"), long, ca=True)
    assert judge(leaf(middle), middle, anchors=long).status is PathStatus.TRUSTED


STRANGER = root()
HELD = constrained(permitted=[x509.RFC822Name("bank.example")])
HELD_DOT = constrained(permitted=[x509.RFC822Name(".bank.example")])
BARRED = constrained(excluded=[x509.RFC822Name("boss@bank.example"), x509.RFC822Name("evil.example")])
BARRED_OTHER = constrained(
    excluded=[x509.OtherName(x509.ObjectIdentifier("1.3.6.1.5.5.7.8.9"), b"\x0c\x01a")]
)
NO_CA = make(name(cn="NoCA"), ROOT)
TLS_CA = make(name(cn="TLS CA"), ROOT, EKU([ExtendedKeyUsageOID.SERVER_AUTH]), ca=True)
ANY_CA = make(name(cn="Any CA"), ROOT, EKU([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]), ca=True)
OLD_CA = make(name(cn="Old CA"), ROOT, ca=True, days=(-10, -5))
SHA1_CA = make(name(cn="SHA1 CA"), ROOT, ca=True, hash_=hashes.SHA224())
WEAK_CA = make(name(cn="Weak CA"), ROOT, ca=True, key=rsa_key(1024))
TOO_DEEP = make(name(cn="Too deep"), ISSUING, ca=True)
EMPTY_CA = make(x509.Name([]), ROOT, ca=True)
UTF8 = SAN([smtp_utf8("ä@other.example")])
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")


def case(status: PathStatus, made: Made, *others: Made, id: str, public: bool = False) -> Any:
    return pytest.param(status, made, others, public, id=id)


S = PathStatus
CASES = [
    case(S.UNTRUSTED, leaf(STRANGER), id="unknown root"),
    case(S.UNTRUSTED, leaf(STRANGER), STRANGER, id="root from the message is no anchor"),
    case(S.UNTRUSTED, leaf(ISSUING), id="intermediate missing"),
    case(S.UNTRUSTED, leaf(Made(ROOT.certificate, STRANGER.key), drop_aki=True), id="forged signature"),
    case(S.EXPIRED, leaf(ROOT, days=(-10, -1)), id="leaf expired"),
    case(S.EXPIRED, leaf(OLD_CA), OLD_CA, id="intermediate expired"),
    case(S.NOT_YET_VALID, leaf(ROOT, days=(1, 10)), id="leaf not yet valid"),
    case(S.BAD_PURPOSE, leaf(ROOT, EKU([ExtendedKeyUsageOID.SERVER_AUTH])), id="TLS server"),
    case(S.BAD_PURPOSE, leaf(ROOT, usage("key_encipherment")), id="encryption only"),
    case(S.BAD_PURPOSE, leaf(ROOT, usage("digital_signature", "key_cert_sign")), id="may sign certificates"),
    case(S.TRUSTED, leaf(ROOT, usage("content_commitment")), id="nonRepudiation only"),
    case(S.BAD_PURPOSE, make(name(cn="ca"), ROOT, MAIL, mailbox("a@x.example"), ca=True), id="leaf is a CA"),
    case(S.BAD_PURPOSE, ROOT, id="leaf is the anchor"),
    case(S.BAD_PURPOSE, leaf(TLS_CA), TLS_CA, id="authority for TLS only"),
    case(S.TRUSTED, leaf(ANY_CA), ANY_CA, id="authority for any purpose"),
    case(S.BAD_PURPOSE, leaf(ANY_CA), ANY_CA, id="public authority for any purpose", public=True),
    case(S.TRUSTED, leaf(ROOT, EKU([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE])), id="any, private anchor"),
    case(
        S.BAD_PURPOSE,
        leaf(ROOT, EKU([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE])),
        id="any, public anchor",
        public=True,
    ),
    case(
        S.BAD_PURPOSE,
        leaf(ROOT, EKU([ExtendedKeyUsageOID.EMAIL_PROTECTION, ExtendedKeyUsageOID.SERVER_AUTH])),
        id="mail and TLS, public anchor",
        public=True,
    ),
    case(S.TRUSTED, leaf(ROOT), id="public anchor", public=True),
    case(S.MALFORMED, leaf(ROOT, drop_aki=True), id="no issuer key identifier, public anchor", public=True),
    case(S.TRUSTED, leaf(ROOT, drop_aki=True), id="no issuer key identifier, private anchor"),
    case(
        S.MALFORMED,
        leaf(ROOT, critical=(x509.AuthorityKeyIdentifier,)),
        id="issuer key identifier critical",
    ),
    case(S.MALFORMED, leaf(ROOT, SAN([smtp_utf8("a@b@x.example")])), id="address that is none"),
    case(S.MALFORMED, leaf(EMPTY_CA), EMPTY_CA, id="authority without a name"),
    case(
        S.MALFORMED,
        leaf(ROOT, x509.NameConstraints([x509.RFC822Name("x.example")], None)),
        id="name constraints in a leaf",
    ),
    case(S.WEAK, leaf(ROOT, key=WEAK_CA.key), id="RSA-1024 leaf"),
    case(S.WEAK, leaf(WEAK_CA), WEAK_CA, id="RSA-1024 authority"),
    case(S.WEAK, leaf(ROOT, key=dsa_key()), id="DSA leaf"),
    case(S.WEAK, leaf(ROOT, key=ec.generate_private_key(ec.SECP256K1())), id="curve not accepted"),
    case(S.WEAK, leaf(SHA1_CA), SHA1_CA, id="short hash on an authority"),
    case(S.CONSTRAINT, leaf(NO_CA), NO_CA, id="issuer is no CA"),
    case(S.CONSTRAINT, leaf(TOO_DEEP), TOO_DEEP, ISSUING, id="path length"),
    case(S.CONSTRAINT, leaf(ROOT, UNKNOWN, critical=(type(UNKNOWN),)), id="unknown critical extension"),
    case(S.TRUSTED, leaf(ROOT, UNKNOWN), id="unknown extension"),
    case(S.TRUSTED, leaf(HELD), HELD, id="address permitted"),
    case(S.CONSTRAINT, leaf(HELD, mailbox("a@evil.example")), HELD, id="address not permitted"),
    case(S.CONSTRAINT, leaf(HELD, mailbox("a@sub.bank.example")), HELD, id="host is not its subdomains"),
    case(S.CONSTRAINT, leaf(HELD_DOT), HELD_DOT, id="domain is not its host"),
    case(S.TRUSTED, leaf(HELD_DOT, mailbox("a@x.bank.example")), HELD_DOT, id="subdomain permitted"),
    case(
        S.CONSTRAINT, leaf(HELD, mailbox("a@bank.example", "a@evil.example")), HELD, id="one of two addresses"
    ),
    case(S.CONSTRAINT, leaf(HELD, UTF8), HELD, id="SmtpUTF8Mailbox does not get around"),
    case(S.CONSTRAINT, leaf(BARRED, mailbox("boss@bank.example")), BARRED, id="address excluded"),
    case(S.CONSTRAINT, leaf(BARRED, mailbox("Boss@bank.example")), BARRED, id="excluded in other case"),
    case(S.CONSTRAINT, leaf(BARRED, mailbox("x@EVIL.example")), BARRED, id="host excluded"),
    case(S.TRUSTED, leaf(BARRED), BARRED, id="other address than the excluded"),
    case(
        S.CONSTRAINT,
        make(name(cn="x", email="a@evil.example"), HELD, MAIL),
        HELD,
        id="address in the subject not permitted",
    ),
]


@pytest.mark.parametrize(("status", "made", "others", "public"), CASES)
def test_verdict(status: PathStatus, made: Made, others: tuple[Made, ...], public: bool) -> None:
    verdict = judge(made, *others, public=public)
    assert verdict.status is status, verdict.reason
    assert bool(verdict.reason) is (status is not S.TRUSTED)
    assert bool(verdict.chain) is (status is S.TRUSTED)


def test_a_constraint_that_cannot_be_checked_is_never_trusted() -> None:
    assert judge(leaf(BARRED_OTHER, UTF8), BARRED_OTHER).status is not S.TRUSTED


def test_no_anchors_is_no_trust() -> None:
    made = leaf(ROOT)
    verdict = PathValidator(TrustStore(())).validate(made.der, [], at=NOW)
    assert verdict.status is S.UNTRUSTED
    empty = TrustStore((AnchorSet(name="empty", certificates=()),))
    assert PathValidator(empty).validate(made.der, [], at=NOW).status is S.UNTRUSTED


def test_self_made_copy_of_an_anchor_is_not_trusted() -> None:
    """The anchor's name and key with other contents and no valid signature must not pass as the anchor."""
    copy = make(
        ROOT.certificate.subject,
        Made(ROOT.certificate, STRANGER.key),
        MAIL,
        mailbox("ceo@bank.example"),
        key=ROOT.key,
    )
    assert judge(copy).status is not S.TRUSTED


def test_second_chain_is_tried() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    old = make(name(cn="Twice"), ROOT, ca=True, key=key, days=(-10, -5))
    new = make(name(cn="Twice"), ROOT, ca=True, key=key)
    made = leaf(new)
    assert judge(made, old, new).status is S.TRUSTED
    assert judge(made, new, old).status is S.TRUSTED


def test_policy_of_a_leaf_needs_the_authorities_consent() -> None:
    narrow = make(name(cn="Narrow"), ROOT, policies("1.2.1"), ca=True)
    verdict = judge(leaf(narrow, policies("1.2.1", "1.2.4")), narrow)
    assert verdict.status is S.TRUSTED
    assert verdict.policies == {"1.2.1"}


def test_mapped_policies_count_for_neither_name() -> None:
    mapping = x509.UnrecognizedExtension(
        x509.ObjectIdentifier("2.5.29.33"), bytes.fromhex("300a300806022a0106022a02")
    )
    bridge = make(name(cn="Bridge"), ROOT, policies("1.2.1"), mapping, ca=True)
    verdict = judge(leaf(bridge, policies("1.2.2")), bridge)
    assert verdict.policies == frozenset()


def test_garbage_beside_the_chain_does_no_harm() -> None:
    verdict = PathValidator(trust(ROOT)).validate(leaf(ISSUING).der, [b"junk", b"", ISSUING.der], at=NOW)
    assert verdict.status is S.TRUSTED


def test_too_many_certificates() -> None:
    assert judge(leaf(ISSUING), *[ISSUING] * 31).status is S.LIMIT


def test_cross_signed_mesh_is_bounded() -> None:
    """Authorities that all certify each other offer factorially many chains."""
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(5)]
    subject = name(cn="Mesh")
    nodes = [Made(make(subject, None, ca=True, key=key).certificate, key) for key in keys]
    mesh = [
        make(subject, issuer, ca=True, key=key, drop_aki=True)
        for issuer in nodes
        for key in keys
        if key is not issuer.key
    ]
    with work_of_less_than(1):
        assert judge(leaf(nodes[0], drop_aki=True), *mesh).status in (S.LIMIT, S.UNTRUSTED)


def test_many_names_under_many_constraints_are_bounded() -> None:
    trees = [x509.RFC822Name(f"h{n}.example") for n in range(400)]
    held = make(name(cn="Many"), ROOT, x509.NameConstraints(trees, None), ca=True)
    made = leaf(held, mailbox(*(f"u{n}@h{n}.example" for n in range(400))))
    with work_of_less_than(1):
        assert judge(made, held).status is S.LIMIT


def test_anchor_that_expired() -> None:
    gone = root(days=(-10, -1))
    assert judge(leaf(gone), anchors=gone).status is S.EXPIRED


def test_first_listed_set_counts() -> None:
    certificates = (ROOT.certificate,)
    first = AnchorSet(name="first", certificates=certificates)
    second = AnchorSet(name="second", certificates=certificates)
    verdict = PathValidator(TrustStore((first, second))).validate(leaf(ROOT).der, [], at=NOW)
    assert verdict.anchor_set is first


def test_cached_verdict_ends_with_the_first_expiry() -> None:
    validator = PathValidator(trust(ROOT), cache_size=2)
    made = leaf(ISSUING, days=(-1, 1))
    first = validator.validate(made.der, [ISSUING.der], at=NOW)
    assert validator.validate(made.der, [ISSUING.der], at=NOW + timedelta(hours=1)) is first
    end = NOW + timedelta(days=1)
    assert validator.validate(made.der, [ISSUING.der], at=end + timedelta(microseconds=5)).status is S.TRUSTED
    assert validator.validate(made.der, [ISSUING.der], at=end + timedelta(seconds=1)).status is S.EXPIRED
    before = NOW - timedelta(days=1, seconds=1)
    assert validator.validate(made.der, [ISSUING.der], at=before).status is S.NOT_YET_VALID


def test_negative_verdicts_do_not_last() -> None:
    validator = PathValidator(trust(ROOT))
    made = leaf(ROOT, days=(1, 10))
    assert validator.validate(made.der, [], at=NOW).status is S.NOT_YET_VALID
    assert validator.validate(made.der, [], at=NOW + timedelta(days=2)).status is S.TRUSTED


def test_naive_time_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        PathValidator(trust(ROOT)).validate(leaf(ROOT).der, [], at=datetime(2026, 6, 1))


_BYTES = leaf(ISSUING).der


@settings(max_examples=120, deadline=None)
@given(st.integers(0, len(_BYTES) - 1), st.integers(1, 255))
def test_any_changed_octet_is_noticed(position: int, change: int) -> None:
    damaged = bytearray(_BYTES)
    damaged[position] ^= change
    verdict = PathValidator(trust(ROOT)).validate(bytes(damaged), [ISSUING.der], at=NOW)
    assert verdict.status is not S.TRUSTED
    assert verdict.reason


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_give_a_verdict(data: bytes) -> None:
    assert PathValidator(trust(ROOT)).validate(data, [data], at=NOW).status is S.MALFORMED


def test_rfc9216_signers(corpus: Any) -> None:
    folder = corpus("rfc9216")
    pems = {p.name: p.read_bytes() for p in folder.rglob("*certificate.pem")}
    loaded = {n: x509.load_pem_x509_certificate(d) for n, d in pems.items()}
    roots = tuple(c for n, c in loaded.items() if n.endswith("root_certificate.pem"))
    validator = PathValidator(TrustStore((AnchorSet(name="lamps", certificates=roots),)))
    at = datetime(2025, 6, 1, tzinfo=UTC)
    for who in ("alice", "bob", "carlos", "dana"):
        for kind, status in (
            ("signature_verification", {S.TRUSTED}),
            ("encryption", {S.BAD_PURPOSE, S.WEAK}),
        ):
            certificate = loaded[f"{who}_s_{kind}_end_entity_certificate.pem"]
            der = Made(certificate, None).der
            others = [Made(c, None).der for n, c in loaded.items() if "cross_signed" in n]
            assert validator.validate(der, others, at=at).status in status
            assert certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
