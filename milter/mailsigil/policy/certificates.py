"""Which of a sender's certificates signs, chosen by who gets the mail.

A sender may have several: one of the own authority for colleagues and partners who trust it, one of a public
authority for everybody else. A mail has one body, so it gets one signature whatever the number of its
recipients (RFC 5321 3.3): the first rule that all of them fit decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from mailsigil.policy.patterns import matches_any

EVERYBODY: Final = "*"
"""As a recipient: whoever it is, also one whose address no pattern can name."""
OWN_FOLDER: Final = "keyd"
"""As a source: the folder of [keyd]."""


class Otherwise(StrEnum):
    """What holds where the chosen source has no certificate for the sender, or does not answer."""

    FAIL = "fail"
    """The mail cannot be signed: deferred where signing is required, unsigned where it is preferred."""
    ANY = "any"
    """Whatever other certificate the sender has signs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateRule:
    """Mail to nobody but ``recipients`` is signed with the certificate that ``source`` gives."""

    recipients: tuple[str, ...]
    """Address patterns, or :data:`EVERYBODY`."""
    source: str
    """Name of a [[source]], or :data:`OWN_FOLDER`; letter case does not count."""
    otherwise: Otherwise = Otherwise.FAIL

    @property
    def for_everybody(self) -> bool:
        """No recipient is beyond this rule, and so no later rule is ever reached."""
        return EVERYBODY in self.recipients

    def fits(self, recipients: Sequence[str]) -> bool:
        """Tell whether it covers each of these addresses (key form); of no address at all none is covered."""
        if self.for_everybody:
            return True
        return bool(recipients) and all(matches_any(self.recipients, one) for one in recipients)

    def __str__(self) -> str:
        fallback = ", else any," if self.otherwise is Otherwise.ANY else ""
        return f"{self.source}{fallback} for {' '.join(self.recipients)}"


def first_rule(rules: Iterable[CertificateRule], recipients: Sequence[str]) -> CertificateRule | None:
    """Give the first rule that all recipients fit; None leaves the choice to what the certificates say."""
    return next((rule for rule in rules if rule.fits(recipients)), None)


def unreached(rules: Sequence[CertificateRule]) -> CertificateRule | None:
    """Give a rule that stands behind one for everybody, where there is such a mistake."""
    for number, rule in enumerate(rules[:-1]):
        if rule.for_everybody:
            return rules[number + 1]
    return None
