"""The line between supervisor and worker, seen from the worker."""

from __future__ import annotations

import threading
import time

import pytest

from mailsigil.process.control import Closed, Line, Order, Word, WorkerControl


@pytest.fixture
def ends() -> tuple[Line, Line]:
    return Line.pair()


def heard(line: Line, count: int) -> list[Word]:
    words: list[Word] = []
    limit = time.monotonic() + 5
    while len(words) < count and time.monotonic() < limit:
        word = line.hear()
        if word:
            words.append(word)
        else:
            time.sleep(0.005)
    return words


@pytest.mark.parametrize("word", list(Word), ids=lambda word: word.name.lower())
def test_words_arrive_one_by_one(ends: tuple[Line, Line], word: Word) -> None:
    ours, theirs = ends
    ours.say(word)
    ours.say(Word.RELOAD)
    assert [theirs.hear(), theirs.hear(), theirs.hear()] == [word, Word.RELOAD, None]


def test_an_unknown_word_is_none_and_the_log_has_it(
    ends: tuple[Line, Line], caplog: pytest.LogCaptureFixture
) -> None:
    ours, theirs = ends
    for end in ends:
        end._end.send(b"junk\n")
        end.say(Word.READY)
    assert (ours.hear(), ours.hear()) == (None, Word.READY)
    assert theirs.hear_order() is None
    assert theirs.hear_order() == Order(Word.READY)
    assert caplog.text.count(r"an unknown word on the line: b'junk\n'") == 2


def test_end_of_the_line(ends: tuple[Line, Line]) -> None:
    ours, theirs = ends
    ours.close()
    theirs.say(Word.READY)  # into the void, without harm
    with pytest.raises(Closed):
        theirs.hear()


def test_full_line_neither_blocks_nor_raises(ends: tuple[Line, Line]) -> None:
    for _ in range(10_000):
        ends[0].say(Word.RELOAD)
    assert ends[1].hear() is Word.RELOAD


def test_worker_says_ready_reloads_and_retires(ends: tuple[Line, Line]) -> None:
    ours, theirs = ends
    calls: list[str] = []
    for word in (Word.RELOAD, Word.RELOAD, Word.RETIRE, Word.RETIRE):
        ours.say(word)
    WorkerControl(theirs, drain_seconds=5).serve(
        on_reload=lambda handed: calls.append("reload"), on_retire=lambda: calls.append("retire")
    )
    assert heard(ours, 3) == [Word.READY, Word.RELOADED, Word.RELOADED]
    assert calls == ["reload", "reload", "retire"]


def test_failed_reload_is_logged_and_answered(
    ends: tuple[Line, Line], caplog: pytest.LogCaptureFixture
) -> None:
    ours, theirs = ends

    def fail(handed: bytes) -> None:
        raise ValueError("no such key")

    ours.say(Word.RELOAD)
    ours.say(Word.RETIRE)
    WorkerControl(theirs, drain_seconds=5).serve(on_reload=fail)
    assert heard(ours, 2) == [Word.READY, Word.RELOADED]
    assert "no such key" in caplog.text


def test_worker_stays_until_finished(ends: tuple[Line, Line]) -> None:
    ours, theirs = ends
    answers = iter([False, False, True])
    ours.say(Word.RETIRE)
    WorkerControl(theirs, drain_seconds=60).serve(finished=lambda: next(answers))
    assert list(answers) == []


def test_worker_that_retires_by_itself_tells_it(ends: tuple[Line, Line]) -> None:
    ours, theirs = ends
    control = WorkerControl(theirs, drain_seconds=5)
    threading.Timer(0.05, control.retiring).start()
    control.serve()
    assert heard(ours, 2) == [Word.READY, Word.RETIRING]


def test_lost_supervisor_gives_the_drain_time_and_no_more(ends: tuple[Line, Line]) -> None:
    ours, theirs = ends
    ours.close()
    retired: list[float] = []
    started = time.monotonic()
    WorkerControl(theirs, drain_seconds=0.2).serve(
        on_retire=lambda: retired.append(time.monotonic()), finished=lambda: False
    )
    assert len(retired) == 1
    assert 0.15 < time.monotonic() - started < 2


def test_in_a_thread(ends: tuple[Line, Line]) -> None:
    ours, theirs = ends
    stop = threading.Event()
    WorkerControl(theirs, drain_seconds=5).start(on_retire=stop.set)
    assert heard(ours, 1) == [Word.READY]
    ours.say(Word.RETIRE)
    assert stop.wait(5)
