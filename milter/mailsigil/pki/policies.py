"""The identity levels, and the certificate policies that stand for them (RFC 5280 4.2.1.4)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, StrEnum
from typing import Final

from mailsigil.pki import oids


class Level(StrEnum):
    """What is known about the sender. Levels compare in this order."""

    V1 = "V1"
    """The mailbox."""
    V2 = "V2"
    """A person."""
    V3 = "V3"
    """An organisation."""
    V4 = "V4"
    """A person in an organisation."""


class Generation(Enum):
    """The profile a certificate follows (S/MIME BR 1.6.1), the laxest first."""

    LEGACY = "legacy"
    MULTIPURPOSE = "multipurpose"
    STRICT = "strict"


_GENERATIONS: Final = tuple(Generation)

# The arcs are not in the order of the levels.
_BR_TYPES: Final = {
    oids.BR_MAILBOX: Level.V1,
    oids.BR_INDIVIDUAL: Level.V2,
    oids.BR_ORGANISATION: Level.V3,
    oids.BR_SPONSOR: Level.V4,
}
BR_POLICIES: Final[Mapping[str, tuple[Level, Generation]]] = {
    f"{arc}.{number}": (level, generation)
    for arc, level in _BR_TYPES.items()
    for number, generation in enumerate(_GENERATIONS, start=1)
}
"""The twelve policies of the S/MIME Baseline Requirements."""

MAILSIGIL_POLICIES: Final[Mapping[str, Level]] = {
    f"{oids.LEVEL_ARC}.{number}": level for number, level in enumerate(Level, start=1)
}
"""The four policies of the embedded authority."""
