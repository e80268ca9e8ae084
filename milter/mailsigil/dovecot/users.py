"""Names of users as Dovecot gives them, and the addresses whose keys they may have."""

from __future__ import annotations

import re
from typing import Final

_ADDRESS: Final = re.compile(
    r"[a-z0-9](?:[a-z0-9._+=-]{0,62}[a-z0-9_+=-])?@[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?"
)
MAX_NAME: Final = 320
"""Characters of a name that is looked at (RFC 5321 4.5.3.1)."""


def address_of(user: str, *, bare_domain: str = "") -> str:
    """Gives the address of a user, in lower case; empty for a name that can have no keys.

    The pattern is strict on purpose: a name becomes part of a path at the key server.
    """
    if len(user) > MAX_NAME or not user.isascii():
        return ""
    name = user.lower()
    if "@" not in name and bare_domain:
        name = f"{name}@{bare_domain}"
    return name if _ADDRESS.fullmatch(name) and ".." not in name else ""
