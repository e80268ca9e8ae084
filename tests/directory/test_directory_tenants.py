"""A policy file beside an LDAP directory: whom they mean together."""

from __future__ import annotations

from pathlib import Path

import pytest

from directory.tenant_house import BASE, NOW, Ldap, entry, person, policy
from mailsigil.directory.api import DirectoryUnavailable
from mailsigil.directory.entry import Entry
from mailsigil.directory.file import FileDirectory
from mailsigil.directory.review import review
from mailsigil.directory.tenants import TenantDirectory
from mailsigil.policy.model import SigningMode
from mailsigil.policy.resolve import resolve

ALICE = "alice@bank.example"
ALIAS = "a.liddell@bank.example"


def signing(directory: TenantDirectory, address: str) -> SigningMode:
    return resolve(directory.policies(address), at=NOW).signing.value


# --- Policies of one address hold for the others ---------------------------------------------------------

FOR_ALICE = policy("alice", mailsigilAppliesToAddress=ALICE, mailsigilSigning="required")
STAFF = entry(f"cn=staff,ou=groups,{BASE}", "groupOfNames", member=f"uid=alice,ou=people,{BASE}")
FOR_STAFF = policy("staff", mailsigilAppliesToGroup=STAFF.dn, mailsigilSigning="required")
FILE_ALIAS = f'[[person]]\naddress = "{ALICE}"\naliases = ["{ALIAS}"]\n'


@pytest.mark.parametrize(
    ("entries", "file"),
    [
        pytest.param([person("alice", ALICE, ALIAS), FOR_ALICE], "", id="entry-for-the-main-address"),
        pytest.param([person("alice", ALIAS, ALICE), FOR_ALICE], "", id="entry-for-an-alias"),
        pytest.param(
            [person("alice", ALICE, ALIAS)],
            f'[[group]]\nname = "g"\nmembers = ["{ALICE}"]\nsigning = "required"\n',
            id="group-of-the-file",
        ),
        pytest.param(
            [person("alice", ALICE, ALIAS)],
            f'[[person]]\naddress = "{ALICE}"\nsigning = "required"\n',
            id="person-of-the-file",
        ),
        pytest.param([person("alice", ALICE), FOR_ALICE], FILE_ALIAS, id="alias-of-the-file-alone"),
        pytest.param([person("alice", ALICE), STAFF, FOR_STAFF], FILE_ALIAS, id="group-of-the-directory"),
        pytest.param(
            [person("alice", ALICE)],
            f'{FILE_ALIAS}[[group]]\nname = "g"\nmembers = ["{ALICE}"]\nsigning = "required"\n',
            id="all-of-it-in-the-file",
        ),
    ],
)
def test_nobody_gets_around_a_policy_with_an_alias(tmp_path: Path, entries: list[Entry], file: str) -> None:
    directory = Ldap(*entries, person("bob", "bob@bank.example")).tenant(tmp_path, file)
    assert signing(directory, ALICE) is signing(directory, ALIAS) is SigningMode.REQUIRED
    assert signing(directory, "bob@bank.example") is SigningMode.NEVER
    told = {one.address: one.policies for listed in directory.people() for one in listed.addresses}
    for address in (ALICE, ALIAS):
        assert resolve(told[address], at=NOW).signing.value is SigningMode.REQUIRED


