"""Header fields of parts in 7-bit lines: the same words, addresses and parameters as before."""

from __future__ import annotations

import contextlib
import email
import email.policy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailsigil.message.cleanliness import is_clean
from mailsigil.message.fields import Field
from mailsigil.message.header_repair import HeaderInexpressible, repair_field


def repaired(name: str, value: bytes | str) -> Field:
    octets = value.encode() if isinstance(value, str) else value
    field = repair_field(Field(name.encode(), octets))
    assert is_clean(field.raw)
    return field


SAME_TEXT = {
    "one word": ("Subject", " Grüße"),
    "words among others": ("Subject", " viele Grüße aus Köln an alle"),
    "words in a row": ("Subject", " schöne Grüße überall"),
    "beside an encoded-word": ("Subject", " =?utf-8?q?K=C3=B6ln?= grüßt =?utf-8?q?M=C3=BCnchen?="),
    "long": ("Subject", " " + "Überlänge mit vielen Wörtern " * 30),
    "one long word": ("Content-Description", " " + "ü" * 500),
    "display name": ("From", " Jörg Müller <joerg@example.org>"),
    "quoted display name": ("To", ' "Müller, Jörg" <joerg@example.org>, "Plain" <p@example.org>'),
    "comment": ("Cc", " joerg@example.org (Jörg)"),
}


@pytest.mark.parametrize(("name", "value"), SAME_TEXT.values(), ids=SAME_TEXT.keys())
def test_words_say_the_same(name: str, value: str) -> None:
    before = email.policy.default.header_factory(
        name, str(email.message_from_string("x: y")["x"]) and value.strip()
    )
    after = email.policy.default.header_factory(name, repaired(name, value).unfolded.decode())
    if name in ("From", "To", "Cc"):
        wanted = [(each.display_name, each.addr_spec) for each in before.addresses]
        assert [(each.display_name, each.addr_spec) for each in after.addresses] == wanted
    else:
        assert str(after) == str(before)


PARAMETERS = {
    "quoted": ('attachment; filename="Übersicht \\"2020\\".pdf"', 'Übersicht "2020".pdf'),
    "unquoted with spaces": ("attachment; filename=Übersicht 2020.pdf; size=4", "Übersicht 2020.pdf"),
    "labelled but raw": ("attachment; filename*=utf-8''Ü%20b.pdf", "Ü b.pdf"),
    "very long": ('attachment; filename="' + "x" * 2000 + '.pdf"', "x" * 2000 + ".pdf"),
    "very long and not ASCII": ('attachment; filename="' + "ü" * 700 + '.pdf"', "ü" * 700 + ".pdf"),
}


@pytest.mark.parametrize(("value", "filename"), PARAMETERS.values(), ids=PARAMETERS.keys())
def test_file_names_stay(value: str, filename: str) -> None:
    field = repaired("Content-Disposition", " " + value)
    assert email.message_from_bytes(field.raw + b"\r\n").get_filename() == filename


def test_octets_that_are_no_utf8_keep_their_value_and_a_modest_label() -> None:
    field = repaired("Content-Type", b' image/png; name="Gr\xfc\xdfe"; x=y')
    assert field.unfolded == b"image/png; name*=unknown-8bit''Gr%FC%DFe; x=y"


def test_long_lines_are_folded_before_a_space_and_short_ones_are_left() -> None:
    field = repaired("X-Long", b" short\r\n\t" + b"word " * 400)
    lines = field.value.split(b"\r\n")
    assert lines[0] == b" short"
    assert all(len(line) <= 78 and line.strip() for line in lines)
    assert b"".join(lines) == b" short\t" + b"word " * 400


def test_a_clean_field_comes_back_as_it_is() -> None:
    field = Field(b"content-TYPE", b"text/plain;\r\n\tcharset = x ")
    assert repair_field(field) is field


REFUSED = {
    "NUL": ("Content-Type", b" text/plain\0"),
    "CR alone": ("Subject", b" a\rb"),
    "boundary not ASCII": ("Content-Type", ' multipart/mixed; boundary="ü"'.encode()),
    "address not ASCII": ("From", " <jörg@example.org>".encode()),
    "address without brackets not ASCII": ("To", " jörg@example.org".encode()),
    "quoted local part not ASCII": ("To", ' "jörg"@example.org'.encode()),
    "Message-ID not ASCII": ("Message-ID", " <ü@example.org>".encode()),
    "nowhere to fold": ("X-Long", b" " + b"x" * 2000),
    "sections not ASCII": ("Content-Type", ' text/plain; name*0="ü"; name*1="x"'.encode()),
    "both spellings": ("Content-Type", " text/plain; name=\"ü\"; name*=utf-8''x".encode()),
    "not in a parameter": ("Content-Type", " text/plain (ü)".encode()),
    "quoted string without end": ("To", ' "ü <a@example.org>'.encode()),
}


@pytest.mark.parametrize(("name", "value"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_said_is_refused(name: str, value: bytes) -> None:
    with pytest.raises(HeaderInexpressible):
        repair_field(Field(name.encode(), value))


@given(
    st.sampled_from(["Subject", "From", "To", "Content-Type", "Content-Disposition", "X-Any"]),
    st.lists(
        st.sampled_from(
            [
                b"\xc3\xbc",
                b"\xff",
                b'"',
                b"\\",
                b"(",
                b")",
                b"<",
                b">",
                b"@",
                b",",
                b";",
                b"a=",
                b"x" * 300,
                b" ",
                b"\t",
                b"\r\n ",
                b"=?",
                b"'",
                b"*",
                b"%",
            ]
        )
    ).map(b"".join),
)
@settings(max_examples=200, deadline=None)
def test_any_value_is_repaired_or_refused(name: str, value: bytes) -> None:
    with contextlib.suppress(HeaderInexpressible):
        repaired(name, b" " + value)


@pytest.mark.parametrize(
    "unit", [b'"', b'"\\', b"(", b"(\\", b"<", b";", b';a="', b"\xc3\xbc ", b"a;", b" ", b"=?"]
)
def test_hostile_values_take_linear_time(unit: bytes) -> None:
    value = b" \xc3\xbc" + unit * (60_000 // len(unit))
    for name in (b"To", b"Content-Type", b"Subject"):
        with contextlib.suppress(HeaderInexpressible):
            repair_field(Field(name, value))
