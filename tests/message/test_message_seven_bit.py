"""The 7-bit form: clean mail is not touched, other mail keeps its parts and what they say."""

from __future__ import annotations

import pytest

from mailsigil.message.cleanliness import is_clean
from mailsigil.message.mime import MimeLimitError, MimeLimits
from mailsigil.message.seven_bit import Cleanliness, Unsignable, scan, to_seven_bit
from mailsigil.message.spool import Spool
from mime_trees import Node, convert, split, tree

MIXED = b'Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n'
PLAIN = b"Content-Type: text/plain; charset=utf-8\r\n"
LATIN = "Viele Grüße aus Köln senden die Kolleginnen und Kollegen\r\n".encode()


def body_of(entity: bytes) -> bytes:
    return entity.partition(b"\r\n\r\n")[2]


def must_fit(raw: bytes) -> bytes:
    """Convert, and hold the result against the rules and against the tree that came in."""
    entity = convert(raw)
    assert is_clean(entity)
    assert tree(entity) == tree(raw)
    return entity


SCANS = {
    "empty": (b"", Cleanliness()),
    "clean": (b"ab\r\nabc\r\n", Cleanliness(longest=3)),
    "8-bit": (b"\xe9", Cleanliness(eight_bit=True, longest=1)),
    "NUL": (b"a\0", Cleanliness(nul=True, longest=2)),
    "LF alone": (b"a\nb", Cleanliness(bare_line_end=True, longest=3)),
    "CR alone": (b"a\rb\r\n", Cleanliness(bare_line_end=True, longest=3)),
    "CR at the end": (b"ab\r", Cleanliness(bare_line_end=True, longest=3)),
    "line over many chunks": (b"x" * 200_000 + b"\r\n", Cleanliness(longest=200_000)),
    "CRLF across chunks": (b"x" * 65535 + b"\r\ny\r\n", Cleanliness(longest=65535)),
}


@pytest.mark.parametrize(("data", "expected"), SCANS.values(), ids=SCANS.keys())
def test_scan(data: bytes, expected: Cleanliness) -> None:
    body = Spool()
    body.write(data)
    assert scan(body, 0, len(body)) == expected


UNTOUCHED = {
    "plain text": PLAIN + b"\r\nhello\r\n",
    "no final line end": PLAIN + b"\r\nhello",
    "line of 998": PLAIN + b"\r\n" + b"x" * 998 + b"\r\n",
    "odd spelling, folds and order": (
        b"content-transfer-ENCODING:7bit\r\nContent-Type:text/plain;\r\n\tcharset=x\r\n\r\nx\r\n"
    ),
    "multipart": MIXED + b"--b\r\n\r\none\r\n--b\r\n\r\ntwo\r\n--b--\r\n",
    "closing boundary with trailing spaces": MIXED + b"--b \r\n\r\none\r\n--b \t\r\n\r\ntwo\r\n--b--  \t\r\n",
    "preamble": MIXED + b"for old readers\r\n--b\r\n\r\none\r\n--b--\r\n",
    "blank epilogue": MIXED + b"--b\r\n\r\none\r\n--b--\r\n\r\n \r\n",
    "no closing boundary": MIXED + b"--b\r\n\r\none\r\n--b\r\n\r\ntwo\r\n",
    "boundary that never appears": MIXED + b"nothing but text\r\n",
    "multipart without boundary": b"Content-Type: multipart/mixed\r\n\r\n--b\r\n\r\none\r\n--b--\r\n",
    "Content-Type that cannot be read": b"Content-Type: nonsense\r\n\r\nhello\r\n",
    "two Content-Type fields": b"Content-Type: text/html\r\nContent-Type: text/plain\r\n\r\nhello\r\n",
    "base64": b"Content-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\naGVsbG8=\r\n",
    "8bit and binary as words": MIXED + b"--b\r\n\r\n8bit or binary?\r\n--b--\r\n",
    "nested epilogue": (
        MIXED + b"--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\nlook\r\n"
        b"--c\r\n\r\none\r\n--c--\r\nbye\r\n--b--\r\n"
    ),
    "message inside": MIXED
    + b"--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: y\r\n\r\none\r\n--b--\r\n",
}


