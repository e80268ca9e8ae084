"""The file directory answers as its file says; hostile questions find nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mailsigil.directory.api import Directory
from mailsigil.directory.file import FileDirectory
from mailsigil.message.address import Address
from mailsigil.policy.entitlement import entitlement
from mailsigil.policy.model import Form, SigningMode, Unauthorised
from mailsigil.policy.resolve import resolve

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLE = ROOT / "policies" / "example-policy.toml"


@pytest.fixture(scope="module")
def directory() -> Directory:
    return FileDirectory.load(EXAMPLE)


def _load(folder: Path, text: str) -> FileDirectory:
    path = folder / "policy.toml"
    path.write_text(text, encoding="utf-8")
    return FileDirectory.load(path)


def test_everybody_of_a_domain_is_also_who_has_a_quoted_name(tmp_path: Path) -> None:
    group = '[[group]]\nname = "all"\nmembers = ["*@bank.example"]\nsigning = "required"\n'
    policies = _load(tmp_path, group).policies(Address.parse('"a b"@bank.example').key)
    assert resolve(policies).signing.value is SigningMode.REQUIRED


@pytest.mark.parametrize(
    ("login", "address"),
    [
        ("alice", "alice@bank.example"),
        ("ALICE", "alice@bank.example"),
        ("alice@bank.example", "alice@bank.example"),
        ("bob@bank.example", "bob@bank.example"),
        ("bob", None),
        ("alice.example@bank.example", None),
        ("", None),
        ("*", None),
        ("alice\0", None),
        ("alice\n", None),
        (" alice", None),
        ("a" * 100_000, None),
    ],
)
def test_person_by_login(directory: Directory, login: str, address: str | None) -> None:
    person = directory.person_by_login(login)
    assert (person.addresses[0] if person else None) == address


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("alice@bank.example", "Alice Example"),
        ("alice.example@bank.example", "Alice Example"),
        ("bob@bank.example", "Bob Sample"),
        ("eve@bank.example", None),
        ("*@bank.example", None),
        ("*)(uid=*", None),
        ("", None),
        ("\0", None),
    ],
)
def test_person_by_address(directory: Directory, key: str, name: str | None) -> None:
    person = directory.person_by_address(key)
    assert (person.name if person else None) == name


@pytest.mark.parametrize(
    ("ip", "found"),
    [
        ("192.0.2.10", True),
        ("::ffff:192.0.2.10", True),
        ("2001:db8::10", True),
        ("192.0.2.11", False),
        ("127.0.0.1", False),
        ("", False),
        ("unknown", False),
        ("192.0.2.10\n", False),
        ("0.0.0.0/0", False),
        ("*", False),
    ],
)
def test_client_rules(directory: Directory, ip: str, found: bool) -> None:
    patterns = ("invoices@bank.example", "*@billing.bank.example")
    assert directory.client_may_send_as(ip) == (patterns if found else ())


@pytest.mark.parametrize(
    ("key", "sources"),
    [
        (
            "bob@bank.example",
            ["example-policy.toml:30 person bob@bank.example", "domain bank.example", "default"],
        ),
        ("alice.example@bank.example", ["person alice@bank.example", "domain bank.example", "default"]),
        ("eve@bank.example", ["domain bank.example", "default"]),
        ("eve@lists.bank.example", ["domain lists.bank.example", "default"]),
        ("eve@sub.bank.example", ["default"]),
        ("eve@elsewhere.example", ["default"]),
        ("", ["default"]),
        ("@", ["default"]),
    ],
)
def test_policies_most_specific_first(directory: Directory, key: str, sources: list[str]) -> None:
    found = [entry.source for entry in directory.policies(key)]
    assert len(found) == len(sources)
    for source, end in zip(found, sources, strict=True):
        assert source.startswith("example-policy.toml:")
        assert source.endswith(end)


def test_example_resolves_as_its_comments_say(directory: Directory) -> None:
    alice, bob = (resolve(directory.policies(f"{name}@bank.example")) for name in ("alice", "bob"))
    assert (alice.signing.value, alice.form.value) == (SigningMode.REQUIRED, Form.CLEAR)
    assert (bob.signing.value, bob.form.value) == (SigningMode.PREFERRED, Form.OPAQUE)
    assert bob.unauthorised.value is Unauthorised.REFUSE


def test_own_domains(directory: Directory, tmp_path: Path) -> None:
    assert directory.own_domains() == {"bank.example", "lists.bank.example"}
    other = _load(tmp_path, '[[person]]\naddress = "a@bücher.example"\naliases = ["a@Other.example"]\n')
    assert other.own_domains() == {"xn--bcher-kva.example", "other.example"}


def test_empty_file_knows_nobody(tmp_path: Path) -> None:
    empty = _load(tmp_path, "")
    assert empty.person_by_address("alice@bank.example") is None
    assert resolve(empty.policies("alice@bank.example")).signing.value is SigningMode.NEVER
    assert empty.own_domains() == frozenset()


def test_addresses_are_read_in_any_letters(tmp_path: Path) -> None:
    found = _load(tmp_path, '[[person]]\naddress = "Alice@BANK.example"\n')
    assert found.person_by_address("alice@bank.example") is not None
    assert found.person_by_login("alice@bank.example") is not None


def test_several_client_rules_add_up(tmp_path: Path) -> None:
    found = _load(
        tmp_path,
        '[[client]]\nnetworks = ["192.0.2.0/24"]\nmay_send_as = ["a@x.example"]\n'
        '[[client]]\nnetworks = ["192.0.2.7"]\nmay_send_as = ["b@x.example"]\n',
    )
    assert found.client_may_send_as("192.0.2.7") == ("a@x.example", "b@x.example")
    assert found.client_may_send_as("192.0.2.8") == ("a@x.example",)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=100))
def test_arbitrary_questions_find_nothing(directory: Directory, text: str) -> None:
    # Names that stand in these sources are tried as well.
    assume(text.lower() != "alice" and not text.lower().endswith("@bank.example"))
    assert directory.person_by_login(text) is None
    assert directory.person_by_address(text) is None
    assert directory.client_may_send_as(text) == ()
    assert len(directory.policies(text)) == 1


@pytest.mark.parametrize(
    ("key", "levels"), [("", {"V1", "V3"}), ('employees = "V3"', {"V1", "V3"}), ('employees = "V1"', {"V1"})]
)
def test_what_everybody_of_an_organisation_may_say(tmp_path: Path, key: str, levels: set[str]) -> None:
    directory = _load(
        tmp_path,
        '[[organisation]]\nname = "Bank"\ndomains = ["bank.example"]\nvalidated_until = 2038-01-01\n'
        f'{key}\n[[person]]\naddress = "alice@bank.example"\n',
    )
    now = datetime(2026, 11, 22, tzinfo=UTC)
    listed = entitlement(directory.identity("alice@bank.example"), at=now)
    assert listed.levels == levels
    assert ("everybody of Bank has V3" in listed.reason) is ("V3" in levels)
    assert entitlement(directory.identity("eve@bank.example"), at=now).levels == {"V1"}
