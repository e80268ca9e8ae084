"""The key folder: what it takes, what it refuses and with which words, and how it follows changes."""

from __future__ import annotations

import datetime as dt
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from keys.employees import (
    ALICE,
    ISSUING,
    NOW,
    ROOT,
    Employee,
    certificate,
    employee,
    new_key,
    pem,
    put,
    put_employee,
)
from mailsigil.cms.algorithms import Scheme, verify_with
from mailsigil.keys.folder import KeyFolder
from mailsigil.keys.secret_files import SecretFile


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.mkdir(0o700)
    return path


def read(folder: Path) -> KeyFolder:
    source = KeyFolder(folder)
    source.reload()
    return source


def sentences(source: KeyFolder, now: dt.datetime = NOW) -> list[str]:
    return [f"{finding.path.name}: {finding.sentence}" for finding in source.findings(now)]


def separate(folder: Path, who: Employee) -> None:
    put(folder, "alice.crt", who.chain_pem(), mode=0o644)
    put(folder, "alice.key", who.key_pem())


def encrypted_pem(folder: Path, who: Employee) -> None:
    put(folder, "alice.pem", who.chain_pem() + who.key_pem(b"open sesame"))
    put(folder, "alice.pass", b"open sesame\n")


def traditional_pem(folder: Path, who: Employee) -> None:
    put(folder, "alice.pem", who.key_pem(b"open sesame", traditional=True) + who.chain_pem())
    put(folder, "alice.pass", b"open sesame")


def pkcs12_with_passphrase(folder: Path, who: Employee) -> None:
    put(folder, "alice.p12", who.pkcs12("größer".encode()))
    put(folder, "alice.pass", "größer\r\n".encode())


def der(folder: Path, who: Employee) -> None:
    put(folder, "alice.cer", who.certificate.public_bytes(Encoding.DER))
    put(folder, "alice.crt", pem(ISSUING))
    put(folder, "alice.key", who.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))


def encrypted_der(folder: Path, who: Employee) -> None:
    der(folder, who)
    put(folder, "alice.pass", b"not needed for this key")


def link_inside(folder: Path, who: Employee) -> None:
    (folder / "..2026").mkdir()
    put_employee(folder / "..2026", "alice", who)
    (folder / "..data").symlink_to("..2026")
    (folder / "alice.pem").symlink_to("..data/alice.pem")


