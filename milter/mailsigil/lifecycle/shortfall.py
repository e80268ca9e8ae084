"""What a person's certificate will say, and what keeps it from saying more. Pure.

``desired.py`` decides; here its reasons are put into words, for whoever wonders why the directory says more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from mailsigil.config.sources import EnrolmentSettings, SourceSettings
from mailsigil.directory.api import Listed, OwnAddress, Person
from mailsigil.keys.profile import UPPER_BOUND
from mailsigil.keys.subject import SubjectRequest
from mailsigil.lifecycle.desired import PERSONAL, Desired, SourceRules, Standing, wanted
from mailsigil.pki.policies import Level
from mailsigil.policy.entitlement import entitlement
from mailsigil.policy.resolve import resolve


def certifying(sources: Iterable[SourceSettings], domain: str) -> list[SourceRules]:
    """Give the sources that certify keys of a mail domain, as far as it matters what they certify."""
    return [_rules(one) for one in sources if one.issues and domain in one.domains]


def shortfalls(person: Person, own: OwnAddress, source: SourceRules, *, at: datetime) -> list[str]:
    """Why the certificate of an address says less than the directory does: names that cannot stand in it.

    That somebody is not validated, or that policy wants less said, is how it was meant.
    """
    return _shortfalls(person, wanted(person, own, source, first=True, at=at), own, at)


def said(person: Person, own: OwnAddress, source: SourceRules, *, at: datetime) -> str:
    """Tell what the certificate of an address will say, and why no more."""
    wish = wanted(person, own, source, first=True, at=at)
    if wish.standing is not Standing.WANTED:
        kept = "left as it is" if wish.standing is Standing.DISPUTED else "none"
        return f"{kept}: {wish.why}"
    doubts = _shortfalls(person, wish, own, at)
    cap = resolve(own.policies, at=at).level
    entitled = entitlement(own.identity, at=at)
    if entitled.levels - entitled.capped(cap.value):
        doubts.append(f'policy wants no more than {cap.value} ("level", {cap.source})')
    return "; ".join((_content(wish.request), *doubts))


def people_with_shortfalls(
    people: Iterable[Listed], sources: Iterable[SourceSettings], *, at: datetime
) -> Iterator[tuple[str, str]]:
    """Give an address and a sentence for each person whose names cannot stand in a certificate."""
    by_domain: dict[str, list[SourceRules]] = {}
    every = tuple(sources)
    for listed in people:
        for own in listed.addresses[:1]:
            domain = own.address.rpartition("@")[2]
            if domain not in by_domain:
                by_domain[domain] = certifying(every, domain)
            for source in by_domain[domain][:1]:  # Names are the same for all of them.
                if found := shortfalls(listed.person, own, source, at=at):
                    yield own.address, "; ".join(found)


def _shortfalls(person: Person, wish: Desired, own: OwnAddress, at: datetime) -> list[str]:
    if wish.standing is not Standing.WANTED:
        return []
    # What the decision has to say of names stands in front of what it says of the person.
    doubts = wish.why.removesuffix(entitlement(own.identity, at=at).reason).removesuffix("; ")
    found = doubts.split("; ") if doubts else []
    if wish.request.level in PERSONAL and person.title.strip() and not wish.request.title:
        found.append(f"the title is left out: it may have at most {UPPER_BOUND} letters")
    return found


def _content(request: SubjectRequest) -> str:
    name = " ".join(filter(None, (request.given_name, request.surname)))
    parts = ", ".join(filter(None, (name, request.title, request.organisation)))
    return f"{request.level}{f': {parts}' if parts else ''}"


def _rules(source: SourceSettings) -> SourceRules:
    enrolment = source.enrolment or EnrolmentSettings()
    return SourceRules(
        name=source.name,
        domains=frozenset(source.domains),
        level=Level(enrolment.level),
        organisation=enrolment.organisation,
    )
