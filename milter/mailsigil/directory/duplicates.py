"""What must not stand twice in a policy file, because then two people could sign as one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mailsigil.config.document import Document
from mailsigil.config.locate import KeyPath
from mailsigil.directory.dn import dn_key
from mailsigil.directory.policy_file import PersonKeys, PolicyFile

Claim = tuple[str, KeyPath, str]
"""What is claimed, where, and by whom."""


def fold_login(login: str) -> str:
    """The form in which login names are compared: Postfix, too, takes no notice of letter case in them."""
    return login.lower() if login.isascii() else login


def duplicates(document: Document[PolicyFile]) -> Iterator[tuple[KeyPath, str]]:
    """Give place and sentence of everything that stands twice; each sentence names the first line."""
    people = list(enumerate(document.value.person))
    domains: list[Claim] = [
        (domain.name, ("domain", number, "name"), "") for number, domain in enumerate(document.value.domain)
    ]
    yield from _twice(document, "domain", domains)
    organisations: list[Claim] = [
        (domain, ("organisation", number, "domains", index), one.name)
        for number, one in enumerate(document.value.organisation)
        for index, domain in enumerate(one.domains)
    ]
    yield from _twice(document, "domain of an organisation", organisations)
    groups: list[Claim] = [
        (dn_key(group.name) if "=" in group.name else group.name.lower(), ("group", number, "name"), "")
        for number, group in enumerate(document.value.group)
    ]
    yield from _twice(document, "group", groups)
    yield from _twice(document, "address", [claim for n, one in people for claim in _addresses(n, one)])
    yield from _twice(document, "login", [claim for n, one in people for claim in _logins(n, one)])


def _addresses(number: int, person: PersonKeys) -> Iterator[Claim]:
    yield person.address, ("person", number, "address"), person.address
    for index, alias in enumerate(person.aliases):
        yield alias, ("person", number, "aliases", index), person.address


def _logins(number: int, person: PersonKeys) -> Iterator[Claim]:
    if not person.logins:
        yield fold_login(person.address), ("person", number, "address"), person.address
    for index, login in enumerate(person.logins):
        yield fold_login(login), ("person", number, "logins", index), person.address


def _twice(
    document: Document[PolicyFile], noun: str, claims: Iterable[Claim]
) -> Iterator[tuple[KeyPath, str]]:
    first: dict[str, Claim] = {}
    for claim in claims:
        value, path, owner = claim
        _, earlier_path, earlier_owner = first.setdefault(value, claim)
        same_address_field = noun == "login" and earlier_path[-1] == path[-1] == "address"
        if earlier_path == path or same_address_field:  # the latter is told of the address
            continue
        line = document.line(earlier_path)
        whose = "" if not owner or owner == earlier_owner else f", for {earlier_owner}"
        yield path, f'the {noun} "{value}" stands on line {line} already{whose}; remove one of the two'
