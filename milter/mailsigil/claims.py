"""Which policy holds for mail whose author cannot be read: the strictest of all whose mail it might be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from mailsigil.directory.api import Directory, Person
from mailsigil.message.address import key_of
from mailsigil.message.claimed import SOMEBODY, claimed_senders
from mailsigil.message.fields import Field
from mailsigil.plan import Envelope
from mailsigil.policy.model import EffectivePolicy, SigningMode, Unauthorised
from mailsigil.policy.resolve import resolve


def strictest_policy(
    fields: Sequence[Field], envelope: Envelope, sender: Person | None, directory: Directory, *, at: datetime
) -> EffectivePolicy:
    """Asks for everybody who has a hand in the message, or is shown as its sender.

    ``sender`` is the person who logged in. Raises DirectoryUnavailable.

    Where that may be anybody of ours, the policies of our domains are asked for and those for everyone. What
    is said of single people and of groups is not: no directory tells at once whom it is said of.
    """
    hands = dict.fromkeys(_hands(fields, envelope, sender, directory))
    return min((resolve(directory.policies(hand), at=at) for hand in hands), key=_strictest_first)


def _hands(
    fields: Sequence[Field], envelope: Envelope, sender: Person | None, directory: Directory
) -> Iterator[str]:
    yield key_of(envelope.mail_from)
    if sender is not None:
        yield from sender.addresses
    claimed = claimed_senders(fields)
    yield from claimed.addresses
    if claimed.addresses and claimed.complete:
        return
    # Whom a reader sees is not known. From a client of ours it may be anybody of ours.
    if envelope.login or directory.client_may_send_as(envelope.client_address):
        yield from (f"{SOMEBODY}@{domain}" for domain in sorted(directory.own_domains()))


def _strictest_first(policy: EffectivePolicy) -> tuple[int, bool]:
    mode, unauthorised = policy.signing.value, policy.unauthorised.value
    return list(SigningMode).index(mode), unauthorised is not Unauthorised.REFUSE
