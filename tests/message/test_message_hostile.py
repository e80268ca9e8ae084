"""Hostile and huge bodies: work in step with the size, memory that does not grow, no loop without end."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable, Iterator
from types import FrameType

import pytest

from mailsigil.message.fields import Field
from mailsigil.message.mime import MimeLimitError, parse_mime
from mailsigil.message.seven_bit import Unsignable, to_seven_bit
from mailsigil.message.spool import Spool

MIXED = [Field(b"Content-Type", b" multipart/mixed; boundary=b")]
TEXT = [Field(b"Content-Type", b" text/plain; charset=utf-8")]

HOSTILE = {
    "lines of hyphens": lambda size: b"\n--" * (size // 3),
    "CRLF lines of hyphens in a part": lambda size: (
        b"--b\r\n\r\n" + b"\r\n--" * (size // 4) + b"\xe9\r\n--b--"
    ),
    "almost boundaries": lambda size: b"--b\r\n\r\n" + b"\r\n--bc" * (size // 6),
    "boundaries in a row": lambda size: b"--b\r\n" * (size // 5),
    "empty parts": lambda size: b"--b\r\n\r\n" * (size // 7),
    "boundaries after the end": lambda size: b"--b\r\n\r\nx\r\n--b--\r\n" + b"--b\r\n" * (size // 5),
    "boundaries with endless spaces": lambda size: (b"\r\n--b" + b" " * 7000 + b"x") * (size // 7000),
    "deep nesting": lambda size: b"".join(
        b"--b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" for _ in range(size // 48)
    ),
    "messages in messages": lambda size: b"--b\r\n" + b"Content-Type: message/rfc822\r\n\r\n" * (size // 32),
    "one line without end": lambda size: b"--b\r\n\r\n" + b"-" * size,
    "8-bit line without end": lambda size: b"--b\r\n\r\n" + b"\xe9" * size,
    "empty lines": lambda size: b"--b\r\n\r\n" + b"\r\n" * (size // 2) + b"\xe9",
    "long headers": lambda size: (b"--b\r\n" + b"X: y\r\n" * 1000 + b"\r\n") * (size // 6000),
    "quoted-printable of equals signs": lambda size: (
        b"--b\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" + b"= \xe9" * (size // 3)
    ),
    "base64 in one line": lambda size: (
        b"--b\r\nContent-Transfer-Encoding: base64\r\n\r\n" + b"AAAA" * (size // 4)
    ),
}


class CountingSpool(Spool):
    """Counts the octets that are read."""

    def __init__(self) -> None:
        super().__init__()
        self.octets_read = 0

    def read(self, start: int, end: int) -> bytes:
        data = super().read(start, end)
        self.octets_read += len(data)
        return data


def spool(data: bytes) -> CountingSpool:
    body = CountingSpool()
    body.write(data)
    return body


def both_ways(body: Spool) -> None:
    for work in (parse_mime, to_seven_bit):
        try:
            work(MIXED, body)  # type: ignore[operator]
        except (MimeLimitError, Unsignable) as error:
            assert str(error)  # noqa: PT017 - either outcome is fine, without end is not


def calls(work: Callable[[], None]) -> int:
    """Count the calls of functions, Python's own included."""
    count = 0

    def watch(_frame: FrameType, event: str, _arg: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(watch)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE.keys())
def test_work_grows_with_the_size_and_no_faster(make: Callable[[int], bytes]) -> None:
    small, large = spool(make(100_000)), spool(make(400_000))
    first = calls(lambda: both_ways(small))
    second = calls(lambda: both_ways(large))
    assert second <= 4.5 * first + 2000
    assert large.octets_read <= 30 * len(large)
    assert second <= 20 * 400_000


@pytest.mark.parametrize("name", ["CRLF lines of hyphens in a part", "boundaries in a row", "empty parts"])
def test_ten_megabytes_of_hostility_end(name: str) -> None:
    body = spool(HOSTILE[name](10_000_000 if name != "CRLF lines of hyphens in a part" else 3_000_000))
    both_ways(body)
    assert body.octets_read <= 12 * len(body)


def lines(line: bytes, total: int) -> Iterator[bytes]:
    block = line * (60_000 // len(line))
    return (block for _ in range(total // len(block)))


HUGE = {
    "clean text": (TEXT, b"", b"The quick brown fox jumps over the lazy dog.\r\n"),
    "8-bit text": (TEXT, b"", "Die schönen Grüße an alle Menschen in dieser Welt\r\n".encode()),
    "clean attachment": (MIXED, b"--b\r\nContent-Type: image/png\r\n\r\n", b"QUFB" * 19 + b"\r\n"),
    "binary attachment": (MIXED, b"--b\r\nContent-Type: image/png\r\n\r\n", bytes(range(256))),
    "one line of text": (MIXED, b"--b\r\n\r\n", b"\xc3\xa9abcdefghij"),
    "raw octets in quoted-printable": (
        MIXED,
        b"--b\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n",
        b"caf=C3=A9 caf\xc3\xa9 and more words here and there\r\n",
    ),
}


@pytest.mark.integration
@pytest.mark.parametrize(("fields", "start", "line"), HUGE.values(), ids=HUGE.keys())
def test_memory_stays_flat_on_a_huge_body(fields: list[Field], start: bytes, line: bytes) -> None:
    total = 6_000_000 if b"quoted" in start else 20_000_000
    with Spool() as body:
        body.write(start)
        for block in lines(line, total):
            body.write(block)
        tracemalloc.start()
        try:
            entity = to_seven_bit(fields, body)
            size = sum(len(chunk) for chunk in entity.chunks())
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert size == entity.size > 0.9 * total
        assert peak < 4_000_000
        entity.body.close()
