"""The same people, policies and questions over the policy file and over a real slapd."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from integration.ldap_house import slapd
from mailsigil.config.loading import load_settings
from mailsigil.demo.bank import FRAME, directory_lines
from mailsigil.demo.programs import DemoError
from mailsigil.demo.slapd import SUFFIX
from mailsigil.directory.api import Directory, Population
from mailsigil.directory.opening import open_directory
from mailsigil.policy.entitlement import entitlement
from mailsigil.policy.model import EffectivePolicy, Form, SigningMode, Unauthorised
from mailsigil.policy.resolve import resolve

NOW = datetime(2026, 11, 22, tzinfo=UTC)

FILE = """
[default]
unauthorised = "refuse"

[[organisation]]
name = "Example Bank"
domains = ["bank.example"]
validated_until = 2038-12-31T23:59:59Z
key_service = "embedded"

[[domain]]
name = "bank.example"
signing = "required"
exempt_recipients = ["*@lists.example"]

[[group]]
name = "traders"
members = ["bob@bank.example", "carl@bank.example"]
priority = 20
form = "opaque"

[[group]]
name = "office"
members = ["alice@bank.example", "bob@bank.example"]
priority = 10
form = "clear"
signing = "preferred"

[[group]]
name = "was"
members = ["alice@bank.example"]
priority = 99
signing = "never"
valid_until = 2020-01-01T00:00:00Z

[[person]]
address = "alice@bank.example"
name = "Alice Example"
aliases = ["alice.example@bank.example"]
logins = ["alice"]
may_send_as = ["service@bank.example"]
validated_level = "V4"
validated_until = 2038-12-31T23:59:59Z

[[person]]
address = "bob@bank.example"
name = "Bob Sample"
logins = ["bob"]
signing = "required"

[[person]]
address = "carl@bank.example"
name = "Carl Lapsed"
logins = ["carl"]
validated_level = "V4"
validated_until = 2020-01-01T00:00:00Z

