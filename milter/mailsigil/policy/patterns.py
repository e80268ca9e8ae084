"""Address patterns of an administrator, and how they meet the addresses of a mail.

Four forms, and no others::

    alice@bank.example     this address
    *@bank.example         every address of the domain
    @bank.example          the same, in fewer letters
    *@*.bank.example       every address of the domains below it, not of the domain itself

Only the administrator's text is ever read as a pattern. An address from a mail is compared as it is: a ``*``
in it is a letter, and an address that could not stand on one line of an SMTP dialogue is permitted nothing.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import idna

from mailsigil.folding import fold

MAX_LOCAL: Final = 64
"""Octets in front of the @ (RFC 5321 4.5.3.1.1)."""
MAX_DOMAIN: Final = 255
"""Octets behind the @ (RFC 5321 4.5.3.1.2)."""

_DOMAIN: Final = re.compile(
    r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*"
)
_ROUTING: Final = frozenset("%!")
"""What mail servers read as a way to another host."""
_UNFIT_ASCII: Final = re.compile(r"[\x00-\x20\x7f@<>\"\\,;]")


class PatternError(ValueError):
    """A text is no address pattern; the message says what to write instead."""


@dataclass(frozen=True, slots=True)
class AddressPattern:
    """A parsed pattern."""

    text: str
    """As the administrator wrote it."""
    local: str | None
    """The part in front of the @ in lower case; None for all."""
    domain: str
    """Lower case, in A-labels."""
    below: bool
    """True for the domains below ``domain``, False for the domain itself."""

    def matches(self, key: str) -> bool:
        """Tell whether an address, in the form :func:`normal_key` gives, is meant by this pattern."""
        parts = _split(key)
        if parts is None:
            return False
        local, domain = parts
        if self.local is not None and local != self.local:
            return False
        return self._holds(domain)

    def covers(self, key: str) -> bool:
        """Tell whether an address, in the form ``Address.key`` gives, is among those of this pattern.

        Unlike :meth:`matches` it leaves out no address of a domain because its name is an odd one.
        """
        local, _, domain = key.rpartition("@")
        return self.local in (None, local) and self._holds(domain)

    def _holds(self, domain: str) -> bool:
        return domain.endswith("." + self.domain) if self.below else domain == self.domain


@lru_cache(maxsize=4096)
def parse_pattern(text: str) -> AddressPattern:
    """Read a pattern; raises :class:`PatternError`. Only for text of an administrator, never of a mail."""
    local, at, domain = text.strip().rpartition("@")
    if text.strip() == "*":
        raise PatternError('"*" would mean everybody in the world: name a domain')
    if not at:
        raise PatternError(f'"{text}" is no address pattern: write "*@{text}" or "name@{text}"')
    below = domain.startswith("*.")
    domain = domain.removeprefix("*.")
    if domain == "*":
        raise PatternError(f'"{text}" would mean everybody in the world: name a domain')
    return AddressPattern(text, _pattern_local(text, local), _pattern_domain(text, domain), below)


def first_match(patterns: Sequence[str], address: str) -> str | None:
    """Give the first pattern that means this address, as the administrator wrote it, or None.

    ``address`` is untrusted. Raises :class:`PatternError` where a pattern is none.
    """
    key = normal_key(address)
    parsed = [parse_pattern(text) for text in patterns]
    return next((pattern.text for pattern in parsed if pattern.matches(key)), None)


def matches_any(patterns: Sequence[str], address: str) -> bool:
    """Tell whether any of the patterns means this recipient; see :func:`first_match`.

    ``victim%elsewhere.example@bank.example`` and ``elsewhere.example!victim@bank.example`` are meant by none:
    mail servers, Postfix among them (allow_percent_hack, swap_bangpath), send such mail elsewhere.
    """
    local = address.rpartition("@")[0]
    return not _ROUTING.intersection(local) and first_match(patterns, address) is not None


def is_member(patterns: Sequence[str], key: str) -> bool:
    """Tell whether any of the patterns lists this address, so that a policy holds for it.

    A policy that may say "required" leaves nobody out: ``"a b"@bank.example`` is one of ``*@bank.example``.
    What permits something asks :func:`first_match`.
    """
    return any(parse_pattern(text).covers(key) for text in patterns)


def normal_key(address: str) -> str:
    """Give the form in which addresses are compared, or an empty text for what is no plain address.

    Letters are folded in front of the @ as well: RFC 5321 2.4 lets a host tell them apart, but no host lets
    two people have names that differ in nothing else.
    """
    return _remembered_key(address) if len(address) <= MAX_LOCAL + MAX_DOMAIN + 1 else _key(address)


def _key(address: str) -> str:
    key = fold(address)
    return key if _split(key) is not None else ""


_remembered_key = lru_cache(maxsize=4096)(_key)


def _split(key: str) -> tuple[str, str] | None:
    local, _, domain = key.rpartition("@")
    if not local or len(local.encode("utf-8", "replace")) > MAX_LOCAL or _unfit(local):
        return None
    if len(domain) > MAX_DOMAIN or not _DOMAIN.fullmatch(domain):
        return None
    return local, domain


def _unfit(local: str) -> bool:
    """Tell whether a local part holds what no mailbox name needs: spaces, controls, invisible letters."""
    if _UNFIT_ASCII.search(local):
        return True
    return not local.isascii() and any(unicodedata.category(letter)[0] in "CZ" for letter in local)


def _pattern_local(text: str, local: str) -> str | None:
    if local in {"", "*"}:
        return None
    if "*" in local:
        raise PatternError(
            f'"{text}" is no address pattern: "*" stands for a whole name, not for a part of it'
        )
    if _unfit(local) or len(local.encode("utf-8", "replace")) > MAX_LOCAL:
        raise PatternError(f'"{text}" is no address pattern: in front of the @ stands a name or "*"')
    return fold(local)


def _pattern_domain(text: str, domain: str) -> str:
    if not domain.isascii():
        try:
            domain = idna.encode(domain, uts46=True).decode("ascii")
        except (idna.IDNAError, UnicodeError) as error:
            raise PatternError(f'"{text}" is no address pattern: {error}') from error
    domain = fold(domain)
    if "*" in domain:
        raise PatternError(f'"{text}" is no address pattern: in a domain "*" may stand only as "*." in front')
    if len(domain) > MAX_DOMAIN or not _DOMAIN.fullmatch(domain):
        raise PatternError(f'"{text}" is no address pattern: behind the @ stands a domain')
    return domain
