"""A look at a whole directory, for ``mailsigil check``: can it be asked, and does it make sense?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from itertools import chain, combinations
from types import MappingProxyType
from typing import Final

from mailsigil.config.surroundings import Remark, Severity
from mailsigil.directory.api import DirectoryUnavailable
from mailsigil.directory.dn import dn_key
from mailsigil.directory.entries import Problem, Record, Rule
from mailsigil.directory.entry import Entry
from mailsigil.directory.filters import all_of, any_of, present
from mailsigil.directory.groups import find_loop
from mailsigil.directory.ldap_directory import LdapDirectory, Rules
from mailsigil.directory.servers import Search, Servers
from mailsigil.message.address import Address, AddressError
from mailsigil.policy.entitlement import entitlement
from mailsigil.policy.model import IdentityLevel, Scope, Timestamp
from mailsigil.policy.resolve import resolve

MAX_PEOPLE: Final = 200_000
MAX_GROUPS: Final = 50_000
MAX_SHOWN: Final = 20
"""Findings of one kind that are shown one by one."""
SOON: Final = timedelta(days=30)
"""How long before the end of a validation a warning comes."""

_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
_V4_NEEDS: Final = frozenset({IdentityLevel.V3, IdentityLevel.V4})


def review(
    directory: LdapDirectory, servers: Servers, *, at: datetime, named: Mapping[str, str] = _NOTHING
) -> Iterator[Remark]:
    """Give all findings about one directory; asks every server, and reads all people and groups once.

    ``named`` are groups that the policy file names (``dn_key``), and where.
    """
    name = f'directory "{directory.settings.name}"'
    answering = list(_servers(directory, servers, name))
    yield from answering
    if not any(remark.severity is Severity.NOTE for remark in answering):
        return
    try:
        people = _all_people(directory, servers, at)
        groups = _all_groups(directory, servers)
        rules = directory.all_rules()
        yield from _sample(directory, name, at)
    except DirectoryUnavailable as error:
        yield Remark(Severity.ERROR, name, str(error), "correct the bases in [[directory]]")
        return
    yield Remark(
        Severity.NOTE,
        name,
        f"{len(people)} people, {len(groups)} groups, {len(rules.rules)} policies,"
        f" {len(rules.organisations)} organisations",
        "",
    )
    yield from _people(directory, people, name)
    yield from _told(problem for problem in (*_problems(people), *rules.problems))
    yield from _told(_twice(people))
    yield from _told(_loops(groups))
    yield from _told(_group_names(directory, rules, groups, named))
    yield from _told(_conflicts(rules, groups, at))
    yield from _organisations(rules, people, at)


def _servers(directory: LdapDirectory, servers: Servers, name: str) -> Iterator[Remark]:
    """Log in to each server, and look for the base there."""
    base = Search(
        base=directory.settings.people_base,
        filter="(objectClass=*)",
        attributes=("1.1",),
        limit=1,
        just_base=True,
    )
    for url, answer in servers.each(base):
        if isinstance(answer, str):
            mend = "see that it runs, and that servers, ca_file, bind and people_base are right"
            yield Remark(Severity.ERROR, f"{name}: {url}", answer, mend)
        else:
            yield Remark(Severity.NOTE, f"{name}: {url}", "answers, and the login is accepted", "")


def _all_people(directory: LdapDirectory, servers: Servers, at: datetime) -> list[Record]:
    names = (*directory.profile["address"], *directory.profile["alias"], *directory.profile["login"])
    wanted = all_of([directory.profile.people_filter, any_of(present(one) for one in names)])
    found = servers.pages(
        Search(
            base=directory.settings.people_base,
            filter=wanted,
            attributes=directory.profile.person_attributes,
            limit=MAX_PEOPLE,
        )
    )
    return [directory.reader.person(entry, at) for page in found for entry in page]


def _all_groups(directory: LdapDirectory, servers: Servers) -> list[Entry]:
    pages = servers.pages(
        Search(
            base=directory.settings.group_base or directory.settings.people_base,
            filter=directory.profile.group_filter,
            attributes=directory.profile["group_member"],
            limit=MAX_GROUPS,
        )
    )
    return list(chain.from_iterable(pages))


def _sample(directory: LdapDirectory, name: str, at: datetime) -> Iterator[Remark]:
    text = directory.settings.sample_sender
    if not text:
        return
    try:
        key = Address.parse(text).key
    except AddressError as error:
        yield Remark(Severity.ERROR, name, f'sample_sender "{text}": {error}', "write an address")
        return
    person = directory.person_by_address(key)
    if person is None:
        yield Remark(
            Severity.ERROR,
            name,
            f"the sample sender {key} is not found",
            "see that domains, people_base, people_filter and attributes are right",
        )
        return
    policy = resolve(directory.entries(key), at=at)
    entitled = entitlement(directory.identity(key), at=at)
    yield Remark(
        Severity.NOTE,
        name,
        f"the sample sender {key} is {person.source}, signing {policy.signing.value}, entitled to {entitled}",
        "",
    )


def _people(directory: LdapDirectory, people: list[Record], name: str) -> Iterator[Remark]:
    for role in ("address", "login"):
        have = [one for one in people if (one.person.addresses if role == "address" else one.person.logins)]
        if not have:
            listed = ", ".join(directory.profile[role])
            yield Remark(
                Severity.ERROR,
                name,
                f"nobody has an attribute for {role} ({listed}) that is of use",
                f"see that people_base, people_filter, domains and {role} in attributes are right",
            )


def _problems(people: Iterable[Record]) -> Iterator[Problem]:
    for record in people:
        yield from record.problems


def _twice(people: Iterable[Record]) -> Iterator[Problem]:
    owners: defaultdict[str, list[str]] = defaultdict(list)
    for record in people:
        if not record.inactive:
            for address in record.person.addresses:
                owners[f"the address {address}"].append(record.person.source)
            for login in record.person.logins:
                owners[f"the login {login}"].append(record.person.source)
    for what, dns in owners.items():
        if len(dns) > 1:
            yield Problem(dns[0], f"{what} belongs to {' and '.join(dns[1:5])}, too; nobody signs with it")


def _members(groups: Iterable[Entry]) -> dict[str, frozenset[str]]:
    return {dn_key(group.dn): frozenset(map(dn_key, group.texts(group.attributes))) for group in groups}


def _loops(groups: list[Entry]) -> Iterator[Problem]:
    members = _members(groups)
    loop = find_loop({dn: inner & members.keys() for dn, inner in members.items()})
    if loop:
        yield Problem(loop[0], f"a group contains itself: {' contains '.join((*loop, loop[0]))}")


def _group_names(
    directory: LdapDirectory, rules: Rules, groups: list[Entry], named: Mapping[str, str]
) -> Iterator[Problem]:
    known = {dn_key(group.dn) for group in groups}
    wanted = [(rule.group, rule.entry.source) for rule in rules.rules if rule.group]
    wanted += [(group, place) for group, place in named.items() if has_place_for(directory, group)]
    for group, place in wanted:
        if group not in known:
            yield Problem(place, f'applies to the group "{group}", which is not there')


def has_place_for(directory: LdapDirectory, group: str) -> bool:
    """Tell whether a group (``dn_key``) would be this directory's: it is below the base of groups."""
    base = dn_key(directory.settings.group_base or directory.settings.people_base)
    return not base or group == base or group.endswith(f",{base}")


