"""CMP against libcrypto's own server."""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from keys.employees import ALICE, certificate, employee, new_key
from mailsigil.cms.algorithms import default_scheme, sign_with
from mailsigil.keys.errors import SourceAnswer, SourceError, SourceRefused
from mailsigil.keys.keyring import StateFolder
from mailsigil.keys.newkey import NewKey
from mailsigil.keys.profile import KeyKind
from mailsigil.keys.secret_files import SecretFile
from mailsigil.keys.soft_key import soft_key
from mailsigil.keys.source import HeldKey
from mailsigil.keys.sources.cmp import CmpAuthority
from mailsigil.keys.sources.cmp_protection import Protector, SharedSecret, SignatureProtector
from mailsigil.keys.sources.cmp_waiting import WaitingRequests
from mailsigil.keys.sources.http import HttpClient, TlsFiles
from mailsigil.keys.subject import SubjectRequest
from servers.cmp import SECRET, CmpServer, can_compile, compile_responder

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not can_compile(), reason="the CMP server is not built without gcc and libssl-dev"),
]
REQUEST = SubjectRequest(address=ALICE)


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


class Authority:
    """The authority's certificate and key in files, and the program."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.program = compile_responder(folder)
        self.key = new_key("rsa2048")
        self.certificate = certificate(
            self.key,
            ca=True,
            addresses=(),
            purposes=(),
            subject="CMP CA",
            issuer="CMP CA",
            begin=now() - dt.timedelta(days=1),
            signer=self.key,  # type: ignore[arg-type]
        )
        (folder / "ca.pem").write_bytes(self.certificate.public_bytes(Encoding.PEM))
        pem = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / "ca.key").write_bytes(pem)
        self.secret = folder / "secret"
        self.secret.write_text(SECRET)
        self.secret.chmod(0o600)

    def server(self, mode: str = "issue", *, implicit: bool = True) -> CmpServer:
        return CmpServer(
            self.program,
            certificate=self.folder / "ca.pem",
            key=self.folder / "ca.key",
            mode=mode,
            implicit=implicit,
        )

    def client(
        self,
        server: CmpServer,
        *,
        secret: Path | None = None,
        protector: Protector | None = None,
        state: Path | None = None,
        clock: Callable[[], dt.datetime] = now,
    ) -> CmpAuthority:
        """A client as after a restart: what it knows lies in the folder ``state``."""
        if state is None:
            state = self.folder / secrets.token_hex(8)
            state.mkdir()
        shared = SharedSecret("mailsigil", SecretFile("cmp", str(secret or self.secret)))
        return CmpAuthority(
            HttpClient("cmp", server.url, tls=TlsFiles(), timeout=10),
            protector=lambda: protector or shared,
            secret=None if protector else shared,
            trusted=lambda: [self.certificate],
            waiting=WaitingRequests(StateFolder("cmp", state), now=clock),
            now=clock,
        )


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("cmp"))


@pytest.mark.parametrize("kind", [KeyKind.P256, KeyKind.RSA2048, KeyKind.ED25519], ids=str)
@pytest.mark.parametrize("implicit", [True, False], ids=["implicit", "confirmed"])
def test_enrol_renew_revoke(authority: Authority, kind: KeyKind, implicit: bool, tmp_path: Path) -> None:
    new = NewKey.generate(REQUEST, kind)
    with authority.server(implicit=implicit) as server:
        client = authority.client(server)
        chain = client.enrol(REQUEST, new)
        leaf = x509.load_der_x509_certificate(chain[0])
        held = HeldKey(soft_key(new.private_key(), leaf, [], origin=tmp_path), tmp_path)
        successor = NewKey.generate(REQUEST, kind)
        renewed = x509.load_der_x509_certificate(client.renew(REQUEST, successor, current=held)[0])
        assert renewed.serial_number != leaf.serial_number
        client.revoke(chain[0])
        with pytest.raises(SourceRefused, match="badCertId, not ours"):
            client.revoke(employee().certificate.public_bytes(Encoding.DER))


def test_a_client_certificate_in_place_of_a_secret(authority: Authority) -> None:
    key: Any = new_key("p256")
    mine = certificate(
        key,
        addresses=("gate@bank.example",),
        subject="Gate",
        issuer="CMP CA",
        begin=now() - dt.timedelta(days=1),
        signer=authority.key,  # type: ignore[arg-type]
    )
    scheme = default_scheme(key.public_key())
    protector = SignatureProtector(
        (mine.public_bytes(Encoding.DER),), scheme, lambda data: sign_with(key, scheme, data)
    )
    with authority.server() as server:
        client = authority.client(server, protector=protector)
        assert client.enrol(REQUEST, NewKey.generate(REQUEST, KeyKind.P256))


@pytest.mark.parametrize(
    ("mode", "error", "words"),
    [
        ("other-address", SourceAnswer, "another person's: it names eve@bank.example"),
        ("other-key", SourceAnswer, "another key"),
        ("no-purpose", SourceAnswer, "without emailProtection"),
        ("expired", SourceAnswer, "expired"),
        ("reject", SourceRefused, "notAuthorized, this person is not known here"),
    ],
)
def test_a_wrong_answer_is_told(
    authority: Authority, mode: str, error: type[SourceError], words: str
) -> None:
    with authority.server(mode) as server, pytest.raises(error, match=words):
        authority.client(server).enrol(REQUEST, NewKey.generate(REQUEST, KeyKind.P256))


def test_a_wrong_secret_is_told(authority: Authority, tmp_path: Path) -> None:
    wrong = tmp_path / "secret"
    wrong.write_text("another one")
    wrong.chmod(0o600)
    with authority.server() as server, pytest.raises(SourceError) as caught:
        authority.client(server, secret=wrong).enrol(REQUEST, NewKey.generate(REQUEST, KeyKind.P256))
    assert "shared secret" in str(caught.value) or "badMessageCheck" in str(caught.value)


def test_an_answer_that_somebody_else_signed_is_refused(
    authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with authority.server() as server:
        client = authority.client(server)
        client._secret = None
        client._trusted = list
        with pytest.raises(SourceAnswer, match="not protected with our shared secret"):
            client.enrol(REQUEST, NewKey.generate(REQUEST, KeyKind.P256))