@pytest.mark.parametrize("raw", UNTOUCHED.values(), ids=UNTOUCHED.keys())
def test_clean_mail_is_signed_as_it_stands(raw: bytes) -> None:
    fields, body = split(raw)
    entity = to_seven_bit(fields, body)
    assert entity.body is body
    assert (entity.start, entity.end) == (0, len(body))
    assert entity.header == b"".join(each.raw for each in fields if each.key.startswith(b"content-"))
    assert b"".join(entity.chunks()) == b"".join(entity.chunks())


WITHOUT_TYPE = {
    "ASCII": (b"hello\r\n", b"Content-Type: text/plain; charset=us-ascii\r\n\r\nhello\r\n"),
    "empty body": (b"", b"Content-Type: text/plain; charset=us-ascii\r\n\r\n"),
    "UTF-8": (
        "schöne Grüße an alle Kolleginnen zusammen\r\n".encode(),
        b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
        b"sch=C3=B6ne Gr=C3=BC=C3=9Fe an alle Kolleginnen zusammen\r\n",
    ),
    "something else": (
        b"sch\xf6ne Gr\xfc\xdfe an alle Kolleginnen zusammen\r\n",
        b"Content-Type: text/plain; charset=unknown-8bit\r\n"
        b"Content-Transfer-Encoding: quoted-printable\r\n\r\n"
        b"sch=F6ne Gr=FC=DFe an alle Kolleginnen zusammen\r\n",
    ),
}


@pytest.mark.parametrize(("body", "expected"), WITHOUT_TYPE.values(), ids=WITHOUT_TYPE.keys())
def test_mail_without_mime_fields_gets_a_type(body: bytes, expected: bytes) -> None:
    assert convert(b"Subject: x\r\n\r\n" + body) == expected


def test_white_space_before_the_colon_goes() -> None:
    assert convert(b"Content-Type : text/html\r\n\r\nhello") == b"Content-Type: text/html\r\n\r\nhello"


def test_eight_bit_label_above_ascii_is_corrected_without_a_copy() -> None:
    fields, body = split(PLAIN + b"Content-Transfer-Encoding: 8bit\r\nContent-Language: en\r\n\r\nhello\r\n")
    entity = to_seven_bit(fields, body)
    assert entity.body is body
    assert entity.header == PLAIN + b"Content-Transfer-Encoding: 7bit\r\nContent-Language: en\r\n"


CUT = {
    "text after the closing boundary": (
        b"--b\r\n\r\none\r\n--b--\r\nlist footer\r\n",
        b"--b\r\n\r\none\r\n--b--\r\n",
    ),
    "after trailing spaces": (b"--b\r\n\r\none\r\n--b-- \r\nfooter\r\n", b"--b\r\n\r\none\r\n--b-- \r\n"),
    "8-bit only there": (b"--b\r\n\r\none\r\n--b--\r\nf\xc3\xbc\r\n", b"--b\r\n\r\none\r\n--b--\r\n"),
}


@pytest.mark.parametrize(("body", "expected"), CUT.values(), ids=CUT.keys())
def test_epilogue_is_cut_without_a_copy(body: bytes, expected: bytes) -> None:
    fields, kept = split(MIXED + body)
    entity = to_seven_bit(fields, kept)
    assert entity.body is kept
    assert kept.read(entity.start, entity.end) == expected


def test_epilogue_is_cut_when_parts_are_written_anew() -> None:
    entity = must_fit(MIXED + b"--b\r\n\r\n" + LATIN + b"\r\n--b--\r\nfooter\r\n")
    assert entity.endswith(b"--b--\r\n")


