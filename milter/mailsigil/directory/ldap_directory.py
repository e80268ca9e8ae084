"""One LDAP directory as mailsigil asks it: people, groups, policies, organisations; cached."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, TypeVar

import idna

from mailsigil.config.directories import DirectorySettings
from mailsigil.directory.api import DirectoryUnavailable, Person
from mailsigil.directory.cached import Answers, Lifetimes
from mailsigil.directory.dn import dn_key
from mailsigil.directory.duplicates import fold_login
from mailsigil.directory.entries import EntryReader, Problem, Record, Rule
from mailsigil.directory.entry import Entry
from mailsigil.directory.filters import all_of, any_of, equal
from mailsigil.directory.groups import all_groups
from mailsigil.directory.profiles import IN_CHAIN, profile_of
from mailsigil.directory.servers import Search
from mailsigil.policy.entitlement import IdentityFacts, Organisation
from mailsigil.policy.model import PolicyEntry

V = TypeVar("V")

log = logging.getLogger("mailsigil.directory")

MAX_LOGIN: Final = 320
"""Letters of a login name or address that are looked up; no directory has longer ones."""
MAX_SAME: Final = 20
"""Entries that one login or address may find; two are too many already."""
MAX_POLICIES: Final = 5000
MAX_MEMBERSHIPS: Final = 2000
MAX_SAID: Final = 10_000
"""Problems remembered as said."""

NOTHING_THERE: Final = (
    "has no policies and no organisations: no mail is signed by it; see that policy_base is right, and"
    " that its server has all entries"
)
POLICY_FILTER: Final = "(objectClass=mailsigilPolicy)"
ORGANISATION_FILTER: Final = "(objectClass=mailsigilOrganisation)"

Ask = Callable[[Search], tuple[Entry, ...]]
"""Asks the servers; raises DirectoryUnavailable."""
Pages = Callable[[Search], Iterator[tuple[Entry, ...]]]
"""Asks a server, and gives the entries page by page; raises DirectoryUnavailable, also in the middle."""


@dataclass(frozen=True, slots=True)
class Rules:
    """All policies and organisations of a directory."""

    rules: tuple[Rule, ...]
    organisations: tuple[Organisation, ...]
    problems: tuple[Problem, ...]

    @property
    def names_groups(self) -> bool:
        """Whether any policy asks for groups."""
        return any(rule.group for rule in self.rules)

    @property
    def names_people(self) -> bool:
        """Whether any policy is for somebody in particular."""
        return any(rule.address for rule in self.rules)


class LdapDirectory:
    """Answers for the mail domains of one ``[[directory]]``. Safe to share between threads.

    ``clock`` gives monotonic seconds for the cache, ``now`` the time of day (aware).
    """

    def __init__(
        self,
        settings: DirectorySettings,
        *,
        ask: Ask,
        pages: Pages,
        clock: Callable[[], float],
        now: Callable[[], datetime],
        sources: frozenset[str] | None = None,
    ) -> None:
        self.settings = settings
        self.profile = profile_of(settings)
        self.reader = EntryReader(self.profile, frozenset(settings.domains), sources)
        self._ask = ask
        self.pages = pages
        self._now = now
        self._said: set[Problem] = set()
        lifetimes = Lifetimes(
            cache=settings.cache_seconds, negative=settings.negative_seconds, grace=settings.grace_seconds
        )

        def answers(load: Callable[[str], V], negative: Callable[[V], bool]) -> Answers[str, V]:
            return Answers(load, negative=negative, lifetimes=lifetimes, clock=clock, name=settings.name)

        self._by_login = answers(self._load_login, _is_empty)
        self._by_address = answers(self._load_address, _is_empty)
        self._delegated = answers(self._load_delegated, _never)
        self._parents = answers(self._load_parents, _never)
        self._rules = answers(self._load_rules, _never)
        self._held: dict[str, int] = {}
        """How many entries a filter found below the policy base."""

    def person_by_login(self, login: str) -> Person | None:
        """Give the person who logs in by this name; two of them are a DirectoryUnavailable."""
        login = fold_login(login)
        if not login or len(login) > MAX_LOGIN or not login.isprintable():
            return None
        active = [record for record in self._by_login.get(login) if not record.inactive]
        if len(active) > 1:
            raise DirectoryUnavailable(f"several people have the login {login!r}: {_dns(active)}")
        return self._with_delegations(active[0]) if active else None

    def person_by_address(self, key: str) -> Person | None:
        """Give the person who owns this address; nobody, where two do."""
        records = self.records(key)
        return self._with_delegations(records[0]) if len(records) == 1 else None

    def records(self, key: str) -> tuple[Record, ...]:
        """Give all entries with this address: those in use, and else those that are not."""
        if not key or len(key) > MAX_LOGIN or not self.reader.owns(key.rpartition("@")[2]):
            return ()
        found = self._by_address.get(key)
        return tuple(record for record in found if not record.inactive) or found

    def entries(self, address_key: str) -> tuple[PolicyEntry, ...]:
        """Give the policy entries of this directory that apply to a sender."""
        owned = [
            address
            for record in self.records(address_key)
            for address in record.person.addresses
            if self.names(address) and self.has_alone(record.person, address)
        ]
        groups = self.groups(address_key) if self.all_rules().names_groups else frozenset()
        return self.entries_for(address_key, owned=owned, groups=groups)

    def entries_for(
        self, address_key: str, *, owned: Collection[str], groups: frozenset[str]
    ) -> tuple[PolicyEntry, ...]:
        """Give the same for a sender of whom groups are known, and the addresses that nobody else has."""
        known = self.all_rules().rules
        return tuple(
            replace(rule.entry, elsewhere=True) if rule.address not in ("", address_key) else rule.entry
            for rule in known
            if rule.applies(address_key, owned, groups)
        )

    def names(self, address: str) -> bool:
        """Tell whether a policy of this directory is about this very address."""
        return any(rule.address == address for rule in self.all_rules().rules)

    def has_alone(self, person: Person, address: str) -> bool:
        """Tell whether somebody's entry is the only one here with an address; others may share it."""
        records = self.records(address)
        return len(records) == 1 and records[0].person.source == person.source

    def groups(self, address_key: str) -> frozenset[str]:
        """Give all groups of whoever has an address, as ``dn_key`` writes them."""
        found: frozenset[str] = frozenset()
        for record in self.records(address_key):
            found |= self._groups_of(record.dn)
        return found

    def identity(self, address_key: str) -> IdentityFacts:
        """Give what the directory records about the identity behind an address."""
        organisation = self.organisation(address_key.rpartition("@")[2])
        records = self.records(address_key)
        if len(records) != 1:
            return IdentityFacts(
                source=f"nobody in {self.settings.name} has this address",
                organisation=organisation,
                must_be_validated=self.settings.require_validation,
                trouble=f"several people have this address: {_dns(records)}" if records else "",
            )
        (record,) = records
        return IdentityFacts(
            source=record.person.source,
            active=not record.inactive,
            validation=record.validation,
            organisation=organisation,
            is_listed=True,
            must_be_validated=self.settings.require_validation,
        )

    def organisation(self, domain: str) -> Organisation | None:
        """Give the organisation entry that lists a domain; of several the one that lapses first."""
        found = [one for one in self.all_rules().organisations if domain in one.domains]
        return min(found, key=_lapse, default=None)

    def read_person(self, entry: Entry) -> Record:
        """Read a person's entry; what is wrong with it is logged once."""
        record = self.reader.person(entry, self._now())
        for problem in record.problems:
            self._say(problem)
        return record

    def all_rules(self) -> Rules:
        """Give all policies and organisations; none where the settings name no place for them."""
        return self._rules.get("") if self.settings.policy_base else _NO_RULES

    def _groups_of(self, dn: str) -> frozenset[str]:
        if self.profile.nested_rule:
            return self._parents.get(dn)
        groups, loop = all_groups(dn_key(dn), self._parents.get)
        if loop:
            self._say(Problem(loop[0], f"a group contains itself: {' in '.join((*loop, loop[0]))}"))
        return groups

    def _with_delegations(self, record: Record) -> Person:
        if not self.profile["delegates"]:
            return record.person
        person = record.person
        return replace(person, may_send_as=(*person.may_send_as, *self._delegated.get(record.dn)))

    def _load_login(self, login: str) -> tuple[Record, ...]:
        names = self.profile["login"]
        records = self._people(any_of(equal(name, login) for name in names))
        # Servers compare more loosely than we do: spaces, for one, are folded.
        return tuple(record for record in records if login in record.person.logins)

    def _load_address(self, key: str) -> tuple[Record, ...]:
        spellings = _spellings(key)
        wanted = [equal(name, text) for name in self.profile["address"] for text in spellings]
        for name in self.profile["alias"]:
            # Active Directory's aliases carry their kind; other directories' are plain.
            wanted += [equal(name, f"{kind}{text}") for text in spellings for kind in ("smtp:", "")]
        records = tuple(one for one in self._people(any_of(wanted)) if key in one.person.addresses)
        if len([record for record in records if not record.inactive]) > 1:
            self._say(Problem(records[0].person.source, f"{key} belongs to others, too: {_dns(records[1:])}"))
        return records

    def _people(self, filter_: str) -> tuple[Record, ...]:
        found = self._ask(
            Search(
                base=self.settings.people_base,
                filter=all_of([self.profile.people_filter, filter_]),
                attributes=self.profile.person_attributes,
                limit=MAX_SAME,
            )
        )
        return tuple(self.read_person(entry) for entry in found)

    def _load_delegated(self, dn: str) -> tuple[str, ...]:
        """Addresses of mailboxes that name this person as a delegate."""
        found = self._ask(
            Search(
                base=self.settings.people_base,
                filter=any_of(equal(name, dn) for name in self.profile["delegates"]),
                attributes=self.profile.person_attributes,
                limit=MAX_MEMBERSHIPS,
            )
        )
        people = [self.reader.person(entry, self._now()).person for entry in found]
        return tuple(address for person in people for address in person.addresses)

    def _load_parents(self, dn: str) -> frozenset[str]:
        rule = f":{IN_CHAIN}:" if self.profile.nested_rule else ""
        members = any_of(equal(f"{name}{rule}", dn) for name in self.profile["group_member"])
        found = self._ask(
            Search(
                base=self.settings.group_base or self.settings.people_base,
                filter=all_of([self.profile.group_filter, members]),
                attributes=("1.1",),  # RFC 4511 4.5.1.8: no attributes
                limit=MAX_MEMBERSHIPS,
            )
        )
        return frozenset(dn_key(entry.dn) for entry in found)

    def _load_rules(self, _: str) -> Rules:
        rules: list[Rule] = []
        organisations: list[Organisation] = []
        problems: list[Problem] = []
        for entry in self._policy_entries(POLICY_FILTER):
            more, found = self.reader.rules(entry)
            rules += more
            problems += found
        for entry in self._policy_entries(ORGANISATION_FILTER):
            organisation, found = self.reader.organisation(entry)
            organisations.append(organisation)
            problems += found
        if not any(self._held.values()):
            problems.append(Problem(self.settings.policy_base, NOTHING_THERE))
        for problem in problems:
            self._say(problem)
        return Rules(tuple(rules), tuple(organisations), tuple(problems))

    def _policy_entries(self, filter_: str) -> tuple[Entry, ...]:
        base = self.settings.policy_base
        found = self._ask(Search(base=base, filter=filter_, attributes=("*",), limit=MAX_POLICIES))
        held = self._held.get(filter_, 0)
        if held and not found:
            # A replica that is being filled says so, too, and it would mean that nobody's mail is signed.
            raise DirectoryUnavailable(
                f"{self.settings.name}: no entries {filter_} below {base}, and there were {held}; where they"
                " were removed on purpose, reload mailsigil"
            )
        self._held[filter_] = len(found)
        return found

    def _say(self, problem: Problem) -> None:
        """Log a problem once; it stays there for ``mailsigil check`` to show."""
        if problem in self._said:
            return
        if len(self._said) >= MAX_SAID:
            self._said.clear()
        self._said.add(problem)
        log.warning("%s: %s", self.settings.name, problem)


_NO_RULES: Final = Rules((), (), ())


def _lapse(organisation: Organisation) -> tuple[str, str]:
    until = organisation.validated_until
    return (until.astimezone(UTC).isoformat() if until else "", organisation.source)


def _is_empty(value: tuple[Record, ...]) -> bool:
    return not value


def _never(value: object) -> bool:
    return False


def _dns(records: tuple[Record, ...] | list[Record]) -> str:
    return " and ".join(record.person.source for record in records[:5])


def _spellings(key: str) -> list[str]:
    """An address as directories write it: with an international domain in A-labels or as people read it."""
    local, _, domain = key.rpartition("@")
    if "xn--" not in domain:
        return [key]
    try:
        return [key, f"{local}@{idna.decode(domain)}"]
    except (idna.IDNAError, UnicodeError):
        return [key]
