"""What has to be done for a user: decided once for login and delivery."""

from __future__ import annotations

from dataclasses import dataclass

from mailsigil.dovecot.users import MAX_NAME, address_of
from mailsigil.keys.storage.routes import StorageRoute, StorageRoutes


@dataclass(frozen=True, slots=True)
class Outside:
    """The user's domain has no storage keys: Dovecot goes on as without us."""


@dataclass(frozen=True, slots=True)
class Strange:
    """The user's domain has storage keys, and the name is none that could have one."""


@dataclass(frozen=True, slots=True)
class Member:
    """The user may have storage keys."""

    address: str
    route: StorageRoute


Standing = Outside | Strange | Member


def standing_of(routes: StorageRoutes, user: str, *, bare_domain: str) -> Standing:
    """Tells where a user stands, by the name alone; ``user`` is as Dovecot gives it."""
    address = address_of(user, bare_domain=bare_domain)
    if address:
        route = routes.of(address)
        return Outside() if route is None else Member(address, route)
    # Such a name never gets near the key server. What its end says decides whether that is a failure.
    ending = user[-MAX_NAME:].lower() if "@" in user else f"@{bare_domain}"
    return Outside() if routes.of(ending) is None else Strange()


def shown(user: str) -> str:
    """A name for the log, on one line and bounded, whatever it is made of."""
    return user if len(user) <= MAX_NAME and user.isascii() and user.isprintable() else f"{user[:80]!a}..."
