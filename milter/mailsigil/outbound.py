"""The way of one outbound message, top to bottom: from what Postfix gave us to a plan.

Fail closed: a message whose policy is ``required`` leaves signed, is refused, or is deferred.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from mailsigil.claims import strictest_policy
from mailsigil.compose import clear_signed, opaque_signed
from mailsigil.directory.api import Directory, DirectoryUnavailable, Person
from mailsigil.dkim.chain import own_signatures
from mailsigil.headers import strip_forged
from mailsigil.keys.errors import KeyServiceError
from mailsigil.message.address import key_of
from mailsigil.message.author import Author, AuthorFault, parse_author
from mailsigil.message.automatic import is_automatic
from mailsigil.message.fields import Field
from mailsigil.message.mime import MimeLimitError, MimeLimits
from mailsigil.message.protection import Protection
from mailsigil.message.seven_bit import ONE_MEANING, Entity, Unsignable, as_it_is, to_seven_bit
from mailsigil.message.spool import Spool
from mailsigil.plan import DeleteField, Edit, Envelope, Event, Outcome, Plan
from mailsigil.policy.authorise import Authorisation, authorise
from mailsigil.policy.certificates import first_rule
from mailsigil.policy.entitlement import IdentityFacts, domain_entitlement, entitlement
from mailsigil.policy.model import (
    EffectivePolicy,
    Form,
    Misordered,
    SigningMode,
    Timestamp,
    Unauthorised,
)
from mailsigil.policy.patterns import matches_any
from mailsigil.policy.resolve import resolve
from mailsigil.protected import protected
from mailsigil.signing import Keys, LevelOf, NoCredential, Wanted, certified_levels, sign, signing_time


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundParts:
    """What the outbound way is handed: directory, keys, clock, randomness, limits."""

    directory: Directory
    keys: Keys
    now: Callable[[], datetime]
    """The time, aware, in UTC."""
    new_boundary: Callable[[], str]
    """A fresh MIME boundary that nobody can guess."""
    authserv_id: str
    mime_limits: MimeLimits
    levels_of: LevelOf = certified_levels
    """What a certificate says of its owner."""
    new_spool: Callable[[], Spool] = Spool
    """Makes the place for a body that has to be rewritten."""


def outbound(envelope: Envelope, fields: Sequence[Field], body: Spool, parts: OutboundParts) -> Plan:
    """Decides what happens to one message on its way out."""
    # 1. Nobody inside may lend himself an identity either: colleagues read this mail.
    forged = strip_forged(fields, parts.authserv_id)

    # 2. A bounce that nobody of ours sends waits for no directory.
    answers = not envelope.mail_from and is_automatic(fields)
    if _sent_by_nobody(envelope, parts.directory, answers=answers):
        return _passed("bounce", forged)

    try:
        # 3. Whose mail is it, and what does policy say of it?
        author = parse_author(fields)
        sender = parts.directory.person_by_login(envelope.login) if envelope.login else None
        now = parts.now()
        if isinstance(author, AuthorFault):
            strictest = strictest_policy(fields, envelope, sender, parts.directory, at=now)
            return _author_fault(author, strictest, forged)
        policy = resolve(parts.directory.policies(author.address.key), at=now)
        if policy.signing.value is SigningMode.NEVER:
            return _passed(f"policy never ({policy.signing.source})", forged)
        if all_exempt(envelope.recipients, policy):
            return _passed(f"exempt recipients ({policy.exempt_recipients.source})", forged)

        # 4. May this client send as this author at all? That it is protected, or a bounce, is soon said.
        # What is in protected mail without envelope sender is not seen: it may be a receipt or an answer.
        left_alone = "bounce" if answers else "" if envelope.mail_from else _protected(fields, body, parts)
        sends = author.address.key if left_alone else key_of(envelope.mail_from)
        authorisation = _authorisation(envelope, author, sends, sender, parts.directory)
        if not authorisation.granted:
            return _unauthorised(authorisation.reason, policy, forged)
        facts = parts.directory.identity(author.address.key)
        if not facts.active:
            return _unauthorised(entitlement(facts, at=now).reason, policy, forged)
    except DirectoryUnavailable as error:
        # The policy is not known, so the message might be one that must be signed.
        return _deferred(f"directory unavailable: {error}")

    # 5. What is protected already goes on as it is, and so do receipts and answers of programs.
    if left_alone := left_alone or _protected(fields, body, parts):
        return _passed(left_alone, forged)

    # 6. A DKIM signature of ours that is there already would break.
    misordered = _misordered_dkim(fields, policy, parts.directory)
    if isinstance(misordered, Plan):
        return replace(misordered, edits=(*forged, *misordered.edits))

    # 7. Sign, and say no more of the sender than the directory vouches for today.
    if policy.timestamp.value is Timestamp.REQUIRED:
        # No timestamp authority can be configured yet, and required means fail closed.
        return _cannot_sign(f"no timestamp authority ({policy.timestamp.source})", policy, forged)
    try:
        allowed = wanted(policy, facts, recipients=envelope.recipients, at=now, levels_of=parts.levels_of)
        return _signed(fields, body, author, policy, allowed, parts, edits=(*forged, *misordered))
    except (KeyServiceError, Unsignable, MimeLimitError, NoCredential) as error:
        outcome = _FOR_GOOD.get(type(error), Outcome.TEMPFAIL)
        return _cannot_sign(f"{type(error).__name__}: {error}", policy, forged, outcome=outcome)


_FOR_GOOD: dict[type[Exception], Outcome] = {
    # The message stays what it is, so that another try would end in the same way.
    Unsignable: Outcome.REFUSE_FORM,
    MimeLimitError: Outcome.REFUSE_SIZE,
}


def wanted(
    policy: EffectivePolicy,
    facts: IdentityFacts,
    *,
    recipients: Sequence[str],
    at: datetime,
    levels_of: LevelOf = certified_levels,
) -> Wanted:
    """Gives what policy and directory let sign a mail to these recipients.

    Raises NoCredential where that is nothing at all, whatever certificates there are.
    """
    entitled, most = entitlement(facts, at=at), policy.level.value
    levels = entitled.capped(most)
    if not levels:
        raise NoCredential(entitled.reason)
    domain = domain_entitlement(facts, at=at).capped(most) if policy.domain_signature.value else frozenset()
    rules = policy.certificates.value
    return Wanted(
        levels=levels,
        domain_levels=domain,
        rule=first_rule(rules, [key_of(each) for each in recipients]) if rules else None,
        levels_of=levels_of,
        hint=f"{entitled.reason}; policy wants {most.value}",
    )


def _signed(
    fields: Sequence[Field],
    body: Spool,
    author: Author,
    policy: EffectivePolicy,
    allowed: Wanted,
    parts: OutboundParts,
    *,
    edits: tuple[Edit, ...],
) -> Plan:
    entity, form = _entity(fields, body, policy.form.value, parts)
    when = signing_time(fields, parts.now())
    made = sign(entity, author.address.key, when, parts.keys, wanted=allowed)
    if form is Form.OPAQUE:
        head, tail = made.builder.opaque(made.attributes, made.signature, entity.size)
        signed = opaque_signed(fields, entity, head=head, tail=tail)
    else:
        signed = clear_signed(
            fields,
            entity,
            signature=made.builder.detached(made.attributes, made.signature),
            micalg=made.scheme.micalg,
            boundary=parts.new_boundary(),
        )
    return Plan(
        event=Event.SIGNED,
        edits=(*edits, *signed),
        reason=policy.signing.source,
        warnings=_misorder_warnings(edits),
        details=(
            ("author", author.address.key),
            ("key", made.credential.key_id),
            *((("source", made.credential.source),) if made.credential.source else ()),
            *((("domain", author.address.key.rpartition("@")[2]),) if made.whole_domain else ()),
            ("scheme", made.scheme.value),
            ("form", form.value),
        ),
    )


def _entity(fields: Sequence[Field], body: Spool, form: Form, parts: OutboundParts) -> tuple[Entity, Form]:
    """What will be signed, and how it will travel: clear only if no relay has a reason to change it."""
    try:
        entity = to_seven_bit(fields, body, limits=parts.mime_limits, new_spool=parts.new_spool)
    except Unsignable as error:
        if error.reason not in ONE_MEANING:
            raise
        # A message/delivery-status, for one, may be 8-bit and must not be encoded (RFC 2046 5.2, RFC 6533).
        return as_it_is(fields, body), Form.OPAQUE
    return entity, form


def _sent_by_nobody(envelope: Envelope, directory: Directory, *, answers: bool) -> bool:
    """Postfix itself sends a bounce, or a relay does: no login, and no client that we let send as somebody.

    From such a client as well, where the message says itself that a program made it.
    """
    if envelope.mail_from or envelope.login:
        return False
    try:
        return answers or not directory.client_may_send_as(envelope.client_address)
    except DirectoryUnavailable:
        return True


def _protected(fields: Sequence[Field], body: Spool, parts: OutboundParts) -> str:
    found = protected(fields, body, limits=parts.mime_limits, new_spool=parts.new_spool)
    return "" if found is Protection.NONE else f"already-protected {found.value}"


def _authorisation(
    envelope: Envelope, author: Author, sends: str, sender: Person | None, directory: Directory
) -> Authorisation:
    send_as = sender.may_send_as if sender else ()
    if not envelope.login:
        send_as = directory.client_may_send_as(envelope.client_address)
    return authorise(
        login=envelope.login,
        login_addresses=sender.addresses if sender else (),
        envelope_sender=sends,
        author=author.address.key,
        send_as=send_as,
    )


def all_exempt(recipients: Sequence[str], policy: EffectivePolicy) -> bool:
    """Tells whether none of these recipients expects a signature: one serves them all."""
    patterns = policy.exempt_recipients.value
    return bool(patterns) and bool(recipients) and all(matches_any(patterns, key_of(r)) for r in recipients)


def _author_fault(fault: AuthorFault, policy: EffectivePolicy, forged: tuple[DeleteField, ...]) -> Plan:
    if policy.signing.value is SigningMode.NEVER:
        return _passed(f"author {fault.value}", forged)
    return _unauthorised(f"author {fault.value}", policy, forged)


def _misordered_dkim(
    fields: Sequence[Field], policy: EffectivePolicy, directory: Directory
) -> tuple[DeleteField, ...] | Plan:
    own = own_signatures(fields, directory.own_domains())
    if not own:
        return ()
    choice = policy.misordered_dkim
    reason = f"DKIM signature of our own before S/MIME ({choice.source}); {_MISORDER_HINT}"
    if choice.value is Misordered.STRIP:
        return tuple(DeleteField(b"DKIM-Signature", occurrence) for occurrence in own)
    if choice.value is Misordered.REFUSE:
        return Plan(event=Event.REFUSED, outcome=Outcome.REFUSE_CHAIN, reason=reason)
    return replace(_cannot_sign(reason, policy, ()), warnings=(reason,))


_MISORDER_HINT = "mend smtpd_milters so that mailsigil stands before the DKIM signer"


def _misorder_warnings(edits: Sequence[Edit]) -> tuple[str, ...]:
    if any(isinstance(edit, DeleteField) and edit.name == b"DKIM-Signature" for edit in edits):
        return (f"a DKIM signature of our own was removed before signing; {_MISORDER_HINT}",)
    return ()


def _unauthorised(reason: str, policy: EffectivePolicy, forged: tuple[DeleteField, ...]) -> Plan:
    # Mail that must be signed never leaves unsigned, whatever `unauthorised` says.
    if policy.unauthorised.value is Unauthorised.REFUSE or policy.signing.value is SigningMode.REQUIRED:
        return Plan(event=Event.REFUSED, outcome=Outcome.REFUSE_SENDER, reason=reason)
    return _passed(reason, forged)


def _cannot_sign(
    reason: str,
    policy: EffectivePolicy,
    forged: tuple[DeleteField, ...],
    *,
    outcome: Outcome = Outcome.TEMPFAIL,
) -> Plan:
    if policy.signing.value is not SigningMode.REQUIRED:
        return _passed(reason, forged)
    if outcome is Outcome.TEMPFAIL:
        return _deferred(reason)
    return Plan(event=Event.REFUSED, outcome=outcome, reason=reason)


def _passed(reason: str, forged: tuple[DeleteField, ...]) -> Plan:
    return Plan(event=Event.PASSED, edits=forged, reason=reason)


def _deferred(reason: str) -> Plan:
    return Plan(event=Event.DEFERRED, outcome=Outcome.TEMPFAIL, reason=reason)
