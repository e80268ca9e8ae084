"""Kinds of messages that people and programs send: header fields and body of each, with CRLF line ends."""

from __future__ import annotations

import base64
import random
from email.utils import format_datetime

from mailsigil.service import utc_now

_MIXED = b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="outer"\r\n'
_GREETING = "Grüße\r\n".encode()
_UTF8 = b"Content-Type: text/plain; charset=utf-8\r\n"
_TEXT = _UTF8 + b"Content-Transfer-Encoding: 8bit\r\n\r\n" + _GREETING
_RANDOM = random.Random(2026)
_BINARY = bytes(octet for octet in _RANDOM.randbytes(20_000) if octet not in b"\x00\r\n")
_BASE64 = base64.encodebytes(_RANDOM.randbytes(750_000)).replace(b"\n", b"\r\n")


def _utf8(text: str) -> bytes:
    return text.encode().replace(b"\n", b"\r\n")


def _lines_of(data: bytes, size: int = 900) -> bytes:
    return b"".join(data[at : at + size] + b"\r\n" for at in range(0, len(data), size))


KINDS: dict[str, tuple[bytes, bytes]] = {
    "plain-ascii": (
        b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n",
        b"Dear Bob,\r\n\r\nsee you on Friday.\r\n",
    ),
    "eight-bit-utf-8": (
        b"MIME-Version: 1.0\r\n" + _UTF8 + b"Content-Transfer-Encoding: 8bit\r\n",
        _utf8("Schöne Grüße\n€ 100 — 東京\n"),
    ),
    "eight-bit-without-label": (b"", b"caf\xe9 cr\xe8me\r\n"),
    "over-long-lines": (
        b"MIME-Version: 1.0\r\nContent-Type: text/html; charset=us-ascii\r\n",
        b"<p>" + b"0123456789 " * 400 + b"</p>\r\nshort\r\n" + b"x" * 5000 + b"\r\n",
    ),
    "binary-attachment": (
        _MIXED,
        b"--outer\r\n" + _TEXT + b"\r\n--outer\r\nContent-Type: application/octet-stream; name=a.bin\r\n"
        b"Content-Disposition: attachment; filename=a.bin\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
        + _lines_of(_BINARY)
        + b"\r\n--outer--\r\n",
    ),
    "nested-multiparts": (
        _MIXED,
        b"--outer\r\nContent-Type: multipart/related; boundary=middle\r\n\r\n--middle\r\n"
        b"Content-Type: multipart/alternative; boundary=inner\r\n\r\n--inner\r\n"
        + _TEXT
        + b"\r\n--inner\r\nContent-Type: text/html\r\n\r\n<b>hi</b>\r\n--inner--\r\n\r\n--middle\r\n"
        b"Content-Type: image/png\r\nContent-ID: <p@x>\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        b"iVBORw0KGgo=\r\n--middle--\r\n\r\n--outer\r\nContent-Type: text/csv\r\n\r\na,b\r\n--outer--\r\n",
    ),
    "message-inside": (
        _MIXED,
        b"--outer\r\nContent-Type: message/rfc822\r\n\r\nFrom: x@y.example\r\nSubject: inside\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
        b"Gr\xc3\xbc\xc3\x9fe von innen\r\n\r\n--outer--\r\n",
    ),
    "boundary-with-trailing-spaces": (
        _MIXED,
        b"--outer  \r\n" + _TEXT + b"\r\n--outer \t \r\nContent-Type: text/csv\r\n\r\na,b\r\n--outer--  \r\n",
    ),
    "preamble-and-epilogue": (
        _MIXED,
        b"This is a preamble.\r\n--outer\r\n" + _TEXT + b"\r\n--outer--\r\nThis is an epilogue.\r\n",
    ),
    "empty-body": (b"MIME-Version: 1.0\r\nContent-Type: text/plain\r\n", b""),
    "no-mime-headers": (b"", b"From the days before MIME.\r\n"),
    "broken-mime-headers": (
        b"MIME-Version: 1.0\r\nContent-Type: text\r\nContent-Transfer-Encoding: none\r\n",
        b"what is this?\r\n",
    ),
    "boundary-that-never-appears": (_MIXED, b"no part anywhere\r\n"),
    "dots-at-line-start": (b"", b".\r\n..\r\n.hidden\r\n...three\r\nend.\r\n"),
    "trailing-blank-lines": (b"", b"text\r\n\r\n\r\n\r\n"),
    "lines-that-look-like-from": (b"", b"From here on\r\n>From there\r\n"),
    "long-header-folds": (
        b"References:"
        + b"".join(b"\r\n <%d.message.of.a.long.thread@bank.example>" % n for n in range(120))
        + b"\r\nContent-Type: text/plain;\r\n  charset=us-ascii\r\nMIME-Version: 1.0\r\n",
        b"thread\r\n",
    ),
    "tabs-in-folds": (
        b"X-Report: one;\r\n\ttwo;\r\n\t\tthree \t \r\n\tfour\r\nMIME-Version: 1.0\r\n"
        b"Content-Type: multipart/mixed;\r\n\tcharset=utf-8;\r\n\tboundary=outer\r\n",
        b"--outer\r\nContent-Type: text/plain;\r\n\tcharset=utf-8\r\n\r\n" + _GREETING + b"--outer--\r\n",
    ),
    "eight-bit-header-bytes": (
        b"X-Latin: caf\xe9\r\nX-Utf: Gr\xc3\xbc\xc3\x9fe\r\nX-Odd: \xff\xfe\x80\r\nMIME-Version: 1.0\r\n"
        b'Content-Type: text/plain; charset=utf-8; name="Gr\xc3\xbc\xc3\x9fe.txt"\r\n',
        b"hello\r\n",
    ),
    "large-attachment": (
        _MIXED,
        b"--outer\r\n" + _TEXT + b"\r\n--outer\r\nContent-Type: application/pdf; name=big.pdf\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\n" + _BASE64 + b"--outer--\r\n",
    ),
}
"""By name: header fields beside the usual ones, and the body."""


def message(kind: str, author: str) -> bytes:
    """A whole message of a kind, written now."""
    more, body = KINDS[kind]
    return mail(author, body, more=more, subject=kind)


def mail(author: str, body: bytes = b"hello\r\n", *, more: bytes = b"", subject: str = "hello") -> bytes:
    """A whole message; ``more`` are header fields."""
    head = (
        f"From: {author}\r\nTo: Bob Customer <bob@customer.example>\r\nSubject: {subject}\r\n"
        f"Date: {format_datetime(utc_now())}\r\nMessage-ID: <{_RANDOM.getrandbits(64):x}@bank.example>\r\n"
    )
    return head.encode() + more + b"\r\n" + body
