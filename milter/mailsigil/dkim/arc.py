"""The chain of seals that mailing lists and forwarders put on a message (ARC, RFC 8617 5.2).

A chain that holds says only that each of its domains saw the message as it tells. Whether to believe
such a domain is another question: nothing here makes an identity.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from mailsigil.dkim.key import check_signature
from mailsigil.dkim.resolver import TxtLookup
from mailsigil.dkim.signature import (
    Tags,
    read_arc_seal,
    read_arc_signature,
    read_domain,
    read_selector,
    read_tags,
)
from mailsigil.dkim.verdict import MessageCheck
from mailsigil.dkim.words import DkimFault, DkimWord
from mailsigil.message.fields import Field
from mailsigil.message.spool import Spool

MAX_SETS = 50
"""RFC 8617 4.2.1: higher instance numbers are not valid."""

_RESULTS, _SIGNATURE, _SEAL = b"arc-authentication-results", b"arc-message-signature", b"arc-seal"
_NAMES = (_RESULTS, _SIGNATURE, _SEAL)

_INSTANCE = re.compile(rb"[1-9][0-9]?")
_RESULTS_INSTANCE = re.compile(rb"\s{0,100}i\s{0,100}=\s{0,100}([0-9]{1,3})\s{0,100};")
_SIGNATURE_VALUE = re.compile(rb"((?:\A|;)\s{0,128}b\s{0,128}=)(?:\s{0,128}[A-Za-z0-9+/=])*")
_SPACES = re.compile(rb"[ \t]+")


@dataclass(frozen=True, slots=True)
class ArcResult:
    """What was found out about the chain of a message.

    ``word`` is ``none``, ``pass`` or ``fail`` (RFC 8617 4.4), or ``temperror`` and ``neutral`` where the
    chain could not be checked. ``domain`` sealed last; ``reason`` is a sentence of ours.
    """

    word: DkimWord
    sets: int = 0
    domain: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Set:
    """One ARC set: its three fields, and the tags of two of them."""

    fields: tuple[Field, Field, Field]
    signature: Tags
    seal: Tags


def verify_arc(
    fields: Sequence[Field],
    body: Spool,
    *,
    txt: TxtLookup,
    max_bytes: int,
    max_sets: int = MAX_SETS,
    at: datetime | None = None,
) -> ArcResult:
    """Verify the whole chain of a message, each seal and the newest signature.

    A chain of more than ``max_sets`` sets, or a body of more than ``max_bytes`` octets, is not checked.
    ``at`` is the time of receipt, the present when not given.
    Raises nothing but what reading the spool may raise.
    """
    found = [field for field in fields if field.key in _NAMES]
    if not found:
        return ArcResult(DkimWord.NONE)
    at = at or datetime.now(UTC)
    domain, count = "", 0
    try:
        sets = _sets(found)
        count = len(sets)
        domain = read_domain(sets[-1].seal)
        _check_chain_words(sets)
        if count > max_sets:
            raise DkimFault(DkimWord.NEUTRAL, "the chain is too long")
        _check_signatures(MessageCheck(fields, body, txt, max_bytes, at), sets, at)
    except DkimFault as fault:
        unchecked = fault.word in (DkimWord.TEMPERROR, DkimWord.NEUTRAL)
        return ArcResult(fault.word if unchecked else DkimWord.FAIL, count, domain, fault.reason)
    return ArcResult(DkimWord.PASS, count, domain)


def _sets(found: Sequence[Field]) -> list[_Set]:
    """Sort the fields into sets without gaps (RFC 8617 5.2 step 3A)."""
    if len(found) > len(_NAMES) * MAX_SETS:
        raise DkimFault(DkimWord.FAIL, "the chain has too many fields")
    places: dict[tuple[bytes, int], tuple[Field, Tags]] = {}
    for field in found:
        tags = {} if field.key == _RESULTS else read_tags(field.value)
        place = (field.key, _instance(field, tags))
        if place in places:
            raise DkimFault(DkimWord.FAIL, "the chain has a field twice")
        places[place] = (field, tags)
    count = max(instance for _, instance in places)
    if len(places) != len(_NAMES) * count:
        raise DkimFault(DkimWord.FAIL, "the chain has a gap")
    return [
        _Set(
            (places[_RESULTS, number][0], places[_SIGNATURE, number][0], places[_SEAL, number][0]),
            places[_SIGNATURE, number][1],
            places[_SEAL, number][1],
        )
        for number in range(1, count + 1)
    ]


def _instance(field: Field, tags: Tags) -> int:
    """RFC 8617 4.2.1: a number from 1 to 50."""
    if field.key == _RESULTS:
        match = _RESULTS_INSTANCE.match(field.value)
        text = match[1] if match else b""
    else:
        text = tags.get(b"i", b"")
    if not _INSTANCE.fullmatch(text) or int(text) > MAX_SETS:
        raise DkimFault(DkimWord.FAIL, "a field of the chain has no valid instance number")
    return int(text)


def _check_chain_words(sets: Sequence[_Set]) -> None:
    """RFC 8617 5.2 step 2 and 3B: what each seal says of the chain before it."""
    if sets[-1].seal.get(b"cv") == b"fail":
        raise DkimFault(DkimWord.FAIL, "the chain was broken before it came here")
    for number, each in enumerate(sets):
        if each.seal.get(b"cv") != (b"pass" if number else b"none"):
            raise DkimFault(DkimWord.FAIL, "a seal contradicts the chain before it")


def _check_signatures(check: MessageCheck, sets: Sequence[_Set], at: datetime) -> None:
    # RFC 8617 5.2 step 4: the newest signature; older ones may be broken by what was done since.
    tags = sets[-1].signature
    domain, selector = read_domain(tags), read_selector(tags)
    check.verify(sets[-1].fields[1], read_arc_signature(tags, domain=domain, at=at), domain, selector)
    # Step 6: each seal, from the newest on.
    for count in range(len(sets), 0, -1):
        tags = sets[count - 1].seal
        domain, selector = read_domain(tags), read_selector(tags)
        seal = read_arc_seal(tags, domain=domain, at=at)
        check_signature(check.key(seal, domain, selector), seal.value, _seal_hash(sets[:count]))


def _seal_hash(sets: Sequence[_Set]) -> bytes:
    """RFC 8617 5.1.1: all sets in their order, the newest seal last and without its value."""
    fields = [field for each in sets for field in each.fields]
    hasher = hashlib.sha256(b"".join(_relaxed(field.key, field.value) + b"\r\n" for field in fields[:-1]))
    hasher.update(_relaxed(_SEAL, _SIGNATURE_VALUE.sub(rb"\1", fields[-1].value, count=1)))
    return hasher.digest()


def _relaxed(key: bytes, value: bytes) -> bytes:
    """RFC 6376 3.4.2, without the line end."""
    return key + b":" + _SPACES.sub(b" ", value.replace(b"\r\n", b"")).strip(b" ")
