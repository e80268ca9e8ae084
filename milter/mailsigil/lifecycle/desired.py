"""What each person should have: from the directory's words to certificates. Pure.

A certificate says the most that the person is entitled to today (``policy.entitlement``) and that policy
wants said. Whoever's mail is never signed needs none. Where the directory records no validation at all, the
source's own settings decide, as they do without a lifecycle.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from functools import lru_cache
from itertools import groupby
from typing import Final

from mailsigil.directory.api import Listed, OwnAddress, Person
from mailsigil.keys.profile import UPPER_BOUND
from mailsigil.keys.subject import SubjectRequest
from mailsigil.pki.names import clean_name
from mailsigil.pki.policies import Level
from mailsigil.policy.entitlement import IdentityFacts, entitlement
from mailsigil.policy.model import IdentityLevel, PolicyEntry, SigningMode
from mailsigil.policy.resolve import resolve

ORGANISATIONAL: Final = frozenset({Level.V3, Level.V4})
"""What stops when the organisation's validation lapses."""
PERSONAL: Final = frozenset({Level.V2, Level.V4})
"""What names a person."""
MAX_ADDRESS: Final = 320
MAX_NAME: Final = 200


class Standing(Enum):
    """What follows for a person's certificates."""

    WANTED = "wanted"
    """There should be one."""
    ON_REQUEST = "on request"
    """It is kept up where there is one; the first mail brings it about."""
    KEPT = "kept"
    """What there is stays until it runs out: the mail is never signed."""
    DISPUTED = "disputed"
    """Two people have the address: nothing is issued, and nothing taken away."""
    GONE = "gone"
    """The account is disabled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """What an address should have from one source."""

    source: str
    standing: Standing
    request: SubjectRequest
    """Address, level and names; of the level alone where there is no certificate to be."""
    person: str
    """The entry that says so; of several people with one address, all."""
    why: str = ""
    """Why the level is no higher, or why there is nothing to be."""
    lapsed: str = ""
    """Why the organisation's validation does not hold, or is not recorded; empty where it holds."""
    entitled: frozenset[Level] = frozenset(Level)
    """What may be said of the person today, whatever policy wants said."""

    @property
    def address(self) -> str:
        """The address, in key form."""
        return self.request.address


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRules:
    """What a source that certifies asks for where the directory records nothing, and for which domains."""

    name: str
    domains: frozenset[str]
    level: Level = Level.V1
    organisation: str = ""
    domain_addresses: tuple[str, ...] = ()
    """Addresses of certificates that sign for a whole domain: no person has them."""


def desired(
    people: Iterable[Listed], sources: Iterable[SourceRules], *, aliases: bool, at: datetime
) -> list[Desired]:
    """Give everything that should be, by address and source; ``at`` is aware."""
    by_domain: dict[str, list[SourceRules]] = {}
    found: list[Desired] = []
    for source in sources:
        found.extend(for_domain(source, address) for address in source.domain_addresses)
        for domain in source.domains:
            by_domain.setdefault(domain, []).append(source)
    found.extend(
        wish
        for listed in people
        for number, own in enumerate(listed.addresses)
        for source in by_domain.get(own.address.rpartition("@")[2], ())
        for wish in (wanted(listed.person, own, source, first=aliases or number == 0, at=at),)
    )
    found.sort(key=_place)
    return list(_undisputed(found))


def wanted(person: Person, own: OwnAddress, source: SourceRules, *, first: bool, at: datetime) -> Desired:
    """Give what one address of one person should have; ``first`` brings it about without a mail."""
    entitled = entitlement(own.identity, at=at)
    wish = Desired(
        source=source.name,
        standing=Standing.WANTED if first else Standing.ON_REQUEST,
        request=SubjectRequest(address=own.address),
        person=own.identity.source,
        why=entitled.reason,
    )
    if own.identity.trouble:
        return replace(wish, standing=Standing.DISPUTED, why=own.identity.trouble)
    if not own.identity.active:
        return replace(wish, standing=Standing.GONE)
    if len(own.address) > MAX_ADDRESS:
        return replace(wish, standing=Standing.KEPT, why="the address is too long for a certificate")
    # Where the source itself vouches for the organisation, no entry has to.
    vouched = not _is_recorded(own.identity) and source.level in ORGANISATIONAL
    wish = replace(
        wish,
        lapsed="" if vouched else _lapse(own.identity, at),
        entitled=frozenset(Level(level.value) for level in entitled.levels),
    )
    signing, cap = _policy(own.policies, at)
    if signing is SigningMode.NEVER:
        return replace(wish, standing=Standing.KEPT, why="policy never signs this mail")
    if not _is_recorded(own.identity):
        request = SubjectRequest(address=own.address, level=source.level, organisation=source.organisation)
        return replace(wish, request=request)
    levels = {Level(level.value) for level in entitled.capped(cap)}
    request, doubts = _request(person, own, levels)
    return replace(wish, request=request, why=f"{doubts}; {entitled.reason}" if doubts else entitled.reason)


