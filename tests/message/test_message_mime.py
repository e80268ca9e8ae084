"""The MIME structure: what is a boundary line, where parts start and end, and what breaks."""

from __future__ import annotations

import pytest

from mailsigil.message.fields import Field
from mailsigil.message.mime import Fault, MimeLimitError, MimeLimits, Part, parse_mime, transfer_encoding
from mailsigil.message.spool import Spool
from mime_trees import split


def spool(data: bytes) -> Spool:
    body = Spool()
    body.write(data)
    return body


def multipart(body: bytes, boundary: str = "b", subtype: str = "mixed") -> tuple[Part, Spool]:
    kept = spool(body)
    fields = [Field(b"Content-Type", f' multipart/{subtype}; boundary="{boundary}"'.encode())]
    return parse_mime(fields, kept), kept


def outline(part: Part, body: Spool) -> object:
    """A tree of contents: the octets of leaves, lists for containers."""
    if part.children:
        return [outline(child, body) for child in part.children]
    return body.read(part.body_start, part.body_end)


STRUCTURES = {
    "two parts": (b"--b\r\n\r\none\r\n--b\r\n\r\ntwo\r\n--b--\r\n", [b"one", b"two"]),
    "the line end before a boundary belongs to it": (b"--b\r\n\r\none\r\n\r\n--b--", [b"one\r\n"]),
    "spaces and tabs after boundaries": (
        b"--b \t\r\n\r\none\r\n--b  \r\n\r\ntwo\r\n--b-- \t \r\n",
        [b"one", b"two"],
    ),
    "two boundary lines in a row": (b"--b\r\n--b\r\n\r\none\r\n--b--\r\n", [b"one"]),
    "no closing boundary": (b"--b\r\n\r\none\r\n--b\r\n\r\ntwo\r\n", [b"one", b"two\r\n"]),
    "nothing after the closing boundary counts": (b"--b\r\n\r\none\r\n--b--\r\n--b\r\n\r\nno\r\n", [b"one"]),
    "a line that only starts like a boundary": (b"--b\r\n\r\none\r\n--bc\r\n--b--", [b"one\r\n--bc"]),
    "hyphens within a line": (b"--b\r\n\r\none --b\r\n--b--", [b"one --b"]),
    "preamble": (b"look\r\n--b\r\n\r\none\r\n--b--\r\n", [b"one"]),
    "line feeds alone": (b"--b\n\none\n--b\n\ntwo\n--b--\n", [b"one", b"two"]),
    "part without header and empty line": (b"--b\r\nno field here\r\n--b--", [b"no field here"]),
    "part without body": (b"--b\r\nX-A: b\r\n--b--\r\n", [b""]),
    "part of nothing": (b"--b\r\n\r\n--b--\r\n", [b""]),
    "boundary at the end of the data": (b"--b\r\n\r\none\r\n--b\r\n", [b"one", b""]),
    "nested": (
        b"--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n\r\none\r\n--c--\r\n"
        b"\r\n--b\r\n\r\ntwo\r\n--b--",
        [[b"one"], b"two"],
    ),
    "an outer boundary ends an inner multipart": (
        b"--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n\r\none\r\n--b\r\n\r\ntwo\r\n--b--",
        [[b"one"], b"two"],
    ),
    "the boundary of the outer one begins the inner one": (
        b"--b\r\nContent-Type: multipart/mixed; boundary=bb\r\n\r\n--bb\r\n\r\none\r\n--bb--\r\n--b--",
        [[b"one"]],
    ),
    "a message with parts": (
        b"--b\r\nContent-Type: message/rfc822\r\n\r\nX: x\r\nContent-Type: multipart/mixed; boundary=c\r\n"
        b"\r\n--c\r\n\r\none\r\n--c--\r\n--b--",
        [[[b"one"]]],
    ),
    "a message in base64 is not looked into": (
        b"--b\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        b"U3ViamVjdDogeA==\r\n--b--",
        [b"U3ViamVjdDogeA=="],
    ),
    "a message that starts with an mbox line": (
        b"--b\r\nContent-Type: message/rfc822\r\n\r\nFrom a@b Mon\r\nSubject: x\r\n\r\none\r\n--b--",
        [[b"one"]],
    ),
}


@pytest.mark.parametrize(("body", "expected"), STRUCTURES.values(), ids=STRUCTURES.keys())
def test_structure(body: bytes, expected: object) -> None:
    part, kept = multipart(body)
    assert outline(part, kept) == expected


def test_digest_parts_are_messages_by_default() -> None:
    part, kept = multipart(b"--b\r\n\r\nSubject: x\r\n\r\none\r\n--b--", subtype="digest")
    assert part.children[0].media_type.full == "message/rfc822"
    assert outline(part, kept) == [[b"one"]]


def test_a_signed_part_is_header_start_to_body_end() -> None:
    signed = b"Content-Type: text/plain\r\n\r\nhello\r\n"
    part, kept = multipart(b"--b\r\n" + signed + b"\r\n--b\r\n\r\nsignature\r\n--b--\r\n", subtype="signed")
    first = part.children[0]
    assert kept.read(first.header_start, first.body_end) == signed


