"""The embedded directory: one TOML file says who is who and which policy applies."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path

from mailsigil.config.document import Document, load_document
from mailsigil.config.locate import KeyPath
from mailsigil.config.reading import ReadText, read_text
from mailsigil.directory.api import Listed, OwnAddress, Person
from mailsigil.directory.certificate_rules import known_source, no_such_source
from mailsigil.directory.dn import dn_key
from mailsigil.directory.duplicates import duplicates, fold_login
from mailsigil.directory.policy_file import OrganisationKeys, PersonKeys, PolicyFile, PolicyKeys
from mailsigil.policy.entitlement import IdentityFacts, Organisation, Validation
from mailsigil.policy.model import IdentityLevel, PolicyEntry, Scope
from mailsigil.policy.patterns import is_member

MAX_LOGIN = 1024
"""Letters of a login name that are looked at; no directory has longer ones."""


@dataclass(frozen=True, slots=True)
class _ClientRule:
    networks: tuple[IPv4Network | IPv6Network, ...]
    may_send_as: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _GroupRule:
    name: str
    """Of a distinguished name what ``dn_key`` gives; of another one the lower case."""
    members: tuple[str, ...]
    entry: PolicyEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class FileDirectory:
    """Answers from a policy file that was read once. Immutable: a reload makes a new one."""

    people_by_login: Mapping[str, Person]
    people_by_address: Mapping[str, Person]
    person_entries: Mapping[str, PolicyEntry]
    """By main address."""
    domain_entries: Mapping[str, PolicyEntry]
    group_rules: tuple[_GroupRule, ...]
    default_entry: PolicyEntry
    organisations: Mapping[str, Organisation]
    """By mail domain."""
    validations: Mapping[str, Validation]
    """By main address."""
    disabled: frozenset[str]
    """Main addresses."""
    disabled_logins: frozenset[str]
    """As :func:`fold_login` gives them: nobody's, whoever else knows them."""
    client_rules: tuple[_ClientRule, ...]
    domains: frozenset[str]

    @classmethod
    def load(
        cls, path: Path | str, *, sources: frozenset[str] | None = None, read: ReadText = read_text
    ) -> FileDirectory:
        """Read a policy file; raises ``ConfigError`` with every finding at once.

        ``sources`` are the names of [[source]] in lower case; None leaves it unchecked what it names.
        """
        document = load_document(Path(path), PolicyFile, read=read)
        document.refuse([*duplicates(document), *_unknown_sources(document, sources)])
        file = document.value
        people = [_person(document, keys, number) for number, keys in enumerate(file.person)]
        disabled = frozenset(keys.address for keys in file.person if keys.disabled)
        return cls(
            people_by_login={
                fold_login(login): person
                for person in people
                if person.addresses[0] not in disabled
                for login in person.logins
            },
            people_by_address={address: person for person in people for address in person.addresses},
            person_entries={
                keys.address: _entry(document, keys, ("person", number), keys.address)
                for number, keys in enumerate(file.person)
            },
            domain_entries={
                keys.name: _entry(document, keys, ("domain", number), keys.name)
                for number, keys in enumerate(file.domain)
            },
            group_rules=tuple(
                _GroupRule(
                    _group_name(keys.name),
                    keys.members,
                    _entry(document, keys, ("group", number), keys.name, priority=keys.priority),
                )
                for number, keys in enumerate(file.group)
            ),
            default_entry=_entry(document, file.default, ("default",), ""),
            organisations={
                domain: _organisation(document, keys, number)
                for number, keys in enumerate(file.organisation)
                for domain in keys.domains
            },
            validations={
                keys.address: Validation(
                    level=keys.validated_level, by=keys.validated_by, until=keys.validated_until
                )
                for keys in file.person
                if keys.validated_level is not None
            },
            disabled=disabled,
            disabled_logins=frozenset(
                fold_login(login)
                for person in people
                if person.addresses[0] in disabled
                for login in person.logins
            ),
            client_rules=tuple(
                _ClientRule(tuple(ip_network(text) for text in client.networks), client.may_send_as)
                for client in file.client
            ),
            domains=frozenset(keys.name for keys in file.domain)
            | {domain for keys in file.organisation for domain in keys.domains}
            | {address.rpartition("@")[2] for person in people for address in person.addresses},
        )

    def person_by_login(self, login: str) -> Person | None:
        """Give the person who logs in by this name; letter case does not count."""
        return self.people_by_login.get(fold_login(login)) if len(login) <= MAX_LOGIN else None

    def person_by_address(self, key: str) -> Person | None:
        """Give the person who owns this address, as main address or alias."""
        return self.people_by_address.get(key)

    def client_may_send_as(self, ip: str) -> tuple[str, ...]:
        """Give the patterns of all rules whose networks hold this IP address."""
        try:
            address: IPv4Address | IPv6Address = ip_address(ip)
        except ValueError:
            return ()
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            # A listener for both families shows IPv4 clients as ::ffff:192.0.2.1.
            address = address.ipv4_mapped
        return tuple(
            pattern
            for rule in self.client_rules
            if any(address in network for network in rule.networks)
            for pattern in rule.may_send_as
        )

    def policies(self, address_key: str) -> tuple[PolicyEntry, ...]:
        """Give the entries of the address's person, its groups, its domain, and for everyone."""
        person = self.people_by_address.get(address_key)
        if person is None:
            return self.entries(address_key)
        return self.entries(address_key, listed=(person,), owned=person.addresses)

    def entries(
        self,
        address_key: str,
        *,
        groups: Collection[str] = (),
        listed: Iterable[Person] = (),
        owned: Iterable[str] = (),
    ) -> tuple[PolicyEntry, ...]:
        """Give the same for somebody whom an LDAP directory may know, too.

        ``groups`` are names of groups there (``dn_key``), ``listed`` whom the file means, ``owned`` the
        addresses that this person alone has: what is said of one of them holds for the others.
        """
        others = [address for address in owned if address != address_key]
        of_people = (
            _said_of(self.person_entries[each.addresses[0]], address_key in each.addresses) for each in listed
        )
        of_groups = (
            _said_of(rule.entry, own)
            for rule in self.group_rules
            if (own := rule.name in groups or is_member(rule.members, address_key))
            or any(is_member(rule.members, one) for one in others)
        )
        domain = self.domain_entries.get(address_key.rpartition("@")[2])
        found = (*of_people, *of_groups, domain, self.default_entry)
        return tuple(entry for entry in found if entry is not None)

    def groups_differ(self, one: str, other: str) -> bool:
        """Tell whether a group here has the one address as a member and not the other."""
        return any(is_member(rule.members, one) > is_member(rule.members, other) for rule in self.group_rules)

    def is_disabled(self, person: Person) -> bool:
        """Tell whether somebody whom the file lists is disabled here."""
        return person.addresses[0] in self.disabled

    def people_of(self, addresses: Iterable[str]) -> tuple[Person, ...]:
        """Give the people who have one of these addresses, each once."""
        found = (self.people_by_address.get(address) for address in addresses)
        return tuple(dict.fromkeys(person for person in found if person is not None))

    def identity(self, address_key: str) -> IdentityFacts:
        """Give what the file records; a file without [[organisation]] records no validation."""
        person = self.people_by_address.get(address_key)
        main = person.addresses[0] if person else ""
        return IdentityFacts(
            source=person.source if person else "nobody has this address",
            active=main not in self.disabled,
            validation=self.validations.get(main),
            organisation=self.organisation(address_key.rpartition("@")[2]),
            is_listed=person is not None,
        )

    def people(self) -> Iterator[Listed]:
        """Give everybody whom the file lists."""
        for person in dict.fromkeys(self.people_by_address.values()):
            yield Listed(
                person=person,
                addresses=tuple(
                    OwnAddress(
                        address=address, identity=self.identity(address), policies=self.policies(address)
                    )
                    for address in person.addresses
                ),
            )

    def organisation(self, domain: str) -> Organisation | None:
        """Give the [[organisation]] that lists a domain."""
        return self.organisations.get(domain)

    def named_groups(self) -> dict[str, str]:
        """Give the groups that are some directory's, as ``dn_key`` writes them, with where they are named."""
        return {rule.name: rule.entry.source for rule in self.group_rules if "=" in rule.name}

    def own_domains(self) -> frozenset[str]:
        """Give the listed domains and those of all listed addresses."""
        return self.domains


