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
from mailsigil.policy.entitlement import entitlement
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


# --- One person in both -----------------------------------------------------------------------------------

LAPSED = {"mailsigilValidatedLevel": "V4", "mailsigilValidatedUntil": "20200101000000Z"}
LOCKED = {"pwdAccountLockedTime": "000001010000Z"}
VALID_OURS = entry(
    f"cn=bank,ou=pol,{BASE}",
    "mailsigilOrganisation",
    o="Bank",
    mailsigilDomain="bank.example",
    mailsigilIdentityValidUntil="20380101000000Z",
)
IN_FILE = f'[[person]]\naddress = "{ALICE}"\nlogins = ["alice"]\n'


def levels(directory: TenantDirectory, address: str) -> set[str]:
    return set(entitlement(directory.identity(address), at=NOW).levels)


@pytest.mark.parametrize("address", [ALICE, ALIAS])
def test_a_person_in_the_file_switches_no_validation_of_the_directory_off(
    tmp_path: Path, address: str
) -> None:
    house = Ldap(person("alice", ALICE, ALIAS, **LAPSED), VALID_OURS)
    alone = house.tenant(tmp_path, "").identity(address)
    directory = house.tenant(tmp_path, f'{IN_FILE}form = "clear"\n')
    assert directory.identity(address) == alone
    assert levels(directory, address) == {"V1", "V3"}


def test_a_validation_of_the_file_goes_before_the_directory_s(tmp_path: Path) -> None:
    house = Ldap(person("alice", ALICE, **LAPSED), VALID_OURS)
    directory = house.tenant(tmp_path, f'{IN_FILE}validated_level = "V1"\n')
    assert levels(directory, ALICE) == {"V1"}
    assert directory.identity(ALICE).source == f"policy.toml:1 person {ALICE}"


def test_what_the_directory_demands_holds_for_people_of_the_file_too(tmp_path: Path) -> None:
    organisation = (
        '[[organisation]]\nname = "Bank"\ndomains = ["bank.example"]\nvalidated_until = 2038-01-01\n'
    )
    house = Ldap(person("bob", "bob@bank.example"), REQUIRED)
    directory = house.tenant(tmp_path, IN_FILE, "require_validation = true")
    assert levels(directory, ALICE) == {"V1"}
    directory = house.tenant(tmp_path, IN_FILE + organisation, "require_validation = true")
    assert levels(directory, ALICE) == {"V1", "V3"}


def test_two_people_of_the_directory_stay_two_with_the_file(tmp_path: Path) -> None:
    directory = Ldap(person("alice", ALICE), person("other", ALICE)).tenant(tmp_path, IN_FILE)
    assert "several people" in directory.identity(ALICE).trouble
    assert levels(directory, ALICE) == set()


@pytest.mark.parametrize("address", [ALICE, ALIAS])
@pytest.mark.parametrize(
    ("attributes", "file"),
    [
        pytest.param(LOCKED, IN_FILE, id="locked-in-the-directory"),
        pytest.param({}, f"{IN_FILE}disabled = true\n", id="disabled-in-the-file"),
        pytest.param(LOCKED, f"{IN_FILE}disabled = true\n", id="both"),
    ],
)
@pytest.mark.parametrize(
    "alias", ["", f'aliases = ["{ALIAS}"]\n'], ids=["alias-in-both", "alias-in-the-directory"]
)
def test_who_is_out_of_use_in_one_place_is_out_of_use(
    tmp_path: Path, address: str, attributes: dict[str, str], file: str, alias: str
) -> None:
    directory = Ldap(person("alice", ALICE, ALIAS, **attributes)).tenant(tmp_path, file + alias)
    for login in ("alice", "ALICE", ALICE, ALIAS):
        assert directory.person_by_login(login) is None
    assert not directory.identity(address).active
    assert not any(one.identity.active for listed in directory.people() for one in listed.addresses)


def test_an_alias_of_the_file_alone_is_locked_with_its_owner(tmp_path: Path) -> None:
    house = Ldap(person("alice", ALICE, **LOCKED))
    directory = house.tenant(tmp_path, f'{IN_FILE}aliases = ["{ALIAS}"]\n')
    assert not directory.identity(ALIAS).active


def test_a_person_in_both_has_the_addresses_and_rights_of_both(tmp_path: Path) -> None:
    alice = person("alice", ALICE, ALIAS, mailsigilSendAs="info@bank.example", sn="Liddell")
    file = f'{IN_FILE}aliases = ["al@bank.example"]\nmay_send_as = ["*@bank.example"]\ntitle = "Trader"\n'
    directory = Ldap(alice).tenant(tmp_path, file)
    found = directory.person_by_login("alice")
    assert found is not None
    assert found.addresses == (ALICE, "al@bank.example", ALIAS)
    assert found.may_send_as == ("*@bank.example", "info@bank.example")
    assert (found.surname, found.title) == ("Liddell", "Trader")
    assert directory.person_by_address(ALICE) == directory.person_by_address("al@bank.example") == found
    assert [listed.person for listed in directory.people()] == [found]


def test_one_entry_is_not_two_people_of_the_file(tmp_path: Path) -> None:
    house = Ldap(person("alice", ALICE, ALIAS, "bob@bank.example", mailsigilValidatedLevel="V2"), VALID_OURS)
    file = f'{IN_FILE}[[person]]\naddress = "bob@bank.example"\nlogins = ["bob"]\nsigning = "preferred"\n'
    directory = house.tenant(tmp_path, file)
    for login in ("alice", "bob"):
        found = directory.person_by_login(login)
        assert found is not None
        assert found.addresses == (f"{login}@bank.example",)
    for address in (ALICE, ALIAS, "bob@bank.example"):
        assert levels(directory, address) == {"V1", "V3"}  # of nobody it is known who was validated
    assert signing(directory, ALICE) is SigningMode.NEVER
    assert signing(directory, ALIAS) is SigningMode.PREFERRED


def test_who_is_in_the_file_alone_is_as_the_file_says(tmp_path: Path) -> None:
    directory = Ldap(person("bob", "bob@bank.example")).tenant(tmp_path, IN_FILE)
    assert directory.identity(ALICE).source == f"policy.toml:1 person {ALICE}"
    assert directory.identity(ALICE).is_listed
    assert directory.person_by_login("alice") is not None


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