def test_preamble_and_epilogue_have_their_ranges() -> None:
    part, kept = multipart(b"look\r\n\r\n--b\r\n\r\none\r\n--b-- \r\nbye\r\n")
    assert kept.read(*part.preamble) == b"look\r\n"
    assert kept.read(*part.epilogue) == b"bye\r\n"
    assert part.terminated


FAULTS = {
    "no boundary": (b" multipart/mixed", b"--b\r\n\r\nx\r\n--b--", Fault.NO_BOUNDARY),
    "empty boundary": (b' multipart/mixed; boundary=""', b"--\r\n\r\nx\r\n----", Fault.NO_BOUNDARY),
    "boundary never appears": (b" multipart/mixed; boundary=b", b"text\r\n" * 50, Fault.BOUNDARY_ABSENT),
    "only a closing boundary": (b" multipart/mixed; boundary=b", b"text\r\n--b--\r\n", Fault.BOUNDARY_ABSENT),
    "boundary not ASCII": (
        "multipart/mixed; boundary=ü".encode(),
        "--ü\r\n\r\nx".encode(),
        Fault.BAD_BOUNDARY,
    ),
    "boundary too long": (
        b" multipart/mixed; boundary=" + b"b" * 2000,
        b"--" + b"b" * 2000,
        Fault.BAD_BOUNDARY,
    ),
}


@pytest.mark.parametrize(("value", "body", "fault"), FAULTS.values(), ids=FAULTS.keys())
def test_a_broken_multipart_has_no_children_and_a_fault(value: bytes, body: bytes, fault: Fault) -> None:
    part = parse_mime([Field(b"Content-Type", value)], spool(body))
    assert part.children == ()
    assert fault in part.faults
    assert part.body_end == len(body)


def test_an_inner_multipart_with_the_boundary_of_the_outer_one() -> None:
    part, _ = multipart(
        b"--b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\none\r\n--b--\r\n"
    )
    assert [child.media_type.type for child in part.children] == ["multipart", "text"]
    assert Fault.SAME_BOUNDARY in part.children[0].faults


def test_contradicting_fields_are_faults_and_the_first_one_counts() -> None:
    header = b"Content-Type: text/html\r\nContent-Type: text/plain\r\n"
    header += b"Content-Transfer-Encoding: base64\r\nContent-Transfer-Encoding: 7bit\r\n"
    part = parse_mime(*split(header + b"\r\nx"))
    assert part.media_type.full == "text/html"
    assert part.encoding == "base64"
    assert part.faults == (Fault.SEVERAL_TYPES, Fault.SEVERAL_ENCODINGS)


def test_the_message_itself_has_no_header_in_the_spool() -> None:
    part = parse_mime([], spool(b"hello\r\n"))
    assert (part.header_start, part.body_start, part.body_end) == (-1, 0, 7)
    assert (part.media_type.full, part.encoding, part.faults) == ("text/plain", "7bit", ())


@pytest.mark.parametrize(
    ("value", "token"),
    [
        (b" BASE64 ", "base64"),
        (b" (c) 8bit", "8bit"),
        (b' "7bit";', "7bit"),
        (b"\r\n binary", "binary"),
        (b"", ""),
    ],
)
def test_transfer_encoding_token(value: bytes, token: str) -> None:
    assert transfer_encoding(value) == token


@pytest.mark.parametrize("cut", range(-6, 7))
@pytest.mark.parametrize("window", [65536, 65535])
def test_a_boundary_line_across_the_reading_window(cut: int, window: int) -> None:
    filler = b"x" * 70 + b"\r\n"
    head = b"--b\r\n\r\n"
    text = (filler * 2000)[: window - len(head) - 4 + cut]
    part, kept = multipart(head + text + b"\r\n--b \r\n\r\ntwo\r\n--b--\r\n")
    assert outline(part, kept) == [text, b"two"]


def nested(depth: int) -> bytes:
    body = b""
    for level in range(depth):
        body += b"--b%d\r\nContent-Type: multipart/mixed; boundary=b%d\r\n\r\n" % (level, level + 1)
    return body


LIMITS = {
    "depth": (nested(40), "depth"),
    "parts": (b"--b0\r\n\r\nx\r\n" * 1500, "parts"),
    "header of one part": (b"--b0\r\n" + b"X: y\r\n" * 20000 + b"\r\n", "header_bytes"),
    "all headers": ((b"--b0\r\n" + b"X: yyyyyyyyyy\r\n" * 4000 + b"\r\n") * 30, "all_header_bytes"),
    "boundary line": (b"--b0\r\n\r\nx\r\n--b0--" + b" " * 20000 + b"\r\n", "boundary_line"),
}


@pytest.mark.parametrize(("body", "limit"), LIMITS.values(), ids=LIMITS.keys())
def test_limits_have_names(body: bytes, limit: str) -> None:
    with pytest.raises(MimeLimitError) as caught:
        multipart(body, boundary="b0")
    assert caught.value.limit == limit


def test_limits_can_be_set() -> None:
    with pytest.raises(MimeLimitError, match="parts"):
        parse_mime(
            *split(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n1\r\n--b\r\n\r\n2\r\n--b--"),
            limits=MimeLimits(parts=2),
        )
