"""A mail site whose people and policies are in LDAP, on one or two private servers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mailsigil.demo.bank import ALL_SIGN, FRAME, ORGANISATION, VALIDATED_UNTIL, schema_file
from mailsigil.demo.organisation import EMPLOYEES, Employee
from mailsigil.demo.slapd import SUFFIX, Slapd

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLE = ROOT / "policies" / "openldap-example.ldif"


def person(employee: Employee) -> str:
    """The entry of an employee, validated as the certificate says."""
    local = employee.address.partition("@")[0]
    return (
        f"dn: uid={local},ou=people,{SUFFIX}\nobjectClass: inetOrgPerson\nobjectClass: mailsigilPerson\n"
        f"uid: {local}\ncn: {employee.display_name}\nsn: {local}\nmail: {employee.address}\n"
        f"mailsigilValidatedLevel: {employee.subject.level.value}\n"
        f"mailsigilValidatedUntil: {VALIDATED_UNTIL}\n"
    )


def bank_data(employees: Sequence[Employee] = EMPLOYEES) -> list[str]:
    """All entries of a bank whose mail must be signed."""
    return [FRAME, ORGANISATION, ALL_SIGN, *map(person, employees)]


def slapd(folder: Path, data: Sequence[str] | None = None) -> Slapd:
    """A server with the schema and the bank, not yet started."""
    return Slapd(folder, schemas=[schema_file()], data=bank_data() if data is None else data)
