"""A signed entity as a mail: the fields that change, the ones that do not, and the body's octets."""

from __future__ import annotations

import base64
import email
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bank
from mailsigil.compose import base64_lines, clear_signed, content_edits, opaque_signed
from mailsigil.message.fields import Field
from mailsigil.message.seven_bit import Entity
from mailsigil.message.spool import Spool
from mailsigil.plan import AppendField, ChangeField, DeleteField, Edit
from mailsigil.rewrite import rewritten

NEW = {b"Content-Type": b" text/new"}


def fields(*lines: bytes) -> tuple[Field, ...]:
    return bank.cut(b"".join(line + b"\r\n" for line in lines) + b"\r\n")[0]


def entity(header: bytes = b"Content-Type: text/plain\r\n", content: bytes = b"hello\r\n") -> Entity:
    body = Spool()
    body.write(b"before" + content + b"after")
    return Entity(header, body, 6, 6 + len(content))


def applied(given_fields: tuple[Field, ...], edits: tuple[Edit, ...], body: bytes = b"old\r\n") -> bytes:
    spool = Spool()
    spool.write(body)
    return b"".join(rewritten(given_fields, spool, edits))


CHANGED = [ChangeField(b"Content-Type", 1, b" text/new")]
VERSION = AppendField(Field(b"MIME-Version", b" 1.0"))


@pytest.mark.parametrize(
    ("before", "edits"),
    [
        pytest.param(
            (b"Content-Type: text/old", b"MIME-Version: 1.0"), CHANGED, id="the-type-changes-where-it-stands"
        ),
        pytest.param((b"Content-Type: text/new", b"MIME-Version: 1.0"), [], id="nothing-to-do"),
        pytest.param(
            (b"Content-Type: text/old",), [*CHANGED, VERSION], id="mime-version-is-added-for-outlook"
        ),
        pytest.param(
            (b"MIME-Version: 1.0",),
            [AppendField(Field(b"Content-Type", b" text/new"))],
            id="the-type-is-added",
        ),
        pytest.param(
            (b"Mime-Version: 1.0 (by a client)", b"content-type: a/b"),
            [ChangeField(b"Mime-Version", 1, b" 1.0"), ChangeField(b"content-type", 1, b" text/new")],
            id="names-keep-their-spelling",
        ),
        pytest.param(
            (b"Content-Type: a/b", b"MIME-Version: 1.0", b"Content-Type: c/d", b"MIME-Version: 1.0"),
            [*CHANGED, DeleteField(b"Content-Type", 2), DeleteField(b"MIME-Version", 2)],
            id="second-ones-go",
        ),
        pytest.param(
            (b"Content-Transfer-Encoding: 8bit", b"X-Y: z", b"Content-Language: de", b"Content-Type: a/b"),
            [
                DeleteField(b"Content-Transfer-Encoding", 1),
                DeleteField(b"Content-Language", 1),
                *CHANGED,
                VERSION,
            ],
            id="other-content-fields-go-into-the-signed-part",
        ),
        pytest.param(
            (b"Subject: x", b"X-Content-Type: a", b"Contents: b", b"Content-Type: a/b", b"MIME-Version: 1.0"),
            CHANGED,
            id="look-alikes-stay",
        ),
    ],
)
def test_content_edits(before: tuple[bytes, ...], edits: list[Edit]) -> None:
    assert list(content_edits(fields(*before), NEW)) == edits


def test_other_fields_keep_bytes_and_order() -> None:
    others = [b"Received: a\r\n\tb", b"SUBJECT:\t  odd \r\n\t\t fold", b"X-Raw: \xff\xfe", b"To:x@y.example"]
    before = fields(others[0], b"Content-Type: a/b", others[1], b"MIME-Version: 1", others[2], others[3])
    head = applied(before, content_edits(before, NEW)).partition(b"\r\n\r\n")[0]
    kept = [line for line in re.split(rb"\r\n(?![ \t])", head) if not re.match(rb"Content-|MIME-", line)]
    assert kept == others


def test_clear_signed_is_what_rfc_8551_shows() -> None:
    given_fields = fields(b"From: a@b.example")
    edits = clear_signed(given_fields, entity(), signature=b"\x30\x00", micalg="sha-256", boundary="B")
    raw = applied(given_fields, edits)
    message = email.message_from_bytes(raw)
    assert message.get_content_type() == "multipart/signed"
    assert message.get_param("protocol") == "application/pkcs7-signature"
    assert message.get_param("micalg") == "sha-256"
    assert message["MIME-Version"] == "1.0"
    signed, signature = message.get_payload()
    assert signed.get_payload() == "hello\r\n"
    assert signature.get_content_type() == "application/pkcs7-signature"
    assert signature.get_payload(decode=True) == b"\x30\x00"
    # RFC 1847 2.1: from the first octet after the boundary line to the last before the next one's CRLF.
    assert b"\r\n--B\r\nContent-Type: text/plain\r\n\r\nhello\r\n\r\n--B\r\n" in raw
    assert raw.endswith(b"\r\n--B--\r\n")


def test_opaque_signed_wraps_head_entity_and_tail() -> None:
    given_fields = fields(b"From: a@b.example", b"Content-Type: text/plain", b"Content-ID: <x>")
    edits = opaque_signed(given_fields, entity(), head=b"HEAD", tail=b"TAIL")
    message = email.message_from_bytes(applied(given_fields, edits))
    assert message.get_content_type() == "application/pkcs7-mime"
    assert message.get_param("smime-type") == "signed-data"
    assert message.get_filename() == "smime.p7m"
    assert message["Content-ID"] is None
    assert message.get_payload(decode=True) == b"HEADContent-Type: text/plain\r\n\r\nhello\r\nTAIL"


def test_what_is_written_is_seven_bit_in_short_lines() -> None:
    given_fields = fields(b"From: a@b.example")
    for edits in (
        clear_signed(given_fields, entity(), signature=bytes(4000), micalg="sha-512", boundary="B" * 40),
        opaque_signed(given_fields, entity(content=b"x" * 9000), head=b"\xff", tail=b"\xfe"),
    ):
        raw = applied(given_fields, edits)
        assert raw.isascii()
        assert max(map(len, raw.split(b"\r\n"))) <= 78


def test_the_new_body_can_be_read_again() -> None:
    """The host may be asked a second time."""
    given_fields = fields(b"From: a@b.example")
    edits = clear_signed(given_fields, entity(), signature=b"s", micalg="sha-256", boundary="B")
    assert applied(given_fields, edits) == applied(given_fields, edits)


@settings(max_examples=60)
@given(st.lists(st.binary(max_size=200), max_size=12))
def test_base64_lines_are_full_whatever_the_pieces(pieces: list[bytes]) -> None:
    lines = b"".join(base64_lines(pieces))
    assert base64.b64decode(lines) == b"".join(pieces)
    parts = lines.split(b"\r\n")
    assert all(len(line) == 76 for line in parts[:-2])
    assert parts[-1] == b""


def test_base64_lines_of_a_big_piece() -> None:
    data = bytes(range(256)) * 2000
    assert base64.b64decode(b"".join(base64_lines([data[:100], data[100:]]))) == data
