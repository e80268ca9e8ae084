"""Who may enrol what for whom: pure functions from rules and wishes to the subject of a certificate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.x509.oid import NameOID

from mailsigil.config.authority import EnrolRule
from mailsigil.folding import fold
from mailsigil.keys.profile import RequestError, Subject
from mailsigil.pki.level import asserted_levels, claimed_level
from mailsigil.pki.names import CertificateNames
from mailsigil.pki.policies import Level

_HIGHEST_FIRST: Final = (Level.V4, Level.V3, Level.V2, Level.V1)


class NotGranted(Exception):
    """What is asked for is not allowed; the message tells why, and goes to the client."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a request asks for. Texts are clean."""

    addresses: tuple[str, ...]
    given_name: str = ""
    surname: str = ""
    organisation: str = ""
    title: str = ""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a user may enrol."""

    subject: Subject
    approval: bool = False
    """A person has to agree."""


def grant(rules: Sequence[EnrolRule], *, user: str, wish: Wish, level: Level | None) -> Grant:
    """Gives the subject that a user may enrol; the first rule that fits decides.

    Without a level, it is the highest one of the rule that its names, or those of the request where the
    rule takes them, allow. Raises NotGranted.
    """
    own = [rule for rule in rules if rule.user == user]
    address = _address(own, wish)
    fitting = [rule for rule in own if any(covers(pattern, address) for pattern in rule.addresses)]
    if not fitting:
        raise NotGranted(f"{user} may not enrol {address}")
    refusal = NotGranted(f"{user} may not enrol {level or 'any level'} for {address} with these names")
    for rule in fitting:
        for each in (level,) if level else _HIGHEST_FIRST:
            if each.value not in rule.levels or (level is None and _not_meant(rule, wish, each)):
                continue
            try:
                return Grant(_subject(rule, wish, address, each), rule.approval == "required")
            except RequestError as error:
                # A lower level may need less; when there is none, this says best what was missing.
                refusal = NotGranted(str(error))
    raise refusal


def renewable(certificate: x509.Certificate) -> Subject:
    """Gives the subject of a certificate of ours, for its successor. Raises NotGranted."""
    names = CertificateNames.from_certificate(certificate)
    if len(names.addresses) != 1:
        raise NotGranted("the certificate names no address of its own")

    def first(oid: x509.ObjectIdentifier) -> str:
        values = certificate.subject.get_attributes_for_oid(oid)
        return str(values[0].value) if values else ""

    try:
        return Subject(
            level=claimed_level(asserted_levels(certificate)).level,
            address=names.addresses[0],
            given_name=first(NameOID.GIVEN_NAME),
            surname=first(NameOID.SURNAME),
            organisation=names.organisation if first(NameOID.ORGANIZATION_NAME) else "",
            title=first(NameOID.TITLE),
        )
    except RequestError as error:
        raise NotGranted(str(error)) from error


def covers(pattern: str, address: str) -> bool:
    """Tells whether an address is one of a pattern's; the letter case does not matter."""
    local, _, domain = fold(address).rpartition("@")
    wanted, _, place = fold(pattern).rpartition("@")
    if wanted not in ("*", local):
        return False
    if place.startswith("*."):
        return domain.endswith(place[1:])
    return domain == place


def _address(rules: Sequence[EnrolRule], wish: Wish) -> str:
    if len(wish.addresses) > 1:
        raise NotGranted("the request names several addresses; ask for one certificate for each")
    if wish.addresses:
        return wish.addresses[0]
    # Simple clients cannot write an address into a request; who may enrol one alone means that one.
    own = {pattern for rule in rules for pattern in rule.addresses}
    if len(own) == 1 and "*" not in (only := own.pop()):
        return only
    raise NotGranted("the request names no mail address; put it in as a subject alternative name")


def _not_meant(rule: EnrolRule, wish: Wish, level: Level) -> bool:
    """Whose names come from the request says with them what is wanted: no organisation, no V3 and no V4."""
    return rule.names_from_request and level in (Level.V3, Level.V4) and not wish.organisation


def _subject(rule: EnrolRule, wish: Wish, address: str, level: Level) -> Subject:
    """Raises RequestError where the level needs more, NotGranted where the request says something else."""
    person = level in (Level.V2, Level.V4)
    organisation = rule.organisation if level in (Level.V3, Level.V4) else ""
    if organisation and wish.organisation not in ("", organisation):
        raise NotGranted(f"the organisation is {organisation}, and the request says {wish.organisation}")
    names = wish if rule.names_from_request else rule
    if person and not rule.names_from_request:
        said = (wish.given_name, wish.surname)
        if any(said) and said != (rule.given_name, rule.surname):
            raise NotGranted("the request names another person than the one this user may enrol")
    return Subject(
        level=level,
        address=address,
        given_name=names.given_name if person else "",
        surname=names.surname if person else "",
        title=names.title if person else "",
        organisation=organisation,
    )