def for_domain(source: SourceRules, address: str) -> Desired:
    """Give what the address of a whole domain should have."""
    return Desired(
        source=source.name,
        standing=Standing.ON_REQUEST,
        request=SubjectRequest(address=address, level=source.level, organisation=source.organisation),
        person=f'the settings of [[source]] "{source.name}"',
    )


def _place(wish: Desired) -> tuple[str, str]:
    return wish.address, wish.source


def _undisputed(found: Iterable[Desired]) -> Iterator[Desired]:
    """Of several people with one address those with an account count; two of them have none of it."""
    for _, group in groupby(found, key=_place):
        wishes = list(group)
        active = [wish for wish in wishes if wish.standing is not Standing.GONE] or wishes[:1]
        people = sorted({wish.person for wish in active})
        if len(people) > 1:
            why = f"several people have this address: {' and '.join(people[:5])}"
            yield replace(active[0], standing=Standing.DISPUTED, person=" and ".join(people[:5]), why=why)
        else:
            yield active[0]


def _is_recorded(facts: IdentityFacts) -> bool:
    return facts.must_be_validated or facts.organisation is not None or facts.validation is not None


@lru_cache(maxsize=4096)
def _policy_of(entries: tuple[PolicyEntry, ...], at: datetime) -> tuple[SigningMode, IdentityLevel]:
    policy = resolve(entries, at=at)
    return policy.signing.value, policy.level.value


def _policy(entries: tuple[PolicyEntry, ...], at: datetime) -> tuple[SigningMode, IdentityLevel]:
    """Settings are taken one by one: who speaks of neither of the two is left out, and people are alike."""
    speaking = (entry for entry in entries if entry.signing is not None or entry.level is not None)
    return _policy_of(tuple(speaking), at)


def _lapse(facts: IdentityFacts, at: datetime) -> str:
    organisation = facts.organisation
    if organisation is None:
        return "no organisation entry covers the domain"
    if organisation.validated_until is None:
        return f"the validation of {organisation.name} is not recorded"
    if organisation.validated_until <= at:
        return (
            f"the validation of {organisation.name} lapsed on {organisation.validated_until:%Y-%m-%d %H:%M}"
        )
    return ""


def _request(person: Person, own: OwnAddress, levels: set[Level]) -> tuple[SubjectRequest, str]:
    """The highest level whose names are there, and what kept it from being a higher one."""
    given, surname = person_names(person)
    organisation = own.identity.organisation
    company = _clean(organisation.name if organisation is not None else "")
    doubts = []
    for level in sorted(levels, reverse=True):
        if level in PERSONAL and not (given and surname):
            doubts.append(f"{level} needs a given name and a surname of at most {UPPER_BOUND} letters")
            continue
        if level in ORGANISATIONAL and not company:
            doubts.append(f"{level} needs an organisation's name of at most {UPPER_BOUND} letters")
            continue
        personal = level in PERSONAL
        request = SubjectRequest(
            address=own.address,
            level=level,
            given_name=given if personal else "",
            surname=surname if personal else "",
            organisation=company if level in ORGANISATIONAL else "",
            title=_clean(person.title) if personal else "",
        )
        return request, "; ".join(doubts)
    return SubjectRequest(address=own.address), "; ".join(doubts)


def person_names(person: Person) -> tuple[str, str]:
    """Given names and surname; what is not recorded is taken from the full name. Empty: not to be told."""
    surname, given = _clean(person.surname), _clean(person.given_name)
    full = _one_line(person.name)
    if not given and surname and full.endswith(f" {surname}"):
        given = _clean(full.removesuffix(surname))
    if not given and not surname:
        first, _, last = full.rpartition(" ")
        given, surname = _clean(first), _clean(last)
    return given, surname


def _clean(text: str) -> str:
    """A name as a certificate takes it; empty where it is too long, because half a name is none."""
    cleaned = _one_line(text)
    return cleaned if len(cleaned) <= UPPER_BOUND else ""


def _one_line(text: str) -> str:
    """Most names are clean already, and there are many of them."""
    if text.isascii() and text.isprintable() and len(text) <= MAX_NAME and text == " ".join(text.split()):
        return text
    return clean_name(text, limit=MAX_NAME)