def test_a_file_without_a_directory_minds_aliases_too(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(f'{FILE_ALIAS}[[group]]\nname = "g"\nmembers = ["{ALICE}"]\nsigning = "required"\n')
    policies = FileDirectory.load(path).policies(ALIAS)
    assert resolve(policies, at=NOW).signing.value is SigningMode.REQUIRED


def test_who_the_sender_is_need_not_be_known_for_a_policy_of_the_domain(tmp_path: Path) -> None:
    house = Ldap(person("alice", ALICE), REQUIRED)
    directory = house.tenant(tmp_path, '[[domain]]\nname = "bank.example"\nform = "opaque"\n')
    assert signing(directory, ALICE) is SigningMode.REQUIRED
    assert not [search for search in house.asked if "people" in search.base]


# --- A server without policies --------------------------------------------------------------------------

REQUIRED = policy("all", mailsigilAppliesToDomain="bank.example", mailsigilSigning="required")
OURS = entry(f"cn=bank,ou=pol,{BASE}", "mailsigilOrganisation", o="Bank", mailsigilDomain="bank.example")


def test_policies_that_are_gone_all_at_once_serve_on_and_then_mail_waits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    house = Ldap(person("alice", ALICE), REQUIRED)
    directory = house.tenant(tmp_path, "", "cache_seconds = 60", "grace_seconds = 600")
    assert signing(directory, ALICE) is SigningMode.REQUIRED
    house.entries.remove(REQUIRED)
    house.clock = 61
    assert signing(directory, ALICE) is SigningMode.REQUIRED
    assert "reload mailsigil" in caplog.text
    house.clock = 661
    with pytest.raises(DirectoryUnavailable, match="there were 1"):
        directory.policies(ALICE)
    house.entries.append(REQUIRED)  # the server has them again
    assert signing(directory, ALICE) is SigningMode.REQUIRED


def test_organisations_that_are_gone_all_at_once_count_as_no_answer(tmp_path: Path) -> None:
    house = Ldap(person("alice", ALICE), REQUIRED, OURS)
    directory = house.tenant(tmp_path, "", "cache_seconds = 0", "grace_seconds = 0")
    assert directory.identity(ALICE).organisation is not None
    house.entries.remove(OURS)
    house.clock = 1
    with pytest.raises(DirectoryUnavailable):
        directory.identity(ALICE)


def test_the_last_policy_is_removed_with_a_reload(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    house = Ldap(person("alice", ALICE))
    directory = house.tenant(tmp_path, "", "cache_seconds = 0", "grace_seconds = 0")
    assert signing(directory, ALICE) is SigningMode.NEVER
    assert f"ou=pol,{BASE}: has no policies and no organisations" in caplog.text
    remarks = review(directory.directories[0], house, at=NOW)  # type: ignore[arg-type]
    assert any("has no policies and no organisations" in remark.sentence for remark in remarks)
    house.entries.append(REQUIRED)
    house.clock = 1
    assert signing(directory, ALICE) is SigningMode.REQUIRED


def test_one_of_several_policies_may_go(tmp_path: Path) -> None:
    other = policy("other", mailsigilAppliesToEveryone="TRUE", mailsigilForm="opaque")
    house = Ldap(person("alice", ALICE), REQUIRED, other)
    directory = house.tenant(tmp_path, "", "cache_seconds = 0", "grace_seconds = 0")
    assert signing(directory, ALICE) is SigningMode.REQUIRED
    house.entries.remove(REQUIRED)
    house.clock = 1
    assert signing(directory, ALICE) is SigningMode.NEVER


EVIL = "\x1b[2J\x1b[31m"


def test_names_of_entries_are_shown_without_control_characters(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    evil = entry(
        f"cn=Evil {EVIL}x,ou=people,{BASE}",
        "inetOrgPerson",
        uid="evil",
        mail=[ALICE, "no address"],
        mailsigilValidatedLevel="V9",
    )
    policies = entry(f"cn=p{EVIL},ou=pol,{BASE}", "mailsigilPolicy", mailsigilAppliesToEveryone="TRUE")
    group = entry(
        f"cn=g{EVIL},ou=groups,{BASE}", "groupOfNames", member=[evil.dn, f"cn=g{EVIL},ou=groups,{BASE}"]
    )
    named = entry(f"cn=n,ou=pol,{BASE}", "mailsigilPolicy", mailsigilAppliesToGroup="cn=gone")
    house = Ldap(evil, policies, group, named)
    directory = house.tenant(tmp_path, "")
    found = [directory.identity(ALICE).source, *(one.source for one in directory.policies(ALICE))]
    found += [one.identity.source for listed in directory.people() for one in listed.addresses]
    house.entries.append(person("two", ALICE))
    house.clock += 10_000
    found.append(directory.identity(ALICE).trouble)
    remarks = review(directory.directories[0], house, at=NOW)  # type: ignore[arg-type]
    found += [text for remark in remarks for text in (remark.subject, remark.sentence)]
    assert any(r"Evil \1b[2J\1b[31mx" in text for text in found)
    assert all(text.isprintable() for text in (*found, *caplog.messages))


# --- Groups of the directory that the file names --------------------------------------------------------

TRADERS = entry(
    rf"cn=Traders\2C London,ou=groups,{BASE}", "groupOfNames", member=f"uid=alice,ou=people,{BASE}"
)


@pytest.mark.parametrize(
    "name",
    [
        r"cn=Traders\, London,ou=groups,dc=bank,dc=example",
        r"CN=Traders\2C London, OU=groups, DC=bank, DC=example",
        r"cn = traders\, london , ou = groups,dc=bank,dc=example",
    ],
)
def test_a_group_is_found_by_its_name_however_it_is_written(tmp_path: Path, name: str) -> None:
    house = Ldap(person("alice", ALICE), person("bob", "bob@bank.example"), TRADERS)
    directory = house.tenant(tmp_path, f"[[group]]\nname = '{name}'\nsigning = \"required\"\n")
    assert signing(directory, ALICE) is SigningMode.REQUIRED
    assert signing(directory, "bob@bank.example") is SigningMode.NEVER
    told = {listed.person.addresses[0]: listed.addresses[0].policies for listed in directory.people()}
    assert resolve(told[ALICE], at=NOW).signing.value is SigningMode.REQUIRED


def test_check_looks_for_the_groups_that_the_file_names(tmp_path: Path) -> None:
    house = Ldap(person("alice", ALICE), TRADERS)
    names = (TRADERS.dn, f"cn=gone,ou=groups,{BASE}", "own")
    file = "".join(f"[[group]]\nname = '{name}'\n" for name in names)
    directory = house.tenant(tmp_path, file)
    named = directory.file.named_groups()
    found = [
        remark.subject
        for remark in review(directory.directories[0], house, at=NOW, named=named)  # type: ignore[arg-type]
        if "which is not there" in remark.sentence
    ]
    assert found == [f"policy.toml:3 group cn=gone,ou=groups,{BASE}"]
