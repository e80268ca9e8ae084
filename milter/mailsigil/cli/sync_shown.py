"""What ``mailsigil sync`` shows: the plan, and what happened to whom; for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rich.console import Console
from rich.markup import escape as without_markup
from rich.table import Table

from mailsigil.cli.printable import printable
from mailsigil.lifecycle.actions import Action
from mailsigil.lifecycle.carry_out import Report
from mailsigil.lifecycle.plan import Plan
from mailsigil.lifecycle.turnover import Outcome, Result

MAX_SHOWN: Final = 40
"""Rows of a table; what is beyond is counted."""
_DONE_WITH: Final = {Outcome.DONE: "green", Outcome.PENDING: "yellow", Outcome.FAILED: "red"}


def show_plan(console: Console, plan: Plan, others: Mapping[str, int]) -> None:
    """Show a plan as a table, with how much there is of each kind."""
    if plan.actions:
        table = _table("What is to be done", "Step", "Address", "Level", "Source", "Why")
        for action in plan.actions[:MAX_SHOWN]:
            table.add_row(
                action.kind.value,
                _plain(action.address),
                _level(action),
                _plain(action.source),
                _plain(action.reason),
            )
        console.print(table)
        _more(console, len(plan.actions))
    for note in plan.notes[:MAX_SHOWN]:
        console.print(f"{_plain(note.address)}: {_plain(note.sentence)}", style="yellow")
    _more(console, len(plan.notes))
    for source, count in sorted(others.items()):
        console.print(
            f'{count} certificates are of a source "{_plain(source)}" that the settings do not name; they are'
            " left alone",
            style="yellow",
        )
    counts = ", ".join(f"{number} {kind.value}" for kind, number in plan.counts().items())
    console.print(
        f"{plan.people} should have a certificate, {plan.live} are there; {counts or 'nothing is to be done'}"
    )


def show_report(console: Console, report: Report) -> None:
    """Show what happened to whom: what was not done one by one, the rest in numbers."""
    rest = [result for result in report.results if result.outcome is not Outcome.DONE]
    if rest:
        table = _table("What was not done", "Step", "Address", "Outcome", "Why")
        for result in rest[:MAX_SHOWN]:
            style = _DONE_WITH.get(result.outcome, "")
            table.add_row(
                result.action.kind.value,
                _plain(result.action.address),
                result.outcome.value,
                _plain(result.sentence),
                style=style,
            )
        console.print(table)
        _more(console, len(rest))
    for sentence in report.trouble:
        console.print(_plain(sentence), style="red")
    counts = ", ".join(f"{number} {outcome}" for outcome, number in report.counts().items() if number)
    console.print(counts or "Nothing was to be done.")


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


def _plain(text: str) -> str:
    return without_markup(printable(text))


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, box=None, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")  # Cut off, an address would be nobody's.
    return table


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
        console.print(f"… and {number - MAX_SHOWN} more (all with --json)")
