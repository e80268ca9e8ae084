"""Active Directory, as Samba has it: people, aliases, nested groups, disabled accounts, and our schema."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mailsigil.demo.programs import DemoError
from mailsigil.demo.samba import ADMIN, PASSWORD, SUFFIX, SambaAd

pytestmark = [pytest.mark.integration, pytest.mark.samba, pytest.mark.xdist_group("samba")]

ROOT = Path(__file__).resolve().parent.parent.parent
SCHEMA = ROOT / "policies" / "active-directory-schema.ldf"
USERS = f"CN=Users,{SUFFIX}"

CHANGES = f"""\
dn: CN=alice,{USERS}
changetype: modify
replace: proxyAddresses
proxyAddresses: SMTP:alice@bank.example
proxyAddresses: smtp:Alice.Example@Bank.example
proxyAddresses: smtp:alice@ad.invalid
proxyAddresses: X400:c=XX;a= ;p=Bank;s=Example
-
replace: displayName
displayName: Alice Example
-
replace: title
title: Account Manager
-
replace: company
company: Example Bank
-

dn: CN=service,{USERS}
changetype: modify
replace: secretary
secretary: CN=alice,{USERS}
-
"""

ENTRIES = f"""\
dn: OU=mailsigil,{SUFFIX}
changetype: add
objectClass: organizationalUnit
ou: mailsigil

dn: CN=Example Bank,OU=mailsigil,{SUFFIX}
changetype: add
objectClass: mailsigilOrganisation
cn: Example Bank
o: Example Bank
mailsigilDomain: bank.example
mailsigilIdentityValidUntil: 20361231235959.0Z

dn: CN=outer,OU=mailsigil,{SUFFIX}
changetype: add
objectClass: mailsigilPolicy
cn: outer
mailsigilAppliesToGroup: CN=outer,{USERS}
mailsigilPriority: 10
mailsigilSigning: required
mailsigilForm: opaque

dn: CN=alice,{USERS}
changetype: modify
add: mailsigilValidatedLevel
mailsigilValidatedLevel: V4
-
add: mailsigilValidatedUntil
mailsigilValidatedUntil: 20361231235959.0Z
-
"""


class Forest:
    """A running domain, and mailsigil's commands where they reach it."""

    def __init__(self, samba: SambaAd, folder: Path) -> None:
        self.samba, self.folder = samba, folder
        self.password = folder / "password"
        self.password.write_text(PASSWORD + "\n")
        self.policy = folder / "policy.toml"
        # Groups of the directory, without any change of its schema.
        self.policy.write_text(
            f'[[domain]]\nname = "bank.example"\nsigning = "preferred"\n'
            f'[[group]]\nname = "CN=outer,{USERS}"\nform = "opaque"\n'
        )

    def run(self, *arguments: str, **directory: object) -> subprocess.CompletedProcess[str]:
        """A command of mailsigil."""
        config = self.configured(**directory)
        return self.python("-m", "mailsigil", *arguments, "--config", str(config))

    def configured(self, **directory: object) -> Path:
        """Writes the configuration."""
        config = self.folder / "mailsigil.toml"
        keys: dict[str, object] = {
            "name": "forest",
            "domains": ["bank.example"],
            "profile": "active-directory",
            "servers": [f"ldaps://{self.samba.host}", f"ldap://{self.samba.host}"],
            "ca_file": str(self.samba.ca),
            "bind": "simple",
            "bind_dn": ADMIN,
            "password_file": str(self.password),
            "people_base": SUFFIX,
            **directory,
        }
        lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
        # Exchange adds publicDelegates; a forest without it has other attributes that name people.
        lines += 'attributes = { delegates = ["secretary"] }\n'
        config.write_text(f'[policy]\nfile = "{self.policy}"\n[[directory]]\n{lines}')
        return config

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Python, where the domain can be reached."""
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "milter")}
        command = self.samba.inside([sys.executable, *arguments])
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)

    def explain(self, name: str, **directory: object) -> dict[str, Any]:
        done = self.run("explain", "--json", f"{name}@bank.example", **directory)
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer


@pytest.fixture(scope="module")
def forest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forest]:
    folder = tmp_path_factory.mktemp("ad")
    try:
        with SambaAd(folder / "samba") as samba:
            for name in ("alice", "service", "departed"):
                address = f"--mail-address={name}@bank.example"
                samba.tool("user", "create", name, PASSWORD, address)
            samba.tool("user", "disable", "departed")
            for group in ("inner", "outer"):
                samba.tool("group", "add", group)
            samba.tool("group", "addmembers", "inner", "alice,departed")
            samba.tool("group", "addmembers", "outer", "inner")
            samba.change(CHANGES)
            yield Forest(samba, folder)
    except DemoError as error:
        reasons = ("is missing", "only be started by root", "cannot set up a domain on this machine")
        if any(reason in str(error) for reason in reasons):
            pytest.skip(f"no Samba domain controller here: {error}")
        raise


def test_a_person_with_aliases_logins_and_delegation(forest: Forest) -> None:
    person = forest.explain("alice")["person"]
    assert person["name"] == "Alice Example"
    assert person["addresses"] == ["alice@bank.example", "alice.example@bank.example"]
    assert {"alice", "alice@ad.bank.example", "alice@bank.example"} <= set(person["logins"])
    assert person["may_send_as"] == ["service@bank.example"]


def test_an_alias_finds_the_person(forest: Forest) -> None:
    assert forest.explain("Alice.Example")["person"]["addresses"][0] == "alice@bank.example"


@pytest.mark.parametrize("name", ["alice*", "'*)(cn=*'", '"a\\\\2a"', "x" * 60])
def test_hostile_addresses_find_nobody(forest: Forest, name: str) -> None:
    done = forest.run("explain", "--json", f"{name}@bank.example")
    assert done.returncode == 2 or json.loads(done.stdout)["person"] is None


def test_a_group_in_a_group_counts_without_a_change_of_the_schema(forest: Forest) -> None:
    policy = forest.explain("alice")["policy"]
    assert policy["form"]["value"] == "opaque"
    assert "CN=outer" in policy["form"]["source"]
    assert policy["signing"]["value"] == "preferred"
    assert forest.explain("service")["policy"]["form"]["value"] == "clear"


_PEOPLE = """
import sys
from mailsigil.config.loading import load_settings
from mailsigil.directory.opening import open_directory
directory = open_directory(load_settings(sys.argv[1]))
listed = list(directory.people())
for one in listed:
    for own in one.addresses:
        if own.identity.active:
            assert own.identity == directory.identity(own.address), own
            assert set(own.policies) == set(directory.policies(own.address)), own
