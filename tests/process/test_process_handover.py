"""What a supervisor hands to its workers: all of them get the same, and none can change it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mailsigil.process.control import Line, Order, Word, WorkerControl
from mailsigil.process.handover import sealed, unsealed


@contextmanager
def _handed(data: bytes) -> Iterator[int]:
    descriptor = sealed(data)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("size", [0, 1, 70_000, 20_000_000])
def test_each_reader_gets_all_of_it(size: int) -> None:
    data = bytes(size)
    with _handed(data) as descriptor:
        assert unsealed(descriptor) == data
        assert unsealed(descriptor) == data


def test_nobody_changes_it() -> None:
    with _handed(b"signing = required") as descriptor:
        with pytest.raises(PermissionError):
            os.pwrite(descriptor, b"never", 10)
        with pytest.raises(PermissionError):
            os.ftruncate(descriptor, 0)
        assert unsealed(descriptor) == b"signing = required"


def test_it_comes_along_with_the_word() -> None:
    ours, theirs = Line.pair()
    with _handed(b"settings") as descriptor:
        ours.say(Word.RELOAD, descriptor=descriptor)
    ours.say(Word.RETIRE)
    assert [theirs.hear_order(), theirs.hear_order(), theirs.hear_order()] == [
        Order(Word.RELOAD, b"settings"),
        Order(Word.RETIRE),
        None,
    ]


def test_a_worker_keeps_no_descriptor() -> None:
    ours, theirs = Line.pair()
    got: list[bytes] = []
    before = len(os.listdir("/proc/self/fd"))
    for number in range(5):
        with _handed(b"%d" % number) as descriptor:
            ours.say(Word.RELOAD, descriptor=descriptor)
    ours.say(Word.RETIRE)
    control = WorkerControl(theirs, drain_seconds=5)
    wakes_itself = 2  # the two ends of a pipe
    control.serve(on_reload=got.append)
    assert got == [b"0", b"1", b"2", b"3", b"4"]
    assert len(os.listdir("/proc/self/fd")) == before + wakes_itself


def test_a_supervisor_takes_no_descriptor_from_a_worker() -> None:
    ours, theirs = Line.pair()
    before = len(os.listdir("/proc/self/fd"))
    with _handed(b"x") as descriptor:
        theirs.say(Word.READY, descriptor=descriptor)
    limit = time.monotonic() + 5
    while ours.hear() is not Word.READY:
        assert time.monotonic() < limit
    assert len(os.listdir("/proc/self/fd")) == before
