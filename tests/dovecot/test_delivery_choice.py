"""What is decrypted of somebody's mail: [delivery], and the recipient's policy before it. No servers."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dovecot.opening import Keys, parts
from envelopes import BOB, ENTITY, encrypt, person
from mailsigil.config.loading import load_settings
from mailsigil.config.settings import Settings
from mailsigil.delivery import Delivered, Delivery, Unauthenticated, deliver
from mailsigil.delivery_choice import PolicyChoice
from mailsigil.directory.api import DirectoryUnavailable
from mailsigil.directory.entries import EntryReader
from mailsigil.directory.entry import Entry
from mailsigil.directory.file import FileDirectory
from mailsigil.directory.profiles import OPENLDAP
from mailsigil.message.reader import read_message
from mailsigil.policy.model import Decryption, PolicyEntry
from mailsigil.policy.resolve import resolve
from mailsigil.service import delivery_parts, trust_store

AT = datetime(2026, 11, 22, tzinfo=UTC)
SIGNED, INERT, ANY = Unauthenticated.SIGNED, Unauthenticated.INERT, Unauthenticated.ANY
POLICY = """
[default]
decryption = "signed"
[[domain]]
name = "bank.example"
[[domain]]
name = "trust.example"
decryption = "any"
[[group]]
name = "board"
members = ["ceo@bank.example", "dora@bank.example", "eve@bank.example"]
decryption = "never"
[[person]]
address = "dora@bank.example"
aliases = ["dora.muster@trust.example"]
decryption = "inert"
[[person]]
address = "eve@bank.example"
decryption = "default"
[[person]]
address = "late@bank.example"
decryption = "never"
valid_until = 2026-11-21
"""


def _choice(
    tmp_path: Path, base: Unauthenticated | None = None, excepted: tuple[str, ...] = ()
) -> PolicyChoice:
    path = tmp_path / "policy.toml"
    path.write_text(POLICY)
    return PolicyChoice(
        directory=FileDirectory.load(path), base=lambda _: base, excepted=excepted, now=lambda: AT
    )


@pytest.mark.parametrize(
    ("address", "said"),
    [
        pytest.param("bob@bank.example", SIGNED, id="everybody's"),
        pytest.param("bob@trust.example", ANY, id="the domain's"),
        pytest.param("ceo@bank.example", None, id="the group's"),
        pytest.param("dora@bank.example", INERT, id="the person's"),
        pytest.param("dora.muster@trust.example", INERT, id="the person's, by an alias"),
        pytest.param("eve@bank.example", ANY, id="left to [delivery]"),
        pytest.param("late@bank.example", SIGNED, id="lapsed"),
        pytest.param("bob@elsewhere.example", ANY, id="of no domain of ours"),
        pytest.param("no address@", ANY, id="no address"),
    ],
)
def test_the_nearest_policy_decides(address: str, said: Unauthenticated | None, tmp_path: Path) -> None:
    assert _choice(tmp_path, ANY)(address) is said


def test_an_exception_in_the_settings_always_holds(tmp_path: Path) -> None:
    assert _choice(tmp_path, ANY, ("bob@trust.example",))("bob@trust.example") is None


def test_entries_that_disagree_open_least() -> None:
    entries = [PolicyEntry(source=word, decryption=word) for word in Decryption]
    assert resolve(entries).decryption.value is Decryption.NEVER
    assert resolve(entries[2:]).decryption.value is Decryption.SIGNED
    assert resolve([]).decryption.value is Decryption.DEFAULT


@pytest.mark.parametrize(
    ("text", "said", "noted"),
    [("inert", Decryption.INERT, False), ("Never", Decryption.NEVER, False), ("yes", Decryption.NEVER, True)],
)
def test_ldap(text: str, said: Decryption, noted: bool) -> None:
    values = {"mailsigilappliestodomain": (b"bank.example",), "mailsigildecryption": (text.encode(),)}
    (rule,), problems = EntryReader(OPENLDAP, frozenset({"bank.example"})).rules(Entry("cn=policy", values))
    assert (rule.entry.decryption, bool(problems)) == (said, noted)


def _delivered(
    tmp_path: Path,
    choice: Callable[[str], Unauthenticated | None],
    addresses: tuple[str, ...] = (BOB,),
    content: bytes = ENTITY,
) -> Delivery:
    keys = Keys(tmp_path, person("rsa"))
    cms = encrypt(content, (person("rsa"),), tmp_path, cipher="-aes-256-cbc")
    head = b"From: a@b.example\r\nContent-Type: application/pkcs7-mime; smime-type=enveloped-data\r\n"
    raw = head + b"Content-Transfer-Encoding: base64\r\n\r\n" + base64.encodebytes(cms)
    message = read_message(io.BufferedReader(io.BytesIO(raw)))
    return deliver(message.fields, message.body, addresses, parts(keys, choice=choice))


def test_of_two_addresses_the_stricter_word_counts(tmp_path: Path) -> None:
    said = {BOB: ANY, "alias@bank.example": SIGNED}
    assert _delivered(tmp_path, said.get).outcome is Delivered.DECRYPTED
    both = _delivered(tmp_path, said.get, (BOB, "alias@bank.example"))
    assert both.outcome is Delivered.WITHHELD


def test_while_the_directory_does_not_answer_mail_stays_closed(tmp_path: Path) -> None:
    def silent(address: str) -> Unauthenticated:
        raise DirectoryUnavailable("no server answers")

    found = _delivered(tmp_path, silent)
    assert (found.outcome, found.reason) == (Delivered.UNAVAILABLE, "directory no server answers")


def _settings(tmp_path: Path, delivery: str) -> Settings:
    (tmp_path / "policy.toml").write_text(POLICY)
    config = tmp_path / "mailsigil.toml"
    config.write_text(f'[policy]\nfile = "{tmp_path}/policy.toml"\n[delivery]\n{delivery}\n')
    return load_settings(config)


def test_the_settings_say_whether_the_policy_is_asked(tmp_path: Path) -> None:
    asked = _settings(tmp_path, "by_policy = true")
    assert asked.delivery.enabled
    choice = delivery_parts(asked, trust_store(asked)).choice
    assert [choice(f"{name}@bank.example") for name in ("bob", "ceo", "eve")] == [SIGNED, None, None]
    unasked = _settings(tmp_path, 'domains = ["bank.example"]')
    choice = delivery_parts(unasked, trust_store(unasked)).choice
    assert [choice(f"{name}@bank.example") for name in ("bob", "ceo", "eve")] == [INERT, INERT, INERT]
