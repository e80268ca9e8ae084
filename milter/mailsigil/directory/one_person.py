"""A directory of one sender, whose mail must be signed: for the command line and for trials."""

from __future__ import annotations

from mailsigil.directory.api import Person
from mailsigil.policy.entitlement import IdentityFacts, Organisation
from mailsigil.policy.model import Form, PolicyEntry, SigningMode, Unauthorised


class OnePerson:
    """The sender with one address; ``where`` is what messages name as the source of the policy."""

    def __init__(self, address: str, form: Form, *, where: str) -> None:
        self._person = Person(name="", addresses=(address,), logins=(address,))
        self._where = where
        self._entry = PolicyEntry(
            source=where, signing=SigningMode.REQUIRED, form=form, unauthorised=Unauthorised.REFUSE
        )

    def person_by_login(self, login: str) -> Person | None:
        """Gives the sender for a login."""
        return self._person if login in self._person.logins else None

    def person_by_address(self, key: str) -> Person | None:
        """Gives the sender for an address."""
        return self._person if key in self._person.addresses else None

    def client_may_send_as(self, ip: str) -> tuple[str, ...]:
        """Gives nothing: no client is without a login here."""
        return ()

    def policies(self, address_key: str) -> tuple[PolicyEntry, ...]:
        """Gives the one policy: sign."""
        return (self._entry,)

    def identity(self, address_key: str) -> IdentityFacts:
        """Gives no facts: nothing is known that would forbid a level."""
        return IdentityFacts(source=self._where)

    def organisation(self, domain: str) -> Organisation | None:
        """Gives none."""
        return None

    def own_domains(self) -> frozenset[str]:
        """Gives the sender's domain."""
        return frozenset(address.rpartition("@")[2] for address in self._person.addresses)
