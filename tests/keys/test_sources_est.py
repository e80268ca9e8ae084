"""EST against libest's estserver."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from keys.employees import ALICE
from mailsigil.keys.errors import (
    Pending,
    SourceAnswer,
    SourceError,
    SourceRefused,
    SourceUnavailable,
)
from mailsigil.keys.newkey import NewKey
from mailsigil.keys.profile import KeyKind
from mailsigil.keys.secret_files import SecretFile
from mailsigil.keys.soft_key import soft_key
from mailsigil.keys.source import HeldKey
from mailsigil.keys.sources.est import BasicLogin, EstAuthority
from mailsigil.keys.sources.http import HttpClient, TlsFiles
from mailsigil.keys.subject import SubjectRequest
from servers.libest import PASSWORD, USER, LibEst, why_not

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(bool(why_not()), reason=why_not()),
]
REQUEST = SubjectRequest(address=ALICE)


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


@pytest.fixture(scope="module")
def est(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LibEst]:
    with LibEst(tmp_path_factory.mktemp("est")) as server:
        yield server


def client(
    est: LibEst, *, password: str = PASSWORD, ca_file: Path | None = None, login: bool = True
) -> EstAuthority:
    file = est.home / f"password-{password}"
    file.write_text(password)
    file.chmod(0o600)
    tls = TlsFiles(ca_file=str(ca_file or est.home / "ca.pem"))
    return EstAuthority(
        HttpClient("est", est.url, tls=tls, timeout=10),
        tls=tls,
        login=BasicLogin(USER, SecretFile("est", str(file))) if login else None,
        kind=KeyKind.P256,
        now=now,
    )


def test_what_the_server_says_of_itself(est: LibEst) -> None:
    (root,) = client(est).cacerts()
    assert root.subject.rfc4514_string() == "CN=EST Root"
    assert isinstance(client(est).csrattrs(), bytes)
    assert client(est).kind_for(KeyKind.P256) in KeyKind


@pytest.mark.parametrize("kind", [KeyKind.P256, KeyKind.RSA2048], ids=str)
def test_enrol_and_renew_with_the_old_certificate(est: LibEst, kind: KeyKind, tmp_path: Path) -> None:
    new = NewKey.generate(REQUEST, kind)
    time.sleep(1)  # Its certificates begin at the second of their making.
    chain = client(est).enrol(REQUEST, new)
    leaf = x509.load_der_x509_certificate(chain[0])
    file = tmp_path / "alice.pem"
    file.write_bytes(new.private_pem() + leaf.public_bytes(Encoding.PEM))
    held = HeldKey(soft_key(new.private_key(), leaf, [], origin=file), file)
    successor = NewKey.generate(REQUEST, kind)
    # Without a password: the old certificate alone says who asks.
    renewed = client(est, login=False).renew(REQUEST, successor, current=held)
    assert x509.load_der_x509_certificate(renewed[0]).serial_number != leaf.serial_number


def test_a_wrong_password_is_told(est: LibEst) -> None:
    with pytest.raises(SourceRefused, match=r"refuses the login \(401\)"):
        client(est, password="other").enrol(REQUEST, NewKey.generate(REQUEST, KeyKind.P256))


def test_a_server_that_nobody_vouches_for_is_told(est: LibEst, tmp_path: Path) -> None:
    from keys.employees import ROOT

    (tmp_path / "other.pem").write_bytes(ROOT.public_bytes(Encoding.PEM))
    with pytest.raises(SourceUnavailable, match="is not vouched for"):
        client(est, ca_file=tmp_path / "other.pem").cacerts()


def test_the_short_answer_to_serverkeygen_is_refused(est: LibEst) -> None:
    with pytest.raises(SourceAnswer, match=r"cut off before its end.*Use simpleenroll"):
        client(est).make(REQUEST)


def test_the_server_takes_its_time(tmp_path: Path) -> None:
    with LibEst(tmp_path, "-m", "7") as server, pytest.raises(Pending) as caught:
        client(server).enrol(REQUEST, NewKey.generate(REQUEST, KeyKind.P256))
    assert caught.value.retry_after > 0


@pytest.mark.parametrize("kind", [KeyKind.P256, KeyKind.RSA2048], ids=str)
def test_a_server_that_wants_requests_bound_to_their_connection(tmp_path: Path, kind: KeyKind) -> None:
    """estserver -t: a request whose challengePassword is not that of its TLS connection is refused."""
    with LibEst(tmp_path, "-t") as server:
        asked = client(server)
        new = NewKey.generate(REQUEST, kind)
        with pytest.raises(SourceError):
            asked.enrol(REQUEST, new)  # Before its wishes are known.
        assert asked.kind_for(kind) is kind
        time.sleep(1)
        leaf = x509.load_der_x509_certificate(asked.enrol(REQUEST, new)[0])
        file = tmp_path / "alice.pem"
        file.write_bytes(new.private_pem() + leaf.public_bytes(Encoding.PEM))
        held = HeldKey(soft_key(new.private_key(), leaf, [], origin=file), file)
        assert asked.renew(REQUEST, NewKey.generate(REQUEST, kind), current=held)


def test_there_is_no_revocation(est: LibEst) -> None:
    with pytest.raises(SourceRefused, match="no revocation"):
        client(est).revoke(b"")
