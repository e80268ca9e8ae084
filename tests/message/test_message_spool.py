"""Spool: the same bytes whether they are in memory or in the file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailsigil.message.spool import Spool


@settings(max_examples=60, deadline=None)
@given(
    writes=st.lists(st.binary(max_size=40), max_size=12),
    limit=st.integers(0, 60),
    start=st.integers(-5, 300),
    end=st.integers(-5, 300),
    size=st.integers(1, 50),
)
def test_reads_what_was_written(writes: list[bytes], limit: int, start: int, end: int, size: int) -> None:
    with Spool(memory_limit=limit) as spool:
        written = b""
        for data in writes:
            spool.write(data)
            written += data
            assert spool.read(max(len(written) - 3, 0), len(written)) == written[-3:]
        low = max(start, 0)
        assert len(spool) == len(written)
        assert spool.read(start, end) == written[low : max(end, 0)]
        pieces = list(spool.chunks(start, end, size))
        assert b"".join(pieces) == written[low : max(end, 0)]
        assert all(0 < len(piece) <= size for piece in pieces)


@pytest.mark.parametrize("limit", [1000, 4], ids=["memory", "file"])
def test_iterators_and_writes_do_not_disturb_each_other(limit: int) -> None:
    with Spool(memory_limit=limit) as spool:
        spool.write(b"abcdefgh")
        first, second = spool.chunks(size=2), spool.chunks(2, 6, size=3)
        seen = [next(first), next(second), next(first)]
        spool.write(b"ijkl")
        seen += [next(first), next(second)]
        assert seen == [b"ab", b"cde", b"cd", b"ef", b"f"]
        assert b"".join(first) == b"gh"
        assert spool.read(6, 12) == b"ghijkl"


def test_the_file_has_no_name_and_memory_stays_small(tmp_path: Path) -> None:
    with Spool(memory_limit=1000, directory=str(tmp_path)) as spool:
        for _ in range(64):
            spool.write(b"x" * 65536)
        assert os.listdir(tmp_path) == []
        assert len(spool) == 64 * 65536
        assert sum(len(chunk) for chunk in spool.chunks()) == len(spool)


def test_a_missing_folder_is_an_os_error(tmp_path: Path) -> None:
    with (
        Spool(memory_limit=1, directory=str(tmp_path / "absent")) as spool,
        pytest.raises(OSError, match="absent"),
    ):
        spool.write(b"too long for memory")


def test_a_closed_spool_refuses_reads_and_writes() -> None:
    spool = Spool(memory_limit=1)
    spool.write(b"abc")
    spool.close()
    spool.close()
    with pytest.raises(ValueError, match="closed"):
        spool.write(b"d")
    with pytest.raises(ValueError, match="closed"):
        spool.read(0, 1)