ENCODED = {
    "text": (PLAIN + b"\r\n" + LATIN, b"quoted-printable"),
    "text labelled 8bit": (PLAIN + b"Content-Transfer-Encoding: 8BIT\r\n\r\n" + LATIN, b"quoted-printable"),
    "text, mostly not ASCII": (PLAIN + b"\r\n" + "Привет, мир\r\n".encode(), b"base64"),
    "text with NUL": (PLAIN + b"\r\na\0b\r\n", b"base64"),
    "text with CR alone": (PLAIN + b"\r\na\rb and more of it\r\n", b"base64"),
    "text with LF alone": (PLAIN + b"\r\na\nb and more of it\r\n", b"quoted-printable"),
    "UTF-16": (
        b"Content-Type: text/plain; charset=UTF-16LE\r\n\r\n" + "é\u0a0d".encode("utf-16-le"),
        b"base64",
    ),
    "over-long line": (PLAIN + b"\r\n" + b"x" * 999 + b"\r\n", b"quoted-printable"),
    "over-long line of HTML": (
        b"Content-Type: text/html\r\n\r\n<p>" + b"word " * 300 + b"\r\n",
        b"quoted-printable",
    ),
    "binary": (
        b"Content-Type: image/png\r\nContent-Transfer-Encoding: binary\r\n\r\n\x89PNG\n\0\r",
        b"base64",
    ),
    "ASCII data with an over-long line": (
        b"Content-Type: application/json\r\n\r\n[" + b"1, " * 400 + b"]",
        b"base64",
    ),
    "quoted-printable with raw octets": (
        PLAIN + b"Content-Transfer-Encoding: quoted-printable\r\n\r\ncaf=C3=A9 caf\xc3\xa9=\r\n and more\r\n",
        b"quoted-printable",
    ),
    "base64 in one line": (
        b"Content-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\n" + b"aGVsbG8h" * 400,
        b"base64",
    ),
}


@pytest.mark.parametrize(("raw", "encoding"), ENCODED.values(), ids=ENCODED.keys())
def test_a_leaf_is_encoded_and_decodes_to_the_same(raw: bytes, encoding: bytes) -> None:
    entity = must_fit(raw)
    header = entity.partition(b"\r\n\r\n")[0].lower()
    assert header.count(b"content-transfer-encoding: ") == 1
    assert b"content-transfer-encoding: " + encoding in header


INNER_8BIT = b"Content-Type: text/plain\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + LATIN
REWRITTEN = {
    "closing boundary with trailing spaces": (
        MIXED
        + b"--b \r\n"
        + INNER_8BIT
        + b"\r\n--b\t\r\nContent-Disposition: attachment; filename=a\r\n\r\nkept\r\n--b-- \r\n"
    ),
    "nested multipart": (
        MIXED
        + b"--b\r\nContent-Type: multipart/alternative; boundary=c\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
        b"--c\r\n" + INNER_8BIT + b"\r\n--c\r\nContent-Type: text/html\r\n\r\n<p>\r\n--c-- \r\n\r\n"
        b"--b\r\nContent-Disposition: attachment; filename=a\r\n\r\nkept\r\n--b--"
    ),
    "outer boundary ends the inner multipart": (
        MIXED
        + b"--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n"
        + INNER_8BIT
        + b"\r\n--b\r\n\r\nx\r\n--b--"
    ),
    "boundaries that begin alike": (
        MIXED
        + b"--b\r\nContent-Type: multipart/mixed; boundary=bb\r\n\r\n--bb\r\n"
        + INNER_8BIT
        + b"\r\n--bb--\r\n--b--"
    ),
    "no closing boundary": MIXED + b"--b\r\n" + INNER_8BIT + b"--b\r\n\r\nlast\r\n",
    "preamble not ASCII goes": MIXED + "für alte Leser\r\n--b\r\n\r\none\r\n--b--\r\n".encode(),
    "preamble in ASCII stays": MIXED + b"look\r\n--b\r\n" + INNER_8BIT + b"\r\n--b--\r\n",
    "part without header": MIXED + b"--b\r\n\r\n" + LATIN + b"\r\n--b--\r\n",
    "part with header only": MIXED
    + b"--b\r\n"
    + INNER_8BIT
    + b"\r\n--b\r\nContent-Type: text/html\r\n--b--\r\n",
    "empty parts": MIXED + b"--b\r\n\r\n--b\r\n\r\n\r\n--b\r\n" + INNER_8BIT + b"\r\n--b--\r\n",
    "two boundary lines in a row": MIXED + b"--b\r\n--b\r\n" + INNER_8BIT + b"\r\n--b--\r\n",
    "file name not ASCII": MIXED
    + b'--b\r\nContent-Type: image/png; name="\xc3\xbc.png"\r\n\r\nx\r\n--b--\r\n',
    "file name not UTF-8": MIXED
    + b'--b\r\nContent-Disposition: attachment; filename="\xfc"\r\n\r\nx\r\n--b--\r\n',
    "line feeds alone": MIXED + b"--b\n\none\n--b\nContent-Type: text/html\n\n<p>\ntwo\n--b--\n",
    "message inside": (
        MIXED + b"--b\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
        b"Subject: " + LATIN + b"\r\n" + LATIN + b"\r\n--b--\r\n"
    ),
    "multipart in a message in a message": (
        MIXED + b"--b\r\nContent-Type: message/rfc822\r\n\r\nContent-Type: message/rfc822\r\n\r\n"
        b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n"
        + INNER_8BIT
        + b"\r\n--c--\r\n--b--"
    ),
    "message with an mbox line": (
        MIXED
        + b"--b\r\nContent-Type: message/rfc822\r\n\r\nFrom a@b Mon Jan 1\r\nSubject: y\r\n\r\n"
        + LATIN
        + b"\r\n--b--"
    ),
    "digest": (
        b"Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\nSubject: y\r\n\r\n"
        + LATIN
        + b"\r\n--b--\r\n"
    ),
    "soft break that would make a boundary": MIXED
    + b"--b\r\n\r\n\xc3\xa9"
    + b"x" * 69
    + b"--b-- more\r\n\r\n--b--\r\n",
    "binary label on the message": (
        b"Content-Transfer-Encoding: binary\r\n"
        + MIXED
        + b"--b\r\nContent-Type: image/png\r\n\r\n\0\1\2\n\r\n--b--\r\n"
    ),
}