def _conflicts(rules: Rules, groups: list[Entry], at: datetime) -> Iterator[Problem]:
    """Entries of one rank that disagree about somebody who is meant by both."""
    members = _members(groups)
    for one, other in combinations(rules.rules, 2):
        if (one.entry.scope, one.entry.priority) == (other.entry.scope, other.entry.priority):
            for conflict in resolve([one.entry, other.entry], at=at).conflicts:
                if one.entry.source != other.entry.source and _meet(one, other, members):
                    yield Problem(
                        one.entry.source,
                        f'disagrees with {other.entry.source} about "{conflict.setting}", and both have'
                        f" priority {one.entry.priority}; what holds is: {conflict.holds}",
                    )


def _meet(one: Rule, other: Rule, members: dict[str, frozenset[str]]) -> bool:
    if one.entry.scope is not Scope.GROUP:
        return (one.address, one.domain) == (other.address, other.domain)
    return bool(_everybody(one.group, members) & _everybody(other.group, members))


def _everybody(group: str, members: dict[str, frozenset[str]]) -> set[str]:
    """The group and all that it contains, directly or through others."""
    found: set[str] = set()
    waiting = [group]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting.extend(members.get(one, ()))
    return found


def _organisations(rules: Rules, people: Iterable[Record], at: datetime) -> Iterator[Remark]:
    covered = {domain for one in rules.organisations for domain in one.domains}
    for one in rules.organisations:
        until = one.validated_until
        if until is None or until <= at + SOON:
            when = f"lapses on {until:%Y-%m-%d}" if until and until > at else "has lapsed"
            when = when if until else "is not recorded"
            yield Remark(
                Severity.WARNING,
                one.source,
                f"the validation of {one.name} {when}: without it nobody signs V3 or V4",
                "validate the organisation again, and set mailsigilIdentityValidUntil",
            )
    lost = [
        record.person.source
        for record in people
        if record.validation is not None
        and record.validation.level in _V4_NEEDS
        and not {address.rpartition("@")[2] for address in record.person.addresses} <= covered
    ]
    if lost:
        yield Remark(
            Severity.WARNING,
            lost[0],
            f"{len(lost)} people are validated as V3 or V4, and no organisation entry covers their domain",
            "add a mailsigilOrganisation entry with mailsigilDomain",
        )
    for rule in rules.rules:
        if rule.entry.timestamp is Timestamp.REQUIRED:
            yield Remark(
                Severity.WARNING,
                rule.entry.source,
                "requires a timestamp, and no timestamp authority can be configured: its mail is deferred",
                "set mailsigilTimestamp to preferred",
            )


def _told(problems: Iterable[Problem]) -> Iterator[Remark]:
    found = list(dict.fromkeys(problems))
    for problem in found[:MAX_SHOWN]:
        yield Remark(Severity.WARNING, problem.dn, problem.sentence, "correct the entry")
    if len(found) > MAX_SHOWN:
        more = f"{len(found) - MAX_SHOWN} more findings of this kind"
        yield Remark(Severity.WARNING, found[0].dn, more, "correct these entries, and check again")
