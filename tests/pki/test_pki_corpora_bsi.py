"""The BSI's path cases, as Botan keeps them: each with the verdict it must have, for cause."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID as Eku

from mailsigil.pki import purpose
from mailsigil.pki.anchors import AnchorSet, TrustStore
from mailsigil.pki.conformance import nonconformity
from mailsigil.pki.evidence import RevocationStatus
from mailsigil.pki.parsed import parse_certificate
from mailsigil.pki.path import PathStatus, PathValidator, PathVerdict
from mailsigil.pki.revocation import Carried, RevocationChecker

Corpus = Callable[[str], Path]
S = PathStatus
AT = datetime(2017, 7, 28, tzinfo=UTC)
_PEM = re.compile(rb"-----BEGIN [^-]+-----(.*?)-----END", re.DOTALL)

# What each case must come to; the words of the corpus stand in its expected.txt.
EXPECTED: dict[str, PathStatus] = {
    **dict.fromkeys(("common_01", "common_13", "common_14", "ext_03", "ext_09", "ext_16"), S.TRUSTED),
    "common_02": S.UNTRUSTED,
    "common_03": S.MALFORMED,  # two signature algorithms
    "common_04": S.WEAK,  # an unknown signature algorithm
    "common_05": S.MALFORMED,  # truncated
    "common_06": S.MALFORMED,  # a negative serial number: Botan warns, RFC 5280 4.1.2.2 forbids it
    **dict.fromkeys(("common_07", "common_09"), S.NOT_YET_VALID),
    **dict.fromkeys(("common_08", "common_10"), S.EXPIRED),
    "common_11": S.MALFORMED,  # version 5
    "common_12": S.TRUSTED,  # a common name of 73 characters: Botan warns, and names are cut where they show
    **dict.fromkeys(("algo_strength_01", "algo_strength_02"), S.WEAK),
    **dict.fromkeys(("algo_strength_03", "crypt_01", "crypt_02"), S.UNTRUSTED),
    **dict.fromkeys(("ext_01", "ext_02", "ext_05", "ext_10", "ext_12"), S.MALFORMED),
    **dict.fromkeys(("ext_04", "ext_06", "ext_07", "ext_08", "ext_11"), S.CONSTRAINT),
    "ext_13": S.CONSTRAINT,  # any policy, mapped
    "ext_14": S.BAD_PURPOSE,  # the sender's certificate is an authority's
    "ext_15": S.MALFORMED,  # name constraints in the sender's certificate
    "ext_17": S.TRUSTED,  # see test_constraints_that_are_not_critical
    **dict.fromkeys(("ext_18", "ext_19"), S.CONSTRAINT),
    "CRL_10": S.MALFORMED,  # revoked, and refused already for its negative serial number
}
REVOKED = ("CRL_02", "CRL_03", "CRL_05", "CRL_07", "CRL_16")
SILENT = ("CRL_01", "CRL_04", "CRL_06", "CRL_08", "CRL_09", *(f"CRL_{number}" for number in range(11, 16)))


def _der(path: Path) -> bytes:
    data = path.read_bytes()
    found = _PEM.search(data)
    return base64.b64decode(found[1]) if found else data


def _case(folder: Path) -> dict[str, list[bytes]]:
    kinds: dict[str, list[bytes]] = {"TA": [], "TC": [], "ca": []}
    for path in sorted(folder.glob("*.crt")):
        kinds[path.name.split(".")[1]].append(_der(path))
    return kinds


def _judge(folder: Path) -> PathVerdict:
    kinds = _case(folder)
    anchors = tuple(x509.load_der_x509_certificate(der) for der in kinds["TA"])
    validator = PathValidator(TrustStore((AnchorSet(name="x", certificates=anchors),)))
    return validator.validate(kinds["TC"][0], kinds["ca"], at=AT)


@pytest.fixture
def folder(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cases, which are about TLS servers."""
    monkeypatch.setattr(purpose, "_MAIL", Eku.SERVER_AUTH)
    return next(corpus("botan-bsi").rglob("expected.txt")).parent


def test_every_case_has_its_verdict(folder: Path) -> None:
    names = {line.partition("$")[0] for line in (folder / "expected.txt").read_text().splitlines()}
    assert {name for name in names if name and not name.startswith("#")} == {*EXPECTED, *REVOKED, *SILENT}
    found = {name: _judge(folder / name).status for name in EXPECTED}
    assert found == EXPECTED


@pytest.mark.parametrize("name", [*REVOKED, *SILENT])
def test_lists(folder: Path, name: str) -> None:
    verdict = _judge(folder / name)
    assert verdict.status is S.TRUSTED, verdict.reason
    carried = Carried(tuple(_der(path) for path in sorted((folder / name).glob("crls/*.crl"))))
    found = RevocationChecker(now=lambda: AT).status(verdict.chain, carried=carried, at=AT)
    assert (found.status is RevocationStatus.REVOKED) is (name in REVOKED), found.reason
    assert found.status is not RevocationStatus.GOOD


def test_lists_that_are_as_they_should_be(folder: Path) -> None:
    """So that the cases above do not fail because every list does."""
    verdict = _judge(folder / "CRL_02")
    carried = Carried(tuple(_der(path) for path in sorted((folder / "CRL_02").glob("crls/*.crl"))))
    found = RevocationChecker(now=lambda: AT).status(verdict.chain[1:], carried=carried, at=AT)
    assert found.status is RevocationStatus.GOOD


def test_constraints_that_are_not_critical(folder: Path) -> None:
    """ext_17: obeyed under a private anchor, refused under a public one (RFC 5280 4.2.1.11)."""
    kinds = _case(folder / "ext_17")
    faults = [nonconformity(parse_certificate(der), [], public=True) for der in kinds["ca"]]
    assert any("has to be critical" in fault for fault in faults)
