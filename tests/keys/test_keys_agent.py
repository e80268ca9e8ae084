"""What the agent grants and what it refuses, without a socket; and the same checks in process."""

from __future__ import annotations

import datetime as dt
import json
import logging
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from keys.employees import ALICE, NOW, Employee, employee, put, put_employee
from mailsigil.cms.algorithms import Scheme, verify_with
from mailsigil.keys.agent import KeyAgent
from mailsigil.keys.errors import KeyAgentRefused, KeyFileError, Refusal
from mailsigil.keys.key_files import keys_from, read_key_file
from mailsigil.keys.local import FixedKeys, LocalKeys
from mailsigil.keys.protocol import (
    Operation,
    Request,
    decode_found,
    decode_pong,
    decode_signature,
    encode_request,
)
from mailsigil.keys.routes import DomainRoute
from mailsigil.keys.soft_key import SoftKey


def soft(folder: Path, name: str, who: Employee) -> SoftKey:
    keys, faults = keys_from([read_key_file(put_employee(folder, name, who))], passphrase=None)
    assert not faults
    return keys[0]


@pytest.fixture
def alice() -> Employee:
    return employee()


@pytest.fixture
def agent(tmp_path: Path, alice: Employee) -> KeyAgent:
    old = employee(begin=NOW - dt.timedelta(days=90), days=60)
    planned = employee(begin=NOW + dt.timedelta(days=1))
    other = employee("p384", begin=NOW - dt.timedelta(days=1))
    first = [soft(tmp_path, "alice", alice), soft(tmp_path, "old", old), soft(tmp_path, "planned", planned)]
    return KeyAgent([FixedKeys(first), FixedKeys([soft(tmp_path, "other", other)])], now=lambda: NOW)


def sign(agent: KeyAgent, **changes: object) -> bytes:
    (credential, _) = agent.find(ALICE)
    asked = {"key_id": credential.key_id, "address": ALICE, "scheme": credential.schemes[0], "data": b"data"}
    return agent.sign(**{**asked, **changes}, peer_uid=77)  # type: ignore[arg-type]


def test_what_is_valid_now_is_found_source_by_source(agent: KeyAgent, alice: Employee) -> None:
    found = agent.find(ALICE)
    assert [credential.schemes[0] for credential in found] == ["ecdsa-sha256", "ecdsa-sha384"]
    assert found[0].certificate == alice.certificate.public_bytes(Encoding.DER)
    assert agent.find("nobody@bank.example") == ()


@pytest.mark.parametrize(
    "address", ["ALICE@bank.example", "alice@b\u00e4nk.example", "alice", "@bank.example"]
)
def test_an_address_that_is_not_in_key_form_is_refused(agent: KeyAgent, address: str) -> None:
    with pytest.raises(KeyAgentRefused) as caught:
        agent.find(address)
    assert caught.value.reason is Refusal.MALFORMED


def test_the_kelvin_sign_is_no_k(tmp_path: Path) -> None:
    kim = employee(addresses=("kim@bank.example",))
    agent = KeyAgent([FixedKeys([soft(tmp_path, "kim", kim)])], now=lambda: NOW)
    key_id = agent.find("kim@bank.example")[0].key_id
    assert agent.find("\u212aim@bank.example") == ()
    with pytest.raises(KeyAgentRefused):
        agent.sign(
            key_id=key_id, address="\u212aim@bank.example", scheme="ecdsa-sha256", data=b"d", peer_uid=7
        )


