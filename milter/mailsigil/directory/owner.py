"""Whose address is it, and what is known of him? The policy file and a directory may both know somebody.

The file adds to what the directory says: it takes nobody's lock away, and no demand for a validation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mailsigil.directory.api import Person
from mailsigil.directory.file import FileDirectory
from mailsigil.directory.ldap_directory import LdapDirectory
from mailsigil.policy.entitlement import IdentityFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whoever has an address, as both tell it together; nobody may be known to have it."""

    addresses: tuple[str, ...]
    """All of them, that one first: what policy says of one of them holds for the others."""
    known_as: str
    """The one by which the directory is asked: the policy file may give people further addresses."""
    listed: tuple[Person, ...]
    """Whom the policy file knows."""
    shared: bool
    """The file knows several people where the directory has one entry: whose it is, nobody can tell."""


def owner_of(address_key: str, file: FileDirectory, directory: LdapDirectory) -> Owner:
    """Give the owner of an address of the directory's domains; raises DirectoryUnavailable.

    Whom the policy file gives the address has it. Otherwise it is an alias that the directory alone knows, of
    somebody whom the file may list by another address.
    """
    own = file.person_by_address(address_key)
    asked = (address_key, *(own.addresses if own else ()))
    known_as = next((one for one in asked if directory.records(one)), address_key)
    told = [address for record in directory.records(known_as) for address in record.person.addresses]
    others = tuple(person for person in file.people_of(told) if person != own)
    listed = (own,) if own else others
    if own:  # What the file gives to others is theirs.
        told = [address for address in told if file.person_by_address(address) in (None, own)]
    addresses = (address_key, *told, *(address for person in listed for address in person.addresses))
    return Owner(
        addresses=tuple(dict.fromkeys(addresses)),
        known_as=known_as,
        listed=listed,
        shared=len({own, *others} - {None}) > 1,
    )


def merged_person(listed: Person, known: Person) -> Person:
    """Give a person of the policy file with what the directory knows of the same one.

    Names come from one of the two, never from both.
    """
    named = listed if listed.name or listed.given_name or listed.surname else known
    return replace(
        listed,
        addresses=tuple(dict.fromkeys((*listed.addresses, *known.addresses))),
        may_send_as=tuple(dict.fromkeys((*listed.may_send_as, *known.may_send_as))),
        name=named.name,
        given_name=named.given_name,
        surname=named.surname,
        title=listed.title or known.title,
    )


def merged_identity(
    recorded: IdentityFacts, listed: Sequence[IdentityFacts], *, shared: bool
) -> IdentityFacts:
    """Give what the directory records of somebody, with what the policy file says of the same one.

    An account is in use where both say so. A validation is the file's where it states one, else the
    directory's, unless its entry is ``shared`` by several. What cannot be believed, and whether a validation
    is needed, the directory alone says.
    """
    facts = replace(recorded, validation=None) if shared else recorded
    for one in listed:
        validation = one.validation if len(listed) == 1 else None
        decides = not one.active or (facts.active and (validation is not None or not facts.is_listed))
        facts = replace(
            facts,
            source=one.source if decides else facts.source,
            active=facts.active and one.active,
            validation=validation or facts.validation,
            is_listed=True,
        )
    return facts
