"""Mails that are as they should be, to show that the tests can fail."""

from __future__ import annotations

from collections.abc import Iterator

from forge import (
    ALICE,
    CEO,
    CLEAR_TYPE,
    OPAQUE_TYPE,
    SIGNATURE_HEAD,
    TEXT,
    clear,
    header,
    opaque,
    opaque_mail,
)
from headers import HP, PROTECTED
from structures import Case, _signed_part_nested


def cases() -> Iterator[Case]:
    """Name, no reason, what is special, and the mail."""

    def more(lines: str) -> bytes:
        return clear(head=header(more=lines.encode()))

    whole = b"Content-Type: message/rfc822\r\n\r\n" + PROTECTED + b"MIME-Version: 1.0\r\n" + TEXT
    mails = {
        "genuine-clear": ("clear-signed", clear()),
        "genuine-opaque": ("opaque-signed", opaque_mail(opaque())),
        "genuine-preamble": (
            "a line for readers without MIME",
            clear(before=b"This is an S/MIME signed message\r\n\r\n"),
        ),
        "genuine-blank-epilogue": ("empty lines behind the end", clear(after=b"\r\n\r\n")),
        "genuine-padded": (
            "spaces behind the closing boundary",
            clear().replace(b"--b1--\r\n", b"--b1--  \r\n"),
        ),
        "genuine-padded-everywhere": (
            "white space behind each boundary, which RFC 2046 allows transport to add",
            clear().replace(b"--b1\r\n", b"--b1 \t\r\n").replace(b"--b1--\r\n", b"--b1-- \r\n"),
        ),
        "genuine-old-types": (
            "the types of old clients",
            clear().replace(b"application/pkcs7-", b"application/x-pkcs7-"),
        ),
        "genuine-quoted-boundary": (
            "a boundary with every letter",
            clear(kind=CLEAR_TYPE.replace(b"=b1", b'="=_(b1)?/:,.+\'"')).replace(b"--b1", b"--=_(b1)?/:,.+'"),
        ),
        "genuine-gateway": (
            "a gateway changed the type",
            opaque_mail(
                opaque(),
                kind=OPAQUE_TYPE.replace(
                    b"application/pkcs7-mime; smime-type=signed-data", b"application/octet-stream"
                ),
            ),
        ),
        "genuine-nested": ("Alice signed twice", clear(_signed_part_nested())),
        "genuine-list": (
            "a mailing list that changes nothing",
            more(
                "List-Id: <friends.lists.example>\r\nPrecedence: list\r\nReply-To: friends@lists.example\r\n"
            ),
        ),
        "genuine-list-sender": (
            "a mailing list that names itself as the sender, as Mailman does",
            more(
                "List-Id: Friends of the bank <friends.lists.example>\r\n"
                "Sender: friends-bounces@lists.example\r\nErrors-To: friends-bounces@lists.example\r\n"
            ),
        ),
        "genuine-list-verp": (
            "a mailing list with an address for each recipient",
            more(
                "List-Id: <friends.lists.example>\r\n"
                "Sender: friends-bounces+carl=customer.example@lists.example\r\n"
            ),
        ),
        "genuine-list-owner": (
            "a mailing list that writes as its owner",
            more("List-Id: <friends.lists.example>\r\nSender: owner-friends@lists.example\r\n"),
        ),
        "genuine-preamble-colon": (
            "a sentence with a colon before the first boundary",
            clear(before=b"This mail is signed: your program shows that.\r\n\r\n"),
        ),
        "genuine-preamble-paragraphs": (
            "two paragraphs before the first boundary",
            clear(before=b"This is a signed message.\r\n\r\nDiese Nachricht ist signiert.\r\n\r\n"),
        ),
        "genuine-apple-version": (
            "a MIME-Version with a comment, as Apple writes it",
            clear(
                head=header().replace(b"1.0", b"1.0 (Mac OS X Mail 16.0 \\(3774.600.62\\))"),
                before=b"This is an S/MIME signed message\r\n\r\n",
            ),
        ),
        "genuine-boundary-called-so": (
            "a boundary with that word in it",
            clear(kind=CLEAR_TYPE.replace(b"=b1", b'="----=_boundary_1"')).replace(
                b"--b1", b"------=_boundary_1"
            ),
        ),
        "genuine-exchange-disposition": (
            "a signature part with all that Exchange writes about files",
            clear().replace(
                SIGNATURE_HEAD,
                SIGNATURE_HEAD + b"Content-Description: smime.p7s\r\n"
                b'Content-Disposition: attachment; filename="smime.p7s";\r\n'
                b'\tsize=5000; creation-date="Sun, 22 Nov 2026 02:15:00 GMT";\r\n'
                b'\tmodification-date="Sun, 22 Nov 2026 02:15:00 GMT"\r\n',
            ),
        ),
        "genuine-secretary": ("sent by somebody of the same house", more(f"Sender: Secretary <{CEO}>\r\n")),
        "genuine-forwarder": (
            "redirected",
            more("Resent-From: carl@customer.example\r\nResent-To: dora@customer.example\r\n"),
        ),
        "genuine-protected": ("protected header fields", clear(HP)),
        "genuine-protected-opaque": ("protected header fields in opaque form", opaque_mail(opaque(HP))),
        "genuine-protected-folded": (
            "transport folded and encoded anew",
            clear(HP, head=header(subject=b"=?utf-8?q?Your?=\r\n appointment")),
        ),
        "genuine-whole-message": ("the whole message was signed", clear(whole)),
        "genuine-quoted-name": (
            "the address repeated as the name",
            clear(head=header(f'"{ALICE}" <{ALICE}>')),
        ),
        "genuine-case": ("letter case does not count", clear(head=header("Alice <Alice@BANK.example>"))),
    }
    for name, (why, raw) in mails.items():
        yield name, "", why, raw