[[person]]
address = "dora@bank.example"
name = "Dora Departed"
logins = ["dora"]
disabled = true
"""


def _person(uid: str, name: str, *more: str) -> str:
    lines = [
        f"dn: uid={uid},ou=people,{SUFFIX}",
        "objectClass: inetOrgPerson",
        "objectClass: mailsigilPerson",
        f"uid: {uid}",
        f"cn: {name}",
        f"displayName: {name}",
        f"sn: {uid}",
        f"mail: {uid}@bank.example",
        *more,
    ]
    return "\n".join(lines) + "\n"


def _policy(name: str, *lines: str) -> str:
    head = f"dn: cn={name},ou=mailsigil,{SUFFIX}\nobjectClass: mailsigilPolicy\ncn: {name}\n"
    return head + "\n".join(lines) + "\n"


def _group(name: str, *members: str) -> str:
    listed = "".join(f"member: {member}\n" for member in members)
    return f"dn: cn={name},ou=groups,{SUFFIX}\nobjectClass: groupOfNames\ncn: {name}\n{listed}"


def _uid(uid: str) -> str:
    return f"uid={uid},ou=people,{SUFFIX}"


ENTRIES = [
    FRAME,
    f"dn: cn=bank,ou=mailsigil,{SUFFIX}\nobjectClass: mailsigilOrganisation\ncn: bank\no: Example Bank\n"
    "mailsigilDomain: bank.example\nmailsigilIdentityValidUntil: 20381231235959Z\n"
    "mailsigilKeyService: embedded\n",
    _policy("everyone", "mailsigilAppliesToEveryone: TRUE", "mailsigilUnauthorised: refuse"),
    _policy(
        "domain",
        "mailsigilAppliesToDomain: bank.example",
        "mailsigilSigning: required",
        "mailsigilExemptRecipient: *@lists.example",
    ),
    _policy(
        "traders",
        f"mailsigilAppliesToGroup: cn=traders,ou=groups,{SUFFIX}",
        "mailsigilPriority: 20",
        "mailsigilForm: opaque",
    ),
    _policy(
        "office",
        f"mailsigilAppliesToGroup: cn=office,ou=groups,{SUFFIX}",
        "mailsigilPriority: 10",
        "mailsigilForm: clear",
        "mailsigilSigning: preferred",
    ),
    _policy(
        "was",
        f"mailsigilAppliesToGroup: cn=was,ou=groups,{SUFFIX}",
        "mailsigilPriority: 99",
        "mailsigilSigning: never",
        "mailsigilValidUntil: 20200101000000Z",
    ),
    _policy("bob", "mailsigilAppliesToAddress: Bob@Bank.example", "mailsigilSigning: required"),
    _person(
        "alice",
        "Alice Example",
        "mail: Alice.Example@BANK.example",
        "mailsigilSendAs: service@bank.example",
        "mailsigilValidatedLevel: V4",
        "mailsigilValidatedUntil: 20381231235959Z",
    ),
    _person("bob", "Bob Sample"),
    _person("carl", "Carl Lapsed", "mailsigilValidatedLevel: V4", "mailsigilValidatedUntil: 20200101000000Z"),
    # inetOrgPerson has no mark for this, so a site's own one stands in people_filter.
    _person("dora", "Dora Departed", "description: TRUE"),
    _group("inner", _uid("bob")),
    # Groups in groups, and one that contains itself.
    _group("traders", f"cn=inner,ou=groups,{SUFFIX}", _uid("carl")),
    _group("office", _uid("alice"), _uid("bob"), f"cn=office,ou=groups,{SUFFIX}"),
    _group("was", _uid("alice")),
]


@pytest.fixture(scope="module", params=["file", pytest.param("ldap", marks=pytest.mark.integration)])
def directory(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Directory]:
    folder = tmp_path_factory.mktemp("contract")
    policy, config = folder / "policy.toml", folder / "mailsigil.toml"
    if request.param == "file":
        policy.write_text(FILE)
        config.write_text(f'[policy]\nfile = "{policy}"\n')
        yield open_directory(load_settings(config))
        return
    policy.write_text("")
    try:
        with slapd(folder / "ldap", ENTRIES) as server:
            lines = directory_lines(
                server, people_filter="(&(objectClass=inetOrgPerson)(!(description=TRUE)))"
            )
            config.write_text(f'[policy]\nfile = "{policy}"\n[[directory]]\n{lines}')
            yield open_directory(load_settings(config))
    except DemoError as error:
        if "is missing" not in str(error):
            raise
        pytest.skip(str(error))


def _of(directory: Directory, name: str) -> EffectivePolicy:
    return resolve(directory.policies(f"{name}@bank.example"), at=NOW)


@pytest.mark.parametrize(
    ("login", "address"),
    [
        ("alice", "alice@bank.example"),
        ("ALICE", "alice@bank.example"),
        ("bob", "bob@bank.example"),
        ("dora", None),
        ("eve", None),
        ("", None),
        ("*", None),
        ("ali*", None),
        ("*)(uid=*", None),
        ("alice)(|(uid=*", None),
        ("alice\0", None),
        ("alice\n", None),
        (" alice", None),
        ("al\\69ce", None),
        ("a" * 10_000, None),
        ("älice", None),
        ("\udcff", None),
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
        ("alice@other.example", None),
        ("*@bank.example", None),
        ("*)(uid=*@bank.example", None),
        ("alice\0@bank.example", None),
        ("a" * 10_000 + "@bank.example", None),
        ("älice@bank.example", None),
        ("alice@bücher.example", None),
        ("", None),
        ("@", None),
    ],
)
def test_person_by_address(directory: Directory, key: str, name: str | None) -> None:
    person = directory.person_by_address(key)
    assert (person.name if person else None) == name


def test_delegation(directory: Directory) -> None:
    alice = directory.person_by_login("alice")
    assert alice is not None
    assert alice.may_send_as == ("service@bank.example",)
    assert set(alice.addresses) == {"alice@bank.example", "alice.example@bank.example"}


@pytest.mark.parametrize(
    ("name", "signing", "form"),
    [
        pytest.param("alice", SigningMode.PREFERRED, Form.CLEAR, id="group before domain; one entry is over"),
        pytest.param("bob", SigningMode.REQUIRED, Form.OPAQUE, id="person before groups, groups by priority"),
        pytest.param("carl", SigningMode.REQUIRED, Form.OPAQUE, id="falls through to the domain"),
        pytest.param("eve", SigningMode.REQUIRED, Form.CLEAR, id="nobody, yet of the domain"),
    ],
)
def test_policy(directory: Directory, name: str, signing: SigningMode, form: Form) -> None:
    policy = _of(directory, name)
    assert (policy.signing.value, policy.form.value) == (signing, form)
    assert policy.unauthorised.value is Unauthorised.REFUSE
    assert policy.exempt_recipients.value == ("*@lists.example",)
    assert policy.conflicts == ()


@pytest.mark.parametrize(
    ("name", "levels"),
    [("alice", "V1 V2 V3 V4"), ("bob", "V1 V3"), ("carl", "V1 V3"), ("eve", "V1")],
)
def test_entitlement(directory: Directory, name: str, levels: str) -> None:
    facts = directory.identity(f"{name}@bank.example")
    assert entitlement(facts, at=NOW).levels == set(levels.split())


def test_organisation(directory: Directory) -> None:
    found = directory.organisation("bank.example")
    assert found is not None
    assert (found.name, found.key_service) == ("Example Bank", "embedded")
    assert directory.organisation("other.example") is None
    assert "bank.example" in directory.own_domains()


def test_strangers_get_what_is_said_for_everyone_at_most(directory: Directory) -> None:
    assert resolve(directory.policies("a@other.example"), at=NOW).signing.value is SigningMode.NEVER
    assert directory.client_may_send_as("192.0.2.1") == ()


def test_all_people_are_told_as_they_are_one_by_one(directory: Population) -> None:
    listed = {one.person.name: one for one in directory.people()}
    expected = {"Alice Example", "Bob Sample", "Carl Lapsed"}
    # The file tells of disabled people, too; people_filter leaves them out here.
    assert expected <= set(listed) <= {*expected, "Dora Departed"}
    for one in listed.values():
        for own in one.addresses:
            assert own.identity == directory.identity(own.address)
            assert set(own.policies) == set(directory.policies(own.address))
            person = directory.person_by_address(own.address)
            assert person is not None
            assert (person.name, person.addresses) == (one.person.name, one.person.addresses)
    assert [own.address for own in listed["Alice Example"].addresses][1:] == ["alice.example@bank.example"]
    assert not any(one.addresses[0].identity.active for one in listed.values() if "Dora" in one.person.name)
