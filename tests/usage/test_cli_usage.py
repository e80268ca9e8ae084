"""``mailsigil usage``, with the counts of a running key agent."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lifecycle.town import Town
from mailsigil.config.lifecycle import LifecycleSettings
from mailsigil.keys.authority import Authority
from mailsigil.keys.client import KeyAgentClient
from mailsigil.keys.errors import KeyAgentUnavailable
from mailsigil.lifecycle.database import connect
from mailsigil.lifecycle.upgrade import upgrade
from mailsigil.service import utc_now
from mailsigil.usage.batch import Batch, Counted
from mailsigil.usage.spool import Spool
from mailsigil.usage.store import UsageStore
from processes import called, mailsigil, start

CONFIG = """
[policy]
file = "{folder}/policy.toml"
[keyd]
socket = "{folder}/keyd.sock"
folder = "{folder}/keys"
allowed_users = ["root"]
processes = 2
[lifecycle]
enabled = true
every_minutes = 0
database = "sqlite:///{folder}/db/l.db"
[usage]
flush_seconds = 0.2
{more}
[[source]]
name = "ca"
kind = "embedded"
domains = ["bank.example"]
[source.embedded]
folder = "{folder}/ca"
[source.enrolment]
state = "{folder}/state-mx1"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mailsigil.toml").write_text(CONFIG.format(folder=tmp_path, more=""))
    (tmp_path / "policy.toml").write_text("")
    (tmp_path / "keys").mkdir(mode=0o700)
    Authority.init(tmp_path / "ca", organisation="Example Bank", now=utc_now())
    return tmp_path


def _usage(folder: Path, *arguments: str) -> tuple[int, str, str]:
    done = called("usage", "--config", folder / "mailsigil.toml", *arguments)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def _fill(folder: Path) -> None:
    settings = LifecycleSettings(database=f"sqlite:///{folder}/db/l.db")
    batch = Batch("x.1", datetime(2026, 11, 1, tzinfo=UTC))
    for address, level, number in (
        ("alice@bank.example", "V3", 2),
        ("alice@bank.example", "V4", 10),
        ("bob@bank.example", "V3", 5),
        ("carol@insurance.example", "V4", 1),
    ):
        batch.add(Counted("2026-11", address, f"{address[:5]}{level}", "1f", level), number)
    with connect(settings) as database:
        upgrade(database)
        UsageStore(database).add(batch, now=utc_now())


def test_tables(folder: Path) -> None:
    _fill(folder)
    done = mailsigil("usage", "--config", folder / "mailsigil.toml", "--month", "2026-11")
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.decode().splitlines()]
    assert ["Sender", "V3", "V4", "signatures"] in rows
    assert ["alice@bank.example", "2", "10", "12"] in rows
    assert ["bob@bank.example", "5", "-", "5"] in rows
    assert ["bank.example", "7", "10", "17"] in rows
    assert ["insurance.example", "-", "1", "1"] in rows
    assert ["all", "7", "11", "18"] in rows


def test_for_programs(folder: Path) -> None:
    _fill(folder)
    status, told, _ = _usage(folder, "--month", "2026-11", "--json")
    values = json.loads(told)
    assert (status, values["signatures"], values["levels"]) == (0, 18, {"V3": 7, "V4": 11})
    assert values["domains"][0] == {
        "domain": "bank.example",
        "signatures": 17,
        "levels": {"V3": 7, "V4": 10},
    }
    assert values["senders"][0]["levels"] == {"V3": 2, "V4": 10}
    status, told, _ = _usage(folder, "--month", "2026-11", "--csv")
    rows = list(csv.DictReader(io.StringIO(told)))
    assert status == 0
    assert rows[0] == {
        "month": "2026-11",
        "sender": "alice@bank.example",
        "domain": "bank.example",
        "level": "V3",
        "signatures": "2",
    }
    assert sum(int(row["signatures"]) for row in rows) == 18


def test_a_month_without_any(folder: Path) -> None:
    _fill(folder)
    status, told, _ = _usage(folder, "--month", "2025-01")
    assert (status, told) == (0, "No signatures were counted in 2025-01; there are counts of 2026-11.\n")


@pytest.mark.parametrize(
    ("arguments", "more", "sentence"),
    [
        (["--month", "2026-13"], "", '"2026-13" is no month'),
        (["--month", "november"], "", '"november" is no month'),
        (["--month", "0000-01"], "", '"0000-01" is no month'),
        (["--month", "٢٠٢٦-11"], "", "is no month"),
        (["--json", "--csv"], "", "choose one of --json and --csv"),
        ([], 'count = "off"', "are not counted: enable [lifecycle]"),
        ([], 'count = "never"', "count"),
        ([], "keep_months = -1", "keep_months"),
    ],
)
def test_wrong_use(folder: Path, arguments: list[str], more: str, sentence: str) -> None:
    (folder / "mailsigil.toml").write_text(CONFIG.format(folder=folder, more=more))
    status, _, told = _usage(folder, *arguments)
    assert status == 2
    assert sentence in told
    assert "Traceback" not in told