@pytest.mark.parametrize("raw", REWRITTEN.values(), ids=REWRITTEN.keys())
def test_parts_stay_what_they_are(raw: bytes) -> None:
    must_fit(raw)


@pytest.mark.parametrize("raw", [*UNTOUCHED.values(), *REWRITTEN.values()], ids=[*UNTOUCHED, *REWRITTEN])
def test_doing_it_again_changes_nothing(raw: bytes) -> None:
    once = convert(raw)
    assert convert(once) == once


def test_parts_that_need_nothing_are_copied_byte_for_byte() -> None:
    clean = b"content-TYPE :text/plain;\r\n\tcharset=x\r\n\r\n  as it is \t\r\n\r\n"
    entity = convert(MIXED + b"--b\r\n" + INNER_8BIT + b"\r\n--b  \r\n" + clean + b"\r\n--b--\r\n")
    assert entity.endswith(b"\r\n--b  \r\n" + clean + b"\r\n--b--\r\n")


def test_labels_8bit_and_binary_are_gone_everywhere() -> None:
    entity = must_fit(REWRITTEN["nested multipart"])
    assert b"8bit" not in entity
    labels = must_fit(
        MIXED + b"--b\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: binary\r\n\r\n"
        b"Content-Transfer-Encoding: 8bit\r\n\r\nplain\r\n--b--\r\n"
    )
    assert labels.count(b"Content-Transfer-Encoding: 7bit") == 2


def test_a_message_inside_without_mime_fields_gets_mime_version() -> None:
    entity = must_fit(
        MIXED + b"--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: y\r\n\r\n" + LATIN + b"\r\n--b--\r\n"
    )
    assert b"Subject: y\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" in entity


SIGNED_INSIDE = (
    b"--b\r\nContent-Type: multipart/signed; boundary=c\r\n\r\n--c\r\n%b\r\n--c\r\n\r\nsig\r\n--c--\r\n"
)


