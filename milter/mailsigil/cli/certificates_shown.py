"""What ``mailsigil keys`` shows of certificates: lines for people, values for programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any, Final

import click

from mailsigil.cli.printable import json_text, printable
from mailsigil.cli.tables import Column, laid_out, terminal_width, wrapped
from mailsigil.keys.admin import ListedKey
from mailsigil.lifecycle.overview import Happened, Known, Summary

NARROW: Final = 60
"""On a terminal of less than this a key's name does not fit beside its label."""
_KNOWN: Final = (
    Column("Address"),
    Column("Level"),
    Column("Status"),
    Column("Left", is_number=True),
    Column("Source"),
    Column("Serial", gives_way=True),
)
_AT_HAND: Final = (
    Column("Address"),
    Column("Level"),
    Column("Until"),
    Column("Source"),
    Column("Key", gives_way=True),
)


def show_listed(keys: Sequence[ListedKey], *, as_json: bool) -> None:
    """Show what the agent has at hand."""
    if as_json:
        click.echo(json_text([asdict(key) for key in keys]))
        return
    rows = [
        (", ".join(key.addresses), key.level, key.valid_until[:10], key.source or "-", key.key_id)
        for key in keys
    ]
    _show_table(_AT_HAND, rows)


def show_known(found: Iterable[Known], now: datetime) -> None:
    """Show certificates, one in each row."""
    _show_table(_KNOWN, [_known_row(each, now) for each in found])


def lines_with_serials(found: Iterable[Known], now: datetime) -> list[str]:
    """Certificates with the serial numbers that tell them apart, however narrow the terminal is."""
    columns = [replace(column, gives_way=False) for column in _KNOWN]
    return laid_out(columns, [_known_row(each, now) for each in found], terminal_width()).lines


def show_details(known: Known, inside: Mapping[str, Any], now: datetime) -> None:
    """Show all that is known of a certificate; ``inside`` is what stands in it."""
    width = terminal_width()
    click.echo(printable(f"{known.held.address}: {known.held.status}"))
    for name, value in {**known_values(known, now), **inside}.items():
        if name in ("address", "addresses", "status") or value in ("", None):
            continue
        label = name.replace("_", " ")
        if width is not None and width < NARROW:
            lines = wrapped(printable(f"{label}: {value}"), width, indent="  ", hanging=" " * 4)
        else:
            front = f"  {label:14}"
            lines = wrapped(printable(str(value)), width, indent=front, hanging=" " * len(front))
        click.echo("\n".join(lines))
    click.echo("")


def show_history(history: Iterable[Happened]) -> None:
    """Show what happened, the oldest first; in a pipe each in one line."""
    width = terminal_width()
    click.echo("What happened:")
    for event in history:
        head = f"  {event.at:%Y-%m-%d %H:%M}  {event.what:10}  {event.who} ({event.node})"
        why = printable(f"{event.serial or 'no serial yet'}: {event.why}")
        if width is None:
            click.echo(f"{printable(head)}  {why}")
            continue
        for line in (*wrapped(printable(head), width, hanging=" " * 6), *wrapped(why, width, indent=" " * 6)):
            click.echo(line)


def known_values(known: Known, now: datetime) -> dict[str, Any]:
    """One certificate for programs; the names are those of what the agent lists, where both have them."""
    held, request = known.held, known.held.request
    return {
        "address": held.address,
        "addresses": [held.address],
        "status": held.status.value,
        "level": known.level,
        "asked_for": request.level.value,
        "name": " ".join(filter(None, (request.given_name, request.surname))),
        "organisation": request.organisation,
        "title": request.title,
        "serial": held.serial,
        "issuer": known.issuer,
        "key_id": held.key_id,
        "valid_from": held.valid_from.isoformat() if held.valid_from else None,
        "valid_until": held.valid_until.isoformat() if held.valid_until else None,
        "days_left": known.days_left(now),
        "revoke_at": held.revoke_at.isoformat() if held.revoke_at else None,
        "source": held.source,
        "node": held.node,
        "reason": held.reason,
        "changed_at": known.changed_at.isoformat(),
    }


def show_summary(summary: Summary) -> None:
    """Show the organisation in numbers."""
    signing = sum(summary.by_level.values())
    click.echo(f"{signing} sign: {_numbers(summary.by_level)}")
    click.echo(f"By status: {_numbers(summary.by_status)}")
    ends = ", ".join(f"{number} within {days} days" for days, number in summary.running_out.items())
    click.echo(f"Running out: {ends}")


def summary_values(summary: Summary) -> dict[str, Any]:
    """The same for programs."""
    return {
        "signing": sum(summary.by_level.values()),
        "by_level": summary.by_level,
        "by_status": summary.by_status,
        "running_out": {str(days): number for days, number in summary.running_out.items()},
    }


def _known_row(known: Known, now: datetime) -> tuple[str, ...]:
    held, left = known.held, known.days_left(now)
    days = "" if left is None else f"{left} days"
    return held.address, known.level, held.status.value, days, held.source, held.serial or "-"


def _show_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    if not rows:
        return
    laid = laid_out(columns, rows, terminal_width())
    for line in laid.lines:
        click.echo(line)
    if laid.left_out:
        missing = " and ".join(laid.left_out)
        click.echo(f"({missing}: in a wider window, with --json, or with `mailsigil keys show`)")


def _numbers(values: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in values.items()) or "none"
