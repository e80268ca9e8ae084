"""From the entries that apply to a sender to the one policy that holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import groupby
from typing import Any, Final, TypeVar

from mailsigil.policy.model import (
    BUILT_IN,
    Conflict,
    Decryption,
    EffectivePolicy,
    Form,
    IdentityLevel,
    Misordered,
    PolicyEntry,
    Setting,
    SigningMode,
    Timestamp,
    Unauthorised,
)

T = TypeVar("T")

_SAFEST_FIRST: Final[dict[str, Sequence[object]]] = {
    "signing": list(SigningMode),
    "form": list(Form),
    "unauthorised": [Unauthorised.REFUSE, Unauthorised.PASS],
    "misordered_dkim": [Misordered.REFUSE, Misordered.STRIP, Misordered.PASS],
    "level": list(IdentityLevel),
    "timestamp": [Timestamp.REQUIRED, Timestamp.PREFERRED, Timestamp.NEVER],
    "domain_signature": [False, True],
    "decryption": list(Decryption),
}
"""Which value holds where entries of one rank disagree: the one after which least can go wrong."""


def resolve(entries: Iterable[PolicyEntry], *, at: datetime | None = None) -> EffectivePolicy:
    """Take each setting from the highest-ranking entry that has it.

    Persons' entries rank above groups', these above domains', these above those for everyone. Within one of
    these a directory's rank above the policy file's, and then the greater priority ranks higher. Settings
    fall through one by one: a person's entry that speaks only of the form leaves the signing mode to the
    group, the domain or the default. What no entry speaks of is :data:`BUILT_IN`. Entries that are no longer
    valid ``at`` this time (aware) are not there.

    An entry that speaks of another address of the sender (``elsewhere``) ranks as the others do, but the
    signing mode is never less strict than without it.

    Where entries of one rank disagree, the safest value holds, whatever their order, and the disagreement is
    among the ``conflicts``.
    """
    given = tuple(entries)
    if all(entry.valid_until is None for entry in given):
        return _remembered(given)  # What does not hang on the time is the same for every mail.
    return _resolved(entry for entry in given if not _lapsed(entry, at))


def _resolved(entries: Iterable[PolicyEntry]) -> EffectivePolicy:
    given = tuple(entries)
    tiers = _tiers(given)
    conflicts: list[Conflict] = []
    signing = _take("signing", tiers, lambda entry: entry.signing, conflicts)
    if any(entry.elsewhere for entry in given):
        own = _tiers(entry for entry in given if not entry.elsewhere)
        without = _take("signing", own, lambda entry: entry.signing, [])
        signing = min(signing, without, key=lambda one: _SAFEST_FIRST["signing"].index(one.value))
    return EffectivePolicy(
        signing=signing,
        form=_take("form", tiers, lambda entry: entry.form, conflicts),
        unauthorised=_take("unauthorised", tiers, lambda entry: entry.unauthorised, conflicts),
        misordered_dkim=_take("misordered_dkim", tiers, lambda entry: entry.misordered_dkim, conflicts),
        exempt_recipients=_take("exempt_recipients", tiers, lambda entry: entry.exempt_recipients, conflicts),
        level=_take("level", tiers, lambda entry: entry.level, conflicts),
        timestamp=_take("timestamp", tiers, lambda entry: entry.timestamp, conflicts),
        certificates=_take("certificates", tiers, lambda entry: entry.certificates, conflicts),
        domain_signature=_take("domain_signature", tiers, lambda entry: entry.domain_signature, conflicts),
        decryption=_take("decryption", tiers, lambda entry: entry.decryption, conflicts),
        conflicts=tuple(conflicts),
    )


_remembered = lru_cache(maxsize=4096)(_resolved)


def _lapsed(entry: PolicyEntry, at: datetime | None) -> bool:
    return at is not None and entry.valid_until is not None and entry.valid_until <= at


def _rank(entry: PolicyEntry) -> tuple[int, int, int]:
    return (entry.scope, entry.layer, -entry.priority)


def _tiers(entries: Iterable[PolicyEntry]) -> list[list[PolicyEntry]]:
    """Entries of equal rank together, the highest rank first, the built-in default last."""
    ranked = sorted(entries, key=lambda entry: (*_rank(entry), entry.source))
    return [*(list(tier) for _, tier in groupby(ranked, key=_rank)), [BUILT_IN]]


def _take(
    name: str,
    tiers: Sequence[Sequence[PolicyEntry]],
    read: Callable[[PolicyEntry], T | None],
    conflicts: list[Conflict],
) -> Setting[T]:
    for tier in tiers:
        said = list(_said(tier, read))
        if said:
            values = {_comparable(name, setting.value) for setting in said}
            chosen = said[0] if len(values) == 1 else _safest(name, said)
            if len(values) > 1:
                conflicts.append(Conflict(name, tuple(one.source for one in said), chosen.value))
            return chosen
    raise ValueError("the built-in default leaves a setting open")


def _said(tier: Iterable[PolicyEntry], read: Callable[[PolicyEntry], T | None]) -> Iterator[Setting[T]]:
    for entry in tier:
        value = read(entry)
        if value is not None:
            yield Setting(value, entry.source)


def _comparable(name: str, value: object) -> object:
    """The order in which exempt recipients are listed is no disagreement; that of rules is one."""
    return frozenset(value) if name == "exempt_recipients" and isinstance(value, tuple) else value


def _safest(name: str, said: Sequence[Setting[T]]) -> Setting[T]:
    source = " and ".join(setting.source for setting in said)
    if name == "exempt_recipients":
        # Only what all of them exempt is exempt.
        lists: list[Any] = [setting.value for setting in said]
        common: Any = tuple(one for one in lists[0] if all(one in other for other in lists[1:]))
        return Setting(common, source)
    if name == "certificates":
        return said[0]  # None is safer than another: that of the entry whose name comes first holds.
    value = min((setting.value for setting in said), key=_SAFEST_FIRST[name].index)
    return Setting(value, source)
