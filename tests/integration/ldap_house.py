"""A mail site whose people and policies are in LDAP, on one or two private servers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from mailsigil.demo.organisation import EMPLOYEES, Employee
from mailsigil.demo.slapd import SUFFIX, Slapd

ROOT = Path(__file__).resolve().parent.parent.parent
SCHEMA = ROOT / "policies" / "openldap-schema.ldif"
EXAMPLE = ROOT / "policies" / "openldap-example.ldif"

FRAME = f"""\
dn: ou=people,{SUFFIX}
objectClass: organizationalUnit
ou: people

dn: ou=groups,{SUFFIX}
objectClass: organizationalUnit
ou: groups

dn: ou=mailsigil,{SUFFIX}
objectClass: organizationalUnit
ou: mailsigil
"""

ORGANISATION = f"""\
dn: cn=Example Bank,ou=mailsigil,{SUFFIX}
objectClass: mailsigilOrganisation
cn: Example Bank
o: Example Bank
mailsigilDomain: bank.example
mailsigilIdentityValidUntil: 20381231235959Z
"""

ALL_SIGN = f"""\
dn: cn=all sign,ou=mailsigil,{SUFFIX}
objectClass: mailsigilPolicy
cn: all sign
mailsigilAppliesToDomain: bank.example
mailsigilSigning: required
mailsigilUnauthorised: refuse
"""


def person(employee: Employee) -> str:
    """The entry of an employee, validated as the certificate says."""
    local = employee.address.partition("@")[0]
    return (
        f"dn: uid={local},ou=people,{SUFFIX}\nobjectClass: inetOrgPerson\nobjectClass: mailsigilPerson\n"
        f"uid: {local}\ncn: {employee.display_name}\nsn: {local}\nmail: {employee.address}\n"
        f"mailsigilValidatedLevel: {employee.subject.level.value}\n"
        "mailsigilValidatedUntil: 20381231235959Z\n"
    )


def bank_data(employees: Sequence[Employee] = EMPLOYEES) -> list[str]:
    """All entries of a bank whose mail must be signed."""
    return [FRAME, ORGANISATION, ALL_SIGN, *map(person, employees)]


def slapd(folder: Path, data: Sequence[str] | None = None) -> Slapd:
    """A server with the schema and the bank, not yet started."""
    return Slapd(folder, schemas=[SCHEMA], data=bank_data() if data is None else data)


def directory_lines(*servers: Slapd, **more: object) -> str:
    """The keys of a ``[[directory]]`` that asks these servers."""
    keys: dict[str, object] = {
        "name": "bank",
        "domains": ["bank.example"],
        "profile": "openldap",
        "servers": [server.url for server in servers],
        "encryption": "none",
        "people_base": f"ou=people,{SUFFIX}",
        "group_base": f"ou=groups,{SUFFIX}",
        "policy_base": f"ou=mailsigil,{SUFFIX}",
        **more,
    }
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
