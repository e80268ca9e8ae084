"""From a certificate to the identity level a reader is told.

A level needs two things: a policy that the trust anchor may assert, and names that fit it. Where the two
disagree, the lower level counts and the decision says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cryptography import x509

from mailsigil.pki.anchors import AnchorSet
from mailsigil.pki.names import UNREADABLE, CertificateNames
from mailsigil.pki.policies import BR_POLICIES, MAILSIGIL_POLICIES, Generation, Level

# What is left when the names do not fit: an authority that vouches for a person in an organisation has
# checked both, one that vouches for an organisation has checked no person.
_FALLBACKS: Final = {
    Level.V4: (Level.V4, Level.V3, Level.V2, Level.V1),
    Level.V3: (Level.V3, Level.V1),
    Level.V2: (Level.V2, Level.V1),
    Level.V1: (Level.V1,),
}


@dataclass(frozen=True, slots=True)
class PolicyAssertion:
    """One certificate policy that stands for a level."""

    oid: str
    level: Level
    generation: Generation | None = None


@dataclass(frozen=True, slots=True)
class LevelDecision:
    """The level that counts. ``reason`` is empty when it is the one that the certificate asserts."""

    level: Level
    generation: Generation | None = None
    reason: str = ""


def asserted_levels(
    certificate: x509.Certificate, custom: Mapping[str, Level] | None = None
) -> list[PolicyAssertion]:
    """Give the levels that a certificate claims, whoever issued it.

    ``custom`` adds an anchor's own identifiers. A certificate whose policies cannot be read claims none.
    """
    found = []
    for oid in policy_oids(certificate):
        if custom and oid in custom:
            found.append(PolicyAssertion(oid, custom[oid]))
        elif oid in BR_POLICIES:
            found.append(PolicyAssertion(oid, *BR_POLICIES[oid]))
        elif oid in MAILSIGIL_POLICIES:
            found.append(PolicyAssertion(oid, MAILSIGIL_POLICIES[oid]))
    return found


def policy_oids(certificate: x509.Certificate) -> tuple[str, ...]:
    """Give the certificate policies (RFC 5280 4.2.1.4) in their order, none where they cannot be read."""
    try:
        policies = certificate.extensions.get_extension_for_class(x509.CertificatePolicies).value
    except (x509.ExtensionNotFound, *UNREADABLE):
        return ()
    return tuple(policy.policy_identifier.dotted_string for policy in policies)


def identity_level(
    certificate: x509.Certificate, anchors: AnchorSet, *, policies: frozenset[str]
) -> LevelDecision:
    """Decide the level of a certificate whose path ends in ``anchors``.

    ``policies`` are those that the whole path allows (``PathVerdict.policies``, RFC 5280 6.1.6): what only
    the leaf claims, and an authority above it was not allowed to issue, does not count.
    """
    if anchors.level is not None:
        return fit_level([PolicyAssertion("", anchors.level)], certificate)
    counted = [
        assertion
        for assertion in asserted_levels(certificate, anchors.oids)
        if anchors.may_assert(assertion.oid) and assertion.oid in policies
    ]
    return fit_level(counted, certificate)


def claimed_level(assertions: list[PolicyAssertion]) -> LevelDecision:
    """Choose the level that policies claim, whatever the names: the lowest one, V1 where there is none."""
    if not assertions:
        return LevelDecision(Level.V1, None, "no policy that stands for a level")
    levels = sorted({assertion.level for assertion in assertions})
    lowest = levels[0]
    generations = [a.generation for a in assertions if a.level is lowest and a.generation is not None]
    return LevelDecision(
        lowest,
        min(generations, key=list(Generation).index, default=None),
        f"contradicting policies for {' and '.join(levels)}" if len(levels) > 1 else "",
    )


def fit_level(assertions: list[PolicyAssertion], certificate: x509.Certificate) -> LevelDecision:
    """Bring the level that policies claim and the names in the certificate together."""
    claimed = claimed_level(assertions)
    names = CertificateNames.from_certificate(certificate)
    fitting = next(level for level in _FALLBACKS[claimed.level] if not _missing(level, names))
    if fitting is claimed.level:
        return claimed
    missing = " and no ".join(_missing(claimed.level, names))
    mismatch = f"the certificate claims {claimed.level} and has no {missing}"
    return LevelDecision(fitting, None, f"{claimed.reason}; {mismatch}" if claimed.reason else mismatch)


def _missing(level: Level, names: CertificateNames) -> list[str]:
    missing = []
    if level in (Level.V2, Level.V4) and not names.full_name:
        missing.append("person's name")
    if level in (Level.V3, Level.V4) and not names.organisation:
        missing.append("organisation")
    return missing


def identity_text(level: Level, names: CertificateNames) -> str:
    """Write the line that a reader is shown. A missing title is left out."""
    match level:
        case Level.V1:
            return "V1 Email Validated, Identity Not Validated"
        case Level.V2:
            return f"V2 {names.full_name}, Identity Validated"
        case Level.V3:
            return f"V3 {names.organisation}, Identity Validated and Trusted"
        case Level.V4:
            parts = (names.full_name, names.organisation, names.title)
            shown = ", ".join(part for part in parts if part)
            return f"V4 {shown}, Identity Validated and Trusted"
