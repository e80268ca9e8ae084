"""What a policy can say, and what it says once all entries are taken together."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Final, Generic, TypeVar

from mailsigil.policy.certificates import CertificateRule

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


class Timestamp(StrEnum):
    """Whether a signature carries the time of a timestamp authority (RFC 3161)."""

    NEVER = "never"
    """None is asked for."""
    PREFERRED = "preferred"
    """One is added where that works."""
    REQUIRED = "required"
    """The mail is not signed without one."""


class Decryption(StrEnum):
    """What is decrypted of a recipient's encrypted mail when it is stored, least first."""

    NEVER = "never"
    """Nothing: it is stored as it came."""
    DEFAULT = "default"
    """What the settings of the delivery filter say."""
    SIGNED = "signed"
    """What nobody can have altered: authenticated content, and what a signature inside covers."""
    INERT = "inert"
    """Besides, plain text without attachments."""
    ANY = "any"
    """Everything."""


class IdentityLevel(StrEnum):
    """What is said of a sender, in the words that certificates use.

    V2 speaks of a person and V3 of an organisation: neither contains the other, and V4 contains both.
    """

    V1 = "V1"
    V2 = "V2"
    V3 = "V3"
    V4 = "V4"

    @property
    def contained(self) -> frozenset[IdentityLevel]:
        """All levels that say no more than this one, itself included."""
        return _CONTAINED[self]


_CONTAINED: Final = {
    IdentityLevel.V1: frozenset({IdentityLevel.V1}),
    IdentityLevel.V2: frozenset({IdentityLevel.V1, IdentityLevel.V2}),
    IdentityLevel.V3: frozenset({IdentityLevel.V1, IdentityLevel.V3}),
    IdentityLevel.V4: frozenset(IdentityLevel),
}


class Scope(IntEnum):
    """What an entry applies to. The more specific one decides."""

    PERSON = 0
    GROUP = 1
    DOMAIN = 2
    DEFAULT = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyEntry:
    """One entry of a directory. What is None is left to the next, less specific entry."""

    source: str
    """Where it stands, for a person: ``policy.toml:12 person alice@bank.example``."""
    scope: Scope = Scope.DEFAULT
    layer: int = 0
    """Among entries of one scope those of a lower layer decide: a directory's before the policy file's."""
    priority: int = 0
    """Among entries of one scope and layer the greater number decides."""
    valid_until: datetime | None = None
    """Aware; from this time on the entry is as if it were not there. None: for good."""
    signing: SigningMode | None = None
    form: Form | None = None
    unauthorised: Unauthorised | None = None
    misordered_dkim: Misordered | None = None
    exempt_recipients: tuple[str, ...] | None = None
    """Address patterns. Mail that goes to nobody else is left alone. An empty list exempts nobody."""
    level: IdentityLevel | None = None
    """The most that a signature says of the sender."""
    timestamp: Timestamp | None = None
    certificates: tuple[CertificateRule, ...] | None = None
    """Which certificate signs for which recipients; the first rule that fits decides. Empty: no choice."""
    domain_signature: bool | None = None
    """Whether a certificate of the whole domain (RFC 3183) may sign for the sender."""
    decryption: Decryption | None = None
    """What is decrypted of the mail that this address gets."""
    elsewhere: bool = False
    """It is about another address of the same person: it never makes signing less strict for this one."""


@dataclass(frozen=True, slots=True)
class Setting(Generic[T]):
    """A value with the entry it came from."""

    value: T
    source: str


def shown(value: object) -> str:
    """A value of a setting, for a person."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        rules = any(isinstance(one, CertificateRule) for one in value)
        return ("; " if rules else ", ").join(map(str, value)) or "-"
    return str(value)


@dataclass(frozen=True, slots=True)
class Conflict:
    """Entries of one scope and priority that say different things about one setting."""

    setting: str
    sources: tuple[str, ...]
    chosen: object
    """The value that holds: the safest of those said, or the first where none is safer than another."""

    @property
    def holds(self) -> str:
        """What holds, for a person."""
        return shown(self.chosen)

    def __str__(self) -> str:
        return f'{" and ".join(self.sources)} disagree about "{self.setting}" at one priority'


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectivePolicy:
    """What applies to one sender: every setting has a value, and a source that explains it."""

    signing: Setting[SigningMode]
    form: Setting[Form]
    unauthorised: Setting[Unauthorised]
    misordered_dkim: Setting[Misordered]
    exempt_recipients: Setting[tuple[str, ...]]
    level: Setting[IdentityLevel]
    timestamp: Setting[Timestamp]
    certificates: Setting[tuple[CertificateRule, ...]]
    domain_signature: Setting[bool]
    decryption: Setting[Decryption]
    conflicts: tuple[Conflict, ...] = ()
    """Entries that disagree, and of which none ranks above the other."""


SETTING_NAMES: Final = tuple(field.name for field in fields(EffectivePolicy) if field.name != "conflicts")
"""The names of all settings, in the order in which they are shown."""

BUILT_IN: Final = PolicyEntry(
    source="built-in default",
    signing=SigningMode.NEVER,
    form=Form.CLEAR,
    unauthorised=Unauthorised.PASS,
    misordered_dkim=Misordered.STRIP,
    exempt_recipients=(),
    level=IdentityLevel.V4,
    timestamp=Timestamp.NEVER,
    certificates=(),
    domain_signature=False,
    decryption=Decryption.DEFAULT,
)
"""The last entry of every resolution. Nobody's mail is signed unless an administrator says so."""
