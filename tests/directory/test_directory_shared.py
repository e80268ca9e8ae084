"""The address of a shared mailbox makes no one person of those who have it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from directory.tenant_house import BASE, NOW, Ldap, entry, person, policy
from mailsigil.directory.entry import Entry
from mailsigil.directory.tenants import TenantDirectory
from mailsigil.policy.entitlement import entitlement
from mailsigil.policy.model import SigningMode
from mailsigil.policy.resolve import resolve

BOB, CAROL, OFFICE = "bob@bank.example", "carol@bank.example", "office@bank.example"
DESK = "desk@bank.example"
REQUIRED = policy("all", mailsigilAppliesToDomain="bank.example", mailsigilSigning="required")
OURS = entry(
    f"cn=bank,ou=pol,{BASE}",
    "mailsigilOrganisation",
    mailsigilDomain="bank.example",
    mailsigilIdentityValidUntil="20381231235959Z",
)


def somebody(name: str, *addresses: str, level: str = "V2") -> Entry:
    until = {"mailsigilValidatedUntil": "20381231235959Z"}
    return person(name, f"{name}@bank.example", *addresses, mailsigilValidatedLevel=level, **until)


BOTH = (somebody("bob", OFFICE), somebody("carol", OFFICE))
BOX = f'[[person]]\naddress = "{OFFICE}"\nlogins = ["office"]\n'
EXTERNAL = f'[[person]]\naddress = "{CAROL}"\naliases = ["{OFFICE}"]\nlogins = ["carol"]\n'


def never_for(address: str) -> Entry:
    return policy("never", mailsigilAppliesToAddress=address, mailsigilSigning="never")


def signing(directory: TenantDirectory, address: str) -> SigningMode:
    return resolve(directory.policies(address), at=NOW).signing.value


def levels(directory: TenantDirectory, address: str) -> set[str]:
    return set(entitlement(directory.identity(address), at=NOW).levels)


@pytest.mark.parametrize(
    ("entries", "file"),
    [
        pytest.param(BOTH, f'{BOX}signing = "never"\n', id="never-in-the-file"),
        pytest.param((*BOTH, never_for(OFFICE)), "", id="never-in-the-directory"),
        pytest.param(BOTH, f"{BOX}disabled = true\n", id="disabled"),
        pytest.param(BOTH, f'{BOX}validated_level = "V1"\n', id="validated-as-nobody"),
        pytest.param(BOTH[:1], f"{EXTERNAL}disabled = true\n", id="alias-of-somebody-disabled"),
        pytest.param(BOTH[:1], f'{EXTERNAL}signing = "never"\n', id="alias-of-somebody-unsigned"),
        pytest.param(
            BOTH,
            f'[[group]]\nname = "g"\nmembers = ["{OFFICE}"]\nsigning = "never"\n',
            id="group-of-the-file",
        ),
    ],
)
def test_what_is_said_of_a_shared_mailbox_is_said_of_nobody_who_has_it(
    tmp_path: Path, entries: Sequence[Entry], file: str
) -> None:
    directory = Ldap(REQUIRED, OURS, *entries).tenant(tmp_path, file)
    assert signing(directory, BOB) is SigningMode.REQUIRED
    assert directory.person_by_login("bob") is not None
    assert levels(directory, BOB) == {"V1", "V2"}
    told = {one.address: one for listed in directory.people() for one in listed.addresses}
    assert told[BOB].identity == directory.identity(BOB)
    assert told[BOB].identity.active
    assert resolve(told[BOB].policies, at=NOW).signing.value is SigningMode.REQUIRED
    # The directory alone says the same.
    alone = resolve(directory.directories[0].entries(BOB), at=NOW).signing
    assert alone.value is SigningMode.REQUIRED


def test_an_alias_in_the_file_takes_no_validation_of_somebody_else(tmp_path: Path) -> None:
    directory = Ldap(OURS, somebody("bob", OFFICE, level="V4")).tenant(tmp_path, EXTERNAL)
    assert directory.identity(CAROL).validation is None
    assert directory.identity(OFFICE).validation is None  # whose it is, nobody can tell
    assert levels(directory, BOB) == {"V1", "V2", "V3", "V4"}


def test_an_alias_in_the_file_gives_no_validation_to_somebody_else(tmp_path: Path) -> None:
    file = f'{EXTERNAL}validated_level = "V4"\n'
    directory = Ldap(OURS, person("bob", BOB, OFFICE)).tenant(tmp_path, file)
    assert directory.identity(BOB).validation is directory.identity(OFFICE).validation is None
    assert levels(directory, CAROL) == {"V1", "V2", "V3", "V4"}


@pytest.mark.parametrize(("bob", "carol"), [("V1", "V4"), ("V4", "V1")])
def test_an_address_of_two_says_no_more_than_v1_where_one_has_no_more(
    tmp_path: Path, bob: str, carol: str
) -> None:
    house = Ldap(OURS, somebody("bob", OFFICE, level=bob))
    directory = house.tenant(tmp_path, f'{EXTERNAL}validated_level = "{carol}"\n')
    assert levels(directory, OFFICE) == {"V1"}


def test_a_shared_mailbox_has_its_own_rules_and_those_that_make_it_stricter(tmp_path: Path) -> None:
    for_bob = policy("bob", mailsigilAppliesToAddress=BOB, mailsigilSigning="required")
    directory = Ldap(*BOTH, for_bob).tenant(tmp_path, "")
    assert signing(directory, OFFICE) is SigningMode.REQUIRED  # nobody gets around a policy with an alias
    assert signing(directory, CAROL) is SigningMode.NEVER
    assert signing(directory, CAROL) is SigningMode.NEVER
    directory = Ldap(*BOTH, REQUIRED, never_for(BOB)).tenant(tmp_path, "")
    assert signing(directory, OFFICE) is SigningMode.REQUIRED
    directory = Ldap(*BOTH, REQUIRED, never_for(OFFICE)).tenant(tmp_path, "")
    assert signing(directory, OFFICE) is SigningMode.NEVER


@pytest.mark.parametrize(
    ("entries", "file"),
    [
        pytest.param([never_for(DESK)], "", id="entry-of-the-directory"),
        pytest.param([], f'[[person]]\naddress = "{DESK}"\nsigning = "never"\n', id="person-of-the-file"),
        pytest.param(
            [], f'[[group]]\nname = "g"\nmembers = ["{DESK}"]\nsigning = "never"\n', id="group-of-the-file"
        ),
    ],
)
def test_a_rule_for_another_address_of_the_same_person_makes_signing_no_less_strict(
    tmp_path: Path, entries: list[Entry], file: str
) -> None:
    directory = Ldap(REQUIRED, somebody("bob", DESK), *entries).tenant(tmp_path, file)
    assert signing(directory, BOB) is SigningMode.REQUIRED
    assert signing(directory, DESK) is SigningMode.NEVER
    told = {one.address: one.policies for listed in directory.people() for one in listed.addresses}
    assert resolve(told[BOB], at=NOW).signing.value is SigningMode.REQUIRED


def test_who_left_shares_nothing_any_more(tmp_path: Path) -> None:
    left = person("carol", CAROL, OFFICE, pwdAccountLockedTime="000001010000Z")
    rule = policy("office", mailsigilAppliesToAddress=OFFICE, mailsigilSigning="required")
    directory = Ldap(somebody("bob", OFFICE), left, rule).tenant(tmp_path, "")
    assert signing(directory, BOB) is SigningMode.REQUIRED