def test_a_database_that_is_not_there_is_not_made(folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    status, told, error = _usage(folder)
    assert (status, told) == (2, "")
    assert f"there is no database at {folder}/db/l.db yet: the first `mailsigil sync` makes it" in error
    counting = CONFIG.replace("enabled = true", "").format(folder=folder, more='count = "on"')
    (folder / "mailsigil.toml").write_text(counting)
    assert "yet: the key agent's first signature makes it" in _usage(folder)[2]
    assert sorted(folder.rglob("*")) == before


def test_a_database_that_is_away(folder: Path) -> None:
    (folder / "db").write_text("a file where a folder should be")
    status, _, told = _usage(folder)
    assert status == 2
    assert "cannot be opened" in told


@pytest.mark.parametrize(("number", "words"), [(1, "1 signature of"), (2, "2 signatures of")])
def test_what_waits(folder: Path, number: int, words: str) -> None:
    _fill(folder)
    spool = Spool(folder / "db" / "usage")
    batch = spool.new(now=utc_now())
    batch.add(Counted("2026-11", "alice@bank.example", "k", "1f", "V4"), number)
    spool.write(batch)  # Its process lives: it brings the batch in by itself.
    status, _, error = _usage(folder)
    assert (status, f"Not in the database yet: {words} this machine." in error) == (0, True), error
    spool.close()


# With the agent


@contextmanager
def _agent(folder: Path) -> Iterator[KeyAgentClient]:
    town = Town(folder, LifecycleSettings(database=f"sqlite:///{folder}/db/l.db"), ca=folder / "ca")
    town.bank.hire("alice", "Alice Example")
    (folder / "policy.toml").write_text(town.bank.policy())
    process = start("keyd", "--config", folder / "mailsigil.toml", log=folder / "log")
    client = KeyAgentClient(folder / "keyd.sock", timeout=10)
    try:
        _until(lambda: _answers(client), folder)
        yield client
    finally:
        process.terminate()
        assert process.wait(20) == 0


@pytest.fixture
def agent(folder: Path) -> Iterator[KeyAgentClient]:
    with _agent(folder) as client:
        yield client


def _answers(client: KeyAgentClient) -> bool:
    try:
        client.find("nobody@elsewhere.example")
    except KeyAgentUnavailable:
        return False
    return True


def _until(condition: Callable[[], object], folder: Path) -> None:
    deadline = time.monotonic() + 45
    while not condition():
        assert time.monotonic() < deadline, (folder / "log").read_text()
        time.sleep(0.05)


def _sign(client: KeyAgentClient, number: int) -> None:
    (found,) = client.find("alice@bank.example")
    for _ in range(number):
        client.sign(key_id=found.key_id, address="alice@bank.example", scheme=found.schemes[0], data=b"data")


def _signatures(folder: Path) -> int:
    status, told, error = _usage(folder, "--json")
    assert status == 0, error
    number: int = json.loads(told)["signatures"]
    return number


@pytest.mark.integration
def test_what_the_agent_signs_is_counted(agent: KeyAgentClient, folder: Path) -> None:
    _sign(agent, 25)
    _until(lambda: _signatures(folder) == 25, folder)
    # The database goes away, and the agent signs on.
    database = folder / "db" / "l.db"
    for path in database.parent.glob("l.db*"):
        path.rename(path.with_name(f"away-{path.name}"))
    database.mkdir()
    _sign(agent, 5)
    _until(lambda: "counts of signatures wait" in (folder / "log").read_text(), folder)
    _sign(agent, 5)
    database.rmdir()
    for path in database.parent.glob("away-*"):
        path.rename(path.with_name(path.name.removeprefix("away-")))
    _until(lambda: _signatures(folder) == 35, folder)


@pytest.mark.integration
def test_a_restart_loses_nothing(folder: Path) -> None:
    settings = CONFIG.replace("flush_seconds = 0.2", "flush_seconds = 3600").format(folder=folder, more="")
    (folder / "mailsigil.toml").write_text(settings)
    for _ in range(2):
        with _agent(folder) as client:
            _sign(client, 13)
    # Nothing was written into the database by the agent; the command brings it in, once.
    assert [_signatures(folder) for _ in range(2)] == [26, 26]
