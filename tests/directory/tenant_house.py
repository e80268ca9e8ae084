"""A bank whose people are in an LDAP directory that stands in memory, beside a policy file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from mailsigil.config.loading import load_settings
from mailsigil.directory.dn import dn_key
from mailsigil.directory.entry import Entry
from mailsigil.directory.file import FileDirectory
from mailsigil.directory.ldap_directory import LdapDirectory
from mailsigil.directory.servers import Search
from mailsigil.directory.tenants import TenantDirectory

NOW = datetime(2026, 11, 22, tzinfo=UTC)
BASE = "dc=bank,dc=example"
_PAIR = re.compile(r"\(([A-Za-z]+)=([^()]*)\)")
_OCTET = re.compile(r"\\([0-9a-f]{2})")


def entry(dn: str, kind: str, **attributes: str | list[str]) -> Entry:
    """An entry of one object class."""
    told = {"objectClass": kind, **attributes}
    values = {name.lower(): [texts] if isinstance(texts, str) else texts for name, texts in told.items()}
    return Entry(dn, {name: tuple(text.encode() for text in texts) for name, texts in values.items()})


def person(uid: str, *addresses: str, **attributes: str | list[str]) -> Entry:
    """An entry of a person."""
    return entry(f"uid={uid},ou=people,{BASE}", "inetOrgPerson", uid=uid, mail=list(addresses), **attributes)


def policy(name: str, **attributes: str) -> Entry:
    """A policy entry."""
    return entry(f"cn={name},ou=pol,{BASE}", "mailsigilPolicy", **attributes)


class Ldap:
    """Entries, and servers that hold them. ``clock`` is the time of the caches, in seconds."""

    def __init__(self, *entries: Entry) -> None:
        self.entries = list(entries)
        self.clock = 0.0
        self.asked: list[Search] = []

    def search(self, search: Search) -> tuple[Entry, ...]:
        """Find entries: those of the kind that the filter names, with one of its values."""
        self.asked.append(search)
        pairs = [(name.lower(), _OCTET.sub(_sign, value)) for name, value in _PAIR.findall(search.filter)]
        kinds = {value for name, value in pairs if name == "objectclass"}
        wanted = [(name, value) for name, value in pairs if name != "objectclass"]
        return tuple(
            one
            for one in self.entries
            if kinds & {"*", *one.texts(["objectClass"])} and (not wanted or _has(one, wanted))
        )

    def pages(self, search: Search) -> Iterator[tuple[Entry, ...]]:
        """Find entries, one on a page."""
        return iter([(one,) for one in self.search(search)])

    def each(self, search: Search) -> list[tuple[str, tuple[Entry, ...] | str]]:
        """Ask all servers."""
        return [("ldaps://l.bank.example", ())]

    def directory(self, folder: Path, *lines: str) -> LdapDirectory:
        """The directory of ``bank.example`` with these lines in its settings."""
        (folder / "policy.toml").touch()
        (folder / "mailsigil.toml").write_text(
            "\n".join(
                [
                    f'[policy]\nfile = "{folder}/policy.toml"',
                    '[[directory]]\nname = "Bank"\ndomains = ["bank.example"]\nprofile = "openldap"',
                    'servers = ["ldaps://l.bank.example"]\nbind = "anonymous"',
                    f'people_base = "ou=people,{BASE}"\ngroup_base = "ou=groups,{BASE}"',
                    f'policy_base = "ou=pol,{BASE}"',
                    *lines,
                ]
            )
        )
        settings = load_settings(folder / "mailsigil.toml").directory[0]
        return LdapDirectory(
            settings, ask=self.search, pages=self.pages, clock=lambda: self.clock, now=lambda: NOW
        )

    def tenant(self, folder: Path, file: str, *lines: str) -> TenantDirectory:
        """The same, with a policy file beside it."""
        (folder / "policy.toml").write_text(file, encoding="utf-8")
        directory = self.directory(folder, *lines)
        return TenantDirectory(FileDirectory.load(folder / "policy.toml"), [directory])


def _sign(octet: re.Match[str]) -> str:
    return chr(int(octet[1], 16))


def _has(one: Entry, wanted: list[tuple[str, str]]) -> bool:
    return any(
        value == "*" or dn_key(value) in map(dn_key, one.texts([name]))
        for name, value in wanted
        if one.has(name)
    )
