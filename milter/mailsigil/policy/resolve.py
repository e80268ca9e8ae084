"""From the entries that apply to a sender to the one policy that holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from mailsigil.policy.model import BUILT_IN, EffectivePolicy, PolicyEntry, Setting

T = TypeVar("T")


def resolve(entries: Sequence[PolicyEntry]) -> EffectivePolicy:
    """Take each setting from the first entry that has it; entries come most specific first.

    Settings fall through one by one: a person's entry that speaks only of the form leaves the signing
    mode to the group, the domain or the default. What no entry speaks of is :data:`BUILT_IN`.
    """
    every = (*entries, BUILT_IN)
    return EffectivePolicy(
        signing=_first([(entry.signing, entry.source) for entry in every]),
        form=_first([(entry.form, entry.source) for entry in every]),
        unauthorised=_first([(entry.unauthorised, entry.source) for entry in every]),
        misordered_dkim=_first([(entry.misordered_dkim, entry.source) for entry in every]),
        exempt_recipients=_first([(entry.exempt_recipients, entry.source) for entry in every]),
    )


def _first(candidates: Sequence[tuple[T | None, str]]) -> Setting[T]:
    for value, source in candidates:
        if value is not None:
            return Setting(value, source)
    raise ValueError("the built-in default leaves a setting open")
