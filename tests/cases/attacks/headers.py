"""Forgeries by header fields, which no S/MIME signature covers."""

from __future__ import annotations

from collections.abc import Iterator

from forge import (
    ALICE,
    CEO,
    CLEAR_TYPE,
    DATE,
    EOL,
    MALLORY,
    TEXT,
    clear,
    detached,
    header,
    opaque,
    opaque_mail,
    person,
)
from structures import Case


def _by(address: str, *, head: bytes) -> bytes:
    return clear(der=detached(TEXT, person(address)), head=head)


def _from(author: str) -> bytes:
    return clear(head=header(author))


def author_cases() -> Iterator[Case]:
    """From fields that show somebody else than the signer."""
    yield "ceo", "address", "Alice's signature under the name of her CEO", _from(f"The CEO <{CEO}>")
    yield (
        "look-alike-domain",
        "address",
        "a Cyrillic letter in the domain",
        _from("Alice <alice@b\u0430nk.example>"),
    )
    yield (
        "subdomain",
        "address",
        "a domain below that of the certificate",
        _from("Alice <alice@bank.example.evil.example>"),
    )
    yield (
        "plus-address",
        "address",
        "another mailbox of the same beginning",
        _from("Alice <alice+ceo@bank.example>"),
    )
    yield (
        "two-from",
        "author-several",
        "two From fields: some show the first, some the last",
        clear(head=b"From: " + CEO.encode() + EOL + header()),
    )
    yield (
        "two-from-below",
        "author-several",
        "a second From field below",
        clear(head=header() + b"From: " + CEO.encode() + EOL),
    )
    yield (
        "from-with-space",
        "author-several",
        "a second From field with a space before its colon",
        clear(head=header() + b"From : " + CEO.encode() + EOL),
    )
    yield "two-addresses", "author-several", "two addresses in From", _from(f"{CEO}, {ALICE}")
    yield (
        "semicolon-addresses",
        "author-several",
        "two addresses with the semicolon that some clients take",
        _from(f"{CEO}; {ALICE}"),
    )
    yield "group", "author-group", "a group in From", _from(f"CEO: {ALICE};")
    yield (
        "no-from",
        "author-missing",
        "no From field: clients show Sender or nothing",
        clear(head=header().replace(b"From:", b"X-From:") + b"Sender: " + CEO.encode() + EOL),
    )
    yield "empty-from", "author-malformed", "an empty From field", _from("")
    yield (
        "name-is-address",
        "author-name",
        "the display name is the CEO's address",
        _from(f'"{CEO}" <{ALICE}>'),
    )
    yield (
        "name-encoded",
        "author-name",
        "the display name is the CEO's address as an encoded word",
        _from(f"=?utf-8?q?ceo=40bank.example?= <{ALICE}>"),
    )
    yield (
        "name-encoded-twice",
        "author-name",
        "an encoded word inside of an encoded word",
        _from(f"=?utf-8?q?=3D=3Futf-8=3Fq=3Fceo=3D40bank.example=3F=3D?= <{ALICE}>"),
    )
    yield (
        "name-wide-at",
        "author-name",
        "a full-width @ in the display name",
        _from(f"ceo\uff20bank.example <{ALICE}>"),
    )
    yield (
        "name-small-at",
        "author-name",
        "a small @ in the display name",
        _from(f"ceo\ufe6bbank.example <{ALICE}>"),
    )
    yield "comment-is-address", "author-name", "the comment is the CEO's address", _from(f"{ALICE} ({CEO})")
    yield (
        "quoted-local",
        "author-name",
        "the CEO's address as the local part of another",
        _from(f'"{CEO}"@evil.example'),
    )
    yield (
        "right-to-left",
        "author-malformed",
        "the display name turns the direction of the line",
        _from(f"\u202eelpmaxe.knab@oec <{ALICE}>"),
    )
    yield (
        "unknown-charset",
        "author-malformed",
        "a character set that nobody can foresee",
        _from(f"=?x-unknown?q?ceo?= <{ALICE}>"),
    )
    yield (
        "source-route",
        "author-malformed",
        "a route through which some readers see another address",
        _from(f"<@{CEO.partition('@')[2]}:{ALICE}>"),
    )
    yield (
        "signed-by-the-sender",
        "address",
        "the signature is that of Sender, not of From",
        _by(MALLORY, head=header(f"The CEO <{CEO}>", more=b"Sender: " + MALLORY.encode() + EOL)),
    )


def line_cases() -> Iterator[Case]:
    """Header lines that only some readers see."""
    yield (
        "bare-lf-type",
        "header",
        "a bare LF makes a Content-Type of its own",
        clear(head=header(more=b"X-A: b\nContent-Type: text/html\r\n")),
    )
    yield (
        "bare-cr-from",
        "header",
        "a bare CR makes a From field of its own",
        clear(head=header(more=b"X-A: b\rFrom: " + CEO.encode() + EOL)),
    )
    yield (
        "bare-lf-end",
        "header",
        "bare LFs end the header for some readers",
        clear(head=header(more=b"X-A: b\n\nPlease pay to another account.\r\n")),
    )
    yield (
        "nul",
        "header",
        "readers that stop at NUL see another header",
        clear(head=header(more=b"X-A: b\0c\r\n")),
    )
    yield (
        "blank-continuation",
        "header",
        "a line of white space ends the header for some readers",
        clear(head=header(more=b"X-A: b\r\n \r\n please: pay\r\n")),
    )
    for name, space in (("space", b" "), ("tab", b"\t")):
        yield (
            f"{name}-before-colon",
            "header",
            "such a line ends the header for some readers, who show the source from here on",
            clear(head=header(more=b"X-A%b: b\r\nX-B: Please pay to another account.\r\n" % space)),
        )
    yield (
        "no-empty-line",
        "header",
        "the header ends at a line that is no field",
        header() + CLEAR_TYPE + b"Please pay to another account.\r\n\r\n" + clear().partition(b"\r\n\r\n")[2],
    )


