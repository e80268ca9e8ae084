"""``mailsigil ca pending``: requests for certificates that wait for a decision."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from mailsigil.ca.approvals import Approvals, State, Waiting
from mailsigil.cli.misuse import Misuse
from mailsigil.keys.authority_files import AuthorityError

_directory = click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    required=True,
    help="Folder of the authority.",
)


@click.group()
def pending() -> None:
    """Requests that wait for a decision, where a rule of ca.toml says approval = "required".

    The client was told to ask again, and gets its certificate after `approve`. A decision is for exactly
    what was asked: this user, this key, these names.
    """


@pending.command(name="list")
@_directory
@click.option("--json", "as_json", is_flag=True, help="Write one JSON list instead of lines for people.")
def list_pending(directory: Path, as_json: bool) -> None:
    """List the requests, the oldest first."""
    try:
        entries = _queue(directory).entries()
    except AuthorityError as error:
        raise Misuse(str(error)) from error
    if as_json:
        rows = [{**asdict(one), "asked": one.asked.isoformat()} for one in entries]
        click.echo(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    if not entries:
        click.echo("no request waits for a decision", err=True)
    for one in entries:
        why = f" ({one.reason})" if one.reason else ""
        click.echo(
            f"{one.identifier}  {one.asked:%Y-%m-%d %H:%M}  {one.user}  {one.level:<3} {_shown(one)}"
            f"  {one.state}{why}"
        )


@pending.command()
@_directory
@click.argument("identifiers", metavar="ID...", nargs=-1, required=True)
def approve(directory: Path, identifiers: tuple[str, ...]) -> None:
    """Approve requests by their ID: each gets its certificate when its client asks again."""
    _decide(directory, identifiers, State.APPROVED, "")


@pending.command()
@_directory
@click.argument("identifiers", metavar="ID...", nargs=-1, required=True)
@click.option("--reason", default="", help="Why; the client is told.")
def refuse(directory: Path, identifiers: tuple[str, ...], reason: str) -> None:
    """Refuse requests by their ID. The same request is refused for 30 days."""
    _decide(directory, identifiers, State.REFUSED, reason)


def _decide(directory: Path, identifiers: tuple[str, ...], state: State, reason: str) -> None:
    try:
        for identifier in identifiers:
            one = _queue(directory).decide(identifier, state, reason=reason)
            click.echo(f"{one.identifier}: {state.value}, {one.level} for {_shown(one)}")
    except AuthorityError as error:
        raise Misuse(str(error)) from error


def _queue(directory: Path) -> Approvals:
    return Approvals(directory, now=lambda: datetime.now(UTC))


def _shown(one: Waiting) -> str:
    person = f"{one.given_name} {one.surname}".strip()
    return ", ".join(filter(None, (one.address, person, one.title, one.organisation)))
