"""What ``mailsigil sync`` shows: the plan, and what happened to whom; for people and for programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from mailsigil.cli.printable import printable
from mailsigil.cli.tables import Column, laid_out, wrapped
from mailsigil.lifecycle.actions import Action
from mailsigil.lifecycle.carry_out import Report
from mailsigil.lifecycle.plan import Plan
from mailsigil.lifecycle.turnover import Outcome, Result

MAX_SHOWN: Final = 40
"""Rows of a table, and causes; what is beyond is counted."""
_COLUMNS: Final = (
    Column("Address"),
    Column("Step"),
    Column("Level"),
    Column("Source"),
    Column("Why", wraps=True),
)
_DONE_WITH: Final = {Outcome.DONE: "green", Outcome.PENDING: "yellow", Outcome.FAILED: "red"}


def show_plan(console: Console, plan: Plan, others: Mapping[str, int]) -> None:
    """Show a plan as a table, with how much there is of each kind."""
    if plan.actions:
        say(console, "What is to be done")
        rows = [
            (action.address, action.kind.value, _level(action), action.source, action.reason)
            for action in plan.actions
        ]
        for line in laid_out(_COLUMNS, rows, _width(console), most=MAX_SHOWN).lines:
            _print(console, line)
        _more(console, len(plan.actions))
    _show_groups(console, [(note.address, note.sentence, "yellow") for note in plan.notes])
    for source, count in sorted(others.items()):
        say(
            console,
            f'{count} certificates are of a source "{source}" that the settings do not name; they are left'
            " alone",
            "yellow",
        )
    counts = ", ".join(f"{number} {kind.value}" for kind, number in plan.counts().items())
    counts = counts or "nothing is to be done"
    say(console, f"{plan.people} should have a certificate, {plan.live} are there; {counts}")


def show_report(console: Console, report: Report) -> None:
    """Show what happened to whom: what was not done with its cause, the rest in numbers."""
    rest = [result for result in report.results if result.outcome is not Outcome.DONE]
    if rest:
        say(console, "What was not done")
        _show_groups(
            console,
            [
                (
                    result.action.address,
                    f"{result.action.kind.value} {result.outcome.value}: {result.sentence}",
                    _DONE_WITH.get(result.outcome, ""),
                )
                for result in rest
            ],
        )
    for sentence in dict.fromkeys(report.trouble):
        say(console, sentence, "red")
    counts = ", ".join(f"{number} {outcome}" for outcome, number in report.counts().items() if number)
    say(console, counts or "Nothing was to be done.")


def say(console: Console, text: str, style: str = "") -> None:
    """Show a sentence, as wide as the terminal is."""
    for line in wrapped(printable(text), _width(console)):
        _print(console, line, style)


def plan_values(plan: Plan) -> dict[str, Any]:
    """A plan for programs, whole."""
    return {
        "people": plan.people,
        "live": plan.live,
        "counts": {kind.value: number for kind, number in plan.counts().items()},
        "steps": [_step(action) for action in plan.actions],
        "notes": [
            {"address": note.address, "source": note.source, "sentence": note.sentence} for note in plan.notes
        ],
    }


def report_values(report: Report) -> dict[str, Any]:
    """A report for programs, whole."""
    return {
        "counts": report.counts(),
        "trouble": report.trouble,
        "results": [_result(result) for result in report.results],
    }


def _show_groups(console: Console, told: Iterable[tuple[str, str, str]]) -> None:
    """Show addresses with a sentence and its style: one cause for many is told once, with all of them."""
    groups: dict[tuple[str, str], dict[str, None]] = {}
    for address, sentence, style in told:
        groups.setdefault((sentence, style), {})[address] = None
    for (sentence, style), addresses in list(groups.items())[:MAX_SHOWN]:
        many = len(addresses) > 1
        say(console, f"{f'{len(addresses)} people' if many else next(iter(addresses))}: {sentence}", style)
        if many:
            _show_addresses(console, addresses)
    _more(console, len(groups))


def _show_addresses(console: Console, addresses: Iterable[str]) -> None:
    """Side by side on a terminal; in a pipe each has a line of its own."""
    width = _width(console)
    plain = map(printable, addresses)
    for text in plain if width is None else [" ".join(plain)]:
        for line in wrapped(text, width, indent="  "):
            _print(console, line)


def _width(console: Console) -> int | None:
    return console.width if console.is_terminal else None


def _print(console: Console, line: str, style: str = "") -> None:
    # Lines are as long as they are to be; in a pipe rich would break them where a terminal would end.
    console.print(Text(line), style=style, soft_wrap=True)


def _step(action: Action) -> dict[str, str]:
    return {
        "step": action.kind.value,
        "address": action.address,
        "source": action.source,
        "level": _level(action),
        "serial": action.held.serial if action.held is not None else "",
        "why": action.reason,
    }


def _result(result: Result) -> dict[str, str]:
    return {**_step(result.action), "outcome": result.outcome.value, "sentence": result.sentence}


def _level(action: Action) -> str:
    request = action.request or (action.held.request if action.held is not None else None)
    return request.level.value if request is not None else ""


def _more(console: Console, number: int) -> None:
    if number > MAX_SHOWN:
        _print(console, f"… and {number - MAX_SHOWN} more (all with --json)")
