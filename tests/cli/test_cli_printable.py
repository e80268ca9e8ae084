"""What others wrote steers nobody's terminal."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import NoReturn

import click
import pytest
from click.testing import CliRunner
from rich.console import Console
from sqlalchemy import text

from cli.test_cli_sync import Site
from mailsigil.cli.check import command as check
from mailsigil.cli.explain import command as explain
from mailsigil.cli.keys import command as keys
from mailsigil.cli.misuse import Misuse
from mailsigil.cli.printable import json_text, printable
from mailsigil.cli.sync_shown import show_plan, show_report
from mailsigil.cli.usage import command as usage
from mailsigil.config.lifecycle import LifecycleSettings
from mailsigil.directory.api import DirectoryUnavailable
from mailsigil.directory.file import FileDirectory
from mailsigil.lifecycle.actions import Action, Kind, Note
from mailsigil.lifecycle.carry_out import Report
from mailsigil.lifecycle.database import connect
from mailsigil.lifecycle.plan import Plan
from mailsigil.lifecycle.turnover import Outcome, Result
from mailsigil.policy.entitlement import IdentityFacts

HOSTILE = "\x1b]0;owned\x07 \x9b31m \u202egpj [red]"
HARMLESS = "?]0;owned? ?31m ?gpj [red]"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Zoë Ørsted 王伟", "Zoë Ørsted 王伟"),
        ("a\x1b[2Jb", "a?[2Jb"),
        ("line\nbreak\r", "line?break?"),
        ("\u202e\u2066\u200b", "???"),
        ("\udce4", "?"),
    ],
)
def test_what_shows_as_it_reads(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_json_keeps_the_text_and_steers_nothing() -> None:
    told = json_text({"why": HOSTILE, "tag": "\U000e0001", "name": "Zoë"})
    assert json.loads(told) == {"why": HOSTILE, "tag": "\U000e0001", "name": "Zoë"}
    assert all(line.isprintable() for line in told.splitlines())
    assert "Zoë" in told


def test_refusals() -> None:
    assert Misuse(f"{HOSTILE}\nmore").format_message() == f"{HARMLESS}\nmore"


def test_plan_and_report() -> None:
    action = Action(kind=Kind.REVOKE, source=HOSTILE, address=HOSTILE, reason=HOSTILE)
    plan = Plan(actions=[action] * 2, notes=[Note(source="ca", address=HOSTILE, sentence=HOSTILE)])
    report = Report(results=[Result(action, Outcome.FAILED, HOSTILE)], trouble=[HOSTILE])
    stream = io.StringIO()
    console = Console(file=stream, width=200, highlight=False, emoji=False)
    show_plan(console, plan, {HOSTILE: 2})
    show_report(console, report)
    told = stream.getvalue()
    assert all(line.isprintable() for line in told.splitlines())
    assert told.count(HARMLESS) >= 7


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr("mailsigil.cli.sync.guard_memory", lambda: None)
    site = Site(tmp_path)
    site.bank.hire("alice", "Alice Example")
    site.write()
    assert site.sync()[0] == 0
    # Whoever writes into the database, and an authority's words that were written down.
    with (
        connect(LifecycleSettings(database=f"sqlite:///{tmp_path}/db/l.db")) as database,
        database.change() as connection,
    ):
        connection.execute(text("UPDATE event SET why = :words"), {"words": HOSTILE})
        connection.execute(text("UPDATE certificate SET reason = :words, title = :words"), {"words": HOSTILE})
        connection.execute(
            text("INSERT INTO usage VALUES ('2026-11', :words, 'k', '1f', 'V4', 3)"), {"words": HOSTILE}
        )
    return site


def silent(_: FileDirectory) -> NoReturn:
    raise DirectoryUnavailable(HOSTILE)


@pytest.mark.parametrize(
    ("group", "name", "arguments", "told"),
    [
        (keys, "list", [], ""),
        (keys, "show", ["alice@bank.example"], f"title         {HARMLESS}"),
        (keys, "show", ["alice@bank.example"], f": {HARMLESS}"),
        (usage, "", ["--month", "2026-11"], HARMLESS),
        (usage, "", ["--month", "2026-11", "--csv"], HARMLESS),
        (explain, "", ["alice@bank.example"], HARMLESS),
        (check, "", [], f"is given a certificate: {HARMLESS}"),
    ],
)
def test_commands(
    site: Site,
    monkeypatch: pytest.MonkeyPatch,
    group: click.Command,
    name: str,
    arguments: list[str],
    told: str,
) -> None:
    monkeypatch.setattr(
        FileDirectory, "identity", lambda *_: IdentityFacts(source=HOSTILE, trouble=f"double: {HOSTILE}")
    )
    monkeypatch.setattr(FileDirectory, "people", silent)
    command = group.commands[name] if isinstance(group, click.Group) else group
    done = CliRunner().invoke(command, [*arguments, "--config", str(site.folder / "mailsigil.toml")])
    assert all(line.isprintable() for line in done.output.splitlines()), done.output
    assert told in " ".join(done.output.split("\n      ")) or told in done.output
