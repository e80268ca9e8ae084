"""BoringSSL's path cases: chains that must hold and chains that must not, and the ways through several.

Each case that comes to something else here has its reason. Purposes are exchanged for mail protection.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID as Eku

from mailsigil.pki import purpose
from mailsigil.pki.anchors import AnchorError, AnchorSet, TrustStore, load_anchor_file
from mailsigil.pki.path import PathStatus, PathValidator, PathVerdict

Corpus = Callable[[str], Path]
S = PathStatus
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----(.*?)-----END", re.DOTALL)
_USAGES = {"SERVER": Eku.SERVER_AUTH, "CLIENT": Eku.CLIENT_AUTH}

# Cases that must fail, and are trusted here.
ACCEPTED = {
    "target-eku-clientauth/clientauth-strict.test": "an authority without a purpose may issue for mail",
}

_HELD = "an anchor is held to what its own certificate says (RFC 5937)"
_AT_ONCE = "and where it counts authorities, at once and not some authorities later"
_NO_ANCHOR = "a file of anchors is refused when one of them says that it is no authority"
_SENDER = "what an authority's certificate signs is not a person's mail"
_DECIPHER = "decipherOnly has no meaning without keyAgreement (RFC 5280 4.2.1.3)"
_SIGNS = "signing mail asks for digitalSignature or nonRepudiation, which a TLS server does not need"
# Cases that must hold, and are refused here: by the folder, or the folder and the case.
REFUSED = {
    "expired-root": _HELD,
    "policies-inhibit-anypolicy-by-root": f"{_HELD}, {_AT_ONCE}",
    "policies-inhibit-mapping-by-root": f"{_HELD}, {_AT_ONCE}",
    "policies-on-root-wrong": _HELD,
    "policies-required-by-root-fail": _HELD,
    "violates-pathlen-1-from-root": _HELD,
    "root-eku-clientauth/serverauth": _HELD,
    "policy-mappings-on-root": "a critical extension in an anchor that is not read there",
    "root-basic-constraints-ca-false": _NO_ANCHOR,
    "root-lacks-basic-constraints": _NO_ANCHOR,
    "root-lacks-keycertsign-key-usage": _NO_ANCHOR,
    "target-has-ca-basic-constraints": _SENDER,
    "target-has-keycertsign-but-not-ca": _SENDER,
    "target-not-end-entity": _SENDER,
    "target-serverauth-various-keyusages/ec-key": _SIGNS,
    "target-serverauth-various-keyusages/rsa-key": _SIGNS,
    "target-serverauth-various-keyusages/ec-decipherOnly": _DECIPHER,
    "target-serverauth-various-keyusages/rsa-decipherOnly": _DECIPHER,
    "target-has-pathlen-but-not-ca": "RFC 5280 4.2.1.9: a path length is an authority's",
    "target-msapplicationpolicies-and-eku": "a critical extension that is not read here (RFC 5280 4.2)",
    "unknown-non-critical-policy-qualifier": "a qualifier of another kind than RFC 5280 4.2.1.4 knows",
    "issuer-and-subject-not-byte-for-byte-equal": "RSA-1024 and SHA-1; spelling is tested with our own",
    "many-names/ok-all-types": "more comparisons of names than any path needs, and a bound",
}


@dataclass(frozen=True)
class Chain:
    """One ``.test`` file."""

    name: str
    holds: bool
    purpose: str
    strict: bool
    ders: list[bytes]
    at: datetime


def _ders(path: Path) -> list[bytes]:
    return [base64.b64decode(match) for match in _PEM.findall(path.read_bytes())]


def _chains(folder: Path) -> Iterator[Chain]:
    """All that are about a trust anchor and a purpose of TLS; leaves that are trusted as such are no idea
    of ours, and other purposes do not exist here."""
    for path in sorted(folder.rglob("*.test")):
        head, _, errors = path.read_text().partition("expected_errors:")
        values = dict(re.findall(r"^(\w+): ?(.*)$", head, re.MULTILINE))
        kind = re.match(r"(SERVER|CLIENT)_AUTH", values["key_purpose"])
        if kind is None or not values["last_cert_trust"].startswith("TRUSTED_ANCHOR"):
            continue
        if values["last_cert_trust"] == "TRUSTED_ANCHOR_OR_LEAF" and "ERROR" not in errors:
            continue
        time = values["utc_time"].replace("DEFAULT", "211005120000Z")
        yield Chain(
            str(path.relative_to(folder)),
            "ERROR" not in errors,
            kind[1],
            "STRICT" in values["key_purpose"],
            _ders(path.parent / values["chain"]),
            datetime.strptime(f"20{time}", "%Y%m%d%H%M%SZ").replace(tzinfo=UTC),
        )


def _validate(
    tmp: Path, roots: list[bytes], leaf: bytes, pool: list[bytes], at: datetime, *, public: bool = False
) -> PathVerdict | None:
    """Validate with anchors that come out of files. None where these are refused."""
    certificates: list[x509.Certificate] = []
    for der in roots:
        (tmp / "anchor.der").write_bytes(der)
        try:
            certificates += load_anchor_file(tmp / "anchor.der")
        except AnchorError:
            return None
    asserts = frozenset({"br"} if public else ())
    anchors = AnchorSet(name="x", certificates=tuple(certificates), asserts=asserts)
    return PathValidator(TrustStore((anchors,))).validate(leaf, pool, at=at)


@pytest.mark.integration
def test_chains(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = next(corpus("boringssl-pki").rglob("verify_certificate_chain_unittest"))
    never = (Eku.ANY_EXTENDED_KEY_USAGE, Eku.CODE_SIGNING)
    monkeypatch.setattr(purpose, "_NEVER_WITH_MAIL", never)
    accepted, refused, used = [], [], set()
    count = {True: 0, False: 0}
    for chain in _chains(folder):
        monkeypatch.setattr(purpose, "_MAIL", _USAGES[chain.purpose])
        *pool, root = chain.ders[1:] or chain.ders
        # The strict purposes are those of public authorities, where a case must fail.
        public = chain.strict and not chain.holds
        verdict = _validate(tmp_path, [root], chain.ders[0], pool, chain.at, public=public)
        trusted = verdict is not None and verdict.status is S.TRUSTED
        count[chain.holds] += 1
        reason = next((key for key in REFUSED if chain.name.startswith(key)), "")
        if trusted and not chain.holds:
            accepted.append(chain.name)
        elif chain.holds and not trusted:
            refused += [] if reason else [chain.name]
            used.add(reason)
    assert accepted == list(ACCEPTED)
    assert refused == []
    assert used == set(REFUSED)
    assert (count[False] > 60, count[True] > 60) == (True, True)


WAYS = [
    # anchors, sender, what comes along, whether a way leads through
    ("multi-root-D-by-D", "multi-root-A-by-B", ("B-by-C", "B-by-F", "C-by-D", "C-by-E", "F-by-E"), True),
    ("multi-root-E-by-E", "multi-root-A-by-B", ("B-by-C", "B-by-F", "C-by-D", "C-by-E", "F-by-E"), True),
    ("multi-root-E-by-E", "multi-root-A-by-B", ("B-by-C", "C-by-D", "F-by-E"), False),
    ("multi-root-E-by-E", "multi-root-A-by-B", ("B-by-F", "C-by-D", "F-by-E"), True),
    ("multi-root-D-by-D", "multi-root-A-by-B", ("B-by-F", "F-by-E", "E-by-E"), False),
    ("multi-root-C-by-D", "multi-root-A-by-B", ("B-by-C",), True),
    ("multi-root-B-by-C", "multi-root-A-by-B", (), True),
    ("multi-root-D-by-D", "multi-root-A-by-B", (), False),
]


@pytest.mark.parametrize(("root", "sender", "pool", "holds"), WAYS)
def test_ways_through_several_roots(
    corpus: Corpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    root: str,
    sender: str,
    pool: tuple[str, ...],
    holds: bool,
) -> None:
    monkeypatch.setattr(purpose, "_MAIL", Eku.SERVER_AUTH)
    folder = next(corpus("boringssl-pki").rglob("path_builder_unittest"))
    others = [_ders(folder / f"multi-root-{name}.pem")[0] for name in pool]
    for order in (others, others[::-1]):
        verdict = _validate(
            tmp_path,
            _ders(folder / f"{root}.pem"),
            _ders(folder / f"{sender}.pem")[0],
            order,
            datetime(2017, 3, 1, tzinfo=UTC),
        )
        assert verdict is not None
        assert (verdict.status is S.TRUSTED) is holds, verdict.reason


@pytest.mark.parametrize(
    ("case", "roots"),
    [
        ("key_id_prioritization", ("root",)),
        ("key_id_name_and_serial_prioritization", ("root",)),
        ("key_id_name_and_serial_prioritization", ("root", "root2")),
        ("self_issued_prioritization", ("root1",)),
        ("self_issued_prioritization", ("root2",)),
        ("validity_date_prioritization", ("root",)),
    ],
)
def test_any_order_of_candidates(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str, roots: tuple[str, ...]
) -> None:
    """These are about which candidate is tried first; here each that leads to an anchor is good enough."""
    monkeypatch.setattr(purpose, "_MAIL", Eku.SERVER_AUTH)
    folder = next(corpus("boringssl-pki").rglob("path_builder_unittest")) / case
    pool = [_ders(path)[0] for path in sorted(folder.glob("*.pem")) if path.stem not in {"target", *roots}]
    anchors = [_ders(folder / f"{root}.pem")[0] for root in roots]
    for order in (pool, pool[::-1]):
        verdict = _validate(
            tmp_path, anchors, _ders(folder / "target.pem")[0], order, datetime(2017, 3, 1, tzinfo=UTC)
        )
        assert verdict is not None
        assert verdict.status is S.TRUSTED, verdict.reason


def test_what_is_no_certificate_of_today(corpus: Corpus, tmp_path: Path) -> None:
    """A precertificate is not to be used (RFC 6962 3.1); Merkle tree certificates are not known."""
    folder = next(corpus("boringssl-pki").rglob("path_builder_unittest"))
    root = _ders(folder / "precertificate" / "root.pem")
    early = _ders(folder / "precertificate" / "precertificate.pem")[0]
    verdict = _validate(tmp_path, root, early, [], datetime(2023, 10, 1, tzinfo=UTC))
    assert verdict is not None
    assert verdict.status is S.CONSTRAINT, verdict.reason
    for path in sorted((folder / "mtc_plants04").glob("mtc-leaf*.pem")):
        verdict = _validate(tmp_path, root, _ders(path)[0], [], datetime(2025, 1, 1, tzinfo=UTC))
        assert verdict is not None
        assert verdict.status is S.UNTRUSTED