def test_a_signed_part_inside_is_not_touched_not_even_its_labels() -> None:
    signed = SIGNED_INSIDE % b"Content-Transfer-Encoding: 8bit\r\n\r\nplain\r\n"
    entity = must_fit(MIXED + signed + b"--b\r\n" + INNER_8BIT + b"\r\n--b--\r\n")
    assert signed in entity


REFUSED = {
    "signed part inside is 8-bit": (MIXED + SIGNED_INSIDE % INNER_8BIT + b"--b--\r\n", "nested-signature"),
    "boundary never appears": (MIXED + LATIN, "broken-multipart"),
    "no boundary": (b"Content-Type: multipart/mixed\r\n\r\n" + LATIN, "broken-multipart"),
    "type that only looks like multipart": (
        b"Content-Type: multipart; boundary=b\r\n\r\n" + LATIN,
        "broken-multipart",
    ),
    "delivery status": (b"Content-Type: message/delivery-status\r\n\r\n" + LATIN, "message-part"),
    "uuencode": (PLAIN + b"Content-Transfer-Encoding: x-uuencode\r\n\r\n" + LATIN, "unknown-encoding"),
    "contradicting types": (b"Content-Type: text/html\r\n" + PLAIN + b"\r\n" + LATIN, "ambiguous-part"),
    "contradicting encodings": (
        b"Content-Transfer-Encoding: 8bit\r\nContent-Transfer-Encoding: base64\r\n\r\n" + LATIN,
        "ambiguous-part",
    ),
    "header without empty line": (
        MIXED + b"--b\r\nContent-Type: text/html\r\nno field\r\n" + LATIN + b"--b--\r\n",
        "ambiguous-part",
    ),
    "boundary again after the end": (
        MIXED + b"--b\r\n\r\none\r\n--b--\r\n--b\r\n\r\nhidden\r\n--b--\r\n",
        "parts-after-end",
    ),
    "boundary not ASCII": (
        "Content-Type: multipart/mixed; boundary=ü\r\n\r\n--ü\r\n\r\nx".encode(),
        "broken-multipart",
    ),
    "NUL in a field": (MIXED + b"--b\r\nContent-Description: a\0b\r\n\r\none\r\n--b--\r\n", "header-field"),
    "address in a message inside": (
        MIXED
        + b"--b\r\nContent-Type: message/rfc822\r\n\r\nFrom: <\xc3\xbc@example.org>\r\n\r\none\r\n--b--\r\n",
        "header-field",
    ),
    "CR alone after a boundary": (MIXED + b"--b\r\r\n\r\none\r\n--b--\r\n", "not-expressible"),
}


@pytest.mark.parametrize(("raw", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_what_has_no_7_bit_form_is_refused_with_a_sentence(raw: bytes, reason: str) -> None:
    with pytest.raises(Unsignable) as caught:
        convert(raw)
    assert caught.value.reason == reason
    assert len(caught.value.sentence) > 30


def test_the_sentence_names_the_part() -> None:
    raw = MIXED + b"--b\r\n\r\nx\r\n--b\r\nContent-Type: message/partial\r\n\r\n" + LATIN + b"\r\n--b--\r\n"
    with pytest.raises(Unsignable, match=r"^part 2 \(message/partial\) is not 7-bit"):
        convert(raw)


def test_limits_are_handed_on() -> None:
    with pytest.raises(MimeLimitError, match="depth"):
        to_seven_bit(*split(REWRITTEN["nested multipart"]), limits=MimeLimits(depth=2))


def test_the_new_body_goes_to_the_spool_that_was_handed_in() -> None:
    made: list[Spool] = []

    def new_spool() -> Spool:
        made.append(Spool(memory_limit=10))
        return made[-1]

    entity = to_seven_bit(*split(PLAIN + b"\r\n" + LATIN), new_spool=new_spool)
    assert entity.body is made[0]


def test_the_helper_sees_parts() -> None:
    """Guards the tests themselves: the independent reader must tell a lost part."""
    whole = tree(REWRITTEN["nested multipart"])
    assert isinstance(whole, Node)
    assert [child.content_type for child in whole.children] == ["multipart/alternative", "text/plain"]
    assert whole.children[1].filename == b"a"
