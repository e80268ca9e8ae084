"""The figures as a table, and whether the targets are reached."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from bench.load import SESSIONS
from bench.memory import Growth
from bench.subjects import FLOOR, WORKERS

OPENDKIM = "OpenDKIM, RSA-2048"
RSA = "mailsigil signs, RSA-2048"
P256 = "mailsigil signs, P-256"
FLOOR_SHARE = 0.7
MEMORY_MIB = 16


@dataclass(frozen=True, slots=True)
class Measurement:
    """One run of one subject."""

    rate: float
    """Messages a second, as they were accepted."""
    milter_ms: float
    """CPU milliseconds a message of the milter's processes."""
    total_ms: float
    """The same with Postfix's and the sender's."""


Key = tuple[str, int]
Results = dict[Key, list[Measurement]]


def print_table(results: Results, *, rounds: int, count: int) -> None:
    """One line a subject: medians over the rounds."""
    print(
        f"\nOne private Postfix, mail of 5 KB, {SESSIONS} sessions, {count} messages a run, medians of"
        f" {rounds} rounds\nin turn, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}. Other work on"
        " the machine shows in all figures; the ratios are steadier.\n"
    )
    head = ("", "workers", "messages/s", "CPU ms/message", "with Postfix", "to the floor", "to OpenDKIM")
    rows = [_row(results, key) for key in results]
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    for row in (head, *rows):
        print("  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]))


def print_memory(growths: Sequence[Growth]) -> None:
    """One line a big message."""
    print("\nMemory of the process that grows most, MiB resident")
    for each in growths:
        print(
            f"  {each.what:22} {each.before:6.1f} before, {each.peak:6.1f} at most: +{each.growth:.1f}"
            f"  ({each.process}, {each.seconds:.1f} s)"
        )


def print_targets(results: Results, growths: Sequence[Growth]) -> None:
    """Each target with what was measured and yes or no."""
    print("\nTargets")
    floor = ratio(results, (P256, WORKERS[-1]), (FLOOR, WORKERS[-1]))
    _target(f"P-256 signing reaches {FLOOR_SHARE} of the floor", f"{floor:.2f}", floor >= FLOOR_SHARE)
    opendkim = ratio(results, (RSA, 2), (OPENDKIM, 0))
    _target("RSA-2048 signing is faster than OpenDKIM", f"{opendkim:.2f}", opendkim > 1)
    for name in (RSA, P256):
        gain = ratio(results, (name, 2), (name, 1))
        _target(f"a second worker gains, {name.rpartition(' ')[2]}", f"{gain:.2f}", gain > 1)
    for each in growths:
        _target(
            f"{each.what}: less than {MEMORY_MIB} MiB more",
            f"{each.growth:.1f}",
            each.growth < MEMORY_MIB,
        )


def ratio(results: Results, one: Key, other: Key) -> float:
    """Messages/s of one subject to another's: the median of what it was in each round."""
    return median(a.rate / b.rate for a, b in zip(results[one], results[other], strict=True))


def _row(results: Results, key: Key) -> tuple[str, ...]:
    name, workers = key
    floor = (FLOOR, workers or 2)

    def middle(value: Callable[[Measurement], float]) -> float:
        return median(map(value, results[key]))

    return (
        name,
        str(workers or ""),
        f"{middle(lambda run: run.rate):.0f}",
        f"{middle(lambda run: run.milter_ms):.2f}",
        f"{middle(lambda run: run.total_ms):.2f}",
        f"{ratio(results, key, floor):.2f}",
        f"{ratio(results, key, (OPENDKIM, 0)):.2f}",
    )


def _target(what: str, figure: str, reached: bool) -> None:
    print(f"  {'yes' if reached else 'NO ':3}  {what}: {figure}")
