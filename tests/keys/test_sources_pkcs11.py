"""PKCS#11 against a real token of SoftHSM2."""

from __future__ import annotations

import _ssl
import ctypes
import datetime as dt
import os
import shutil
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pkcs11 import exceptions

from keys.employees import ALICE, certificate
from mailsigil.cms.algorithms import Scheme, verify_with
from mailsigil.demo.programs import Daemon, accepts
from mailsigil.keys.errors import SourceAnswer, SourceRefused, SourceUnavailable
from mailsigil.keys.newkey import NewKey
from mailsigil.keys.profile import KeyKind
from mailsigil.keys.secret_files import SecretFile
from mailsigil.keys.sources import pkcs11_objects, token_pins
from mailsigil.keys.sources.pkcs11 import Token, TokenPlace
from mailsigil.keys.sources.pkcs11_library import library_of
from mailsigil.keys.subject import SubjectRequest
from servers.softhsm import LABEL, MODULE, SoftHsm

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not shutil.which("softhsm2-util"), reason="SoftHSM is not installed: softhsm2"),
    pytest.mark.skipif(not shutil.which("pkcs11-tool"), reason="pkcs11-tool is not installed: opensc"),
]
BOB, EVE = "bob@bank.example", "eve@bank.example"


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def issue(public: object, address: str, **profile: Any) -> x509.Certificate:
    holder: Any = SimpleNamespace(public_key=lambda: public)
    begin = profile.pop("begin", now() - dt.timedelta(hours=1))
    return certificate(holder, addresses=(address,), begin=begin, **profile)


@pytest.fixture(scope="module")
def hsm(tmp_path_factory: pytest.TempPathFactory) -> SoftHsm:
    token = SoftHsm(tmp_path_factory.mktemp("hsm"))
    token.put_certificate(issue(token.make_key("rsa:2048", 1), ALICE), 1)
    token.put_certificate(issue(token.make_key("EC:prime256v1", 2), BOB), 2)
    other = token.make_key("EC:prime256v1", 3)
    # Beside another key, under whose number it does not belong.
    token.make_key("EC:prime256v1", 4)
    token.put_certificate(issue(other, EVE), 4)
    return token


def place(hsm: SoftHsm, **changes: Any) -> TokenPlace:
    settings = {"module": MODULE, "token": LABEL, "pin": SecretFile("hsm", str(hsm.pin_file))}
    return TokenPlace(**{**settings, **changes})


def opened(hsm: SoftHsm, **changes: Any) -> Token:
    return Token("hsm", place(hsm, **changes), now=now)


@pytest.mark.parametrize(
    ("address", "schemes"),
    [
        (ALICE, [s for s in Scheme if s.value.startswith("rsa")]),
        (BOB, [Scheme.ECDSA_SHA256, Scheme.ECDSA_SHA384]),
    ],
    ids=["rsa", "p256"],
)
def test_the_token_signs_with_each_scheme(hsm: SoftHsm, address: str, schemes: list[Scheme]) -> None:
    (key,) = opened(hsm).lookup(address)
    public = x509.load_der_x509_certificate(key.credential.certificate).public_key()
    for scheme in schemes:
        assert scheme.value in key.credential.schemes
        verify_with(public, scheme, key.sign(scheme, b"a mail"), b"a mail")


KINDS = [KeyKind.RSA2048, KeyKind.P256, KeyKind.P384, KeyKind.ED25519]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_key_is_made_on_the_token_and_stays_there(hsm: SoftHsm, kind: KeyKind, tmp_path: Path) -> None:
    request = SubjectRequest(address=f"{kind}@bank.example")
    token = opened(hsm, certificates=str(tmp_path))
    made = token.make_key(request, kind)
    csr = x509.load_der_x509_csr(made.csr)
    assert csr.is_signature_valid
    again = token.key_of(request, made.spki)
    assert again is not None
    assert again.spki == made.spki
    (tmp_path / "one.pem").write_bytes(issue(csr.public_key(), request.address).public_bytes(Encoding.PEM))
    (key,) = token.lookup(request.address)
    for scheme in map(Scheme, key.credential.schemes):
        verify_with(csr.public_key(), scheme, key.sign(scheme, b"a mail"), b"a mail")
    # The token does not give it away.
    listed = hsm.run("--list-objects", "--type", "privkey")
    made_here = listed[listed.index(f"mailsigil {request.address}") :].partition("Private Key Object")[0]
    assert "never extractable" in made_here
    assert token.key_of(request, NewKey.generate(request, kind).spki) is None


