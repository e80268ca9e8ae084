"""A throwaway organisation: an authority, four employees of four levels, a policy, a configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from mailsigil.keys.authority import Authority
from mailsigil.keys.profile import KeyKind, Subject
from mailsigil.pki.policies import Level

DOMAIN: Final = "bank.example"
HOST: Final = "mx.bank.example"
PASSWORD: Final = "demo"  # noqa: S105  # of throwaway logins on loopback


@dataclass(frozen=True, slots=True)
class Employee:
    """One who may log in and whose mail is signed."""

    subject: Subject
    display_name: str
    key: KeyKind | None = None
    """None: the kind of key that the organisation uses."""

    @property
    def address(self) -> str:
        """Mail address and login."""
        return self.subject.address


EMPLOYEES: Final = (
    Employee(
        Subject(
            level=Level.V4,
            address=f"alice@{DOMAIN}",
            given_name="Alice",
            surname="Example",
            organisation="Example Bank",
            title="Account Manager",
        ),
        "Alice Example",
    ),
    Employee(Subject(level=Level.V3, address=f"carol@{DOMAIN}", organisation="Example Bank"), "Carol Sample"),
    Employee(
        Subject(level=Level.V2, address=f"dora@{DOMAIN}", given_name="Dora", surname="Muster"),
        "Dora Muster",
    ),
    Employee(Subject(level=Level.V1, address=f"info@{DOMAIN}"), "Example Bank"),
)
"""One employee for each level, V4 first."""

_POLICY: Final = """\
# The policy of the throwaway organisation: all mail of the domain must be signed.
[default]
signing = "never"

[[domain]]
name = "{domain}"
signing = "required"
unauthorised = "refuse"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Organisation:
    """The files that :func:`found` made."""

    folder: Path
    config: Path
    policy: Path
    anchor: Path
    """The root certificate, which receivers trust."""
    milter_socket: Path


def found(
    folder: Path,
    *,
    now: datetime,
    dns_port: int,
    key: KeyKind = KeyKind.P256,
    settings: Mapping[str, str] | None = None,
    employees: Sequence[Employee] = EMPLOYEES,
    policy: str = "",
) -> Organisation:
    """Makes everything below ``folder``. ``settings`` adds TOML lines to sections of these names.

    "trust" is the entry of the organisation's own authority. ``policy`` is the whole policy file; empty: all
    mail of the employees must be signed.
    """
    authority = Authority.init(folder / "ca", organisation="Example Bank", now=now)
    for employee in employees:
        authority.issue(employee.subject, out=folder / "keys", key=employee.key or key, now=now)
    anchor = folder / "root.pem"
    anchor.write_bytes((folder / "ca" / "root.pem").read_bytes())
    organisation = Organisation(
        folder=folder,
        config=folder / "mailsigil.toml",
        policy=folder / "policy.toml",
        anchor=anchor,
        milter_socket=folder / "milter.sock",
    )
    organisation.policy.write_text(policy or _POLICY.format(domain=DOMAIN) + "".join(map(_person, employees)))
    organisation.config.write_text(_config(organisation, dns_port, settings or {}))
    return organisation


def _person(employee: Employee) -> str:
    address = json.dumps(employee.address)
    name = json.dumps(employee.display_name)
    return f"\n[[person]]\naddress = {address}\nname = {name}\n"


def _config(organisation: Organisation, dns_port: int, more: Mapping[str, str]) -> str:
    folder = organisation.folder
    sections = {
        "milter": f'socket = "unix:{organisation.milter_socket}"\nsocket_mode = "0660"\n'
        'socket_group = "postfix"\n',
        "inbound": f'authserv_id = "{HOST}"\ndaemons = ["inbound"]\n',
        "outbound": 'trusted_networks = []\ndaemons = ["submission"]\n',
        "policy": f'file = "{organisation.policy}"\n',
        "keyd": f'socket = "{folder}/keyd.sock"\nfolder = "{folder}/keys"\nallowed_users = ["root"]\n',
        "dns": f'servers = ["127.0.0.1"]\nport = {dns_port}\n',
    }
    names = [*sections, *(name for name in more if name not in {*sections, "trust"})]
    text = "".join(f"[{name}]\n{sections.get(name, '')}{more.get(name, '')}\n" for name in names)
    return (
        text + f'[[trust]]\nname = "example-bank"\nfiles = ["{organisation.anchor}"]\n'
        'asserts = ["mailsigil"]\n' + more.get("trust", "")
    )
