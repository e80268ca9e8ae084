"""The embedded authority as a source, and its register."""

from __future__ import annotations

import datetime as dt
import errno
import os
import tempfile
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from keys.employees import ALICE, NOW, employee
from mailsigil.keys import keyring
from mailsigil.keys.authority import Authority, AuthorityError
from mailsigil.keys.enrolment import EnrolledKeys
from mailsigil.keys.errors import SourceRefused
from mailsigil.keys.guard import Breaker, Guard
from mailsigil.keys.newkey import NewKey
from mailsigil.keys.os_errors import own_name
from mailsigil.keys.profile import KeyKind, Subject
from mailsigil.keys.register import ROOT, Reason, Register, RegisterError
from mailsigil.keys.sources.embedded import EmbeddedIssuer
from mailsigil.keys.subject import SubjectRequest
from mailsigil.pki.level import asserted_levels
from mailsigil.pki.policies import Level
from other_user import acting_as

PERSON = {"given_name": "Alice", "surname": "Example"}
BANK = {"organisation": "Example Bank"}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.init(tmp_path / "ca", organisation="Example Bank", now=NOW)


@pytest.fixture
def issuer(authority: Authority) -> EmbeddedIssuer:
    return EmbeddedIssuer("own", authority.directory, now=lambda: NOW)


@pytest.mark.parametrize(
    ("level", "names"),
    [(Level.V1, {}), (Level.V2, PERSON), (Level.V3, BANK), (Level.V4, {**PERSON, **BANK, "title": "Clerk"})],
)
def test_certifies_every_level(issuer: EmbeddedIssuer, level: Level, names: dict[str, str]) -> None:
    request = SubjectRequest(address=ALICE, level=level, **names)
    new = NewKey.generate(request, KeyKind.P256)
    leaf, issuing = (x509.load_der_x509_certificate(each) for each in issuer.enrol(request, new))
    assert [each.level for each in asserted_levels(leaf)] == [level]
    leaf.verify_directly_issued_by(issuing)


def test_names_that_do_not_fit_are_refused(issuer: EmbeddedIssuer) -> None:
    request = SubjectRequest(address=ALICE, level=Level.V4)
    with pytest.raises(SourceRefused, match="V4 needs a given name"):
        issuer.enrol(request, NewKey.generate(request, KeyKind.P256))


def test_enrolled_renewed_revoked_through_the_key_source(
    authority: Authority, issuer: EmbeddedIssuer, tmp_path: Path
) -> None:
    now = [NOW]
    live = EmbeddedIssuer("own", authority.directory, now=lambda: now[0])
    keys = EnrolledKeys(
        live,
        Guard("own", timeout=10, breaker=Breaker(failures=3, pause=0)),
        state=tmp_path / "state",
        kind=KeyKind.P256,
        now=lambda: now[0],
        subject_of=lambda address: SubjectRequest(address=address),
    )
    (first,) = keys.find(ALICE)
    assert first.addresses == {ALICE}
    now[0] = NOW + dt.timedelta(days=350)
    keys._renew_all(keys._due(now[0]))
    (second, *_) = keys.find(ALICE)
    assert second.credential.key_id != first.credential.key_id
    assert keys.revoke(ALICE) == 1
    revoked = [entry.serial for entry in authority.register.entries() if entry.revocation]
    own = x509.load_der_x509_certificate(second.credential.certificate)
    assert revoked == [own.serial_number]
    crl = x509.load_der_x509_crl((authority.directory / "issuing.crl").read_bytes())
    assert crl.get_revoked_certificate_by_serial_number(own.serial_number)


def test_another_authoritys_certificate_is_not_revoked(issuer: EmbeddedIssuer) -> None:
    with pytest.raises(SourceRefused, match="not issued by this authority"):
        issuer.revoke(employee().certificate.public_bytes(Encoding.DER))


def test_a_missing_folder_is_this_sources_trouble(tmp_path: Path) -> None:
    request = SubjectRequest(address=ALICE)
    issuer = EmbeddedIssuer("own", tmp_path / "none", now=lambda: NOW)
    with pytest.raises(SourceRefused, match=r'source "own": there is no authority in .*ca init'):
        issuer.enrol(request, NewKey.generate(request, KeyKind.P256))


@pytest.mark.parametrize("address", ["a b@bank.example", '"a b"@bank.example', "a,b@bank.example"])
def test_an_address_that_needs_quotes_is_refused_as_what_it_is(issuer: EmbeddedIssuer, address: str) -> None:
    request = SubjectRequest(address=address)
    told = f"{address} is no mail address .* needs quotes; use one that needs none"
    with pytest.raises(SourceRefused, match=told) as caught:
        issuer.enrol(request, NewKey.generate(SubjectRequest(address=ALICE), KeyKind.P256))
    assert caught.value.mend == 'Give this person another address, or set signing = "never" for this one'


