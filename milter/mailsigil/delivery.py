"""The way of one encrypted message at delivery, top to bottom: opened, verified, and told who sent it.

The milter saw an envelope, and could say no more than that. Here the recipient's key opens it; then the
message goes the inbound way once more, so that what is shown about the sender comes from the signature
inside and from nowhere else. Who does not want that, or whatever goes wrong: the message stays as it came.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final

from mailsigil.decryption import Closed, DecryptionParts, NotOpened, Opened, open_message
from mailsigil.directory.api import DirectoryUnavailable
from mailsigil.folding import fold
from mailsigil.inbound import InboundParts, inbound
from mailsigil.message.address import Address, AddressError
from mailsigil.message.author import Author, parse_author
from mailsigil.message.fields import Field, named
from mailsigil.message.media_type import parse_media_type
from mailsigil.message.mime import MimeLimitError, MimeLimits, Part, parse_mime
from mailsigil.message.protection import SMIME_SIGNATURE_TYPES
from mailsigil.message.reader import Message
from mailsigil.message.spool import Spool
from mailsigil.plan import Plan
from mailsigil.rewrite import rewritten
from mailsigil.verdict import SmimeWord


class Unauthenticated(StrEnum):
    """What to do with content that somebody may have altered on its way (CBC; RFC 8551 6, "EFAIL")."""

    SIGNED = "signed"
    """It is stored decrypted when a signature inside covers all of it and holds."""
    INERT = "inert"
    """Besides, when it is plain text without attachments: nothing in it can send anything home."""
    ANY = "any"
    """Always."""


_STRICTEST_FIRST: Final = list(Unauthenticated)


class Delivered(Enum):
    """What became of a message."""

    DECRYPTED = "decrypted"
    KEPT = "kept"
    """It goes on as it came, and that is as it should be: not encrypted, or not to be decrypted."""
    WITHHELD = "withheld"
    """It could be opened and goes on as it came, because it may have been altered on its way (EFAIL)."""
    CLOSED = "closed"
    """It goes on as it came, because it could not be opened."""
    UNAVAILABLE = "unavailable"
    """It goes on as it came, because who has to be asked for that did not answer."""


_NOT_OPENED: Final = {
    NotOpened.NOT_ENCRYPTED: Delivered.KEPT,
    NotOpened.KEY_SERVICE: Delivered.UNAVAILABLE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryParts:
    """What this way is handed."""

    decryption: DecryptionParts
    inbound: InboundParts
    choice: Callable[[str], Unauthenticated | None]
    """What is decrypted of an address's mail (folded); None: nothing. It may raise
    DirectoryUnavailable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What to store, and what to write into the log. Close it when the chunks have been taken."""

    outcome: Delivered
    reason: str = ""
    plan: Plan | None = None
    fields: tuple[Field, ...] = ()
    body: Spool | None = None

    def chunks(self) -> Iterator[bytes]:
        """The decrypted message, with CRLF line ends; nothing where there is none."""
        if self.body is None or self.plan is None:
            return iter(())
        return rewritten(self.fields, self.body, self.plan.edits)

    def close(self) -> None:
        """Lets go of the decrypted content."""
        if self.body is not None:
            self.body.close()


def deliver(
    fields: Sequence[Field],
    body: Spool,
    addresses: Sequence[str],
    parts: DeliveryParts,
    *,
    sender: str = "",
    damage: str = "",
) -> Delivery:
    """Decides about one message for one mailbox, whose addresses come from the mail server.

    ``sender`` is that of the envelope, empty for none. ``damage`` is what was found wrong when header and
    body were divided.
    """
    # 1. Whose mail is it, and does he want it?
    try:
        wanted = _wanted(addresses, parts.choice)
    except DirectoryUnavailable as error:
        return Delivery(outcome=Delivered.UNAVAILABLE, reason=f"directory {error}")
    if not wanted:
        return Delivery(outcome=Delivered.KEPT, reason="not-wanted")
    if damage:
        return Delivery(outcome=Delivered.CLOSED, reason=NotOpened.STRUCTURE.value)
    # 2. Open it.
    try:
        opened = open_message(fields, body, list(wanted), parts.decryption)
    except Closed as closed:
        outcome = _NOT_OPENED.get(closed.reason, Delivered.CLOSED)
        return Delivery(outcome=outcome, reason=f"{closed.reason.value} {closed.detail}".strip())
    try:
        most = min(wanted.values(), key=_STRICTEST_FIRST.index)
        return _opened(fields, body, opened, parts, sender=sender, most=most)
    except BaseException:
        opened.entity.body.close()
        raise


def _wanted(
    addresses: Sequence[str], choice: Callable[[str], Unauthenticated | None]
) -> dict[str, Unauthenticated]:
    chosen = {address: choice(fold(address)) for address in addresses}
    return {address: said for address, said in chosen.items() if said is not None}


def _opened(
    fields: Sequence[Field],
    body: Spool,
    opened: Opened,
    parts: DeliveryParts,
    *,
    sender: str,
    most: Unauthenticated,
) -> Delivery:
    # 3. The header stays, the content takes the envelope's place (RFC 8551 3.1).
    inner = opened.entity
    kept = _header(fields, inner)
    message = _with_subject(kept, _hidden_subject(inner, parts.decryption.mime_limits))
    # 4. The inbound way: forged fields go, the signature inside is verified, three fields are written.
    # DKIM was made for the envelope.
    plan = inbound(message, inner.body, parts.inbound, as_received=(fields, body))
    # 5. Could what is inside have been altered, and would that do harm?
    if not opened.authenticated and not _harmless(message, inner.body, plan, parts, most):
        inner.body.close()
        return Delivery(outcome=Delivered.WITHHELD, reason="unauthenticated")
    # 6. A hidden subject is shown, if no answer that nobody reads can carry it to anybody else.
    return Delivery(
        outcome=Delivered.DECRYPTED,
        reason="+".join(cipher.value for cipher in opened.ciphers),
        plan=plan,
        fields=message if _answers_reach_the_author(fields, plan, sender) else kept,
        body=inner.body,
    )


def _answers_reach_the_author(fields: Sequence[Field], plan: Plan, sender: str) -> bool:
    """Whether whoever gets Sieve's automatic answers, which repeat the subject, is the one who hid it.

    Anybody can send what he got hold of once more, under a name and an envelope sender of his own.
    """
    author = parse_author(fields)
    if dict(plan.details).get("smime") != SmimeWord.PASS.value or not isinstance(author, Author):
        return False
    try:
        # RFC 5230 4.6: there are none to an empty sender.
        return not sender or Address.parse(sender).same_mailbox(author.address)
    except AddressError:
        return False


def _header(outer: Sequence[Field], inner: Message) -> tuple[Field, ...]:
    """The fields of the message, with those that describe its content from the entity inside.

    Fields of the entity that are none of MIME's are not taken over: without a signature they are nobody's
    word, and with one they stand in the signed part, where verification compares them. The one exception is
    a subject that the sender hid on purpose (RFC 9788).
    """
    kept = [field for field in outer if not field.key.startswith(b"content-")]
    if not named(kept, b"mime-version"):
        kept.append(Field.make("MIME-Version", "1.0"))
    return (*kept, *(field for field in inner.fields if field.key.startswith(b"content-")))


def _with_subject(fields: Sequence[Field], hidden: Mapping[bytes, bytes]) -> tuple[Field, ...]:
    return tuple(
        Field(field.name, hidden[field.unfolded])
        if field.key == b"subject" and field.unfolded in hidden
        else field
        for field in fields
    )


def _hidden_subject(inner: Message, limits: MimeLimits) -> dict[bytes, bytes]:
    """What the sender put outside in the subject's place, and the subject; empty where he hid nothing.

    RFC 9788 2.2: the protected part has ``hp="cipher"`` and tells in HP-Outer what stands outside.
    """
    try:
        part = parse_mime(inner.fields, inner.body, limits=limits)
    except MimeLimitError:
        return {}
    if part.media_type.full == "multipart/signed" and part.children:
        part = part.children[0]
    subjects = named(part.fields, b"subject")
    if part.media_type.params.get("hp", "").lower() != "cipher" or len(subjects) != 1:
        return {}
    if any(octet in subjects[0].unfolded for octet in b"\r\n\0"):
        return {}
    told = (field.unfolded.partition(b":") for field in named(part.fields, b"hp-outer"))
    return {value.strip(b" \t"): subjects[0].value for name, _, value in told if name.lower() == b"subject"}


def _harmless(
    fields: Sequence[Field], body: Spool, plan: Plan, parts: DeliveryParts, most: Unauthenticated
) -> bool:
    """Whether content that came without authentication may be stored in clear.

    Whoever alters CBC cannot make the signature inside hold: he does not know what he would have to sign.
    Without one he can add parts around the text, and a mail program that shows HTML, or a viewer of an
    attachment, sends the text to him when it fetches what they name.
    """
    if most is Unauthenticated.ANY:
        return True
    if dict(plan.details).get("smime") == SmimeWord.PASS.value:
        return True
    if most is Unauthenticated.SIGNED:
        return False
    return _inert(fields, body, parts.decryption.mime_limits)


def _inert(fields: Sequence[Field], body: Spool, limits: MimeLimits) -> bool:
    try:
        return _all_plain(parse_mime(fields, body, limits=limits))
    except MimeLimitError:
        return False


def _all_plain(part: Part) -> bool:
    if part.faults:
        return False
    if part.media_type.type == "multipart":
        return bool(part.children) and all(_all_plain(child) for child in part.children)
    if part.media_type.full in SMIME_SIGNATURE_TYPES:
        return True
    return part.media_type.full == "text/plain" and not _file_name(part)


def _file_name(part: Part) -> bool:
    """A name can turn a text into a file that another program opens."""
    dispositions = (
        parse_media_type(b"disposition/" + field.unfolded)
        for field in named(part.fields, b"content-disposition")
    )
    return "name" in part.media_type.params or any("filename" in each.params for each in dispositions)
