"""Lines of the log: as Python's own formatter writes them, and none that takes the program down."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from mailsigil.cli.logs import LineHandler, start_logging
from mailsigil.config.settings import LogSettings


def record(
    message: str, *arguments: object, created: float = 1795313716.042, **more: object
) -> logging.LogRecord:
    made = logging.makeLogRecord(
        {
            "name": "mailsigil.milter",
            "msg": message,
            "args": arguments,
            "levelno": 20,
            "levelname": "INFO",
            **more,
        }
    )
    made.created, made.msecs = created, (created % 1) * 1000
    return made


def written(*records: logging.LogRecord) -> str:
    stream = io.StringIO()
    handler = LineHandler(stream)
    for one in records:
        handler.handle(one)
    return stream.getvalue()


def formatted(*records: logging.LogRecord) -> str:
    form = logging.Formatter("%(asctime)s %(name)s[%(process)d]: %(levelname)s %(message)s")
    return "".join(form.format(one) + "\n" for one in records)


@pytest.mark.parametrize("created", [0.0, 1795313716.0, 1795313716.042, 1795313716.9994, 1795313717.5])
def test_as_the_formatter_writes_it(created: float) -> None:
    one = record("%s: signed key=%s", "4ABC", "x", created=created)
    assert written(one) == formatted(one)


def test_the_time_goes_on_and_back() -> None:
    records = [record("x", created=second) for second in (100.5, 101.25, 101.75, 100.0)]
    assert written(*records) == formatted(*records)


def test_a_traceback_stands_behind_its_line() -> None:
    try:
        raise ValueError("why")
    except ValueError as error:
        one = record("failed", exc_info=(type(error), error, error.__traceback__))
    lines = written(one).splitlines()
    assert lines[0].endswith("INFO failed")
    assert lines[1] == "Traceback (most recent call last):"
    assert lines[-1] == "ValueError: why"


def test_a_line_that_cannot_be_made_keeps_nobody_from_going_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert written(record("%d", "no number"), record("next")).endswith("INFO next\n")
    assert "--- Logging error ---" in capsys.readouterr().err


@pytest.fixture
def untouched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The logging of the tests comes back."""
    for name in ("_srcfile", "logThreads", "logMultiprocessing"):
        monkeypatch.setattr(logging, name, getattr(logging, name))
    root, ours = logging.getLogger(), logging.getLogger("mailsigil")
    before = list(root.handlers), root.level, ours.level
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    ours.setLevel(before[2])


@pytest.mark.usefixtures("untouched")
def test_standard_error_is_where_it_goes(capsys: pytest.CaptureFixture[str]) -> None:
    start_logging(LogSettings(level="info"))
    logging.getLogger("mailsigil.milter").info("here")
    logging.getLogger("mailsigil.milter").debug("not here")
    said = capsys.readouterr().err
    assert said.endswith(": INFO here\n")
    assert "not here" not in said
