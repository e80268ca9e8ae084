"""What mail programs show of a message beside its signed part, and whether that agrees with it.

No S/MIME signature covers the header of a message (RFC 8551 3.1), so a forger has it to himself. Here is
what must hold there before a name is put on a signed message.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from email.utils import getaddresses

from mailsigil.message.address import Address, AddressError
from mailsigil.message.author import MAX_VALUE, Author, AuthorFault, parse_author
from mailsigil.message.dates import read_date
from mailsigil.message.encoded_words import EncodedWordError, decode_words
from mailsigil.message.fields import Field, named
from mailsigil.message.mime import Part
from mailsigil.signature import shown_parts
from mailsigil.verdict import Note, Reason

Finding = tuple[Reason, str]
"""Why a message gets no identity, and the detail for the log."""

PROTECTED = (b"from", b"reply-to", b"to", b"cc", b"subject", b"date", b"message-id")
"""Fields that a reader sees or answers to, in lower case, as far as they are protected on purpose."""
_BY_CHANCE = (b"from", b"reply-to", b"to", b"cc", b"subject")
"""Those of a signed part that says nothing about them; servers write Date and Message-ID anew."""


def elsewhere(entity: Part) -> str:
    """Name a part that only points to its content, or nothing (RFC 2046 5.2.2, 5.2.3)."""
    for part in shown_parts(entity):
        if part.media_type.full in {"message/partial", "message/external-body"}:
            return part.media_type.full
    return ""


def contradiction(fields: Sequence[Field], entity: Part) -> str:
    """Name the first header field that differs from the protected one in the signed part, or nothing.

    With the parameter ``hp`` the part's header holds all the fields that its author wrote, so that one
    that was added later is a difference, too (RFC 9788 4). Without it only those that are there count: of
    a whole message that was signed as ``message/rfc822`` (RFC 8551 3.1), and, apart from Date and
    Message-ID, of any other part.
    """
    keys: tuple[bytes, ...] = _BY_CHANCE
    complete = "hp" in entity.media_type.params
    inner = entity.fields
    if entity.media_type.type == "message":
        # Some readers take message/news and others for a whole message, too; nobody sends those alone.
        if not entity.children:
            return "the signed message cannot be read"
        keys = PROTECTED
        inner = entity.children[0].fields
        complete = complete or "hp" in entity.children[0].media_type.params
    if complete:
        keys = PROTECTED
    elif not any(field.key in keys for field in inner):
        return ""
    for key in keys:
        signed, shown = named(inner, key), named(fields, key)
        if (signed or complete) and not _agree(key, signed, shown):
            return key.decode("ascii").title()
    return ""


def _agree(key: bytes, signed: Sequence[Field], shown: Sequence[Field]) -> bool:
    if len(signed) != len(shown):
        return False
    if [_text(field) for field in signed] == [_text(field) for field in shown]:
        return True
    if key != b"from":
        return False
    first, second = parse_author(signed), parse_author(shown)
    return (
        isinstance(first, Author)
        and isinstance(second, Author)
        and first.address.same_mailbox(second.address)
        and first.display_name == second.display_name
    )


def _text(field: Field) -> str:
    """The text of a field as it is shown: transport may fold it anew and encode it anew."""
    text = field.unfolded.decode("utf-8", "surrogateescape")
    try:
        shown = decode_words(text) if "=?" in text else text
    except EncodedWordError:
        shown = text
    return " ".join(shown.split())


def misleading(fields: Sequence[Field], author: Address) -> Finding | None:
    """Find another name than the author's that a mail program puts in front of the reader.

    Outlook shows "Sender on behalf of From". A sender of the author's own domain is what the field is
    for: a secretary, a system (RFC 5322 3.6.2), and so is a mailing list that calls itself one. Any other
    is somebody about whom the certificate says nothing. Where answers go to is the author's choice, but
    it must not look like another address than it is.
    """
    senders = named(fields, b"sender")
    if senders:
        sender = _mailbox(senders[0])
        if (
            len(senders) > 1
            or not isinstance(sender, Author)
            or not (sender.address.domain == author.domain or _is_list(sender, fields))
        ):
            return Reason.SENDER, _text(senders[0])[:200]
    replies = named(fields, b"reply-to")
    if len(replies) > 1 or any(_mailbox(field) is AuthorFault.DECEPTIVE_NAME for field in replies):
        return Reason.REPLY_TO, _text(replies[0])[:200]
    return None


_LIST_ID = re.compile(rb"<([A-Za-z0-9_.+-]{1,200})>[ \t]*")
_LIST_ROLE = re.compile(r"(?:owner-)?(?P<list>.+?)(?:-(?:bounces?|owner|request|admin))?(?:\+[^+]*)?")


def _is_list(sender: Author, fields: Sequence[Field]) -> bool:
    """Tell whether a sender is the list whose name the message bears, and cannot be taken for a person.

    Mailman and others write ``Sender: friends-bounces@lists.example`` and ``List-Id:
    <friends.lists.example>`` (RFC 2919). Anybody can write that, too, so only such a name will do, alone.
    """
    lists = named(fields, b"list-id")
    found = _LIST_ID.search(lists[0].unfolded) if len(lists) == 1 else None
    if found is None or sender.display_name:
        return False
    local = sender.address.local.lower()
    role = _LIST_ROLE.fullmatch(local)
    return (
        role is not None
        and role["list"] != local
        and f"{role['list']}.{sender.address.domain}" == found[1].decode("ascii").lower()
    )


# --- What is true and still worth to be told -------------------------------------------------------------

DATE_TOLERANCE = timedelta(days=1)
"""Clocks and time zones that are wrong, and mail written today for tomorrow, stay within a day."""


def notes(
    fields: Sequence[Field], author: Address, *, signed: datetime | None, at: datetime
) -> tuple[Note, ...]:
    """What a reader should know besides the name; ``at`` is the time of receipt.

    A signed message can be sent again by whoever has got it, under a Date of his own. Its author is still
    who he is, so this takes no identity away.
    """
    found = {
        Note.SIGNED_EARLIER: signed is not None and _date(fields, at) - signed > DATE_TOLERANCE,
        Note.REPLY_ELSEWHERE: any(_goes_elsewhere(field, author) for field in named(fields, b"reply-to")),
        Note.OTHER_SENDER: any(
            not (isinstance(sender := _mailbox(field), Author) and sender.address.same_mailbox(author))
            for field in named(fields, b"sender")
        ),
    }
    return tuple(note for note, holds in found.items() if holds)


def _date(fields: Sequence[Field], at: datetime) -> datetime:
    """The latest date that a mail program may show: where it finds none, that of the receipt."""
    return max((read_date(field) or at for field in named(fields, b"date")), default=at)


def _goes_elsewhere(reply_to: Field, author: Address) -> bool:
    """Tell whether answers go to another domain than the author's; what cannot be read may go anywhere."""
    if len(reply_to.value) > MAX_VALUE:
        return True
    try:
        found = getaddresses([reply_to.unfolded.decode("utf-8", "replace")])
    except (RecursionError, ValueError, LookupError, TypeError, AttributeError):
        return True  # Python's parser calls itself for each colon.
    return any(_domain(address) != author.domain for _, address in found)


def _domain(address: str) -> str:
    try:
        return Address.parse(address).domain
    except AddressError:
        return ""


def _mailbox(field: Field) -> Author | AuthorFault:
    return parse_author((Field(b"From", field.value),))
