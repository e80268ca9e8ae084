"""``mailsigil sync``: a certificate for everybody in the directory, and none for anybody else."""

from __future__ import annotations

import gc
import getpass
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Final

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mailsigil.cli.misuse import Misuse
from mailsigil.cli.options import config_errors_shown, settings_option
from mailsigil.cli.printable import json_text
from mailsigil.cli.sync_shown import plan_values, report_values, say, show_plan, show_report
from mailsigil.clock import utc_now
from mailsigil.config.settings import Settings
from mailsigil.directory.api import DirectoryUnavailable
from mailsigil.directory.opening import open_directory
from mailsigil.keys.errors import SourceError
from mailsigil.keys.hygiene import guard_memory
from mailsigil.lifecycle.carry_out import Report
from mailsigil.lifecycle.errors import LifecycleError
from mailsigil.lifecycle.plan import Plan
from mailsigil.lifecycle.run import House, Run, begin, look, open_house
from mailsigil.lifecycle.upgrade import preload
from mailsigil.message.address import Address, AddressError
from mailsigil.process.privileges import PrivilegeError, become

INTERRUPTED: Final = 130
"""As shells have it: 128, and the number of SIGINT."""
COLLECT_EVERY: Final = 10_000
"""Objects that are made between two searches for cycles."""


@click.command()
@click.option("--dry-run", is_flag=True, help="Show what is to be done, and do nothing of it.")
@click.option("--json", "as_json", is_flag=True, help="For programs: JSON instead of tables.")
@click.option(
    "--allow-revocations",
    type=click.IntRange(min=0),
    metavar="N",
    help="Take away the certificates of up to N people without asking.",
)
@click.option("--only", metavar="ADDRESS", default="", help="Look after this address alone.")
@click.option("--accept-clock", is_flag=True, help="Go on although the clock seems to have jumped.")
@settings_option
def command(
    dry_run: bool,
    as_json: bool,
    allow_revocations: int | None,
    only: str,
    accept_clock: bool,
    settings: Settings,
) -> None:
    """Give everybody in the directory the certificate that they are entitled to, and nobody else.

    Shows the plan, and carries it out: certificates are issued, renewed, replaced where a name or title has
    changed, and revoked where a person left or the organisation's validation lapsed. It may break off at any
    time; the next run goes on. Run it as root or as the key agent's user.

    Exit status: 0 all is done, 1 something is left (a step failed, or a person has to be asked), 2 wrong use
    or configuration, or directory or database cannot be asked.
    """
    if not settings.lifecycle.enabled:
        raise Misuse(
            "[lifecycle] is not enabled, so the key agent looks after certificates in its own way: write"
            " enabled = true into it"
        )
    address = _address(only)
    with _opened(settings, rehearsing=dry_run) as house:
        try:
            with nullcontext(look(house)) if dry_run else begin(house, who=f"sync by {_user()}") as run:
                if not accept_clock:
                    run.check_clock()
                status = _run(run, address, dry_run=dry_run, as_json=as_json, allowed=allow_revocations)
        except (LifecycleError, DirectoryUnavailable, SourceError) as error:
            raise Misuse(str(error)) from error
        except KeyboardInterrupt:
            click.echo(
                "Interrupted. What was done so far is whole; the next run goes on where this one ended.",
                err=True,
            )
            raise SystemExit(INTERRUPTED) from None
    raise SystemExit(status)


def _run(run: Run, only: str, *, dry_run: bool, as_json: bool, allowed: int | None) -> int:
    console = Console(highlight=False, emoji=False)
    plan = run.plan(only=only)
    others = run.other_sources()
    stop = run.stop(plan, allowed=allowed)
    if not as_json:
        show_plan(console, plan, others)
    if dry_run:
        if as_json:
            _print_json({"plan": plan_values(plan), "stop": stop.sentence if stop else ""})
        elif stop is not None:
            say(console, f"A person would be asked: {stop.sentence}.", "yellow")
        return 1 if stop else 0
    if stop is not None:
        if not (not as_json and sys.stdin.isatty() and click.confirm(f"Attention: {stop.sentence}. Go on?")):
            sentence = f"{stop.sentence}; nothing was done (see --allow-revocations)"
            if as_json:
                _print_json({"plan": plan_values(plan), "stop": sentence})
            else:
                click.echo(f"Stopped: {sentence}.", err=True)
            return 1
        allowed = stop.takes_away
    report = _carry_out(run, plan, allowed, bar=not as_json and console.is_terminal)
    if as_json:
        _print_json({"plan": plan_values(plan), "report": report_values(report)})
    else:
        show_report(console, report)
    return 0 if report.is_whole else 1


def _carry_out(run: Run, plan: Plan, allowed: int | None, *, bar: bool) -> Report:
    if not plan.actions:
        return run.carry_out(plan, allowed=allowed)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=not bar) as progress:
        task = progress.add_task("Certificates", total=len(plan.actions))
        return run.carry_out(plan, allowed=allowed, on_result=lambda _: progress.advance(task))


@contextmanager
def _opened(settings: Settings, *, rehearsing: bool) -> Iterator[House]:
    try:
        if os.geteuid() == 0:
            if settings.keyd.user:
                preload(settings.lifecycle)
            # What it writes is the key agent's: as root it could not even be read there.
            become(settings.keyd.user)
        guard_memory()
        # A run makes objects by the hundred thousand, and next to no cycle.
        gc.freeze()
        gc.set_threshold(COLLECT_EVERY)
        with config_errors_shown():
            directory = open_directory(settings)
        house = open_house(settings, directory, now=utc_now, rehearsing=rehearsing)
    except (PrivilegeError, LifecycleError) as error:
        raise Misuse(str(error)) from error
    try:
        yield house
    finally:
        house.close()


def _user() -> str:
    return os.environ.get("SUDO_USER") or getpass.getuser()


def _address(text: str) -> str:
    if not text:
        return ""
    try:
        return Address.parse(text).key
    except AddressError as error:
        raise Misuse(f"{text} is no mail address: {error}") from error


def _print_json(value: object) -> None:
    click.echo(json_text(value))
