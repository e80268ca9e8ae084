"""How much a signature may say of a sender today.

A certificate lives for years; what it states has to stay true. The directory knows who was validated, by
whom and until when, and whether the organisation's own validation still holds. V3 and V4 need the
organisation's; V2 and V4 need the person's. When the organisation's lapses, nobody signs V3 or V4 until it
is renewed, and renewing it brings everybody back without validating them again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from mailsigil.policy.model import IdentityLevel

_ORGANISATIONAL: Final = frozenset({IdentityLevel.V3, IdentityLevel.V4})
_EVERY: Final = frozenset(IdentityLevel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """What was found out about a person."""

    level: IdentityLevel
    by: str = ""
    until: datetime | None = None
    """Aware; None: without an end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Organisation:
    """An organisation that mail domains belong to."""

    name: str
    source: str
    """The entry that says so."""
    domains: tuple[str, ...]
    validated_until: datetime | None = None
    """Aware; None: its validation is not recorded, which counts as none."""
    employees: IdentityLevel = IdentityLevel.V3
    """What all its people may say without a validation of their own: V3, which names none of them, or V1."""
    key_service: str = ""
    """Which key management or authority serves it, for an administrator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityFacts:
    """What the directory says about the identity behind one address."""

    source: str
    """The person's entry, or why there is none."""
    active: bool = True
    """False: the account is disabled or has expired."""
    validation: Validation | None = None
    organisation: Organisation | None = None
    must_be_validated: bool = False
    """What the directory does not say is not so, even where it speaks of no organisation."""
    is_listed: bool = False
    """The directory has a person of this address."""
    trouble: str = ""
    """Why the entries cannot be believed; such a sender is entitled to nothing."""


@dataclass(frozen=True, slots=True)
class Entitlement:
    """The levels that a sender's signature may have; none at all: never signed now."""

    levels: frozenset[IdentityLevel]
    reason: str

    def capped(self, wanted: IdentityLevel) -> frozenset[IdentityLevel]:
        """The levels that remain where policy wants no more than ``wanted``."""
        return self.levels & wanted.contained

    def __str__(self) -> str:
        return ", ".join(sorted(self.levels)) or "none"


def entitlement(facts: IdentityFacts, *, at: datetime) -> Entitlement:
    """Decide what may be said of a sender ``at`` this time (aware)."""
    # 1. Nobody to speak for.
    if facts.trouble:
        return Entitlement(frozenset(), facts.trouble)
    if not facts.active:
        return Entitlement(frozenset(), f"the account is disabled ({facts.source})")

    # 2. A directory without records of validation leaves the level to the certificate.
    recorded = facts.must_be_validated or facts.organisation is not None or facts.validation is not None
    if not recorded:
        return Entitlement(_EVERY, "no validation is recorded: the certificate's level counts")

    # 3. The person, as far as the record has not lapsed.
    person, about_person = _person(facts, at)

    # 4. The organisation.
    valid, about_organisation = _organisation(facts.organisation, at)
    levels = person if valid else person - _ORGANISATIONAL
    return Entitlement(levels, f"{about_person}; {about_organisation}")


def domain_entitlement(facts: IdentityFacts, *, at: datetime) -> Entitlement:
    """Decide what a certificate of the sender's whole domain may say: of the organisation, of no person.

    Nobody need have validated the sender for it: who the sender is, such a signature does not say.
    """
    if facts.trouble:
        return Entitlement(frozenset(), facts.trouble)
    if not facts.active:
        return Entitlement(frozenset(), f"the account is disabled ({facts.source})")
    if not (facts.must_be_validated or facts.organisation is not None):
        return Entitlement(IdentityLevel.V3.contained, "no validation of the organisation is recorded")
    valid, reason = _organisation(facts.organisation, at)
    return Entitlement((IdentityLevel.V3 if valid else IdentityLevel.V1).contained, reason)


def _person(facts: IdentityFacts, at: datetime) -> tuple[frozenset[IdentityLevel], str]:
    validation = facts.validation
    if validation is None:
        return _employee(facts, f"nobody validated this sender ({facts.source})")
    until = "" if validation.until is None else f" until {validation.until:%Y-%m-%d %H:%M}"
    by = f" by {validation.by}" if validation.by else ""
    if validation.until is not None and validation.until <= at:
        return _employee(facts, f"the validation as {validation.level} lapsed: it held{until}")
    return validation.level.contained, f"validated as {validation.level}{by}{until} ({facts.source})"


def _employee(facts: IdentityFacts, why: str) -> tuple[frozenset[IdentityLevel], str]:
    """What everybody in the directory may say: that the organisation is known, or nothing of it."""
    organisation = facts.organisation
    if organisation is None or not facts.is_listed or organisation.employees is not IdentityLevel.V3:
        return IdentityLevel.V1.contained, why
    return IdentityLevel.V3.contained, f"{why}, and everybody of {organisation.name} has V3"


def _organisation(organisation: Organisation | None, at: datetime) -> tuple[bool, str]:
    if organisation is None:
        return False, "no organisation entry covers the domain"
    if organisation.validated_until is None:
        return False, f"the validation of {organisation.name} is not recorded ({organisation.source})"
    until = f"{organisation.validated_until:%Y-%m-%d %H:%M}"
    if organisation.validated_until <= at:
        return False, f"the validation of {organisation.name} lapsed on {until} ({organisation.source})"
    return True, f"{organisation.name} is validated until {until} ({organisation.source})"
