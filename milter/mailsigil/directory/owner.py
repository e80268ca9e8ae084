"""Whose address is it, and what is known of him? The policy file and a directory may both know somebody.

The file adds to what the directory says: it takes nobody's lock away, and no demand for a validation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mailsigil.directory.api import Person
from mailsigil.directory.entries import Record
from mailsigil.directory.file import FileDirectory
from mailsigil.directory.ldap_directory import LdapDirectory
from mailsigil.policy.entitlement import IdentityFacts, Validation
from mailsigil.policy.model import IdentityLevel


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whoever has an address, as both tell it together; nobody may be known to have it."""

    known_as: str
    """The one by which the directory is asked: the policy file may give people further addresses."""
    records: tuple[Record, ...]
    """Whom the directory has by that address."""
    listed: tuple[Person, ...]
    """Whom the policy file knows."""
    shared: bool
    """Several people have it, of the file or of the two together: whose it is, nobody can tell."""


def owner_of(address_key: str, file: FileDirectory, directory: LdapDirectory) -> Owner:
    """Give the owner of an address of the directory's domains; raises DirectoryUnavailable.

    Whom the policy file gives the address has it. Otherwise it is an alias that the directory alone knows, of
    somebody whom the file may list by another address.
    """
    own = file.person_by_address(address_key)
    known_as, records = address_key, directory.records(address_key)
    if own and not records and len(known := directory.records(own.addresses[0])) == 1:
        known_as, records = own.addresses[0], known
    same = [person for record in records for person in same_people(record.person, file, directory)]
    people = dict.fromkeys((own, *same) if own else same)
    return Owner(
        known_as=known_as,
        records=records,
        listed=(own,) if own else tuple(people),
        shared=len(people) > 1 or (own is not None and bool(records) and own not in same),
    )


def same_people(known: Person, file: FileDirectory, directory: LdapDirectory) -> tuple[Person, ...]:
    """Give whom the file lists by a main address that a person of the directory has, and nobody else there.

    Aliases join nobody: several people may have the address of a shared mailbox.
    """
    return tuple(
        person
        for address in known.addresses
        if (person := file.person_by_address(address)) is not None
        and person.addresses[0] == address
        and directory.has_alone(known, address)
    )


def owned_addresses(
    address_key: str, owner: Owner, file: FileDirectory, directory: LdapDirectory
) -> tuple[str, ...]:
    """Give the address, and those others of the same person that nobody else has and policies name.

    Each of them is a question to the directory, so those on which nothing hangs are left out.
    """
    people = (*owner.listed, *(record.person for record in owner.records))
    others = dict.fromkeys(address for person in people for address in person.addresses)
    return (
        address_key,
        *(
            address
            for address in others
            if address != address_key
            and (directory.names(address) or file.groups_differ(address, address_key))
            and _has_one_owner(address, owner, file, directory)
        ),
    )


def _has_one_owner(address: str, owner: Owner, file: FileDirectory, directory: LdapDirectory) -> bool:
    holder = file.person_by_address(address)
    if holder is not None and holder not in owner.listed:
        return False  # What the file gives to others is theirs.
    found = directory.records(address)
    if not found:
        return True
    return any(
        directory.has_alone(record.person, address)
        and (holder is None or holder in same_people(record.person, file, directory))
        for record in owner.records
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
    directory's; of an address that is ``shared`` by several, that one has no more than V1 is all that counts.
    What cannot be believed, and whether a validation is needed, the directory alone says.
    """
    facts = replace(recorded, validation=_of_several(recorded.validation)) if shared else recorded
    for one in listed:
        validation = _of_several(one.validation) if shared else one.validation
        decides = not one.active or (facts.active and (validation is not None or not facts.is_listed))
        facts = replace(
            facts,
            source=one.source if decides else facts.source,
            active=facts.active and one.active,
            validation=validation or facts.validation,
            is_listed=True,
        )
    return facts


def _of_several(validation: Validation | None) -> Validation | None:
    """Nobody knows whose it is; that it is no more than V1 keeps the address from speaking for the house."""
    return validation if validation is not None and validation.level is IdentityLevel.V1 else None
