"""``mailsigil usage``: how many signatures each sender made in a month."""

from __future__ import annotations

import csv
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

import click

from mailsigil.cli.database import become_agents_user, opened_database
from mailsigil.cli.misuse import Misuse
from mailsigil.cli.options import settings_option
from mailsigil.cli.printable import json_text, printable
from mailsigil.clock import utc_now
from mailsigil.config.settings import Settings
from mailsigil.pki.policies import Level
from mailsigil.usage.batch import is_month
from mailsigil.usage.companion import spool_folder
from mailsigil.usage.spool import Spool
from mailsigil.usage.store import Usage, UsageStore

_LEVELS: Final = tuple(level.value for level in Level)


@click.command()
@click.option("--month", metavar="YYYY-MM", default="", help="The month, in UTC [default: this one].")
@click.option("--json", "as_json", is_flag=True, help="For programs: JSON instead of tables.")
@click.option("--csv", "as_csv", is_flag=True, help="For spreadsheets: a line for each sender and level.")
@settings_option
def command(month: str, as_json: bool, as_csv: bool, settings: Settings) -> None:
    """Show how many signatures each sender made in a month, with totals by domain and level.

    The key agent writes its counts into the database every few seconds. Run it as root or as the key agent's
    user. With several mail servers and PostgreSQL the counts are those of all of them.
    """
    if as_json and as_csv:
        raise Misuse("choose one of --json and --csv")
    chosen = _chosen(month)
    if not settings.counts_usage:
        raise Misuse('signatures are not counted: enable [lifecycle], or write count = "on" into [usage]')
    become_agents_user(settings)
    made_by = (
        "the first `mailsigil sync`" if settings.lifecycle.enabled else "the key agent's first signature"
    )
    with opened_database(settings.lifecycle, made_by=made_by) as database:
        store = UsageStore(database)
        waiting = _bring_in(store, Spool(spool_folder(settings)))
        found = list(store.month(chosen))
        months = store.months()
    if as_json:
        click.echo(json_text(_values(chosen, found, waiting)))
    elif as_csv:
        _print_csv(chosen, found)
    else:
        _print(chosen, found, months)
    if waiting and not as_json:
        number = "1 signature" if waiting == 1 else f"{waiting} signatures"
        click.echo(f"Not in the database yet: {number} of this machine.", err=True)


def _chosen(month: str) -> str:
    if not month:
        return f"{utc_now():%Y-%m}"
    if not is_month(month):
        raise Misuse(f'"{month}" is no month; write one like {utc_now():%Y-%m}')
    return month


def _bring_in(store: UsageStore, spool: Spool) -> int:
    """What an agent that was stopped left in its folder is counted, too; gives what has to wait."""
    gone: list[str] = []
    try:
        with spool.left_over() as batches:
            for batch in batches:
                store.add(batch, gone=gone, now=utc_now())
                spool.drop(batch)
                gone = [batch.id]
        return spool.waiting()
    except OSError as error:
        raise Misuse(f"the folder {spool.folder} cannot be used: {error.strerror}") from error


def _by_level(usages: Iterable[Usage]) -> dict[str, int]:
    counted = Counter[str]()
    for usage in usages:
        counted[usage.level] += usage.signatures
    return {level: counted[level] for level in _LEVELS if counted[level]}


def _grouped(usages: Iterable[Usage], name: str) -> dict[str, list[Usage]]:
    groups: dict[str, list[Usage]] = {}
    for usage in usages:
        groups.setdefault(getattr(usage, name), []).append(usage)
    return groups


def _values(month: str, found: Sequence[Usage], waiting: int) -> dict[str, Any]:
    def entries(name: str) -> list[dict[str, Any]]:
        return [
            {name: key, "signatures": sum(each.signatures for each in group), "levels": _by_level(group)}
            for key, group in sorted(_grouped(found, name).items())
        ]

    return {
        "month": month,
        "signatures": sum(usage.signatures for usage in found),
        "waiting": waiting,
        "levels": _by_level(found),
        "domains": entries("domain"),
        "senders": entries("address"),
    }


def _print(month: str, found: Sequence[Usage], months: Sequence[str]) -> None:
    if not found:
        others = f"; there are counts of {', '.join(months[-12:])}" if months else ""
        click.echo(f"No signatures were counted in {month}{others}.")
        return
    levels = [level for level in _LEVELS if any(usage.level == level for usage in found)]
    senders = _rows(_grouped(found, "address"), levels)
    domains = _rows(_grouped(found, "domain"), levels)
    total = _rows({"all": found}, levels)
    heads = [["Sender", *levels, "signatures"], ["Domain", *levels, "signatures"]]
    every = [*heads, *senders, *domains, *total]
    widths = [max(len(row[column]) for row in every) for column in range(len(heads[0]))]
    click.echo(f"Signatures in {month} (UTC)\n")
    for block in ([heads[0], *senders], [heads[1], *domains, *total]):
        for row in block:
            cells = [row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]
            click.echo("  ".join(cells))
        click.echo("")


def _rows(groups: dict[str, Any], levels: Sequence[str]) -> list[list[str]]:
    rows = []
    for name, group in sorted(groups.items()):
        counted = _by_level(group)
        numbers = [counted.get(level, 0) for level in levels]
        rows.append([printable(name), *(str(number or "-") for number in numbers), str(sum(numbers))])
    return rows


def _print_csv(month: str, found: Sequence[Usage]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["month", "sender", "domain", "level", "signatures"])
    for usage in found:
        sender, domain = printable(usage.address), printable(usage.domain)
        writer.writerow([month, sender, domain, usage.level, usage.signatures])
