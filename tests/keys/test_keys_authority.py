from __future__ import annotations

import base64
import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st

from mailsigil.keys.authority import Authority, AuthorityError
from mailsigil.keys.files import address_file_name, write_private
from mailsigil.keys.profile import KeyKind, RequestError, Subject
from mailsigil.pki.anchors import AnchorSet, TrustStore, load_anchor_file
from mailsigil.pki.level import identity_level
from mailsigil.pki.names import CertificateNames
from mailsigil.pki.path import PathStatus, PathValidator
from mailsigil.pki.policies import Level

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
PERSON = {"given_name": "Alice", "surname": "Example"}
FULL = {**PERSON, "organisation": "Example Bank"}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.init(tmp_path / "ca", organisation="Example Bank", now=NOW)


def subject(level: Level = Level.V1, address: str = "alice@bank.example", **names: str) -> Subject:
    return Subject(level=level, address=address, **names)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_init_writes_private_files_and_never_overwrites(tmp_path: Path, authority: Authority) -> None:
    folder = tmp_path / "ca"
    assert mode(folder) == 0o700
    assert {p.name: mode(p) for p in folder.iterdir()} == dict.fromkeys(
        ["root.pem", "root.key", "issuing.pem", "issuing.key"], 0o600
    )
    before = (folder / "root.key").read_bytes()
    with pytest.raises(AuthorityError, match="holds an authority already"):
        Authority.init(folder, organisation="Other", now=NOW)
    assert (folder / "root.key").read_bytes() == before


def test_init_refuses_a_folder_open_to_others(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "something").touch()
    with pytest.raises(AuthorityError, match="chmod 700"):
        Authority.init(tmp_path, organisation="Example Bank", now=NOW)


@pytest.mark.parametrize(
    ("level", "names", "text"),
    [
        (Level.V1, {}, ""),
        (Level.V2, PERSON, "Alice Example"),
        (Level.V3, {"organisation": "Example Bank"}, ""),
        (Level.V4, {**FULL, "title": "Account Manager"}, "Alice Example"),
    ],
)
def test_issued_certificate_gets_its_level(
    authority: Authority, tmp_path: Path, level: Level, names: dict[str, str], text: str
) -> None:
    issued = authority.issue(subject(level, **names), out=tmp_path / "keys", now=NOW)
    anchors = load_anchor_file(tmp_path / "ca" / "root.pem")
    trust = AnchorSet(name="own", certificates=tuple(anchors), asserts=frozenset({"mailsigil"}))
    verdict = PathValidator(TrustStore((trust,))).validate(
        issued.certificate.public_bytes(Encoding.DER), [authority.issuing.public_bytes(Encoding.DER)], at=NOW
    )
    assert verdict.status is PathStatus.TRUSTED
    decision = identity_level(issued.certificate, trust, policies=verdict.policies)
    assert (decision.level, decision.reason) == (level, "")
    found = CertificateNames.from_certificate(issued.certificate)
    assert found.full_name == text
    assert found.addresses == ("alice@bank.example",)
    assert found.issuer == "Example Bank Mail CA"


@pytest.mark.parametrize(
    ("kind", "type_", "size"),
    [
        (KeyKind.RSA2048, rsa.RSAPrivateKey, 2048),
        (KeyKind.RSA3072, rsa.RSAPrivateKey, 3072),
        (KeyKind.P256, ec.EllipticCurvePrivateKey, 256),
        (KeyKind.P384, ec.EllipticCurvePrivateKey, 384),
        (KeyKind.ED25519, ed25519.Ed25519PrivateKey, 0),
    ],
)
def test_file_holds_key_certificate_and_issuer(
    authority: Authority, tmp_path: Path, kind: KeyKind, type_: type, size: int
) -> None:
    issued = authority.issue(subject(), out=tmp_path / "keys", key=kind, now=NOW)
    assert mode(issued.path) == 0o600
    assert mode(issued.path.parent) == 0o700
    content = issued.path.read_bytes()
    key = load_pem_private_key(content, password=None)
    certificates = x509.load_pem_x509_certificates(content)
    assert isinstance(key, type_)
    assert getattr(key, "key_size", 0) == size
    assert certificates == [issued.certificate, authority.issuing]
    assert certificates[0].public_key() == key.public_key()
    assert [p.name for p in issued.path.parent.iterdir()] == ["alice@bank.example.pem"]


