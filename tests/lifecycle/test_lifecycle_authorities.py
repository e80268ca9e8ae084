"""From slapd to the certificate, with each kind of authority as it is: embedded, OpenBao, EST."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from sqlalchemy import select

from integration.ldap_house import slapd
from mailsigil.config.loading import load_settings
from mailsigil.demo.bank import ALL_SIGN, FRAME, ORGANISATION, directory_lines
from mailsigil.demo.programs import DemoError
from mailsigil.demo.slapd import SUFFIX, Slapd
from mailsigil.directory.opening import open_directory
from mailsigil.keys.authority import Authority
from mailsigil.keys.files import address_file_name
from mailsigil.lifecycle.carry_out import Report
from mailsigil.lifecycle.database import connect
from mailsigil.lifecycle.run import begin, open_house
from mailsigil.lifecycle.tables import certificates
from mailsigil.service import utc_now
from servers import openbao
from servers.ca_serve import PASSWORD, CaServe
from servers.openbao import OpenBao

pytestmark = pytest.mark.integration


def _person(uid: str, given: str, surname: str) -> str:
    return (
        f"dn: uid={uid},ou=people,{SUFFIX}\nobjectClass: inetOrgPerson\nobjectClass: mailsigilPerson\n"
        f"uid: {uid}\ncn: {given} {surname}\ngivenName: {given}\nsn: {surname}\ntitle: Clerk\n"
        f"mail: {uid}@bank.example\nmailsigilValidatedLevel: V4\n"
    )


@dataclass
class Site:
    """A mail server, its directory and its authority."""

    folder: Path
    directory: Slapd
    bao: OpenBao | None = None

    def sync(self) -> Report:
        """One run."""
        settings = load_settings(self.folder / "mailsigil.toml")
        house = open_house(settings, open_directory(settings), now=utc_now)
        try:
            with begin(house, who="test") as run:
                run.check_clock()
                return run.carry_out(run.plan(), allowed=10)
        finally:
            house.close()

    def certificate(self, uid: str) -> x509.Certificate | None:
        """What the key agent would sign with."""
        file = self.folder / "state" / address_file_name(f"{uid}@bank.example")
        return x509.load_pem_x509_certificates(file.read_bytes())[0] if file.exists() else None

    def statuses(self, uid: str) -> list[str]:
        """What became of somebody's certificates."""
        settings = load_settings(self.folder / "mailsigil.toml").lifecycle
        query = select(certificates.c.status).where(certificates.c.address == f"{uid}@bank.example")
        with connect(settings) as database, database.look() as connection:
            return list(connection.execute(query.order_by(certificates.c.id)).scalars())


def _embedded(folder: Path, stack: ExitStack) -> tuple[str, OpenBao | None]:
    Authority.init(folder / "ca", organisation="Example Bank", now=utc_now())
    return f'kind = "embedded"\n[source.embedded]\nfolder = "{folder}/ca"\n', None


def _openbao(folder: Path, stack: ExitStack) -> tuple[str, OpenBao | None]:
    if openbao.program() is None:
        pytest.skip("OpenBao is not installed")
    bao = stack.enter_context(OpenBao(folder))
    return (
        f'kind = "openbao"\n[source.openbao]\nurl = "{bao.url}"\nengine = "pki-sign"\nrole = "mail"\n'
        f'token_file = "{bao.token_file}"\n',
        bao,
    )


def _est(folder: Path, stack: ExitStack) -> tuple[str, OpenBao | None]:
    server = stack.enter_context(CaServe(folder / "est"))
    password = folder / "est-password"
    password.write_text(PASSWORD)
    password.chmod(0o600)
    return (
        f'kind = "est"\n[source.est]\nurl = "{server.url}"\nca_file = "{server.root}"\n'
        f'username = "keyd"\npassword_file = "{password}"\n',
        None,
    )