WAYS: dict[str, Callable[[Path, Employee], object]] = {
    "one PEM file": lambda folder, who: put_employee(folder, "alice", who),
    "certificates and key apart": separate,
    "encrypted PKCS#8": encrypted_pem,
    "encrypted in OpenSSL's old form": traditional_pem,
    "PKCS#12 without passphrase": lambda folder, who: put(folder, "ALICE.PFX", who.pkcs12(None)),
    "PKCS#12 with passphrase": pkcs12_with_passphrase,
    "DER": der,
    "DER beside a needless passphrase": encrypted_der,
    "link inside the folder": link_inside,
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_a_key_is_found_and_signs(folder: Path, way: Callable[[Path, Employee], object]) -> None:
    who = employee()
    way(folder, who)
    source = read(folder)
    assert sentences(source) == []
    (key,) = source.find(ALICE)
    assert key.credential.certificate == who.certificate.public_bytes(Encoding.DER)
    assert key.credential.intermediates == (ISSUING.public_bytes(Encoding.DER),)
    assert source.get(key.credential.key_id) is key
    signature = key.sign(key.credential.schemes[0], b"hello")
    verify_with(who.key.public_key(), Scheme(key.credential.schemes[0]), signature, b"hello")


@pytest.mark.parametrize(
    ("kind", "schemes"),
    [
        ("p256", ["ecdsa-sha256", "ecdsa-sha384", "ecdsa-sha512"]),
        ("p384", ["ecdsa-sha384", "ecdsa-sha256", "ecdsa-sha512"]),
        ("p521", ["ecdsa-sha512", "ecdsa-sha256", "ecdsa-sha384"]),
        ("ed25519", ["ed25519"]),
        (
            "rsa2048",
            [f"rsa-{pad}-sha{bits}" for pad in ("pkcs1", "pss") for bits in (256, 384, 512)],
        ),
    ],
)
def test_schemes_in_order_of_preference(folder: Path, kind: str, schemes: list[str]) -> None:
    who = employee(kind)
    put_employee(folder, "alice", who)
    (key,) = read(folder).find(ALICE)
    assert list(key.credential.schemes) == schemes
    for scheme in schemes:
        verify_with(who.key.public_key(), Scheme(scheme), key.sign(scheme, b"data"), b"data")


class TestSharedPassphrase:
    """One passphrase for all encrypted keys, from a file or as systemd hands it over."""

    def folder(self, folder: Path) -> None:
        put(folder, "alice.p12", employee().pkcs12(b"shared"))
        put(folder, "bob.p12", employee(addresses=("bob@bank.example",)).pkcs12(b"own"))
        put(folder, "bob.pass", b"own")
        put_employee(folder, "carl", employee(addresses=("carl@bank.example",)))

    def read(self, folder: Path, place: str) -> KeyFolder:
        source = KeyFolder(folder, passphrase=SecretFile("keyd", place))
        source.reload()
        return source

    def test_it_opens_what_has_none_of_its_own(self, folder: Path, tmp_path: Path) -> None:
        self.folder(folder)
        secret = tmp_path / "passphrase"
        secret.write_text("shared\n")
        secret.chmod(0o600)
        source = self.read(folder, str(secret))
        assert sentences(source) == []
        assert source.count() == 3

    def test_as_a_credential(self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder(folder)
        (tmp_path / "opener").write_text("shared")
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
        assert self.read(folder, "credential:opener").count() == 3

    def test_a_credential_that_is_not_there_costs_the_encrypted_key_alone(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.folder(folder)
        monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
        source = self.read(folder, "credential:opener")
        assert sentences(source) == [f'{folder.name}: there is no systemd credential "opener"']
        assert source.count() == 2

    def test_a_new_passphrase_is_taken_in(self, folder: Path, tmp_path: Path) -> None:
        self.folder(folder)
        secret = tmp_path / "passphrase"
        secret.write_text("wrong one")
        secret.chmod(0o600)
        source = self.read(folder, str(secret))
        assert source.count() == 2
        assert sentences(source) == [
            "alice.p12: the passphrase does not open the private key, or the file is damaged"
        ]
        secret.write_text("shared")
        source.refresh()
        assert source.count() == 3


def test_several_certificates_for_one_address(folder: Path) -> None:
    old = employee(begin=NOW - dt.timedelta(days=300))
    new = employee()
    put_employee(folder, "alice-old", old)
    put_employee(folder, "alice-new", new)
    renewed = employee(begin=NOW - dt.timedelta(days=1))
    both = certificate(renewed.key, begin=NOW - dt.timedelta(days=2))
    put(folder, "alice-two.pem", renewed.key_pem() + pem(renewed.certificate) + pem(both))
    expected = [renewed.certificate, both, new.certificate, old.certificate]
    found = read(folder).find(ALICE)
    assert [key.credential.certificate for key in found] == [c.public_bytes(Encoding.DER) for c in expected]


def test_addresses_are_looked_up_by_key_form(folder: Path) -> None:
    put_employee(folder, "alice", employee(addresses=("Alice.Example@Bank.EXAMPLE", "ceo@bank.example")))
    source = read(folder)
    assert source.find("alice.example@bank.example") == source.find("ceo@bank.example") != ()


def test_files_that_are_no_keys_are_left_alone(folder: Path) -> None:
    put_employee(folder, "alice", employee())
    put(folder, "README", b"our keys", mode=0o666)
    put(folder, ".alice.pem.swp", b"", mode=0o666)
    (folder / "archive").mkdir()
    source = read(folder)
    assert (source.count(), sentences(source)) == (1, [])


def _device(folder: Path) -> None:
    (folder / "bad.pem").symlink_to("/dev/zero")


def _socket(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "bad.pem"))


def _outside(folder: Path) -> None:
    put_employee(folder.parent, "elsewhere", employee())
    (folder / "bad.pem").symlink_to(folder.parent / "elsewhere.pem")


def _loop(folder: Path) -> None:
    (folder / "bad.pem").symlink_to("bad.pem")


def _foreign(folder: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    os.chown(put_employee(folder, "bad", employee()), 65534, -1)


def _wrong_passphrase(folder: Path) -> None:
    put(folder, "bad.p12", employee().pkcs12(b"right"))
    put(folder, "bad.pass", b"wrong")


def _open_passphrase(folder: Path) -> None:
    put(folder, "bad.p12", employee().pkcs12(b"right"))
    put(folder, "bad.pass", b"right", mode=0o644)


def _pem(data: Callable[[], bytes], mode: int = 0o600, name: str = "bad.pem") -> Callable[[Path], object]:
    return lambda folder: put(folder, name, data(), mode=mode)


def _whole(**profile: object) -> Callable[[Path], object]:
    return lambda folder: put_employee(folder, "bad", employee(**profile))  # type: ignore[arg-type]


def _two_keys() -> bytes:
    who = employee()
    return who.key_pem() + who.chain_pem() + employee().key_pem()


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "readable by the group": (
        _pem(lambda: employee().key_pem(), 0o640),
        "bad.pem: others than its owner may use this secret file (mode 0640)",
    ),
    "certificate that others may write": (
        _pem(lambda: employee().chain_pem(), 0o664, "bad.crt"),
        "bad.crt: others than its owner may write to the file (mode 0664)",
    ),
    "somebody else's": (_foreign, "bad.pem: the file belongs to user 65534, who could exchange it"),
    "link that leaves": (_outside, "bad.pem: the file is a link that leaves the folder"),
    "link to a device": (_device, "bad.pem: the file is a link that leaves the folder"),
    "link in a circle": (_loop, "bad.pem: the file cannot be opened: "),
    "dangling link": (
        lambda folder: (folder / "bad.pem").symlink_to("gone.pem"),
        "bad.pem: the file cannot be opened: No such file or directory",
    ),
    "socket": (_socket, "bad.pem: this is no regular file"),
    "named pipe": (lambda folder: os.mkfifo(folder / "bad.key", 0o600), "bad.key: this is no regular file"),
    "folder": (lambda folder: (folder / "bad.p12").mkdir(), "bad.p12: this is no regular file"),
    "huge": (_pem(lambda: b"x" * 1_048_577), "bad.pem: the file is larger than 1048576 octets"),
    "empty": (_pem(lambda: b""), "bad.pem: a certificate cannot be read"),
    "text": (_pem(lambda: b"hello\n"), "bad.pem: a certificate cannot be read"),
    "PEM of another kind": (
        _pem(lambda: b"-----BEGIN CAT-----\nbWlhdQ==\n-----END CAT-----\n"),
        "bad.pem: the file holds neither a certificate nor a private key",
    ),
    "cut off": (_pem(lambda: employee().key_pem()[:120]), "bad.pem: a PEM block is cut off"),
    "damaged key": (
        _pem(lambda: employee().key_pem().replace(b"M", b"N", 3)),
        "bad.pem: the private key cannot be read",
    ),
    "certificate alone": (
        _pem(lambda: employee().chain_pem(), name="bad.crt"),
        "bad.crt: there is no private key for this certificate",
    ),
    "key alone": (
        _pem(lambda: employee().key_pem(), name="bad.key"),
        "bad.key: there is no certificate for this private key",
    ),
    "another key's certificate": (
        _pem(lambda: employee().key_pem() + employee().chain_pem()),
        "bad.pem: the private key belongs to none of the certificates beside it",
    ),
    "two keys": (_pem(_two_keys), "bad.pem: there is more than one private key"),
    "many certificates": (
        _pem(lambda: employee().key_pem() + pem(ROOT) * 33),
        "bad.pem: more than 32 certificates stand beside one key",
    ),
    "locked": (
        _pem(lambda: employee().pkcs12(b"secret"), name="bad.p12"),
        "bad.p12: the private key needs a passphrase, or the file is damaged",
    ),
    "wrong passphrase": (
        _wrong_passphrase,
        "bad.p12: the passphrase does not open the private key, or the file is damaged",
    ),
    "passphrase that others may read": (
        _open_passphrase,
        "bad.pass: others than its owner may use this secret file (mode 0644)",
    ),
    "lonely passphrase": (
        _pem(lambda: b"x", name="bad.pass"),
        "bad.pass: this passphrase belongs to no key file",
    ),
    "RSA-1024": (_whole(kind="rsa1024"), "bad.pem: the RSA key has 1024 bits, which is too weak"),
    "odd curve": (_whole(kind="k256"), "bad.pem: the curve secp256k1 is not one that mail programs know"),
    "no address": (_whole(addresses=()), "bad.pem: the certificate names no mail address"),
    "authority": (_whole(ca=True), "bad.pem: the certificate is an authority's, not an employee's"),
    "may not sign": (
        _whole(may_sign=False),
        "bad.pem: the certificate's key usage does not allow signatures",
    ),
    "for web servers": (
        _whole(purposes=(ExtendedKeyUsageOID.SERVER_AUTH,)),
        "bad.pem: the certificate is not for mail: its extended key usage lacks emailProtection",
    ),
}


@pytest.mark.parametrize(("make", "sentence"), BAD.values(), ids=BAD.keys())
def test_a_bad_file_is_told_and_stops_no_other(
    folder: Path, make: Callable[[Path], object], sentence: str
) -> None:
    put_employee(folder, "alice", employee(addresses=("good@bank.example",)))
    make(folder)
    source = read(folder)
    assert len(source.find("good@bank.example")) == 1
    assert source.find(ALICE) == ()
    (finding,) = source.findings(NOW)
    assert f"{finding.path.name}: {finding.sentence}".startswith(sentence)
    assert finding.mend


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (NOW, []),
        (NOW + dt.timedelta(days=400), ["a.pem: the certificate expired on 2027-05-02, so it signs no more"]),
        (NOW - dt.timedelta(days=40), ["a.pem: the certificate is not valid before 2026-05-02 00:00 UTC"]),
    ],
    ids=["valid", "expired", "not yet"],
)
def test_validity_is_a_finding_and_the_key_is_kept(
    folder: Path, now: dt.datetime, expected: list[str]
) -> None:
    put_employee(folder, "a", employee())
    source = read(folder)
    assert sentences(source, now) == expected
    assert source.count() == 1