def test_profile_of_a_leaf(authority: Authority, tmp_path: Path) -> None:
    certificate = authority.issue(subject(Level.V4, **FULL), out=tmp_path / "k", now=NOW).certificate
    get = certificate.extensions.get_extension_for_class
    assert get(x509.KeyUsage).critical
    assert get(x509.KeyUsage).value.digital_signature
    assert list(get(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.EMAIL_PROTECTION]
    oids = [p.policy_identifier.dotted_string for p in get(x509.CertificatePolicies).value]
    assert len(oids) == 1
    assert oids[0].startswith("2.25.")
    assert get(x509.AuthorityKeyIdentifier).value.key_identifier
    assert certificate.serial_number.bit_length() <= 128
    issuing = authority.issuing.extensions
    assert issuing.get_extension_for_class(x509.BasicConstraints).value.path_length == 0
    assert not any(
        "2.23.140" in p.policy_identifier.dotted_string
        for p in issuing.get_extension_for_class(x509.CertificatePolicies).value
    )


def test_non_ascii_address(authority: Authority, tmp_path: Path) -> None:
    issued = authority.issue(subject(address="grüße@bücher.example"), out=tmp_path / "k", now=NOW)
    alternative = issued.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [type(name) for name in alternative] == [x509.OtherName]
    names = CertificateNames.from_certificate(issued.certificate)
    assert names.addresses == ("grüße@xn--bcher-kva.example",)
    long = authority.issue(
        subject(address="ü" * 64 + "@" + "b" * 60 + ".example"), out=tmp_path / "k", now=NOW
    )
    assert CertificateNames.from_certificate(long.certificate).addresses[0].startswith("üü")


@pytest.mark.parametrize(
    ("level", "names", "sentence"),
    [
        (Level.V1, PERSON, "V1 does not vouch for a given name"),
        (Level.V1, {"organisation": "X"}, "V1 does not vouch for an organisation"),
        (Level.V1, {"title": "X"}, "V1 does not vouch for a title"),
        (Level.V2, {}, "V2 needs a given name and a surname"),
        (Level.V2, {"given_name": "Alice"}, "V2 needs a given name and a surname"),
        (Level.V2, FULL, "V2 does not vouch for an organisation"),
        (Level.V3, {}, "V3 needs an organisation"),
        (Level.V3, FULL, "V3 does not vouch for a given name"),
        (Level.V4, PERSON, "V4 needs an organisation"),
        (Level.V4, {"organisation": "X"}, "V4 needs a given name"),
        (Level.V3, {"organisation": "X" * 65}, "longer than 64"),
        (Level.V3, {"organisation": "X\nY"}, "write it plainly"),
        (Level.V3, {"organisation": "X\u202eY"}, "write it plainly"),
        (Level.V1, {"address": "alice"}, "no mail address"),
        (Level.V1, {"address": "a b@bank.example"}, "a b@bank.example is no mail address .* needs quotes"),
        (
            Level.V1,
            {"address": '"a b"@bank.example'},
            '"a b"@bank.example is no mail address .* needs quotes',
        ),
        (Level.V1, {"address": "a\nb@bank.example"}, r"'a\\nb@bank.example' is no mail address; give one"),
        (Level.V1, {"address": "a@b@bank.example"}, "no mail address"),
        (Level.V1, {"address": ""}, "no mail address"),
    ],
)
def test_names_that_do_not_fit_the_level(level: Level, names: dict[str, str], sentence: str) -> None:
    with pytest.raises(RequestError, match=sentence):
        subject(level, **names)


def test_existing_key_is_only_replaced_when_asked(authority: Authority, tmp_path: Path) -> None:
    first = authority.issue(subject(), out=tmp_path / "k", now=NOW)
    content = first.path.read_bytes()
    with pytest.raises(AuthorityError, match="--replace"):
        authority.issue(subject(address="ALICE@bank.example"), out=tmp_path / "k", now=NOW)
    assert first.path.read_bytes() == content
    authority.issue(subject(), out=tmp_path / "k", replace=True, now=NOW)
    assert first.path.read_bytes() != content


def test_register_and_crl(authority: Authority, tmp_path: Path) -> None:
    issued = authority.issue(subject(), out=tmp_path / "k", now=NOW)
    register = tmp_path / "ca" / "index.jsonl"
    noted = json.loads(register.read_text())
    assert len(noted.pop("key")) == 40
    assert base64.b64decode(noted.pop("certificate")) == issued.certificate.public_bytes(Encoding.DER)
    assert noted == {
        "event": "issued",
        "serial": f"{issued.certificate.serial_number:x}",
        "address": "alice@bank.example",
        "level": "V1",
        "not_after": "2027-06-01T11:55:00+00:00",
    }
    with register.open("a") as file:
        line = {"event": "revoked", "serial": f"{issued.certificate.serial_number:x}", "at": NOW.isoformat()}
        file.write(json.dumps(line) + "\n")
    for number in (1, 2):
        crl_path = authority.write_crls(now=NOW)[0]
        crl = x509.load_der_x509_crl(crl_path.read_bytes())
        assert crl.is_signature_valid(authority.issuing.public_key())
        assert crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == number
        assert crl.get_revoked_certificate_by_serial_number(issued.certificate.serial_number)
        assert crl.next_update_utc == NOW + timedelta(days=7)


def test_damaged_register_names_the_line(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "ca" / "index.jsonl").write_text('{"event": "crl", "number": 1}\n{"event"}\n')
    with pytest.raises(AuthorityError, match=r"index\.jsonl:2 is damaged"):
        authority.write_crls(now=NOW)


def test_load(authority: Authority, tmp_path: Path) -> None:
    folder = tmp_path / "ca"
    assert Authority.load(folder).root == authority.root
    with pytest.raises(AuthorityError, match="mailsigil ca init"):
        Authority.load(tmp_path / "elsewhere")
    key = folder / "issuing.key"
    key.chmod(0o640)
    with pytest.raises(AuthorityError, match="chmod 600"):
        Authority.load(folder)
    key.chmod(0o600)
    key.write_bytes((folder / "root.key").read_bytes())
    with pytest.raises(AuthorityError, match="does not belong to"):
        Authority.load(folder)
    key.write_bytes(b"junk")
    with pytest.raises(AuthorityError, match="damaged"):
        Authority.load(folder)


def test_life_ends_with_the_issuer(authority: Authority, tmp_path: Path) -> None:
    late = authority.issuing.not_valid_after_utc - timedelta(days=3)
    issued = authority.issue(subject(), out=tmp_path / "k", now=late)
    assert issued.certificate.not_valid_after_utc == authority.issuing.not_valid_after_utc
    with pytest.raises(AuthorityError, match="has expired"):
        authority.issue(subject(), out=tmp_path / "j", now=late + timedelta(days=4))


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("alice@bank.example", "alice@bank.example.pem"),
        ("Alice@bank.example", "alice@bank.example.pem"),
        ("../../etc/x@bank.example", "%2E./../etc/x".replace("/", "%2F") + "@bank.example.pem"),
        ("a*b'$c@bank.example", "a%2Ab%27%24c@bank.example.pem"),
        ("a+tag@bank.example", "a+tag@bank.example.pem"),
        ("\u212aim@bank.example", "%E2%84%AAim@bank.example.pem"),
        ("%41@bank.example", "%2541@bank.example.pem"),
    ],
)
def test_file_names(address: str, name: str) -> None:
    assert address_file_name(address) == name


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=300))
def test_file_names_are_always_harmless(address: str) -> None:
    name = address_file_name(address)
    assert len(name) <= 210
    assert name.isascii()
    assert name.isprintable()
    assert not name.startswith(".")
    assert not set(name) & set("/\\\0 *?'\"$;&|<>`")


def test_write_private_leaves_nothing_behind_on_failure(tmp_path: Path) -> None:
    path = tmp_path / "f"
    write_private(path, b"one")
    with pytest.raises(FileExistsError):
        write_private(path, b"two")
    assert [p.name for p in tmp_path.iterdir()] == ["f"]
    assert path.read_bytes() == b"one"