@pytest.fixture(params=[_embedded, _openbao, _est], ids=["embedded", "openbao", "est"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        source, bao = request.param(tmp_path, stack)
        people = [_person("alice", "Alice", "Example"), _person("bob", "Bob", "Sample")]
        try:
            server = stack.enter_context(slapd(tmp_path / "ldap", [FRAME, ORGANISATION, ALL_SIGN, *people]))
        except DemoError as error:
            pytest.skip(str(error))
        (tmp_path / "policy.toml").write_text("")
        (tmp_path / "mailsigil.toml").write_text(
            f'[policy]\nfile = "{tmp_path}/policy.toml"\n[lifecycle]\nenabled = true\noverlap_days = 0\n'
            f"database = {json.dumps(f'sqlite:///{tmp_path}/db/l.db')}\n"
            f"[[directory]]\n{directory_lines(server)}"
            f'[[source]]\nname = "ca"\ndomains = ["bank.example"]\n{source}'
            f'[source.enrolment]\nstate = "{tmp_path}/state"\n'
        )
        yield Site(tmp_path, server, bao)


def test_hired_promoted_gone(site: Site) -> None:
    assert site.sync().is_whole
    first = site.certificate("alice")
    assert first is not None
    assert site.certificate("bob") is not None
    assert site.sync().results == []
    # Promoted in LDAP: a new certificate, and what was is revoked with the next run.
    site.directory.modify(
        f"dn: uid=alice,ou=people,{SUFFIX}\nchangetype: modify\nreplace: title\ntitle: Manager\n"
    )
    assert site.sync().is_whole
    second = site.certificate("alice")
    assert second is not None
    assert second.serial_number != first.serial_number
    titles = [one.value for one in second.subject.get_attributes_for_oid(x509.NameOID.TITLE)]
    assert titles in (["Manager"], [])  # An authority may leave names out; OpenBao knows no titles.
    site.sync()
    over = "withdrawn" if _is_est(site) else "revoked"
    assert site.statuses("alice") == [over, "issued"]
    assert _is_revoked(site, first) is not _is_est(site)
    assert not _is_revoked(site, second)
    # Gone from LDAP: no key, and no certificate.
    site.directory.modify(f"dn: uid=alice,ou=people,{SUFFIX}\nchangetype: delete\n")
    assert site.sync().is_whole
    assert site.certificate("alice") is None
    assert site.statuses("alice") == [over, over]
    assert _is_revoked(site, second) is not _is_est(site)
    assert site.statuses("bob") == ["issued"]


def _is_est(site: Site) -> bool:
    return (site.folder / "est").exists()


def _is_revoked(site: Site, certificate: x509.Certificate) -> bool:
    if site.bao is not None:
        digits = f"{certificate.serial_number:x}"
        digits = digits.zfill(len(digits) + len(digits) % 2)
        serial = ":".join(digits[at : at + 2] for at in range(0, len(digits), 2))
        return bool(site.bao.call("GET", f"pki/cert/{serial}")["data"]["revocation_time"])
    crl = site.folder / "ca" / "issuing.crl"
    if not crl.exists():
        return False
    found = x509.load_der_x509_crl(crl.read_bytes())
    return found.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None


def test_the_organisation_lapses_in_ldap_and_is_renewed(site: Site) -> None:
    """With each authority: also where it knows no suspension the old key comes back."""
    site.sync()
    before = site.certificate("bob")
    _validate(site, "20200101000000Z")
    assert site.sync().is_whole
    meanwhile = site.certificate("bob")
    assert meanwhile is not None
    assert meanwhile != before
    assert site.statuses("bob") == ["held", "issued"]
    _validate(site, "20381231235959Z")
    assert site.sync().is_whole
    assert site.certificate("bob") == before
    assert site.statuses("bob")[0] == "issued"


def _validate(site: Site, until: str) -> None:
    site.directory.modify(
        f"dn: cn=Example Bank,ou=mailsigil,{SUFFIX}\nchangetype: modify\n"
        f"replace: mailsigilIdentityValidUntil\nmailsigilIdentityValidUntil: {until}\n"
    )
