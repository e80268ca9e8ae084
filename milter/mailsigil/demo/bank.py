"""A bank whose people are in LDAP alone: its entries, and what its personnel office does with them.

Nobody in it has a key or a certificate: they come about by themselves.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Final

from mailsigil.demo.organisation import DOMAIN
from mailsigil.demo.programs import DemoError
from mailsigil.demo.slapd import PASSWORD, SUFFIX, Slapd

ORGANISATION_DN: Final = f"cn=Example Bank,ou=mailsigil,{SUFFIX}"
VALIDATED_UNTIL: Final = "20381231235959Z"

FRAME: Final = "\n".join(
    f"dn: ou={name},{SUFFIX}\nobjectClass: organizationalUnit\nou: {name}\n"
    for name in ("people", "groups", "mailsigil")
)
"""The branches of the tree."""

ORGANISATION: Final = f"""\
dn: {ORGANISATION_DN}
objectClass: mailsigilOrganisation
cn: Example Bank
o: Example Bank
mailsigilDomain: {DOMAIN}
mailsigilIdentityValidUntil: {VALIDATED_UNTIL}
"""

ALL_SIGN: Final = f"""\
dn: cn=all sign,ou=mailsigil,{SUFFIX}
objectClass: mailsigilPolicy
cn: all sign
mailsigilAppliesToDomain: {DOMAIN}
mailsigilSigning: required
mailsigilUnauthorised: refuse
"""


def schema_file() -> Path:
    """Find ``openldap-schema.ldif``: in the checkout, or where an installation put it. Raises DemoError."""
    checkout = Path(__file__).resolve().parents[3]
    places = [checkout / "policies", Path(sys.prefix) / "share" / "mailsigil" / "policies"]
    for place in places:
        if (place / "openldap-schema.ldif").is_file():
            return place / "openldap-schema.ldif"
    raise DemoError(f"openldap-schema.ldif is neither in {' nor in '.join(map(str, places))}")


def bank_directory(folder: Path, *entries: str) -> Slapd:
    """A server with the schema, the organisation and its policy, and more entries; not yet started."""
    return Slapd(folder, schemas=[schema_file()], data=[FRAME, ORGANISATION, ALL_SIGN, *entries])


def employee_entry(uid: str, given: str, surname: str, *, title: str = "", level: str = "") -> str:
    """An employee's entry, as any directory has it; with ``level`` somebody has validated the person."""
    lines = [
        f"dn: uid={uid},ou=people,{SUFFIX}",
        "objectClass: inetOrgPerson",
        *(["objectClass: mailsigilPerson"] if level else []),
        f"uid: {uid}",
        f"cn: {given} {surname}",
        f"givenName: {given}",
        f"sn: {surname}",
        f"mail: {uid}@{DOMAIN}",
        f"userPassword: {PASSWORD}",
    ]
    lines += [f"title: {title}"] if title else []
    lines += _validated(level) if level else []
    return "\n".join(lines) + "\n"


def _validated(level: str) -> list[str]:
    return [f"mailsigilValidatedLevel: {level}", f"mailsigilValidatedUntil: {VALIDATED_UNTIL}"]


class Personnel:
    """Hires, validates and dismisses people: changes of the directory, and nothing else."""

    def __init__(self, server: Slapd) -> None:
        self.server = server

    def hire(self, uid: str, given: str, surname: str, *, title: str = "") -> str:
        """Add an entry; gives the address."""
        self.server.add(employee_entry(uid, given, surname, title=title))
        return f"{uid}@{DOMAIN}"

    def validate(self, uid: str, *, level: str = "V4") -> None:
        """Somebody has looked at the person's papers."""
        added = [f"add: {line.partition(':')[0]}\n{line}" for line in _validated(level)]
        self.change(uid, "\n-\n".join(["add: objectClass\nobjectClass: mailsigilPerson", *added]))

    def change(self, uid: str, lines: str) -> None:
        """Change an entry of a person, in the words of ldapmodify."""
        self.server.modify(f"dn: uid={uid},ou=people,{SUFFIX}\nchangetype: modify\n{lines}\n")

    def dismiss(self, uid: str) -> None:
        """Delete an entry."""
        self.server.modify(f"dn: uid={uid},ou=people,{SUFFIX}\nchangetype: delete\n")

    def organisation_until(self, end: datetime) -> None:
        """Record until when the organisation is validated."""
        self.server.modify(
            f"dn: {ORGANISATION_DN}\nchangetype: modify\nreplace: mailsigilIdentityValidUntil\n"
            f"mailsigilIdentityValidUntil: {end:%Y%m%d%H%M%SZ}\n"
        )


def directory_lines(*servers: Slapd, **more: object) -> str:
    """The keys of a ``[[directory]]`` that asks these servers."""
    keys: dict[str, object] = {
        "name": "bank",
        "domains": [DOMAIN],
        "profile": "openldap",
        "servers": [server.url for server in servers],
        "encryption": "none",
        "people_base": f"ou=people,{SUFFIX}",
        "group_base": f"ou=groups,{SUFFIX}",
        "policy_base": f"ou=mailsigil,{SUFFIX}",
        **more,
    }
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())


def source_lines(authority: Path, state: Path) -> str:
    """The keys of a ``[[source]]`` that lets the embedded authority certify keys of the bank."""
    return (
        f'name = "ca"\nkind = "embedded"\ndomains = ["{DOMAIN}"]\n'
        f'[source.embedded]\nfolder = "{authority}"\n[source.enrolment]\nstate = "{state}"\n'
    )


def lifecycle_lines(database: Path, **more: object) -> str:
    """The keys of ``[lifecycle]`` with SQLite in a file."""
    keys = {"enabled": True, "database": f"sqlite:///{database}", **more}
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
