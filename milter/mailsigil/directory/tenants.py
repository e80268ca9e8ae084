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
from mailsigil.directory.file import FileDirectory
from mailsigil.directory.ldap_directory import LdapDirectory
from mailsigil.directory.owner import owner_of
from mailsigil.directory.population import population
from mailsigil.policy.entitlement import IdentityFacts, Organisation
from mailsigil.policy.model import PolicyEntry

FILE_LAYER: Final = 1
"""The policy file's entries give way to a directory's of the same scope."""


class TenantDirectory:
    """Asks the directory that is responsible, and the policy file for what that one leaves open."""

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

        A login with a domain belongs to that domain's directory; for others see ``bare_logins``.
        """
        listed = self.file.person_by_login(login)
        if listed is not None:
            return listed
        _, at, domain = login.lower().rpartition("@")
        directory = self._by_domain.get(domain) if at else self._bare
        return directory.person_by_login(login) if directory is not None else None

    def person_by_address(self, key: str) -> Person | None:
        """Give the owner of an address: one whom the policy file lists, else the directory's."""
        listed = self.file.person_by_address(key)
        directory = self.directory_of(key)
        if listed is not None or directory is None:
            return listed
        return directory.person_by_address(key)

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
        groups: frozenset[str] = frozenset()
        # Where no policy is about somebody in particular, it need not be known who the sender is.
        if groups_count or self._file_names_people or rules.names_people:
            owner = owner_of(address_key, self.file, directory)
            owned = owner.addresses
            groups = directory.groups(owner.known_as) if groups_count else groups
        listed = self.file.entries(address_key, groups=groups, owned=owned)
        return (
            *directory.entries_for(address_key, owned=owned, groups=groups),
            *(self._layered(entry) for entry in listed),
        )

    def identity(self, address_key: str) -> IdentityFacts:
        """Give what is recorded about an identity; a person in the policy file is recorded there."""
        directory = self.directory_of(address_key)
        if directory is None or self.file.person_by_address(address_key) is not None:
            return self.file.identity(address_key)
        facts = directory.identity(address_key)
        domain = address_key.rpartition("@")[2]
        return replace(facts, organisation=facts.organisation or self.file.organisation(domain))

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
        for listed in self.file.people():
            yield Listed(person=listed.person, addresses=tuple(map(self._own, listed.person.addresses)))
        for directory in self.directories:
            for listed, groups in population(directory, named_groups=self._named_groups):
                yield from self._beside_the_file(listed, groups)

    def _beside_the_file(self, listed: Listed, groups: frozenset[str]) -> Iterator[Listed]:
        """Somebody of a directory, with those addresses that the policy file gives nobody."""
        owned = listed.person.addresses
        if not self.file.people_of(owned):
            yield Listed(
                person=listed.person,
                addresses=tuple(self._completed(own, owned, groups) for own in listed.addresses),
            )
            return
        left = [address for address in owned if self.file.person_by_address(address) is None]
        if left:
            yield Listed(person=listed.person, addresses=tuple(map(self._own, left)))

    def _own(self, address: str) -> OwnAddress:
        return OwnAddress(address=address, identity=self.identity(address), policies=self.policies(address))

    def _completed(self, own: OwnAddress, owned: Collection[str], groups: frozenset[str]) -> OwnAddress:
        """An address with what the policy file says of it, as :meth:`policies` and :meth:`identity` do."""
        facts = own.identity
        organisation = facts.organisation or self.file.organisation(own.address.rpartition("@")[2])
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