@pytest.mark.parametrize(
    ("number", "mend"),
    [
        (errno.ENOSPC, "Make room on the disk of {}"),
        (errno.EDQUOT, "Make room on the disk of {}"),
        (errno.EROFS, "Let its disk be written to, and the service by ReadWritePaths={} in its unit"),
        (errno.EACCES, "Run it as root or as the owner; where it is {user}'s: chown -R {user} '{}'"),
        (errno.ENOENT, "Create it for the key agent's user, with mode 0700"),
    ],
    ids=["full", "quota", "read-only", "denied", "missing"],
)
def test_a_state_folder_that_cannot_be_used_tells_the_mend_that_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, mend: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(keyring, "write_private", refuse)
    with pytest.raises(SourceRefused, match=os.strerror(number)) as caught:
        keyring.StateFolder("own", tmp_path).write(tmp_path / "key", b"")
    assert caught.value.mend == mend.format(tmp_path, user=own_name())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_a_folder_of_somebody_else_is_told_with_the_source_and_a_mend(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        Authority.init(Path(folder) / "ca", organisation="Example Bank", now=NOW)
        request = SubjectRequest(address=ALICE)
        issuer = EmbeddedIssuer("own", Path(folder) / "ca", now=lambda: NOW)
        told = rf'source "own": {folder}/ca/root\.pem cannot be read: Permission denied\..* chown -R nobody '
        with acting_as("nobody"), pytest.raises(SourceRefused, match=told):
            issuer.enrol(request, NewKey.generate(request, KeyKind.P256))


def test_revocation_is_once_and_for_known_serials(authority: Authority) -> None:
    subject = Subject(level=Level.V1, address=ALICE)
    made = authority.certify(subject, key=KeyKind.P256.generate().public_key(), now=NOW)
    authority.revoke(made.serial_number, reason=Reason.SUPERSEDED, now=NOW)
    crl = x509.load_der_x509_crl((authority.directory / "issuing.crl").read_bytes())
    entry = crl.get_revoked_certificate_by_serial_number(made.serial_number)
    assert entry is not None
    reason = entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
    assert reason is x509.ReasonFlags.superseded
    with pytest.raises(AuthorityError, match="revoked already"):
        authority.revoke(made.serial_number, now=NOW)
    with pytest.raises(AuthorityError, match="no certificate with the serial"):
        authority.revoke(4711, now=NOW)


def _listed(authority: Authority, serial: int) -> x509.ReasonFlags | None:
    crl = x509.load_der_x509_crl((authority.directory / "issuing.crl").read_bytes())
    entry = crl.get_revoked_certificate_by_serial_number(serial)
    return entry and entry.extensions.get_extension_for_class(x509.CRLReason).value.reason


def test_a_suspended_certificate_comes_back_or_is_revoked(
    authority: Authority, issuer: EmbeddedIssuer
) -> None:
    request = SubjectRequest(address=ALICE)
    der = issuer.enrol(request, NewKey.generate(request, KeyKind.P256))[0]
    serial = x509.load_der_x509_certificate(der).serial_number
    for _ in range(2):  # Whoever was interrupted says it again.
        issuer.withdraw(der, Reason.CERTIFICATE_HOLD)
    issuer.publish()
    assert _listed(authority, serial) is x509.ReasonFlags.certificate_hold
    for _ in range(2):
        issuer.release(der)
    issuer.publish()
    assert _listed(authority, serial) is None
    issuer.withdraw(der, Reason.CERTIFICATE_HOLD)
    issuer.withdraw(der, Reason.AFFILIATION_CHANGED)
    issuer.withdraw(der, Reason.CERTIFICATE_HOLD)
    issuer.publish()
    assert _listed(authority, serial) is x509.ReasonFlags.affiliation_changed
    with pytest.raises(SourceRefused, match="revoked for good"):
        issuer.release(der)


def test_a_certificate_whose_answer_was_lost_is_found_by_its_key(
    authority: Authority, issuer: EmbeddedIssuer
) -> None:
    request = SubjectRequest(address=ALICE)
    new = NewKey.generate(request, KeyKind.P256)
    assert issuer.recall(request, new) is None
    chain = issuer.enrol(request, new)
    assert issuer.recall(request, new) == chain
    assert issuer.recall(request, NewKey.generate(request, KeyKind.P256)) is None
    issuer.revoke(chain[0])
    assert issuer.recall(request, new) is None


def test_the_servers_certificate_is_on_the_roots_list(authority: Authority) -> None:
    file = authority.directory / "server.pem"
    made = authority.issue_server([x509.DNSName("ca.example")], shown="ca.example", path=file, now=NOW)
    made.verify_directly_issued_by(authority.root)
    authority.revoke(made.serial_number, now=NOW)
    found = {
        name: x509.load_der_x509_crl((authority.directory / f"{name}.crl").read_bytes())
        for name in ("issuing", "root")
    }
    assert found["root"].get_revoked_certificate_by_serial_number(made.serial_number)
    assert not found["issuing"].get_revoked_certificate_by_serial_number(made.serial_number)


def test_places_stand_in_certificates_where_they_are_published(tmp_path: Path) -> None:
    folder = tmp_path / "ca"
    folder.mkdir(mode=0o700)
    (folder / "ca.toml").write_text('[publish]\nurl = "http://pki.bank.example/x/"\n')
    authority = Authority.init(folder, organisation="Example Bank", now=NOW)
    subject = Subject(level=Level.V1, address=ALICE)
    leaf = authority.certify(subject, key=KeyKind.P256.generate().public_key(), now=NOW)
    for certificate, name in ((leaf, "issuing"), (authority.issuing, "root")):
        points = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
        assert [p.full_name[0].value for p in points if p.full_name] == [
            f"http://pki.bank.example/x/{name}.crl"
        ]
        access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
        assert [each.access_location.value for each in access] == [
            "http://pki.bank.example/x/ocsp",
            f"http://pki.bank.example/x/{name}.cer",
        ]


def test_bad_settings_are_told_with_file_and_line(tmp_path: Path) -> None:
    folder = tmp_path / "ca"
    folder.mkdir(mode=0o700)
    (folder / "ca.toml").write_text('[est]\nlisten = "x"\n')
    with pytest.raises(AuthorityError, match=r"ca\.toml:2.*no address to listen on"):
        Authority.init(folder, organisation="Example Bank", now=NOW)


def test_the_register_is_read_on(tmp_path: Path) -> None:
    writer, reader = Register(tmp_path / "index"), Register(tmp_path / "index")
    assert reader.entries() == ()
    for serial in (1, 2, 3):
        writer.issued(serial=serial, address=ALICE, level="V1", not_after=NOW)
        assert len(reader.entries()) == serial
    writer.issued(serial=4, address="host", level="TLS", not_after=NOW, issuer=ROOT)
    writer.revoke(serial=2, at=NOW, reason=Reason.KEY_COMPROMISE)
    writer.revoke(serial=2, at=NOW + dt.timedelta(days=1), reason=Reason.UNSPECIFIED)
    entry = reader.entry(2)
    assert entry is not None
    assert entry.revocation is not None
    assert (entry.revocation.at, entry.revocation.reason) == (NOW, Reason.KEY_COMPROMISE)
    found = reader.entry(4)
    assert found is not None
    assert found.issuer == ROOT
    # A line that is being written is left for the next time.
    with (tmp_path / "index").open("a") as file:
        file.write('{"event": "revo')
        file.flush()
        assert len(reader.entries()) == 4
        file.write('ked", "serial": "3", "at": "2026-06-01T00:00:00+00:00"}\n')
    assert set(reader.revoked()) == {2, 3}
    # Another file in its place is read from the start.
    (tmp_path / "other").write_text('{"event": "crl", "number": 7}\n')
    (tmp_path / "other").replace(tmp_path / "index")
    assert reader.entries() == ()
    assert reader.next_crl_number(NOW) == 8


def test_a_damaged_register_stays_damaged_until_it_is_mended(tmp_path: Path) -> None:
    register = Register(tmp_path / "index")
    register.issued(serial=1, address=ALICE, level="V1", not_after=NOW)
    with (tmp_path / "index").open("a") as file:
        file.write("junk\n")
    for _ in range(2):
        with pytest.raises(RegisterError, match=r"index:2 is damaged"):
            register.entries()


def test_a_line_that_was_cut_off_costs_itself_alone(tmp_path: Path) -> None:
    register = Register(tmp_path / "index")
    (tmp_path / "index").write_text('{"event": "issu')
    register.issued(serial=5, address=ALICE, level="V1", not_after=NOW)
    assert [entry.serial for entry in register.entries()] == [5]


def test_numbers_of_lists_never_repeat(tmp_path: Path) -> None:
    registers = [Register(tmp_path / "index") for _ in range(4)]
    numbers: list[int] = []

    def draw(register: Register) -> None:
        numbers.extend(register.next_crl_number(NOW) for _ in range(10))

    threads = [threading.Thread(target=draw, args=(each,)) for each in registers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == list(range(1, 41))
