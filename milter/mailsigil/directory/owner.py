"""Whose address is it? The policy file and a directory may both know somebody, by different addresses."""

from __future__ import annotations

from dataclasses import dataclass

from mailsigil.directory.api import Person
from mailsigil.directory.file import FileDirectory
from mailsigil.directory.ldap_directory import LdapDirectory


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whoever has an address, as both tell it together; nobody may be known to have it."""

    addresses: tuple[str, ...]
    """All of them, that one first: what policy says of one of them holds for the others."""
    known_as: str
    """The one by which the directory is asked: the policy file may give people further addresses."""
    listed: tuple[Person, ...]
    """Whom the policy file knows."""


def owner_of(address_key: str, file: FileDirectory, directory: LdapDirectory) -> Owner:
    """Give the owner of an address of the directory's domains; raises DirectoryUnavailable.

    Whom the policy file gives the address has it. Otherwise it is an alias that the directory alone knows, of
    somebody whom the file may list by another address.
    """
    own = file.person_by_address(address_key)
    asked = (address_key, *(own.addresses if own else ()))
    known_as = next((one for one in asked if directory.records(one)), address_key)
    told = [address for record in directory.records(known_as) for address in record.person.addresses]
    listed = (own,) if own else file.people_of(told)
    addresses = (address_key, *told, *(address for person in listed for address in person.addresses))
    return Owner(addresses=tuple(dict.fromkeys(addresses)), known_as=known_as, listed=listed)
