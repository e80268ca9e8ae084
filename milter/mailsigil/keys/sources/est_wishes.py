"""What an EST server wants in requests (RFC 7030 4.5.2, as RFC 8951 and RFC 9908 explain it)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final

from asn1crypto import core

from mailsigil.keys.errors import SourceAnswer, SourceRefused
from mailsigil.keys.profile import KeyKind

OTHER_KINDS: Final = "it wants a kind of key that is not made here"
MAX_WISHES: Final = 64
MAX_OCTETS: Final = 16_384
_CHALLENGE: Final = "1.2.840.113549.1.9.7"
"""challengePassword (RFC 2985 5.4.1)."""
_RSA: Final = "1.2.840.113549.1.1.1"
_EC: Final = "1.2.840.10045.2.1"
_CURVES: Final = {
    "1.2.840.10045.3.1.7": KeyKind.P256,
    "1.3.132.0.34": KeyKind.P384,
}
_ED25519: Final = "1.3.101.112"


class _Values(core.SetOf):  # type: ignore[misc]
    _child_spec = core.Any


class _Attribute(core.Sequence):  # type: ignore[misc]
    _fields: ClassVar = [("type", core.ObjectIdentifier), ("values", _Values)]


class _Wish(core.Choice):  # type: ignore[misc]
    _alternatives: ClassVar = [("oid", core.ObjectIdentifier), ("attribute", _Attribute)]


class _Wishes(core.SequenceOf):  # type: ignore[misc]
    _child_spec = _Wish


@dataclass(frozen=True, slots=True)
class Wishes:
    """What is heeded; everything else a client ignores (RFC 7030 4.5.2)."""

    kinds: tuple[KeyKind, ...] = ()
    """Kinds of keys that will do; empty for any."""
    password: bool = False
    """A challengePassword that binds the request to the TLS connection (RFC 7030 3.5)."""

    def __str__(self) -> str:
        parts = [f"keys of {' or '.join(self.kinds)}"] if self.kinds else []
        parts += ["requests that are bound to their connection"] if self.password else []
        return f"the server wants {', '.join(parts)}" if parts else "the server has no wishes"

    def kind(self, wanted: KeyKind) -> KeyKind:
        """Gives the kind of key to make: the configured one, unless the server takes others alone."""
        return wanted if not self.kinds or wanted in self.kinds else self.kinds[0]


NONE: Final = Wishes()


def read_wishes(source: str, der: bytes) -> Wishes:
    """Reads an answer to csrattrs; empty octets are no wish. Raises SourceAnswer, SourceRefused."""
    if not der:
        return NONE
    try:
        if len(der) > MAX_OCTETS:
            raise ValueError("too long")
        listed = list(_Wishes.load(der, strict=True))
        if len(listed) > MAX_WISHES:
            raise ValueError("too many")
        told = [_told(each) for each in listed]
    except (ValueError, TypeError, KeyError) as error:
        raise SourceAnswer(
            source, "the answer to csrattrs cannot be read", "Look at that service's settings for csrattrs"
        ) from error
    kinds: list[KeyKind] = []
    unknown = False
    for oid, values in told:
        if oid in (_RSA, _EC, _ED25519):
            found = _kinds(oid, values)
            kinds += found
            unknown = unknown or not found
    if unknown and not kinds:
        raise SourceRefused(
            source,
            OTHER_KINDS,
            "Have it take RSA of 2048, 3072 or 4096 bits, P-256, P-384 or Ed25519",
        )
    oids = {oid for oid, _ in told}
    return Wishes(tuple(dict.fromkeys(kinds)), _CHALLENGE in oids)


def _told(wish: Any) -> tuple[str, list[Any]]:
    if wish.name == "oid":
        return wish.chosen.dotted, []
    return wish.chosen["type"].dotted, [value.parsed.native for value in wish.chosen["values"]]


def _kinds(oid: str, values: list[Any]) -> list[KeyKind]:
    """The kinds of keys that one wish takes: an algorithm, with its curves or its size (RFC 7030 4.5.2)."""
    if oid == _ED25519:
        return [KeyKind.ED25519]
    if oid == _EC:
        named = [_CURVES.get(str(value)) for value in values]
        return [kind for kind in named if kind is not None] if values else list(_CURVES.values())
    sizes = {f"rsa{value}" for value in values if isinstance(value, int)}
    own = [kind for kind in KeyKind if kind.startswith("rsa")]
    return [kind for kind in own if kind in sizes] if values else own
