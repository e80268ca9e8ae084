"""Tables on terminals of each width, and in a pipe."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from cli.test_cli_sync import Site
from mailsigil.cli.sync_shown import show_plan, show_report
from mailsigil.cli.tables import Column, laid_out, wrapped
from mailsigil.keys.subject import SubjectRequest
from mailsigil.lifecycle.actions import Action, Kind
from mailsigil.lifecycle.carry_out import Report
from mailsigil.lifecycle.plan import Plan
from mailsigil.lifecycle.turnover import Outcome, Result
from mailsigil.pki.policies import Level
from processes import ENVIRONMENT, command

PEOPLE = [f"firstname.lastname{number}@bank.example" for number in range(77)]
WHY = "the title has changed, and so has everything else that a certificate can say of a person"
DEAD = 'source "ca": the authority cannot be reached: Connection refused. See that it runs.'


def _action(address: str, kind: Kind = Kind.ISSUE, source: str = "own authority") -> Action:
    request = SubjectRequest(address=address, level=Level.V4)
    return Action(kind=kind, source=source, address=address, reason=f"{WHY} ({address})", request=request)


def _shown(width: int | None, plan: Plan, report: Report | None = None) -> list[str]:
    stream = io.StringIO()
    console = Console(file=stream, width=width or 80, force_terminal=width is not None, color_system=None)
    show_plan(console, plan, {})
    if report is not None:
        show_report(console, report)
    return stream.getvalue().splitlines()


@pytest.mark.parametrize("width", [40, 59, 80, 100])
def test_a_plan_on_a_terminal(width: int) -> None:
    lines = _shown(width, Plan(actions=[_action(PEOPLE[0]), _action(PEOPLE[1], Kind.RENEW)]))
    assert max(map(len, lines)) <= width
    # One source and one level: said once. Addresses can be copied.
    assert " ".join(lines).count("own authority") == 1
    assert all(any(line.split()[:1] == [address] for line in lines) for address in PEOPLE[:2])
    table = f"{'Address':32}  Step   Why" in lines
    assert table == (width >= 80)
    if not table:
        assert any(line.startswith("  renew, the title has changed") for line in lines)


def test_what_all_say_is_said_of_all_and_not_of_those_shown() -> None:
    actions = [_action(address) for address in PEOPLE[:50]]
    assert "For all of them: step issue; level V4; source own authority" in _shown(80, Plan(actions=actions))
    actions[-1] = _action(PEOPLE[49], Kind.RENEW, source="another")
    told = _shown(120, Plan(actions=actions))
    assert "For all of them: level V4" in told
    assert "… and 10 more (all with --json)" in told


def test_a_plan_in_a_pipe_has_one_line_for_each_step() -> None:
    lines = _shown(None, Plan(actions=[_action(address) for address in PEOPLE[:3]]))
    for address in PEOPLE[:3]:
        (line,) = [line for line in lines if line.startswith(address)]
        assert line.split(maxsplit=4)[1:4] == ["issue", "V4", "own"]
        assert line.endswith(f"{WHY} ({address})")


def test_one_cause_for_many_is_told_once() -> None:
    results = [Result(_action(address), Outcome.FAILED, DEAD) for address in PEOPLE]
    results.append(Result(_action("alice@bank.example"), Outcome.PENDING, "a person has to approve it"))
    report = Report(results=results, trouble=["not published"] * 5)
    lines = _shown(80, Plan(), report)
    assert len(lines) < 48
    assert "77 people: issue failed: source" in " ".join(lines)
    assert sum("Connection refused" in line for line in lines) == 1
    assert sum("not published" in line for line in lines) == 1
    assert [word for line in lines for word in line.split() if word in PEOPLE] == PEOPLE
    assert "alice@bank.example: issue pending: a person has to approve it" in lines
    # In a pipe each has a line.
    lines = _shown(None, Plan(), report)
    assert [line.strip() for line in lines if line.strip() in PEOPLE] == PEOPLE
    assert f"77 people: issue failed: {DEAD}" in lines


def test_columns_give_way_before_rows_are_stacked() -> None:
    columns = [Column("Address"), Column("Left", is_number=True), Column("Serial", gives_way=True)]
    rows = [("王@bank.example", "9 days", "f" * 40), ("bob@bank.example", "10 days", "e" * 40)]
    assert laid_out(columns, rows, None).lines[1] == f"王@bank.example    9 days  {'f' * 40}"
    assert laid_out(columns, rows, 80).left_out == ()
    narrow = laid_out(columns, rows, 40)
    assert (narrow.left_out, narrow.lines[2]) == (("Serial",), "bob@bank.example  10 days")
    assert laid_out(columns, rows, 20).lines == [
        "王@bank.example",
        "  9 days",
        "bob@bank.example",
        "  10 days",
    ]


def test_words_are_never_broken() -> None:
    long = "a" * 30
    assert wrapped(f"see {long} now", 20, indent="  ") == ["  see", f"  {long}", "  now"]
    assert wrapped(f"see {long} now", None) == [f"see {long} now"]
    assert wrapped("", 20) == [""]


# On a real terminal


def _on_a_terminal(width: int, *arguments: str | Path) -> str:
    """Run a command with a terminal of this width as its output."""
    ours, theirs = pty.openpty()
    environment = {**ENVIRONMENT, "COLUMNS": str(width), "TERM": "xterm", "NO_COLOR": "1"}
    with subprocess.Popen(
        command(*arguments), stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, env=environment
    ):
        os.close(theirs)
        told = b"".join(_read(ours))
    os.close(ours)
    return told.decode().replace("\r\n", "\n")


def _read(descriptor: int) -> Iterator[bytes]:
    while True:
        try:
            octets = os.read(descriptor, 65536)
        except OSError:  # Linux says so where the other end is closed.
            return
        if not octets:
            return
        yield octets


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr("mailsigil.cli.sync.guard_memory", lambda: None)
    site = Site(tmp_path)
    site.bank.hire("firstname.lastname", "Alice Example", title="Clerk " * 10)
    site.bank.hire("bob", "Bob Sample")
    site.bank.hire("carol", "Carol Third", validated_level="V3")
    site.write()
    assert site.sync()[0] == 0
    return site


@pytest.mark.integration
@pytest.mark.parametrize("width", [40, 80, 100])
def test_certificates_on_a_terminal(site: Site, width: int) -> None:
    config = ("--config", site.folder / "mailsigil.toml")
    listed = _on_a_terminal(width, "keys", "list", *config)
    # The numbers below the table are sentences.
    table = listed.partition("\n\n")[0].splitlines()
    assert all(len(line) <= width for line in table if not line.startswith(("(", "For")))
    assert any(line.split()[:1] == ["firstname.lastname@bank.example"] for line in table)
    assert "\x1b" not in listed
    told = _on_a_terminal(width, "keys", "show", "firstname.lastname@bank.example", *config)
    long = [line for line in told.splitlines() if len(line) > width]
    assert all(len(line.split()[-1]) > 25 for line in long), long
    plan = _on_a_terminal(width, "sync", "--dry-run", *config)
    assert "3 should have a certificate" in plan


@pytest.mark.integration
def test_certificates_in_a_pipe(site: Site) -> None:
    def lines(*arguments: str) -> list[str]:
        done = subprocess.run(
            command("keys", *arguments, "--config", site.folder / "mailsigil.toml"),
            capture_output=True,
            env={**ENVIRONMENT, "COLUMNS": "40"},
            check=True,
        )
        return done.stdout.decode().splitlines()

    (bob,) = [line for line in lines("list") if line.startswith("bob@bank.example ")]
    assert bob.split()[1:3] == ["V4", "issued"]
    serial = bob.split()[-1]
    whole = json.loads("\n".join(lines("list", "--json")))
    assert [serial] == [each["serial"] for each in whole if each["address"] == "bob@bank.example"]
    (issued,) = [line for line in lines("show", serial) if "  issued  " in line]
    assert f"{serial}: " in issued