def _said_of(entry: PolicyEntry, own: bool) -> PolicyEntry:
    return entry if own else replace(entry, elsewhere=True)


def _group_name(name: str) -> str:
    return dn_key(name) if "=" in name else name.lower()


def _unknown_sources(
    document: Document[PolicyFile], sources: frozenset[str] | None
) -> Iterator[tuple[KeyPath, str]]:
    file = document.value
    lists: list[tuple[KeyPath, PolicyKeys]] = [(("default",), file.default)]
    lists += [(("domain", number), keys) for number, keys in enumerate(file.domain)]
    lists += [(("group", number), keys) for number, keys in enumerate(file.group)]
    lists += [(("person", number), keys) for number, keys in enumerate(file.person)]
    for path, keys in lists:
        for index, rule in enumerate(keys.certificates or ()):
            if sources is not None and not known_source(rule.source, sources):
                place = (*path, "certificates", index, "source")
                yield place, no_such_source(rule.source, sources)


def _where(document: Document[PolicyFile], place: tuple[str | int, ...], name: str) -> str:
    line = document.line(place)
    where = f"{document.path.name}:{line}" if line else document.path.name
    return f"{where} {place[0]} {name}".rstrip()


def _person(document: Document[PolicyFile], keys: PersonKeys, number: int) -> Person:
    return Person(
        name=keys.name,
        addresses=(keys.address, *keys.aliases),
        logins=keys.logins or (keys.address,),
        may_send_as=keys.may_send_as,
        source=_where(document, ("person", number), keys.address),
        given_name=keys.given_name,
        surname=keys.surname,
        title=keys.title,
    )


def _organisation(document: Document[PolicyFile], keys: OrganisationKeys, number: int) -> Organisation:
    return Organisation(
        name=keys.name,
        source=_where(document, ("organisation", number), keys.name),
        domains=keys.domains,
        validated_until=keys.validated_until,
        employees=IdentityLevel(keys.employees),
        key_service=keys.key_service,
    )


def _entry(
    document: Document[PolicyFile],
    keys: PolicyKeys,
    place: tuple[str | int, ...],
    name: str,
    *,
    priority: int = 0,
) -> PolicyEntry:
    return PolicyEntry(
        source=_where(document, place, name),
        scope=Scope[str(place[0]).upper()],
        priority=priority,
        valid_until=keys.valid_until,
        signing=keys.signing,
        form=keys.form,
        unauthorised=keys.unauthorised,
        misordered_dkim=keys.misordered_dkim,
        exempt_recipients=keys.exempt_recipients,
        level=keys.level,
        timestamp=keys.timestamp,
        certificates=None if keys.certificates is None else tuple(one.rule for one in keys.certificates),
        domain_signature=keys.domain_signature,
        decryption=keys.decryption,
    )
