"""What another parser shows of a mail with an identity is what was signed.

Signed mail is changed at random outside of what is signed, with what parsers are known to disagree about.
Whatever keeps its identity is then read by Python's own parser, which shares no code with ours: every text
that it finds has to be one that was signed, and so has to be the author.
"""

from __future__ import annotations

import email
import random
from collections.abc import Iterator
from email.utils import parseaddr

import pytest

import bank
from test_corpora_mail import judged

WORD = "EVIL"
TEXT = b"Content-Type: text/plain; charset=us-ascii\r\n\r\nEVIL: pay now.\r\n"
PARTS = (
    b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=in\r\n",
    b"--in\r\nContent-Type: text/plain\r\n\r\nGenuine one.\r\n--in\r\nContent-Type: text/html\r\n\r\n"
    b"<p>Genuine two.</p>\r\n--in--\r\n",
)
# fmt: off
PIECES = (
    b"\r", b"\n", b"\0", b"\r\n", b"\r\n\r\n", b"\n\n", b'"', b";", b"(", b")", b"\\", b"*", b"*0=", b" ",
    b"\t", b":", b" :", b"\x80", b"\xef\xbb\xbf", b"\x0b", b"\x0c", b"--b0undary", b"--b0undary--",
    b"--b0undary ", b" --b0undary", b"--b0undaryx", b"--b0undary\r\n" + TEXT,
    b"--evil\r\n" + TEXT + b"--evil--\r\n",
    b"--in\r\n" + TEXT + b"--in--\r\n", TEXT, b"EVIL: pay now.\r\n", b"boundary=evil;", b"; boundary=in",
    b"X: ", b"X:\r\n", b"Content-Type: text/html\r\n", b'Content-Type: text/plain; x="\r\n',
    b"Content-Transfer-Encoding: base64\r\n", b"Content-Transfer-Encoding: quoted-printable\r\n",
    b"Content-Type: multipart/mixed; boundary=b0undary\r\n", b"MIME-Version: 2.0\r\n",
    b"From: EVIL <ceo@evil.example>\r\n", b"From ceo@evil.example Sun Nov 22 02:15:00 2026\r\n",
    b"begin 644 EVIL.txt\r\n#86)C\r\n`\r\nend\r\n", b"multipart/alternative", b"message/rfc822",
    b"=?us-ascii?q?",
)
# fmt: on


def changed(raw: bytes, dice: random.Random) -> bytes:
    """The mail with one to three pieces put in, at the beginning of a line as often as anywhere."""
    for _ in range(dice.randint(1, 3)):
        lines = [0, *(at + 1 for at, octet in enumerate(raw) if octet == 10)]
        header = raw.index(b"\r\n\r\n") if b"\r\n\r\n" in raw else len(raw)
        at = dice.choice([dice.choice(lines), dice.choice(lines), dice.randrange(header + 4)])
        raw = raw[:at] + dice.choice(PIECES) + raw[at + dice.choice([0, 0, 0, 1, 2]) :]
    return raw


def texts(raw: bytes) -> Iterator[str]:
    """What Python's parser takes for text of this message."""
    for part in email.message_from_bytes(raw).walk():
        if part.get_content_maintype() == "text":
            payload = part.get_payload(decode=True)
            assert isinstance(payload, bytes)
            yield " ".join(payload.decode("latin-1").split())


@pytest.mark.integration
@pytest.mark.parametrize("seed", range(3))
def test_another_parser_shows_only_what_was_signed(seed: int) -> None:
    dice = random.Random(seed)
    plain, mixed = bank.mail(), bank.mail(more=PARTS[0], body=PARTS[1])
    mails = [bank.signed(raw, form=form) for raw in (plain, mixed) for form in ("clear", "clear", "opaque")]
    genuine = {"Dear Carl, see you on Friday.", "Genuine one.", "<p>Genuine two.</p>"}
    kept = 0
    for _ in range(800):
        raw = changed(dice.choice(mails), dice)
        if judged(raw).identity is None:
            continue
        kept += 1
        assert set(texts(raw)) <= genuine, raw
        authors = email.message_from_bytes(raw).get_all("From") or []
        assert [parseaddr(str(author))[1].lower() for author in authors] == [bank.ALICE], raw
    assert kept > 15, "the changes leave some mails what they were"
