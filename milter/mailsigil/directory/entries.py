"""From LDAP entries to people, policies and organisations.

Whatever cannot be read becomes a :class:`Problem` with the entry's name, and the safe side: a person whose
record cannot be read is not validated, a policy whose signing mode cannot be read requires signing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Final, TypeVar

from mailsigil.directory.api import Person
from mailsigil.directory.certificate_rules import known_source, no_such_source, read_lines
from mailsigil.directory.dn import dn_key, shown
from mailsigil.directory.duplicates import fold_login
from mailsigil.directory.entry import Entry, parse_time
from mailsigil.directory.profiles import Profile, inactive
from mailsigil.message.address import Address, AddressError
from mailsigil.policy.certificates import CertificateRule
from mailsigil.policy.entitlement import Organisation, Validation
from mailsigil.policy.model import (
    Decryption,
    Form,
    IdentityLevel,
    Misordered,
    PolicyEntry,
    Scope,
    SigningMode,
    Timestamp,
    Unauthorised,
)
from mailsigil.policy.patterns import PatternError, parse_pattern

MAX_ADDRESSES: Final = 1000
"""Addresses of one person that are read."""

W = TypeVar("W", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in the directory that cannot be meant; ``dn`` is as :func:`shown` gives it."""

    dn: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.dn}: {self.sentence}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A person's entry, read."""

    dn: str
    """As it is, to ask for it; ``person.source`` is what is shown."""
    person: Person
    inactive: str
    """Why the account is not in use; empty where it is."""
    validation: Validation | None
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A policy entry, and whom it applies to."""

    entry: PolicyEntry
    domain: str = ""
    group: str = ""
    """As :func:`dn_key` gives it."""
    address: str = ""

    def applies(self, address_key: str, owned: Collection[str], groups: frozenset[str]) -> bool:
        """Tell whether a sender is meant, by one of his own addresses (``owned``) or his ``groups``."""
        match self.entry.scope:
            case Scope.PERSON:
                return self.address == address_key or self.address in owned
            case Scope.GROUP:
                return self.group in groups
            case Scope.DOMAIN:
                return address_key.rpartition("@")[2] == self.domain
            case Scope.DEFAULT:
                return True


@dataclass(slots=True)
class _Notes:
    dn: str
    problems: list[Problem] = field(default_factory=list)

    def note(self, sentence: str) -> None:
        self.problems.append(Problem(self.dn, sentence))


@dataclass(frozen=True, slots=True)
class EntryReader:
    """Reads the entries of one directory, which speaks for some mail domains and for no others."""

    profile: Profile
    domains: frozenset[str]
    sources: frozenset[str] | None = None
    """Names of [[source]] that policies may use, in lower case; None: any."""

    def person(self, entry: Entry, at: datetime) -> Record:
        """Read a person."""
        notes, profile = _Notes(shown(entry.dn)), self.profile
        texts = (*entry.texts(profile["address"]), *_primary_first(entry.texts(profile["alias"])))
        if len(texts) > MAX_ADDRESSES:
            notes.note(f"has more than {MAX_ADDRESSES} addresses; the others are left out")
        addresses = [key for text in texts[:MAX_ADDRESSES] if (key := self._address(text, notes))]
        return Record(
            dn=entry.dn,
            person=Person(
                name=entry.text(profile["name"])[:200],
                addresses=tuple(dict.fromkeys(addresses)),
                logins=tuple(dict.fromkeys(fold_login(text) for text in entry.texts(profile["login"]))),
                may_send_as=self._patterns(entry.texts(profile["send_as"]), notes),
                source=shown(entry.dn),
                given_name=entry.text(profile["given_name"])[:200],
                surname=entry.text(profile["surname"])[:200],
                title=entry.text(profile["title"])[:200],
            ),
            inactive=inactive(entry, at),
            validation=self._validation(entry, notes),
            problems=tuple(notes.problems),
        )

    def rules(self, entry: Entry) -> tuple[list[Rule], list[Problem]]:
        """Read a policy entry: one rule for each that it applies to."""
        notes = _Notes(shown(entry.dn))

        def policy(scope: Scope) -> PolicyEntry:
            return replace(_policy(entry, scope, notes), certificates=self._certificates(entry, notes))

        addresses = [self._own_address(text, notes) for text in entry.texts(["mailsigilAppliesToAddress"])]
        domains = [self._domain(text, notes) for text in entry.texts(["mailsigilAppliesToDomain"])]
        groups = [dn_key(text) for text in entry.texts(["mailsigilAppliesToGroup"])]
        everyone = entry.text(["mailsigilAppliesToEveryone"]).upper() == "TRUE"
        rules = [
            *(Rule(entry=policy(Scope.PERSON), address=address) for address in addresses if address),
            *(Rule(entry=policy(Scope.GROUP), group=group) for group in groups),
            *(Rule(entry=policy(Scope.DOMAIN), domain=domain) for domain in domains if domain),
            *(Rule(entry=policy(Scope.DEFAULT)) for _ in range(everyone)),
        ]
        if not rules:
            notes.note("applies to nobody; name an address, a group, a domain or everyone")
        return rules, list(dict.fromkeys(notes.problems))

    def organisation(self, entry: Entry) -> tuple[Organisation, list[Problem]]:
        """Read an organisation; a date that cannot be read counts as none."""
        notes, profile = _Notes(shown(entry.dn)), self.profile
        texts = entry.texts(profile["domain"])
        until = None
        try:
            until = _time(entry, profile["organisation_valid_until"])
        except ValueError as error:
            notes.note(f"{error}; nobody signs V3 or V4 until it is mended")
        if not texts:
            notes.note("names no mail domain, so it covers nobody")
        organisation = Organisation(
            name=entry.text(("o", "displayName", "cn"))[:200] or shown(entry.dn),
            source=shown(entry.dn),
            domains=tuple(domain for text in texts if (domain := self._domain(text, notes))),
            validated_until=until,
            employees=self._employees(entry, notes),
            key_service=entry.text(profile["key_service"])[:200],
        )
        return organisation, notes.problems

    def owns(self, domain: str) -> bool:
        """Tell whether this directory speaks for a mail domain."""
        return domain in self.domains

    def _address(self, text: str, notes: _Notes) -> str:
        """The key of an address that this directory speaks for, or an empty text."""
        kind, colon, rest = text.partition(":")
        if colon and "@" not in kind:
            if kind.lower() != "smtp":
                return ""  # X400:, SIP: and the like
            text = rest
        try:
            address = Address.parse(text)
        except AddressError as error:
            notes.note(f'"{text}" is no mail address: {error}')
            return ""
        # People have addresses elsewhere, too: nothing is wrong with that, and nothing is signed for them.
        return address.key if self.owns(address.domain) else ""

    def _own_address(self, text: str, notes: _Notes) -> str:
        key = self._address(text, notes)
        if not key and not any(problem.sentence.startswith(f'"{text}"') for problem in notes.problems):
            notes.note(f'"{text}" is in no domain of this directory')
        return key

    def _domain(self, text: str, notes: _Notes) -> str:
        try:
            domain = Address.parse(f"postmaster@{text}").domain
        except AddressError:
            notes.note(f'"{text}" is no mail domain')
            return ""
        if not self.owns(domain):
            notes.note(f'"{text}" is no domain of this directory (see "domains" of its [[directory]])')
            return ""
        return domain

    def _patterns(self, texts: Iterable[str], notes: _Notes) -> tuple[str, ...]:
        """Patterns of this directory's domains: one tenant does not hand out another's names."""
        found = []
        for text in texts:
            try:
                domain = parse_pattern(text).domain
            except PatternError as error:
                notes.note(str(error))
                continue
            if self.owns(domain) or any(domain.endswith(f".{own}") for own in self.domains):
                found.append(text)
            else:
                notes.note(f'"{text}" is in no domain of this directory')
        return tuple(found[:MAX_ADDRESSES])

    def _certificates(self, entry: Entry, notes: _Notes) -> tuple[CertificateRule, ...] | None:
        if not entry.has("mailsigilCertificate"):
            return None
        rules = read_lines(entry.texts(["mailsigilCertificate"]), notes.note)
        for rule in rules:
            if self.sources is not None and not known_source(rule.source, self.sources):
                # The rule stays: mail that it covers waits, in place of being signed otherwise.
                notes.note(no_such_source(rule.source, self.sources))
        return rules

    def _employees(self, entry: Entry, notes: _Notes) -> IdentityLevel:
        text = entry.text(self.profile["validated_level"])
        if not text:
            return IdentityLevel.V3
        # What names a person is said of nobody whom nobody looked at.
        if text.upper() not in (IdentityLevel.V1, IdentityLevel.V3):
            notes.note(f'gives all its people "{text}"; write V3 or V1. They count as not validated')
            return IdentityLevel.V1
        return IdentityLevel(text.upper())

    def _validation(self, entry: Entry, notes: _Notes) -> Validation | None:
        text = entry.text(self.profile["validated_level"])
        if not any(entry.has(name) for name in self.profile["validated_level"]):
            return None
        by = entry.text(self.profile["validated_by"])[:200]
        try:
            level = IdentityLevel(text.upper())
        except ValueError:
            notes.note(f'"{text}" is no level; write V1, V2, V3 or V4. The person counts as not validated')
            return Validation(level=IdentityLevel.V1, by=by)
        try:
            return Validation(level=level, by=by, until=_time(entry, self.profile["validated_until"]))
        except ValueError as error:
            notes.note(f"{error}; the person counts as not validated")
            return Validation(level=IdentityLevel.V1, by=by)


def _primary_first(texts: tuple[str, ...]) -> list[str]:
    """Active Directory marks the main address of ``proxyAddresses`` with ``SMTP:`` in capitals."""
    return sorted(texts, key=lambda text: not text.startswith("SMTP:"))


def _time(entry: Entry, names: Iterable[str]) -> datetime | None:
    names = tuple(names)
    if not any(entry.has(name) for name in names):
        return None
    return parse_time(entry.text(names))


def _policy(entry: Entry, scope: Scope, notes: _Notes) -> PolicyEntry:
    signing = _word(entry, "mailsigilSigning", SigningMode, SigningMode.REQUIRED, notes)
    until = None
    try:
        until = _time(entry, ["mailsigilValidUntil"])
    except ValueError as error:
        notes.note(f"{error}; the entry counts as valid")
    return PolicyEntry(
        source=shown(entry.dn),
        scope=scope,
        priority=_number(entry, "mailsigilPriority", notes),
        valid_until=until,
        signing=signing,
        form=_word(entry, "mailsigilForm", Form, None, notes),
        unauthorised=_word(entry, "mailsigilUnauthorised", Unauthorised, Unauthorised.REFUSE, notes),
        misordered_dkim=_word(entry, "mailsigilDkim", Misordered, None, notes),
        exempt_recipients=_exempt(entry, notes),
        level=_word(entry, "mailsigilLevel", IdentityLevel, IdentityLevel.V1, notes, fold=str.upper),
        timestamp=_word(entry, "mailsigilTimestamp", Timestamp, None, notes),
        domain_signature=_truth(entry, "mailsigilDomainSignature", notes),
        decryption=_word(entry, "mailsigilDecryption", Decryption, Decryption.NEVER, notes),
    )


def _word(
    entry: Entry,
    name: str,
    words: type[W],
    safe: W | None,
    notes: _Notes,
    *,
    fold: Callable[[str], str] = str.lower,
) -> W | None:
    if not entry.has(name):
        return None
    text = entry.text([name])
    try:
        return words(fold(text))
    except ValueError:
        known = ", ".join(words)
        used = f"{safe.value} is used" if safe is not None else "it is left out"
        notes.note(f'{name} is "{text}", which is none of {known}; {used}')
        return safe


def _truth(entry: Entry, name: str, notes: _Notes) -> bool | None:
    if not entry.has(name):
        return None
    text = entry.text([name]).upper()
    if text not in {"TRUE", "FALSE"}:
        notes.note(f'{name} is "{text}", which is neither TRUE nor FALSE; FALSE is used')
    return text == "TRUE"


def _number(entry: Entry, name: str, notes: _Notes) -> int:
    text = entry.text([name])
    if text.isascii() and text.removeprefix("-").isdigit() and len(text) < 12:
        return int(text)
    if entry.has(name):
        notes.note(f'{name} is "{text}", which is no number; 0 is used')
    return 0


def _exempt(entry: Entry, notes: _Notes) -> tuple[str, ...] | None:
    if not entry.has("mailsigilExemptRecipient"):
        return None
    found = []
    for text in entry.texts(["mailsigilExemptRecipient"]):
        if text.lower() == "none":
            continue  # exempts nobody, and keeps less specific entries from it
        try:
            parse_pattern(text)
        except PatternError as error:
            notes.note(f"{error}; it exempts nobody")
        else:
            found.append(text)
    return tuple(found)