def sender_cases() -> Iterator[Case]:
    """Other names that a client puts in front of the reader."""

    def more(lines: str) -> bytes:
        return clear(head=header(more=lines.encode()))

    yield (
        "foreign-sender",
        "sender",
        "Outlook shows Mallory on behalf of Alice",
        more(f"Sender: The CEO <{MALLORY}>\r\n"),
    )
    for name, sender, ident in (
        ("a-person", "ceo@bank2.example", "ceo.bank2.example"),
        ("another-list", "friends-bounces@lists.example", "enemies.lists.example"),
        ("another-host", "friends-bounces@evil.example", "friends.lists.example"),
        ("a-name", '"The CEO" <friends-bounces@lists.example>', "friends.lists.example"),
        ("two-ids", "friends-bounces@lists.example", "friends.lists.example>\r\nList-Id: <x.example"),
    ):
        yield (
            f"list-sender-{name}",
            "sender",
            f"Sender says that it is a mailing list: {name}",
            more(f"List-Id: <{ident}>\r\nSender: {sender}\r\n"),
        )
    yield "two-senders", "sender", "two Sender fields", more(f"Sender: {ALICE}\r\nSender: {MALLORY}\r\n")
    yield (
        "deceptive-sender",
        "sender",
        "the Sender's name is an address",
        more(f'Sender: "{CEO}" <{ALICE}>\r\n'),
    )
    yield "group-sender", "sender", "Sender holds a group", more("Sender: CEO:;\r\n")
    yield (
        "deceptive-reply-to",
        "reply-to",
        "answers to Alice would go to Mallory",
        more(f'Reply-To: "{ALICE}" <{MALLORY}>\r\n'),
    )
    yield (
        "two-reply-to",
        "reply-to",
        "two Reply-To fields: some use the first, some the last",
        more(f"Reply-To: {ALICE}\r\nReply-To: {MALLORY}\r\n"),
    )


PROTECTED = (
    b"From: Alice Example <alice@bank.example>\r\nTo: carl@customer.example\r\nSubject: Your appointment\r\n"
    b"Date: " + DATE + b"\r\nMessage-ID: <1@bank.example>\r\n"
)
HP = PROTECTED + TEXT.replace(b"charset=us-ascii", b'charset=us-ascii; hp="clear"')


def protected_cases() -> Iterator[Case]:
    """Signed header fields (RFC 9788, RFC 8551 3.1) that differ from those in front of the reader."""
    for name, old, new in (
        ("subject", b"Subject: Your appointment", b"Subject: Your payment"),
        ("date", DATE, b"Mon, 23 Nov 2026 02:15:00 +0000"),
        ("message-id", b"<1@bank.example>", b"<2@bank.example>"),
        ("to", b"carl@customer.example", b"dora@customer.example"),
        ("name", b"Alice Example", b"Alice Other"),
        ("added-reply-to", b"MIME-Version", b"Reply-To: mallory@evil.example\r\nMIME-Version"),
        ("added-cc", b"MIME-Version", b"Cc: mallory@evil.example\r\nMIME-Version"),
        ("removed-subject", b"Subject: Your appointment\r\n", b""),
    ):
        yield (
            f"protected-{name}",
            "header-mismatch",
            f"{name}: another field than the signed one",
            clear(HP, head=header().replace(old, new, 1)),
        )
    yield (
        "protected-opaque",
        "header-mismatch",
        "the Subject differs from the one in the signed content",
        opaque_mail(opaque(HP), head=header(subject=b"Pay")),
    )
    yield (
        "legacy-subject",
        "header-mismatch",
        "the signed part holds another Subject",
        clear(b"Subject: Your appointment\r\n" + TEXT, head=header(subject=b"Pay")),
    )
    yield (
        "legacy-from",
        "header-mismatch",
        "the signed part holds another From",
        clear(b"From: bob@bank.example\r\n" + TEXT),
    )
    whole = b"Content-Type: message/rfc822\r\n\r\n" + PROTECTED + b"MIME-Version: 1.0\r\n" + TEXT
    yield (
        "whole-message-subject",
        "header-mismatch",
        "the whole message was signed under another Subject",
        clear(whole, head=header(subject=b"Pay")),
    )
    news = b"Content-Type: message/news\r\n\r\n" + PROTECTED.replace(b"Alice Example <alice", b"Bob <bob")
    yield (
        "whole-news-from",
        "header-mismatch",
        "a signed news article of Bob's, which some clients show as the message",
        clear(news + TEXT),
    )
    yield (
        "opaque-from-with-space",
        "header-mismatch",
        "a signed From field that looks like the first line of a mailbox file",
        opaque_mail(opaque(b"From : bob@bank.example\r\n" + TEXT)),
    )
    yield (
        "whole-message-from",
        "header-mismatch",
        "Alice signed a message of Bob's, and clients show it as the message",
        clear(whole.replace(b"From: Alice Example <alice", b"From: Bob <bob")),
    )


def cases() -> Iterator[Case]:
    """All forgeries of this file."""
    yield from author_cases()
    yield from line_cases()
    yield from sender_cases()
    yield from protected_cases()