def test_a_signature_verifies_and_is_audited(
    agent: KeyAgent, alice: Employee, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "mailsigil.keyd")
    key_id = agent.find(ALICE)[0].key_id
    verify_with(alice.key.public_key(), Scheme.ECDSA_SHA256, sign(agent), b"data")
    assert caplog.messages == [f"signed key={key_id} address={ALICE} peer_uid=77 scheme=ecdsa-sha256"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"key_id": "0" * 32}, Refusal.UNKNOWN_KEY),
        ({"address": "bob@bank.example"}, Refusal.ADDRESS),
        ({"address": "@bank.example"}, Refusal.MALFORMED),
        ({"address": "Alice@bank.example"}, Refusal.MALFORMED),
        ({"scheme": "ed25519"}, Refusal.SCHEME),
        ({"scheme": "ecdsa-sha1"}, Refusal.SCHEME),
        ({"data": b""}, Refusal.MALFORMED),
    ],
    ids=[
        "no such key",
        "another address",
        "no local part",
        "capital",
        "another kind's scheme",
        "no scheme",
        "nothing",
    ],
)
def test_refusals_are_audited(
    agent: KeyAgent, changes: dict[str, object], reason: Refusal, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(KeyAgentRefused) as caught:
        sign(agent, **changes)
    assert caught.value.reason is reason
    assert caplog.messages[-1].endswith(f"reason={reason.value}")


@pytest.mark.parametrize("days", [-31, 340], ids=["too early", "too late"])
def test_validity_counts_at_each_signature(tmp_path: Path, alice: Employee, days: int) -> None:
    moment = NOW
    agent = KeyAgent([FixedKeys([soft(tmp_path, "alice", alice)])], now=lambda: moment)
    (credential,) = agent.find(ALICE)
    moment = NOW + dt.timedelta(days=days)
    assert agent.find(ALICE) == ()
    with pytest.raises(KeyAgentRefused) as caught:
        agent.sign(key_id=credential.key_id, address=ALICE, scheme="ecdsa-sha256", data=b"x", peer_uid=0)
    assert caught.value.reason is Refusal.NOT_VALID


def test_the_log_cannot_be_forged(agent: KeyAgent, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(KeyAgentRefused):
        sign(agent, address="x\nsigned key=1 address=\u202e" + "y" * 500)
    (line,) = caplog.messages
    assert "address=x?signed?key=1?address=?yyy" in line
    assert len(line) < 300


def test_payloads_are_answered(agent: KeyAgent, alice: Employee) -> None:
    def ask(**request: object) -> bytes:
        return agent.answer(encode_request(Request(**request)), peer_uid=1)  # type: ignore[arg-type]

    credential = decode_found(ask(operation=Operation.FIND, address=ALICE))[0]
    signature = decode_signature(
        ask(
            operation=Operation.SIGN,
            address=ALICE,
            key_id=credential.key_id,
            scheme="ecdsa-sha512",
            data=b"data",
        )
    )
    verify_with(alice.key.public_key(), Scheme.ECDSA_SHA512, signature, b"data")
    assert decode_pong(ask(operation=Operation.PING)) == 4
    assert json.loads(agent.answer(b"garbage", peer_uid=1))["refused"] == "malformed"


class _Counting(FixedKeys):
    """A source that counts who asks."""

    asked = 0

    def find(self, address: str) -> tuple[SoftKey, ...]:
        self.asked += 1
        return super().find(address)


def test_one_source_is_asked_and_others_are_not() -> None:
    folder, public = _Counting([]), _Counting([])
    route = DomainRoute(public, name="Public CA", domains=["bank.example"])
    agent = KeyAgent([folder, route], now=lambda: NOW)
    for choice in (
        {"source": "public ca"},
        {"without": "KEYD"},
        {"source": "keyd"},
        {"without": "Public CA"},
    ):
        agent.find(ALICE, **choice)
    assert (folder.asked, public.asked) == (2, 2)
    agent.find(ALICE)
    assert (folder.asked, public.asked) == (3, 3)


def test_a_source_that_is_not_there_is_said_so() -> None:
    with pytest.raises(KeyAgentRefused, match=r'there is no \[\[source\]\] "gone" \(source\)'):
        KeyAgent([FixedKeys([])], now=lambda: NOW).find(ALICE, source="gone")


def test_of_no_sources_none_has_a_key() -> None:
    assert KeyAgent([FixedKeys([])], now=lambda: NOW).find(ALICE, without="keyd") == ()


class _Broken(FixedKeys):
    """A source that fails."""

    def find(self, address: str) -> tuple[SoftKey, ...]:
        raise RuntimeError("secret inside")


def test_a_fault_inside_is_an_answer_without_internals(caplog: pytest.LogCaptureFixture) -> None:
    agent = KeyAgent([_Broken([])], now=lambda: NOW)
    answer = agent.answer(b'{"op":"find","address":"a@b.example"}', peer_uid=1)
    assert json.loads(answer)["refused"] == "failed"
    assert b"secret" not in answer
    assert "secret inside" in caplog.text


def test_local_keys_behave_like_the_client(tmp_path: Path, alice: Employee) -> None:
    certificate = put(tmp_path, "cert.pem", alice.chain_pem(), mode=0o644)
    key = put(tmp_path, "key.pem", alice.key_pem(b"open"), mode=0o644)
    keys = LocalKeys.load(certificate, key, passphrase=b"open", now=lambda: NOW)
    assert keys.addresses == (ALICE,)
    (credential,) = keys.find(ALICE)
    signature = keys.sign(key_id=credential.key_id, address=ALICE, scheme=credential.schemes[0], data=b"data")
    verify_with(alice.key.public_key(), Scheme.ECDSA_SHA256, signature, b"data")
    with pytest.raises(KeyAgentRefused):
        keys.sign(key_id=credential.key_id, address="b@c.example", scheme="ecdsa-sha256", data=b"data")


def test_local_keys_from_one_file(tmp_path: Path, alice: Employee) -> None:
    path = put_employee(tmp_path, "alice", alice)
    assert LocalKeys.load(path, path).addresses == LocalKeys.load(path).addresses == (ALICE,)


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("gone.pem", None, "the file cannot be opened: No such file or directory"),
        ("alone.pem", lambda who: who.chain_pem(), "there is no private key for this certificate"),
        (
            "locked.p12",
            lambda who: who.pkcs12(b"x"),
            "the private key needs a passphrase, or the file is damaged",
        ),
    ],
    ids=["gone", "no key", "locked"],
)
def test_local_keys_name_the_file_and_the_mend(
    tmp_path: Path, alice: Employee, name: str, data: object, sentence: str
) -> None:
    if callable(data):
        put(tmp_path, name, data(alice))
    with pytest.raises(KeyFileError) as caught:
        LocalKeys.load(tmp_path / name)
    assert (caught.value.path, caught.value.sentence) == (tmp_path / name, sentence)
    assert str(caught.value) == f"{tmp_path / name}: {sentence}. {caught.value.mend}."