def test_the_same_certificate_twice(folder: Path) -> None:
    who = employee()
    put_employee(folder, "a", who)
    put_employee(folder, "b", who)
    source = read(folder)
    assert source.count() == 1
    assert sentences(source) == ["b.pem: a.pem holds the same certificate"]


def test_refresh_follows_changes_and_reads_only_them(folder: Path) -> None:
    put_employee(folder, "alice", employee())
    source = read(folder)
    (alice,) = source.find(ALICE)
    put_employee(folder, "bob", employee(addresses=("bob@bank.example",)))
    source.refresh()
    assert source.find(ALICE) == (alice,)
    assert len(source.find("bob@bank.example")) == 1
    newer = employee()
    put_employee(folder, "alice", newer)
    source.refresh()
    (found,) = source.find(ALICE)
    assert found.credential.certificate == newer.certificate.public_bytes(Encoding.DER)
    (folder / "alice.pem").chmod(0o644)
    source.refresh()
    assert source.find(ALICE) == ()
    (folder / "bob.pem").unlink()
    source.refresh()
    assert source.find("bob@bank.example") == ()


def test_a_passphrase_that_comes_later(folder: Path) -> None:
    put(folder, "alice.p12", employee().pkcs12(b"secret"))
    source = read(folder)
    assert source.count() == 0
    put(folder, "alice.pass", b"secret")
    source.refresh()
    assert (source.count(), sentences(source)) == (1, [])


