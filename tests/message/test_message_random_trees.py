"""Random messages: built part by part with known content, converted, and read by another parser."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailsigil.message.cleanliness import is_clean
from mailsigil.message.mime import MimeLimitError, parse_mime
from mailsigil.message.seven_bit import Unsignable, to_seven_bit
from mime_trees import convert, crlf, octets, split, tree


@dataclass(frozen=True)
class Leaf:
    content_type: str
    label: str
    content: bytes
    filename: str = ""


@dataclass(frozen=True)
class Box:
    subtype: str
    children: tuple[Leaf | Box | Letter, ...]
    label: str
    closing_space: str = ""


@dataclass(frozen=True)
class Letter:
    subject: str
    inside: Leaf | Box


TEXTS = st.text(st.sampled_from("aé Ж-=.\n\t中"), max_size=300).map(lambda text: crlf(text.encode()))
LABELS = st.sampled_from(["", "8bit", "binary", "7bit"])
SUBJECTS = st.text(st.sampled_from("aüЖ c"), max_size=40)
LEAVES = st.one_of(
    st.builds(Leaf, st.sampled_from(["text/plain; charset=utf-8", "text/html"]), LABELS, TEXTS),
    st.builds(Leaf, st.sampled_from(["image/png", "application/x"]), LABELS, st.binary(max_size=300)),
    st.builds(
        Leaf,
        st.just("application/pdf"),
        st.just("base64"),
        st.binary(max_size=300),
        st.sampled_from(["", "ü x.pdf", "a.pdf"]),
    ),
    st.builds(Leaf, st.just("text/plain"), st.just("7bit"), st.just(b"x" * 1200)),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(
            Box,
            st.sampled_from(["mixed", "alternative", "related"]),
            st.lists(inner, min_size=1, max_size=4).map(tuple),
            LABELS,
            st.sampled_from(["", " ", " \t "]),
        ),
        st.builds(Letter, SUBJECTS, inner.filter(lambda part: not isinstance(part, Letter))),
    ),
    max_leaves=8,
)


def build(part: Leaf | Box | Letter, path: str = "b") -> bytes:
    """Write a part: its header, the empty line, its body."""
    if isinstance(part, Letter):
        return (
            b"Content-Type: message/rfc822\r\n\r\n"
            + f"Subject: {part.subject}\r\n".encode()
            + build(part.inside, path)
        )
    label = f"Content-Transfer-Encoding: {part.label}\r\n".encode() if part.label else b""
    if isinstance(part, Box):
        out = f'Content-Type: multipart/{part.subtype}; boundary="{path}"\r\n'.encode() + label
        for number, child in enumerate(part.children):
            out += f"\r\n--{path}{part.closing_space}\r\n".encode() + build(child, f"{path}.{number}")
        return out + f"\r\n--{path}--{part.closing_space}\r\n".encode()
    name = f'; name="{part.filename}"' if part.filename else ""
    body = (
        base64.encodebytes(part.content).replace(b"\n", b"\r\n") if part.label == "base64" else part.content
    )
    return f"Content-Type: {part.content_type}{name}\r\n".encode() + label + b"\r\n" + body


def leaves(part: Leaf | Box | Letter) -> list[bytes]:
    if isinstance(part, Leaf):
        return [part.content]
    children = part.children if isinstance(part, Box) else (part.inside,)
    return [content for child in children for content in leaves(child)]


@pytest.mark.integration
@given(TREES)
@settings(max_examples=200, deadline=None)
def test_a_tree_comes_out_as_it_went_in(part: Leaf | Box | Letter) -> None:
    raw = build(part)
    entity = convert(raw)
    assert is_clean(entity)
    assert tree(entity) == tree(raw)
    assert convert(entity) == entity
    assert not re.search(rb"(?im)^content-transfer-encoding: (8bit|binary)\r$", entity)


WORDS = """--b|--b--|--c|--c--|--b |||text|grün|\0|a\rb|-- |==|From x| folded|Subject: grün
Content-Type: multipart/mixed; boundary=c
Content-Type: multipart/signed; boundary=b
Content-Type: message/rfc822
Content-Type: text/html
Content-Type: image/png; name=ü
Content-Transfer-Encoding: base64
Content-Transfer-Encoding: 8bit
Content-Transfer-Encoding: quoted-printable"""
LINES = st.sampled_from(
    [*WORDS.replace("\n", "|").encode().split(b"|"), b"x" * 1100, b"Content-Description: \xff"]
)


@given(st.lists(LINES, max_size=30), st.sampled_from([b"\r\n", b"\n"]))
@settings(max_examples=400, deadline=None)
def test_any_heap_of_lines_is_clean_afterwards_or_refused(heap: list[bytes], end: bytes) -> None:
    raw = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + end.join(heap)
    fields, body = split(raw)
    try:
        before = parse_mime(fields, body)
        entity = to_seven_bit(fields, body)
    except (MimeLimitError, Unsignable):
        return
    data = octets(entity)
    assert is_clean(data)
    after = parse_mime(*split(data))
    assert shape(after) == shape(before)


def shape(part: object) -> object:
    return part.media_type.full, tuple(shape(child) for child in part.children)  # type: ignore[attr-defined]
