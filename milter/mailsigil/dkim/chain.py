"""DKIM signatures of our own that stand on a message before we change it."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from mailsigil.dkim.signature import a_labels
from mailsigil.message.fields import Field, named

_DOMAIN_TAG = re.compile(rb"(?:^|;)\s{0,100}d\s{0,100}=([^;]*)")


def own_signatures(fields: Sequence[Field], own_domains: Collection[str]) -> tuple[int, ...]:
    """Tell which DKIM-Signature fields were made for one of our domains or a name below one.

    Gives occurrences among the DKIM-Signature fields, from 1. A domain above ours is not ours: it may
    belong to whoever gave us our name. A signature that cannot be read otherwise still counts when its
    ``d=`` is ours.
    """
    own = {domain.lower().rstrip(".") for domain in own_domains} - {""}
    return tuple(
        occurrence
        for occurrence, field in enumerate(named(fields, b"dkim-signature"), start=1)
        if any(_belongs(domain, own) for domain in _domains(field.value))
    )


def _domains(value: bytes) -> list[str]:
    unfolded = value.replace(b"\r\n", b"")
    return [a_labels(match.group(1).strip()) for match in _DOMAIN_TAG.finditer(unfolded)]


def _belongs(domain: str, own: Collection[str]) -> bool:
    labels = domain.split(".")
    return any(".".join(labels[start:]) in own for start in range(len(labels)))