def test_a_folder_that_goes_away_costs_no_key(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    put_employee(folder, "alice", employee())
    source = read(folder)
    away = folder.rename(folder.with_name("away"))
    source.refresh()
    source.refresh()
    assert len(source.find(ALICE)) == 1
    assert sentences(source) == ["keys: the key folder cannot be read: No such file or directory"]
    assert len(caplog.records) == 1
    away.rename(folder)
    source.refresh()
    assert sentences(source) == []


def test_a_folder_that_others_may_change(folder: Path) -> None:
    put_employee(folder, "alice", employee())
    folder.chmod(0o777)
    source = read(folder)
    assert (source.count(), sentences(source)) == (0, ["keys: others may change the key folder"])


def test_inspection_for_another_user(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root has files of its own here and may look for another user")
    put_employee(folder, "alice", employee())
    source = KeyFolder(folder, agent_uid=65534, tell=lambda finding: None)
    source.reload()
    (finding,) = source.findings(NOW)
    assert finding.sentence == "the file belongs to root, so the key agent cannot read it"
    assert finding.mend == f"Run: chown 65534 '{folder}/alice.pem'"
    assert caplog.records == []


def test_no_secret_shows(folder: Path) -> None:
    put_employee(folder, "alice", employee())
    (key,) = read(folder).find(ALICE)
    assert repr(key) == f"<SoftKey {key.credential.key_id} from {folder / 'alice.pem'}>"
    with pytest.raises(TypeError):
        key.__reduce__()


def test_a_key_that_does_not_fit_its_public_half(folder: Path) -> None:
    # The modulus and the primes are right, the exponents another key's: only a signature tells.
    who, other = employee("rsa2048"), new_key("rsa2048")
    assert isinstance(who.key, rsa.RSAPrivateKey)
    assert isinstance(other, rsa.RSAPrivateKey)
    mine, theirs = who.key.private_numbers(), other.private_numbers()
    mixed = rsa.RSAPrivateNumbers(
        p=mine.p,
        q=mine.q,
        d=theirs.d,
        dmp1=theirs.dmp1,
        dmq1=theirs.dmq1,
        iqmp=theirs.iqmp,
        public_numbers=mine.public_numbers,
    )
    put_employee(
        folder, "alice", Employee(mixed.private_key(unsafe_skip_rsa_key_validation=True), who.certificate)
    )
    source = read(folder)
    assert source.count() == 0
    assert sentences(source) == [
        "alice.pem: the private key does not make signatures that its certificate verifies"
    ]
