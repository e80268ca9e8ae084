"""The questions that mailsigil asks a directory. A file answers them, and LDAP can."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from mailsigil.policy.entitlement import IdentityFacts, Organisation
from mailsigil.policy.model import PolicyEntry


class DirectoryUnavailable(Exception):
    """The directory cannot answer now: nothing is known, which is not the same as nobody being there.

    Whoever asked on behalf of a message defers that message.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """One who sends mail."""

    name: str
    addresses: tuple[str, ...]
    """The main address, then the aliases, as ``Address.key`` gives them."""
    logins: tuple[str, ...]
    """SASL login names."""
    may_send_as: tuple[str, ...] = ()
    """Address patterns (``policy.patterns``) of others in whose name this person may write."""
    source: str = ""
    """The entry that says so."""
    given_name: str = ""
    surname: str = ""
    title: str = ""
    """Names as a certificate may carry them; empty where they are not recorded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnAddress:
    """One address of a person, with what the directory says of it."""

    address: str
    """As ``Address.key`` gives it."""
    identity: IdentityFacts
    policies: tuple[PolicyEntry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One of all people."""

    person: Person
    addresses: tuple[OwnAddress, ...]
    """The main address first."""


class Directory(Protocol):
    """Who is who, and which policy entries apply. All arguments may come from hostile mail.

    Every method may raise :class:`DirectoryUnavailable`.
    """

    def person_by_login(self, login: str) -> Person | None:
        """Give the person who logs in by this name. Disabled accounts are nobody's."""
        ...

    def person_by_address(self, key: str) -> Person | None:
        """Give the person who owns this address (``Address.key``), as main address or alias."""
        ...

    def client_may_send_as(self, ip: str) -> tuple[str, ...]:
        """Give the patterns that a client at this IP address may send as without a login."""
        ...

    def policies(self, address_key: str) -> tuple[PolicyEntry, ...]:
        """Give the entries for a sender; ``policy.resolve`` ranks them."""
        ...

    def identity(self, address_key: str) -> IdentityFacts:
        """Give what is recorded about the identity behind an address, for ``policy.entitlement``."""
        ...

    def organisation(self, domain: str) -> Organisation | None:
        """Give the organisation that a mail domain (lower case, A-labels) belongs to."""
        ...

    def own_domains(self) -> frozenset[str]:
        """Give all mail domains of the organisation, lower case, in A-labels. Never unavailable."""
        ...


class Population(Directory, Protocol):
    """A directory that can tell all its people, for those who look after everybody."""

    def people(self) -> Iterator[Listed]:
        """Give all people of the organisation's mail domains, also those whose accounts are disabled.

        Nobody is left out: where not all can be told this raises :class:`DirectoryUnavailable`, at the latest
        in place of the end. Two people may have one address. Reads on while it is used, and keeps no list.
        """
        ...
