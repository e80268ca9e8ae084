"""What ``mailsigil keys`` shows of certificates: lines for people, values for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

import click

from mailsigil.cli.printable import json_text, printable
from mailsigil.keys.admin import ListedKey
from mailsigil.lifecycle.overview import Known, Summary


def show_listed(keys: Sequence[ListedKey], *, as_json: bool) -> None:
    """Show what the agent has at hand."""
    if as_json:
        click.echo(json_text([asdict(key) for key in keys]))
        return
    for key in keys:
        addresses = ", ".join(key.addresses)
        line = f"{key.key_id}  {key.level}  until {key.valid_until[:10]}  {key.source or '-'}  {addresses}"
        click.echo(printable(line))


def known_line(known: Known, now: datetime) -> str:
    """One certificate as a line."""
    held = known.held
    left = known.days_left(now)
    days = "" if left is None else f"{left} days"
    return printable(
        f"{known.level}  {held.status:10}  {days:>9}  {held.serial or '-':40}  {held.source}  {held.address}"
    )


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


def _numbers(values: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in values.items()) or "none"