print(sorted((own.address, own.identity.active) for one in listed for own in one.addresses))
"""


def test_all_people_are_told_with_groups_in_groups_and_disabled_ones(forest: Forest) -> None:
    done = forest.python("-c", _PEOPLE, str(forest.configured()))
    assert done.returncode == 0, done.stderr
    told = dict(ast.literal_eval(done.stdout))
    assert {"alice@bank.example", "service@bank.example", "departed@bank.example"} <= set(told)
    assert [address for address, active in told.items() if not active] == ["departed@bank.example"]


def test_a_disabled_account_signs_nothing(forest: Forest) -> None:
    answer = forest.explain("departed")
    assert answer["entitled"]["levels"] == []
    assert "disabled" in answer["entitled"]["reason"]


def test_check_asks_over_ldaps_and_starttls(forest: Forest) -> None:
    found = forest.run("check", "--json", sample_sender="alice@bank.example").stdout
    notes = [one["sentence"] for one in json.loads(found)["findings"] if "forest" in one["subject"]]
    assert notes[:2] == ["answers, and the login is accepted"] * 2
    assert any("people" in one and "groups" in one for one in notes)
    assert any("the sample sender alice@bank.example is CN=alice" in one for one in notes)


def test_a_server_that_cannot_show_who_it_is_is_not_asked(forest: Forest) -> None:
    done = forest.run("explain", "alice@bank.example", ca_file="")
    assert done.returncode == 2
    assert "certificate" in done.stderr.lower()


def test_policies_as_entries_with_our_schema(forest: Forest) -> None:
    schema = SCHEMA.read_text().replace("DC=X", SUFFIX)
    forest.samba.change(schema)
    forest.samba.change(ENTRIES)
    answer = forest.explain("alice", policy_base=f"OU=mailsigil,{SUFFIX}")
    assert answer["policy"]["signing"] == {
        "value": "required",
        "source": f"CN=outer,OU=mailsigil,{SUFFIX}",
    }
    assert answer["entitled"]["levels"] == ["V1", "V2", "V3", "V4"]
    assert answer["organisation"]["name"] == "Example Bank"
