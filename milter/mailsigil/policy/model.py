"""What a policy can say, and what it says once all entries are taken together."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Final, Generic, TypeVar

T = TypeVar("T")


class SigningMode(StrEnum):
    """Whether a sender's mail is signed, strictest first."""

    REQUIRED = "required"
    """Signed, or not sent: where signing fails the message is deferred."""
    PREFERRED = "preferred"
    """Signed where that works, else sent unsigned."""
    NEVER = "never"
    """Left alone."""


class Form(StrEnum):
    """How the signature is attached (RFC 8551 3.5)."""

    CLEAR = "clear"
    """``multipart/signed``: every mail client can read the text."""
    OPAQUE = "opaque"
    """``application/pkcs7-mime``: survives servers that rewrite text; unreadable without S/MIME."""


class Unauthorised(StrEnum):
    """What happens to mail whose author is not the one who sends it."""

    PASS = "pass"  # noqa: S105 (a word of the policy, no password)
    """It goes on unsigned."""
    REFUSE = "refuse"
    """It is refused with 550 5.7.1."""


class Misordered(StrEnum):
    """What happens to mail that carries a DKIM signature of our own before it is S/MIME-signed."""

    PASS = "pass"  # noqa: S105 (a word of the policy, no password)
    """It goes on without an S/MIME signature, so that DKIM holds."""
    STRIP = "strip"
    """The DKIM signature, which would break, is removed."""
    REFUSE = "refuse"
    """It is refused with 550 5.7.5."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyEntry:
    """One entry of a directory. What is None is left to the next, less specific entry."""

    source: str
    """Where it stands, for a person: ``policy.toml:12 person alice@bank.example``."""
    signing: SigningMode | None = None
    form: Form | None = None
    unauthorised: Unauthorised | None = None
    misordered_dkim: Misordered | None = None
    exempt_recipients: tuple[str, ...] | None = None
    """Address patterns. Mail that goes to nobody else is left alone. An empty list exempts nobody."""


@dataclass(frozen=True, slots=True)
class Setting(Generic[T]):
    """A value with the entry it came from."""

    value: T
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectivePolicy:
    """What applies to one sender: every setting has a value, and a source that explains it."""

    signing: Setting[SigningMode]
    form: Setting[Form]
    unauthorised: Setting[Unauthorised]
    misordered_dkim: Setting[Misordered]
    exempt_recipients: Setting[tuple[str, ...]]


SETTING_NAMES: Final = tuple(field.name for field in fields(EffectivePolicy))
"""The names of all settings, in the order in which they are shown."""

BUILT_IN: Final = PolicyEntry(
    source="built-in default",
    signing=SigningMode.NEVER,
    form=Form.CLEAR,
    unauthorised=Unauthorised.PASS,
    misordered_dkim=Misordered.STRIP,
    exempt_recipients=(),
)
"""The last entry of every resolution. Nobody's mail is signed unless an administrator says so."""