def test_a_kind_that_the_token_does_not_make_is_told(hsm: SoftHsm, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> bytes:
        raise exceptions.MechanismInvalid

    monkeypatch.setattr(pkcs11_objects, "generate", refuse)
    with pytest.raises(SourceRefused, match=r"makes no keys of the kind ed25519.*Choose another kind"):
        opened(hsm).make_key(SubjectRequest(address=ALICE), KeyKind.ED25519)


def test_schemes_are_those_that_the_token_offers(hsm: SoftHsm, monkeypatch: pytest.MonkeyPatch) -> None:
    offered = frozenset({Scheme.RSA_PKCS1_SHA256})
    monkeypatch.setattr(pkcs11_objects, "schemes_of", lambda _: offered)
    (key,) = opened(hsm).lookup(ALICE)
    assert key.credential.schemes == (Scheme.RSA_PKCS1_SHA256,)


def test_two_sources_share_one_library(hsm: SoftHsm, tmp_path: Path) -> None:
    """One of them opening its token takes no session from the other, and no login either."""
    one, other = opened(hsm), opened(hsm)
    (alice,), (bob,) = one.lookup(ALICE), other.lookup(BOB)
    generation = library_of(MODULE).generation
    for _ in range(3):
        assert alice.sign(Scheme.RSA_PKCS1_SHA256, b"a mail")
        assert bob.sign(Scheme.ECDSA_SHA256, b"a mail")
    assert library_of(MODULE).generation == generation
    # Another PIN is not let in on their login, and costs them no mail.
    pin = tmp_path / "pin"
    pin.write_text("9998\n")
    pin.chmod(0o600)
    with pytest.raises(SourceRefused, match="refused the PIN"):
        opened(hsm, pin=SecretFile("hsm", str(pin))).lookup(ALICE)
    assert alice.sign(Scheme.RSA_PKCS1_SHA256, b"a mail")
    assert bob.sign(Scheme.ECDSA_SHA256, b"a mail")


@pytest.mark.parametrize("known", [True, False], ids=["key-in-use", "key-to-find"])
def test_a_source_that_closes_logs_no_other_out(hsm: SoftHsm, known: bool) -> None:
    """To close one session of a process is to log out all of them."""
    leaving, staying = opened(hsm), opened(hsm)
    leaving.lookup(ALICE)[0].sign("rsa-pkcs1-sha256", b"a mail")
    (key,) = staying.lookup(BOB)
    if known:
        key.sign("ecdsa-sha256", b"a mail")
    leaving.reload()
    assert key.sign("ecdsa-sha256", b"a mail")


def test_a_key_is_found_by_its_public_half_and_not_by_its_number(hsm: SoftHsm) -> None:
    (key,) = opened(hsm).lookup(EVE)
    assert key.addresses == {EVE}


def test_certificates_come_from_a_folder(hsm: SoftHsm, tmp_path: Path) -> None:
    mine = issue(hsm.make_key("EC:prime256v1", 5), "carol@bank.example")
    (tmp_path / "carol.pem").write_bytes(mine.public_bytes(Encoding.PEM))
    stranger = issue(hsm.make_key("rsa:2048", 6), "dora@bank.example", subject="Dora", purposes=())
    (tmp_path / "dora.pem").write_bytes(stranger.public_bytes(Encoding.PEM))
    token = opened(hsm, certificates=str(tmp_path))
    (key,) = token.lookup("carol@bank.example")
    assert key.credential.schemes[0] == Scheme.ECDSA_SHA256
    with pytest.raises(SourceAnswer, match="emailProtection"):
        token.lookup("dora@bank.example")
    assert token.lookup(ALICE) == ()


def test_a_wrong_pin_is_tried_once(hsm: SoftHsm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pin = tmp_path / "pin"
    pin.write_text("9999\n")
    pin.chmod(0o600)
    tries: list[bytes] = []
    remember = token_pins.refused
    monkeypatch.setattr(token_pins, "refused", lambda mark: (tries.append(mark), remember(mark)))
    token = opened(hsm, pin=SecretFile("hsm", str(pin)))
    for _ in range(3):
        with pytest.raises(SourceRefused, match="refused the PIN"):
            token.lookup(ALICE)
    # Another process, or the same after a reload, does not try it either.
    token.reload()
    with pytest.raises(SourceRefused, match="not tried again"):
        opened(hsm, pin=SecretFile("hsm", str(pin))).lookup(ALICE)
    assert len(tries) == 1
    time.sleep(0.01)
    pin.write_text("4711\n")
    assert token.lookup(ALICE)


def test_a_token_that_is_removed_comes_back(hsm: SoftHsm) -> None:
    token = opened(hsm)
    (key,) = token.lookup(ALICE)
    hsm.remove()
    try:
        token.reload()
        with pytest.raises(SourceUnavailable, match="Plug it in"):
            token.lookup(ALICE)
        with pytest.raises(SourceUnavailable, match="Plug it in"):
            key.sign(Scheme.RSA_PKCS1_SHA256, b"a mail")
    finally:
        hsm.put_back()
    assert key.sign(Scheme.RSA_PKCS1_SHA256, b"a mail")
    assert token.lookup(ALICE)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"module": "/nonexistent.so"}, "library /nonexistent.so cannot be used"),
        ({"token": "other"}, 'no token of the label "other"'),
    ],
    ids=["no-library", "no-token"],
)
def test_what_is_not_there_is_named(hsm: SoftHsm, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(SourceUnavailable, match=words):
        opened(hsm, **changes).lookup(ALICE)


def test_a_pin_that_others_can_read_is_not_used(hsm: SoftHsm, tmp_path: Path) -> None:
    pin = tmp_path / "pin"
    pin.write_text("4711\n")
    pin.chmod(0o644)
    with pytest.raises(SourceRefused, match="chmod 600"):
        opened(hsm, pin=SecretFile("hsm", str(pin))).lookup(ALICE)


def test_all_processes_know_that_a_pin_was_refused() -> None:
    mark = os.urandom(32)
    child = os.fork()
    if child == 0:
        token_pins.refused(mark)
        os._exit(0)
    os.waitpid(child, 0)
    assert token_pins.was_refused(mark)


CLIENT = Path("/usr/lib/x86_64-linux-gnu/pkcs11/p11-kit-client.so")


@pytest.mark.skipif(
    not (CLIENT.exists() and shutil.which("p11-kit")), reason="p11-kit-client is not installed"
)
def test_a_token_behind_a_network(hsm: SoftHsm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = tmp_path / "hsm.sock"
    arguments = ["p11-kit", "server", "-f", "--provider", MODULE, "-n", address, f"pkcs11:token={LABEL}"]
    server = Daemon(arguments, log=tmp_path / "log", env=dict(hsm.env))
    monkeypatch.setenv("P11_KIT_SERVER_ADDRESS", f"unix:path={address}")
    try:
        server.wait_until(lambda: address.exists() and accepts(str(address)))
        token = opened(hsm, module=str(CLIENT))
        (key,) = token.lookup(ALICE)
        assert key.sign(Scheme.RSA_PKCS1_SHA256, b"a mail")
    finally:
        # Its own group: it has one process for each connection.
        os.killpg(server.pid, signal.SIGKILL)
        server.stop()
    with pytest.raises(SourceUnavailable):
        key.sign(Scheme.RSA_PKCS1_SHA256, b"a mail")


def test_what_a_library_leaves_in_libcryptos_queue_disturbs_no_tls() -> None:
    """SoftHSM uses the same libcrypto as Python's TLS, which reads the queue after each call."""
    libcrypto = ctypes.CDLL(_ssl.__file__)
    libcrypto.ERR_peek_error.restype = ctypes.c_ulong
    with library_of(str(MODULE)).turn():
        libcrypto.ERR_new()
        libcrypto.ERR_set_error(38, 116, None)  # what ENGINE_by_id says of an engine that is not there
        assert libcrypto.ERR_peek_error()
    assert not libcrypto.ERR_peek_error()
