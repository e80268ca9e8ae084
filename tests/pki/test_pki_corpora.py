"""Published path cases, with mail protection exchanged for the purpose that their certificates have.

Nothing that must fail may be trusted; each exception has its reason here.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID as Eku

from mailsigil.pki import purpose
from mailsigil.pki.anchors import AnchorError, AnchorSet, TrustStore, load_anchor_file
from mailsigil.pki.path import PathStatus, PathValidator
from stopwatch import work_of_less_than

Corpus = Callable[[str], Path]
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----(.*?)-----END", re.DOTALL)

HOST = "compares host names, which play no part in mail"
ANCHOR = "is about how the anchor itself is encoded, and the administrator chose it"
CRL = "is about a revocation list: test_limbo_crl"
DEPTH = "sets a maximum depth, which is no setting here"
PROCESSED = "the constraint is obeyed whether it is marked critical or not"
LIMBO_SKIPS = {
    r"crl::": CRL,
    r"pathlen::max-chain-depth": DEPTH,
    r"cve::cve-2025-61727": HOST,
    r"rfc5280::nc::nc-permits-invalid-dns-san": HOST,
    r"rfc5280::nc::nc-forbids-dnsname-wildcard-san": HOST,
    r"rfc5280::san::(underscore-dns|ip-in-dns)": HOST,
    r"webpki::san::no-san": "mail may have its address in the subject (RFC 8550 3)",
    r"webpki::san::san-critical-with-nonempty-subject": "a critical alternative name is read all the same",
    r"webpki::(san|cn)::": HOST,
    r"rfc5280::aki::(critical-aki|cross-signed-root-missing-aki)": ANCHOR,
    r"rfc5280::ski::root-missing-ski": ANCHOR,
    r"rfc5280::root-non-critical-basic-constraints": ANCHOR,
    r"webpki::aki::root-": ANCHOR,
    r"webpki::eku::root-has-eku": ANCHOR,
    r"rfc5280::nc::permitted-dns-match-noncritical": PROCESSED,
    r"webpki::eku::ee-critical-eku": "forbidden for TLS, not for mail",
}
LIMBO_STRICTER = {
    "pathlen::validation-ignores-pathlen-in-leaf": "an authority does not sign mail",
    "rfc5280::ca-as-leaf": "an authority does not sign mail",
    "rfc5280::nc::permitted-ipv4-match": "constraints on IP addresses cannot be checked",
    "rfc5280::nc::permitted-ipv6-match": "constraints on IP addresses cannot be checked",
    "rfc5280::nc::nc-forbids-othername-noop": "constraints on other names cannot be checked",
    "rfc5280::unknown-critical-extension-unrelated-root": "a file of anchors is refused as a whole",
}


def _der(pem: str) -> bytes:
    return base64.b64decode(re.sub(r"-----[^-]+-----|\s", "", pem))


@pytest.fixture
def for_tls(monkeypatch: pytest.MonkeyPatch) -> Callable[[x509.ObjectIdentifier], None]:
    """Make the purpose checks ask for another purpose than mail."""

    def use(oid: x509.ObjectIdentifier) -> None:
        monkeypatch.setattr(purpose, "_MAIL", oid)
        monkeypatch.setattr(purpose, "_NEVER_WITH_MAIL", (Eku.ANY_EXTENDED_KEY_USAGE, Eku.CODE_SIGNING))

    return use


def _status(
    folder: Path,
    anchors: Sequence[bytes],
    leaf: bytes,
    others: Sequence[bytes],
    at: datetime,
    *,
    public: bool,
) -> PathStatus | None:
    """Validate as with a configuration: anchors come out of files. None where these are refused."""
    certificates: list[x509.Certificate] = []
    file = folder / "anchor.der"
    try:
        for anchor in anchors:
            file.write_bytes(anchor)
            certificates += load_anchor_file(file)
        asserts = frozenset({"br"} if public else ())
        anchor_set = AnchorSet(name="x", certificates=tuple(certificates), asserts=asserts)
        validator = PathValidator(TrustStore((anchor_set,)))
    except (AnchorError, ValueError):
        return None
    return validator.validate(leaf, others, at=at).status


@pytest.mark.integration
def test_x509_limbo(corpus: Corpus, tmp_path: Path, for_tls: Callable[[x509.ObjectIdentifier], None]) -> None:
    cases = json.loads(next(corpus("x509-limbo").rglob("limbo.json")).read_text())["testcases"]
    wrong, passed, used = [], 0, set()
    for case in cases:
        fails = case["expected_result"] == "FAILURE"
        skip = next((pattern for pattern in LIMBO_SKIPS if re.match(pattern, case["id"])), "")
        if fails and skip:
            continue
        for_tls(Eku.CLIENT_AUTH if case["validation_kind"] == "CLIENT" else Eku.SERVER_AUTH)
        time = case["validation_time"]
        status = _status(
            tmp_path,
            [_der(pem) for pem in case["trusted_certs"]],
            _der(case["peer_certificate"]),
            [_der(pem) for pem in case["untrusted_intermediates"]],
            datetime.fromisoformat(time) if time else datetime(2026, 7, 1, tzinfo=UTC),
            public=fails,
        )
        if case["id"] in LIMBO_STRICTER:
            used.add(case["id"])
        elif (status is PathStatus.TRUSTED) is fails:
            wrong.append((case["id"], status))
        passed += not fails and status is PathStatus.TRUSTED
    assert not wrong
    assert used == set(LIMBO_STRICTER)
    assert passed > 50  # the checks do not hold because everything is refused


@pytest.mark.integration
def test_x509_limbo_costs_no_case_a_second(
    corpus: Corpus, tmp_path: Path, for_tls: Callable[[x509.ObjectIdentifier], None]
) -> None:
    for_tls(Eku.SERVER_AUTH)
    cases = json.loads(next(corpus("x509-limbo").rglob("limbo.json")).read_text())["testcases"]
    for case in cases:
        if not case["id"].startswith("pathological::"):
            continue
        with work_of_less_than(1, case["id"]):
            _status(
                tmp_path,
                [_der(pem) for pem in case["trusted_certs"]],
                _der(case["peer_certificate"]),
                [_der(pem) for pem in case["untrusted_intermediates"]],
                datetime(2024, 1, 1, tzinfo=UTC),
                public=False,
            )
