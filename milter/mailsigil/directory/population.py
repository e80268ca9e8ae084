"""All people of one LDAP directory, page by page, with what applies to each of their addresses.

The answers are those of :class:`~mailsigil.directory.ldap_directory.LdapDirectory`, found with a handful of
questions in place of several for each person. That two people have one address is for the caller to see.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Final

from mailsigil.directory.api import Listed, OwnAddress
from mailsigil.directory.dn import dn_key
from mailsigil.directory.entries import Record
from mailsigil.directory.filters import all_of, any_of, equal, present
from mailsigil.directory.groups import all_groups
from mailsigil.directory.ldap_directory import LdapDirectory
from mailsigil.directory.profiles import IN_CHAIN
from mailsigil.directory.servers import Search
from mailsigil.policy.entitlement import IdentityFacts

MAX_PEOPLE: Final = 1_000_000
MAX_GROUPS: Final = 100_000

GroupsOf = Callable[[str], frozenset[str]]
"""Gives the groups of a distinguished name, both as ``dn_key`` writes them."""


def population(
    directory: LdapDirectory, *, named_groups: frozenset[str]
) -> Iterator[tuple[Listed, frozenset[str]]]:
    """Give each person, and those groups of theirs that policies may ask for.

    ``named_groups`` are the groups that others than the directory's own policies ask for. Raises
    DirectoryUnavailable, also in the middle.
    """
    rules = directory.all_rules()
    groups = named_groups | {rule.group for rule in rules.rules if rule.group}
    groups_of = _groups_of(directory, groups) if groups else _no_groups
    organisation = cache(directory.organisation)
    named = {rule.address for rule in rules.rules}
    for record in _records(directory):
        person = record.person
        owned = [one for one in person.addresses if one in named and directory.has_alone(person, one)]
        member_of = groups_of(dn_key(record.dn))
        addresses = tuple(
            OwnAddress(
                address=address,
                identity=IdentityFacts(
                    source=record.person.source,
                    active=not record.inactive,
                    validation=record.validation,
                    organisation=organisation(address.rpartition("@")[2]),
                    is_listed=True,
                    must_be_validated=directory.settings.require_validation,
                ),
                policies=directory.entries_for(address, owned=owned, groups=member_of),
            )
            for address in record.person.addresses
        )
        if addresses:
            yield Listed(person=record.person, addresses=addresses), member_of


def _records(directory: LdapDirectory) -> Iterator[Record]:
    profile = directory.profile
    with_address = any_of(present(name) for name in (*profile["address"], *profile["alias"]))
    search = Search(
        base=directory.settings.people_base,
        filter=all_of([profile.people_filter, with_address]),
        attributes=profile.person_attributes,
        limit=MAX_PEOPLE,
    )
    for page in directory.pages(search):
        for entry in page:
            yield directory.read_person(entry)


def _no_groups(_: str) -> frozenset[str]:
    return frozenset()


def _groups_of(directory: LdapDirectory, groups: frozenset[str]) -> GroupsOf:
    """Active Directory tells who is in a group, whatever lies between; elsewhere all groups are read."""
    members: dict[str, frozenset[str]] = {}
    if directory.profile.nested_rule:
        for group in sorted(groups):
            for dn in _members_in_chain(directory, group):
                members[dn] = members.get(dn, frozenset()) | {group}
        return lambda dn: members.get(dn, frozenset())
    for group, listed in _all_groups(directory):
        for dn in listed:
            members[dn] = members.get(dn, frozenset()) | {group}
    return lambda dn: all_groups(dn, lambda one: members.get(one, frozenset()))[0]


def _members_in_chain(directory: LdapDirectory, group: str) -> Iterator[str]:
    profile = directory.profile
    search = Search(
        base=directory.settings.people_base,
        filter=all_of(
            [
                profile.people_filter,
                any_of(equal(f"{name}:{IN_CHAIN}:", group) for name in profile["member_of"]),
            ]
        ),
        attributes=("1.1",),  # RFC 4511 4.5.1.8: no attributes
        limit=MAX_PEOPLE,
    )
    for page in directory.pages(search):
        yield from (dn_key(entry.dn) for entry in page)


def _all_groups(directory: LdapDirectory) -> Iterator[tuple[str, tuple[str, ...]]]:
    names = directory.profile["group_member"]
    search = Search(
        base=directory.settings.group_base or directory.settings.people_base,
        filter=directory.profile.group_filter,
        attributes=names,
        limit=MAX_GROUPS,
    )
    for page in directory.pages(search):
        for entry in page:
            yield dn_key(entry.dn), tuple(map(dn_key, entry.all_texts(names)))
