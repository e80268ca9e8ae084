"""Several directories as one: each mail domain has its own, and the policy file stands beside them all.

A directory is asked about its own domains and logins only, so that one tenant's trouble stays with that
tenant, and no tenant's entries speak for another's addresses.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Final

from mailsigil.directory.api import Listed, OwnAddress, Person
from mailsigil.directory.duplicates import fold_login
from mailsigil.directory.file import FileDirectory
from mailsigil.directory.ldap_directory import LdapDirectory
from mailsigil.directory.owner import (
    merged_identity,
    merged_person,
    owned_addresses,
    owner_of,
    same_people,
)
from mailsigil.directory.population import population
from mailsigil.policy.entitlement import IdentityFacts, Organisation
from mailsigil.policy.model import PolicyEntry

FILE_LAYER: Final = 1
"""The policy file's entries give way to a directory's of the same scope."""


class TenantDirectory:
    """Asks the directory that is responsible, and the policy file beside it."""

    def __init__(self, file: FileDirectory, directories: Sequence[LdapDirectory]) -> None:
        self.file = file
        self.directories = tuple(directories)
        self._by_domain = {
            domain: directory for directory in directories for domain in directory.settings.domains
        }
        bare = [directory for directory in directories if directory.settings.bare_logins]
        self._bare = bare[0] if bare else directories[0] if len(directories) == 1 else None
        self._layered = lru_cache(maxsize=4096)(_behind)
        self._named_groups = frozenset(file.named_groups())
        self._file_names_people = bool(file.person_entries or any(rule.members for rule in file.group_rules))

    def person_by_login(self, login: str) -> Person | None:
        """Give the person of this login: one whom the policy file lists, else the directory's.

        A login with a domain belongs to that domain's directory; for others see ``bare_logins``. Whoever is
        disabled in one of the two has no login at all.
        """
        if fold_login(login) in self.file.disabled_logins:
            return None
        listed = self.file.person_by_login(login)
        if listed is not None:
            return self._merged(listed) if self.identity(listed.addresses[0]).active else None
        _, at, domain = login.lower().rpartition("@")
        directory = self._by_domain.get(domain) if at else self._bare
        found = directory.person_by_login(login) if directory is not None else None
        if found is None or directory is None:
            return None
        listed_too = same_people(found, self.file, directory)
        return None if any(map(self.file.is_disabled, listed_too)) else found

    def person_by_address(self, key: str) -> Person | None:
        """Give the owner of an address: one whom the policy file lists, else the directory's."""
        listed = self.file.person_by_address(key)
        directory = self.directory_of(key)
        if listed is not None:
            return self._merged(listed)
        return directory.person_by_address(key) if directory is not None else None

    def _merged(self, listed: Person) -> Person:
        """A person of the policy file, with what the directory of the main address knows."""
        main = listed.addresses[0]
        directory = self.directory_of(main)
        if directory is None or owner_of(main, self.file, directory).shared:
            return listed
        known = directory.person_by_address(main)
        return listed if known is None else merged_person(listed, known)

    def client_may_send_as(self, ip: str) -> tuple[str, ...]:
        """Give the patterns of the policy file's [[client]] rules."""
        return self.file.client_may_send_as(ip)

    def policies(self, address_key: str) -> tuple[PolicyEntry, ...]:
        """Give the directory's entries, and the policy file's behind them."""
        directory = self.directory_of(address_key)
        if directory is None:
            return self.file.policies(address_key)
        rules = directory.all_rules()
        groups_count = bool(self._named_groups or rules.names_groups)
        owned: tuple[str, ...] = (address_key,)
        people: tuple[Person, ...] = ()
        groups: frozenset[str] = frozenset()
        # Where no policy is about somebody in particular, it need not be known who the sender is.
        if groups_count or self._file_names_people or rules.names_people:
            owner = owner_of(address_key, self.file, directory)
            owned, people = owned_addresses(address_key, owner, self.file, directory), owner.listed
            groups = directory.groups(owner.known_as) if groups_count else groups
        listed = self.file.entries(address_key, groups=groups, listed=people, owned=owned)
        return (
            *directory.entries_for(address_key, owned=owned, groups=groups),
            *(self._layered(entry) for entry in listed),
        )

    def identity(self, address_key: str) -> IdentityFacts:
        """Give what is recorded about an identity, in the directory and in the policy file together."""
        directory = self.directory_of(address_key)
        if directory is None:
            return self.file.identity(address_key)
        owner = owner_of(address_key, self.file, directory)
        listed = [self.file.identity(person.addresses[0]) for person in owner.listed]
        facts = merged_identity(directory.identity(owner.known_as), listed, shared=owner.shared)
        return replace(facts, organisation=self.organisation(address_key.rpartition("@")[2]))

    def organisation(self, domain: str) -> Organisation | None:
        """Give the organisation of a domain: the directory's, else the policy file's."""
        directory = self._by_domain.get(domain)
        found = directory.organisation(domain) if directory is not None else None
        return found or self.file.organisation(domain)

    def own_domains(self) -> frozenset[str]:
        """Give the domains of all directories and of the policy file; nobody is asked for it."""
        return self.file.own_domains() | self._by_domain.keys()

    def people(self) -> Iterator[Listed]:
        """Give the people of the policy file, then those of each directory whom the file does not list."""
        told: set[str] = set()
        for listed in self.file.people():
            person = self._merged(listed.person)
            told.update(person.addresses)
            yield Listed(person=person, addresses=tuple(map(self._own, person.addresses)))
        for directory in self.directories:
            for listed, groups in population(directory, named_groups=self._named_groups):
                yield from self._beside_the_file(listed, groups, told, directory)

    def _beside_the_file(
        self, listed: Listed, groups: frozenset[str], told: Collection[str], directory: LdapDirectory
    ) -> Iterator[Listed]:
        """Somebody of a directory, with those addresses that were not ``told`` with the file's people."""
        owned = listed.person.addresses
        if not self.file.people_of(owned):
            own = tuple(self._completed(one, listed.person, groups, directory) for one in listed.addresses)
        else:
            own = tuple(self._own(address) for address in owned if address not in told)
        if own:
            yield Listed(person=listed.person, addresses=own)

    def _own(self, address: str) -> OwnAddress:
        return OwnAddress(address=address, identity=self.identity(address), policies=self.policies(address))

    def _completed(
        self, own: OwnAddress, person: Person, groups: frozenset[str], directory: LdapDirectory
    ) -> OwnAddress:
        """An address with what the policy file says of it, as :meth:`policies` and :meth:`identity` do."""
        facts = own.identity
        organisation = facts.organisation or self.file.organisation(own.address.rpartition("@")[2])
        owned = [
            address
            for address in person.addresses
            if self.file.groups_differ(address, own.address) and directory.has_alone(person, address)
        ]
        listed = self.file.entries(own.address, groups=groups, owned=owned)
        return OwnAddress(
            address=own.address,
            identity=facts
            if organisation is facts.organisation
            else replace(facts, organisation=organisation),
            policies=(*own.policies, *(self._layered(entry) for entry in listed)),
        )

    def directory_of(self, address_key: str) -> LdapDirectory | None:
        """Give the directory that speaks for an address."""
        return self._by_domain.get(address_key.rpartition("@")[2])


def _behind(entry: PolicyEntry) -> PolicyEntry:
    return replace(entry, layer=FILE_LAYER)
