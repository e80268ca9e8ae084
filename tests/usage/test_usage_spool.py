"""Counts on their way: in files that a crash leaves, and that the next process takes, once."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailsigil.usage.batch import Batch, BatchUnreadable, Counted, decode
from mailsigil.usage.spool import Spool

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
ALICE = Counted("2026-11", "alice@bank.example", "k" * 32, "1f", "V4")


def _batch(spool: Spool, number: int = 3) -> Batch:
    batch = spool.new(now=NOW)
    batch.add(ALICE, number)
    spool.write(batch)
    return batch


def _left_over(folder: Path) -> list[Batch]:
    with Spool(folder).left_over() as batches:
        return batches


def test_what_is_written_is_read(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    batch = _batch(spool)
    assert decode(batch.encode(), name=batch.id) == batch
    assert (tmp_path / "spool").stat().st_mode & 0o777 == 0o700
    assert spool.waiting() == 3
    spool.drop(batch)
    assert spool.waiting() == 0


def test_files_of_a_living_process_are_its_own(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    batch = _batch(spool)
    assert _left_over(tmp_path) == []
    spool.close()
    assert _left_over(tmp_path) == [batch]


def test_an_emptied_folder_has_no_files_left(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    batch = _batch(spool)
    spool.close()
    other = Spool(tmp_path)
    with other.left_over() as batches:
        for each in batches:
            other.drop(each)
    assert batches == [batch]
    assert list(tmp_path.iterdir()) == []


def _killed(folder: Path) -> None:
    _batch(Spool(folder))
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_leaves_what_it_wrote(tmp_path: Path) -> None:
    child = multiprocessing.get_context("fork").Process(target=_killed, args=(tmp_path,))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    (batch,) = _left_over(tmp_path)
    assert batch.total == 3


def test_what_others_put_there_is_kept_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spool = Spool(tmp_path)
    batch = _batch(spool)
    spool.close()
    path = tmp_path / f"{batch.id}.json"
    path.write_bytes(path.read_bytes()[:-20])
    (tmp_path / "notes.txt").write_text("not ours")
    assert _left_over(tmp_path) == []
    assert "it is damaged" in caplog.text
    assert path.with_suffix(".unreadable").exists()
    assert (tmp_path / "notes.txt").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"id": "another"},
        {"made_at": "2026-11-22T12:00:00"},
        {"made_at": 7},
        {"counts": {}, "made_at": None},
        {"counts": [["2026-13", "a@b", "k", "1", "V4", 1]]},
        {"counts": [["2026-11", "a@b", "k", "1", "V9", 1]]},
        {"counts": [["2026-11", "a\n@b", "k", "1", "V4", 1]]},
        {"counts": [["2026-11", "a" * 400, "k", "1", "V4", 1]]},
        {"counts": [["2026-11", 5, "k", "1", "V4", 1]]},
        {"counts": [["2026-11", "a@b", "k", "1", "V4", 0]]},
        {"counts": [["2026-11", "a@b", "k", "1", "V4", True]]},
        {"counts": [["2026-11", "a@b", "k", "1", "V4", 1.5]]},
        {"counts": [["2026-11", "a@b", "k", "V4", 1]]},
        {"counts": [[]]},
        {"counts": 5},
    ],
    ids=str,
)
def test_junk_is_refused(change: dict[str, object]) -> None:
    value = {"id": "x.1", "made_at": NOW.isoformat(), "counts": [[*ALICE, 1]], **change}
    with pytest.raises(BatchUnreadable):
        decode(json.dumps(value).encode(), name="x.1")


@settings(max_examples=60)
@given(st.binary(max_size=200))
def test_any_octets_are_refused(content: bytes) -> None:
    with pytest.raises(BatchUnreadable):
        decode(content, name="x.1")


def test_a_folder_that_comes_later(tmp_path: Path) -> None:
    (tmp_path / "place").write_text("a file where a folder should be")
    spool = Spool(tmp_path / "place" / "spool")
    batch = spool.new(now=NOW)
    batch.add(ALICE, 1)
    with pytest.raises(OSError, match="Not a directory"):
        spool.write(batch)
    (tmp_path / "place").unlink()
    spool.write(batch)
    # It is locked: nobody takes it before it is whole.
    assert _left_over(tmp_path / "place" / "spool") == []
    spool.close()
    assert _left_over(tmp_path / "place" / "spool") == [batch]
