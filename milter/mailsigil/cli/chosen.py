"""Which certificate would sign a sender's mail, and why: for ``mailsigil explain``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from cryptography import x509

from mailsigil.directory.api import Person
from mailsigil.keys.errors import KeyAgentUnavailable, KeyServiceError
from mailsigil.keys.protocol import Credential
from mailsigil.outbound import all_exempt, wanted
from mailsigil.pki.names import CertificateNames
from mailsigil.policy.certificates import OWN_FOLDER, CertificateRule, first_rule
from mailsigil.policy.entitlement import IdentityFacts
from mailsigil.policy.model import EffectivePolicy, SigningMode
from mailsigil.signing import Keys, LevelOf, NoCredential, Wanted, choose, whole_domain


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What is told of a certificate."""

    source: str
    levels: tuple[str, ...]
    issuer: str
    serial: str
    valid_until: datetime
    domain: str
    """The domain that signs in place of the sender; empty where the sender does."""

    def __str__(self) -> str:
        level = "/".join(self.levels) + (f" of the domain {self.domain}" if self.domain else "")
        until = f"until {self.valid_until:%Y-%m-%d}"
        return f'{level} from "{self.source}", issued by {self.issuer}, serial {self.serial}, {until}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One kind of mail, and the certificate that signs it."""

    recipients: tuple[str, ...]
    """Addresses or patterns; empty: everybody whom no rule names."""
    rule: str
    """The rule that decides; empty: none does, so the certificate that says most."""
    certificate: Shown | None
    reason: str
    """Why there is no certificate."""

    def __str__(self) -> str:
        return str(self.certificate) if self.certificate is not None else f"none: {self.reason}"


def choices(
    key: str,
    person: Person | None,
    policy: EffectivePolicy,
    facts: IdentityFacts,
    *,
    recipients: Sequence[str],
    keys: Keys,
    levels_of: LevelOf,
    at: datetime,
) -> Iterator[Choice]:
    """Gives one choice for these recipients (key form); without any, one for each rule of the policy."""
    cases = _cases(policy.certificates.value, recipients)
    reason = _beforehand(person, policy, recipients)
    allowed = Wanted()
    try:
        allowed = wanted(policy, facts, recipients=recipients, at=at, levels_of=levels_of)
    except NoCredential as error:
        reason = reason or str(error)
    for case, rule in cases:
        shown = None
        if not reason:
            try:
                shown = _shown(choose(keys, key, replace(allowed, rule=rule)), key, levels_of)
            except KeyAgentUnavailable as error:
                reason = str(error)  # Nor would it answer to the next question.
            except (KeyServiceError, NoCredential) as error:
                yield Choice(recipients=case, rule=str(rule or ""), certificate=None, reason=str(error))
                continue
        yield Choice(recipients=case, rule=str(rule or ""), certificate=shown, reason=reason)


def _cases(
    rules: Sequence[CertificateRule], recipients: Sequence[str]
) -> list[tuple[tuple[str, ...], CertificateRule | None]]:
    if recipients:
        return [(tuple(recipients), first_rule(rules, recipients))]
    cases: list[tuple[tuple[str, ...], CertificateRule | None]] = [(rule.recipients, rule) for rule in rules]
    return cases if rules and rules[-1].for_everybody else [*cases, ((), None)]


def _beforehand(person: Person | None, policy: EffectivePolicy, recipients: Sequence[str]) -> str:
    """Why nobody asks the key agent; empty where somebody does."""
    if policy.signing.value is SigningMode.NEVER:
        return "signing is never"
    if all_exempt(recipients, policy):
        return "these recipients are exempt"
    if person is None:
        # An agent that is not updated yet would make a certificate for whoever is asked about.
        return "nobody has this address, so the key agent is not asked"
    return ""


def _shown(credential: Credential, key: str, levels_of: LevelOf) -> Shown:
    certificate = x509.load_der_x509_certificate(credential.certificate)
    return Shown(
        source=credential.source or OWN_FOLDER,
        levels=tuple(sorted(level.value for level in levels_of(credential))),
        issuer=CertificateNames.from_certificate(certificate).issuer,
        serial=f"{certificate.serial_number:x}",
        valid_until=certificate.not_valid_after_utc,
        domain=key.rpartition("@")[2] if whole_domain(credential, key) else "",
    )
