"""Rows for people: a table where there is room for one, else some lines for each; in a pipe one line each.

An address is never broken, because half of one cannot be copied. ``width`` is that of the terminal; None is a
pipe or a file, where nothing is wrapped or left out.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from rich.cells import cell_len

from mailsigil.cli.printable import printable

ROOM_TO_WRAP: Final = 30
"""A text in less room than this is no sentence any more."""
_GAP: Final = "  "
_Row = Sequence[str]


@dataclass(frozen=True, slots=True)
class Column:
    """One column. The first one of a table names its rows, and always stays."""

    name: str
    is_number: bool = False
    gives_way: bool = False
    """It is left out where the terminal is too narrow."""
    wraps: bool = False
    """It takes the room that is left, in several lines; for the last column."""


@dataclass(frozen=True, slots=True)
class Laid:
    """A table as lines; ``left_out`` are the columns that there was no room for."""

    lines: list[str]
    left_out: tuple[str, ...] = ()


def terminal_width() -> int | None:
    """How wide standard output is; None where it is no terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def wrapped(text: str, width: int | None, *, indent: str = "", hanging: str | None = None) -> list[str]:
    """A text in lines, with no word broken; ``hanging`` is in front of all lines but the first."""
    if width is None:
        return [indent + text]
    return textwrap.wrap(
        text,
        max(width, 20),
        initial_indent=indent,
        subsequent_indent=indent if hanging is None else hanging,
        break_long_words=False,
        break_on_hyphens=False,
    ) or [indent.rstrip()]


def laid_out(
    columns: Sequence[Column], rows: Sequence[_Row], width: int | None, *, most: int | None = None
) -> Laid:
    """Lay rows out, ``most`` of them. What is the same in all that there are is said once, above."""
    rows = [tuple(map(printable, row)) for row in rows]
    if width is None:
        return Laid(list(_table(columns, rows[:most], None)))
    above, same = _said_once(columns, rows)
    columns, rows = _without(columns, rows[:most], same)
    start = wrapped(above, width) if above else []
    left_out: list[str] = []
    for column in (None, *(each for each in reversed(columns) if each.gives_way)):
        if column is not None:
            columns, rows = _without(columns, rows, [column])
            left_out.append(column.name)
        if _needed(columns, rows) <= width:
            return Laid([*start, *_table(columns, rows, width)], tuple(left_out))
    return Laid([*start, *_stacked(rows, width)], tuple(left_out))


def _said_once(columns: Sequence[Column], rows: Sequence[_Row]) -> tuple[str, list[Column]]:
    """What all rows say, and in which columns; of a single row that is nothing."""
    if len(rows) < 2:
        return "", []
    values = [{row[number] for row in rows} for number in range(len(columns))]
    same = [(column, one) for column, (one, *more) in list(zip(columns, values, strict=True))[1:] if not more]
    said = "; ".join(f"{column.name.lower()} {one}" for column, one in same if one)
    return f"For all of them: {said}" if said else "", [column for column, _ in same]


def _without(
    columns: Sequence[Column], rows: Sequence[_Row], gone: Collection[Column]
) -> tuple[list[Column], list[_Row]]:
    kept = [number for number, column in enumerate(columns) if column not in gone]
    return [columns[number] for number in kept], [[row[number] for number in kept] for row in rows]


def _widths(columns: Sequence[Column], rows: Sequence[_Row]) -> list[int]:
    every = [[column.name for column in columns], *rows]
    return [max(cell_len(row[number]) for row in every) for number in range(len(columns))]


def _needed(columns: Sequence[Column], rows: Sequence[_Row]) -> int:
    widths = _widths(columns, rows)
    least = [
        min(width, ROOM_TO_WRAP) if column.wraps else width
        for column, width in zip(columns, widths, strict=True)
    ]
    return sum(least) + len(_GAP) * (len(least) - 1)


def _table(columns: Sequence[Column], rows: Sequence[_Row], width: int | None) -> Iterator[str]:
    widths = _widths(columns, rows)
    for row in ([column.name for column in columns], *rows):
        cells = [_padded(*each) for each in zip(row, columns, widths, strict=True)]
        if width is None or not columns[-1].wraps:
            yield _GAP.join(cells).rstrip()
            continue
        front = "".join(cell + _GAP for cell in cells[:-1])
        yield from wrapped(row[-1], width, indent=front, hanging=" " * cell_len(front))


def _padded(text: str, column: Column, width: int) -> str:
    fill = " " * (width - cell_len(text))
    return fill + text if column.is_number else text + fill


def _stacked(rows: Sequence[_Row], width: int) -> Iterator[str]:
    """What names the row in a line of its own, and the rest below it."""
    for first, *rest in rows:
        yield first
        yield from wrapped(", ".join(filter(None, rest)), width, indent=_GAP)
