"""Messages from files: line ends, mbox lines, bounds."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsigil.message.reader import MAX_HEADER, Message, MessageLimitError, read_message
from mailsigil.message.spool import Spool


class Drip(io.RawIOBase):
    """A pipe that gives a few octets at a time."""

    def __init__(self, data: bytes, step: int) -> None:
        super().__init__()
        self._data = data
        self._step = step

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data, self._data = self._data[: self._step], self._data[self._step :]
        return data


def content(message: Message) -> tuple[bytes, bytes]:
    return b"".join(field.raw for field in message.fields), b"".join(message.body.chunks())


READ = [
    pytest.param(b"A: b\n c\n\nx\ny", b"A: b\r\n c\r\n", b"x\r\ny", id="lf"),
    pytest.param(b"A: b\n\nx\r\ny\rz\n", b"A: b\r\n", b"x\r\ny\rz\r\n", id="lf-with-some-crlf"),
    pytest.param(b"A: b\r\n\r\nx\ny\rz\0", b"A: b\r\n", b"x\ny\rz\0", id="crlf-kept-byte-for-byte"),
    pytest.param(b"From a@b Mon Jan 01 02:03:04 2026\nA: b\n\nx", b"A: b\r\n", b"x", id="mbox-lf"),
    pytest.param(b"From a@b Mon Jan 01 02:03:04 2026\r\nA: b\r\n\r\nx", b"A: b\r\n", b"x", id="mbox-crlf"),
    pytest.param(b"From : a@b\n\nx", b"From : a@b\r\n", b"x", id="field-with-space-is-no-mbox-line"),
    pytest.param(b"\nx", b"", b"x", id="no-header"),
    pytest.param(b"", b"", b"", id="nothing"),
    pytest.param(b"A: b", b"A: b\r\n", b"", id="no-line-end"),
    pytest.param(b"A: b\n\nx\r", b"A: b\r\n", b"x\r", id="cr-at-the-end"),
]


@pytest.mark.parametrize(("data", "header", "body"), READ)
@pytest.mark.parametrize("step", [1, 3, 100000])
def test_read(data: bytes, header: bytes, body: bytes, step: int) -> None:
    assert content(read_message(Drip(data, step))) == (header, body)


@given(
    st.lists(st.sampled_from([b"A: b", b"\n", b"\r", b"\r\n", b"x", b" "]), max_size=20).map(b"".join),
    st.integers(1, 9),
)
def test_chunks_make_no_difference(data: bytes, step: int) -> None:
    assert content(read_message(Drip(data, step))) == content(read_message(io.BytesIO(data)))


def test_a_large_body_goes_to_the_given_spool() -> None:
    line = b"0123456789" * 7 + b"\n"
    with Spool(memory_limit=1000) as spool:
        message = read_message(io.BytesIO(b"A: b\n\n" + line * 20000), spool=spool)
        assert message.body is spool
        assert len(spool) == 20000 * 72
        assert spool.read(72 * 19999, 72 * 20000) == b"0123456789" * 7 + b"\r\n"


def test_too_many_octets_are_refused() -> None:
    data = b"A: b\n\n" + b"x" * 100
    assert len(read_message(io.BytesIO(data), max_bytes=106).body) == 100
    with pytest.raises(MessageLimitError, match="larger than 105 octets"):
        read_message(io.BytesIO(data), max_bytes=105)


def test_an_endless_header_is_refused() -> None:
    with pytest.raises(MessageLimitError, match="header"):
        read_message(io.BytesIO(b"A: b\r\n" * (MAX_HEADER // 4)))
    with pytest.raises(MessageLimitError, match="header"):
        read_message(io.BytesIO(b"A: " + b"b" * (2 * MAX_HEADER)))


def test_a_header_without_empty_line_before_a_large_body() -> None:
    data = b"A: b\r\n" + b"no field\r\n" * (MAX_HEADER // 4)
    message = read_message(io.BytesIO(data))
    assert [field.raw for field in message.fields] == [b"A: b\r\n"]
    assert len(message.body) == len(data) - 6
