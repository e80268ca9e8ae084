"""For whom a certificate is asked."""

from __future__ import annotations

from dataclasses import dataclass

from mailsigil.pki.policies import Level


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectRequest:
    """Address and names that a certificate should carry. An issuer may add to them or say less.

    The level is what is asked for; what the issuer certified stands in the certificate's policies.
    """

    address: str
    """The mail address, in key form."""
    level: Level = Level.V1
    given_name: str = ""
    surname: str = ""
    organisation: str = ""
    title: str = ""

    @property
    def common_name(self) -> str:
        """The person, else the organisation, else the address (S/MIME BR 7.1.4.2.2 a)."""
        return f"{self.given_name} {self.surname}".strip() or self.organisation or self.address
