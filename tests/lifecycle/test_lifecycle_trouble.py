"""What goes wrong on the way: no half-issued state, nothing issued twice, and the next run repairs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text

from lifecycle.town import Moody, Town
from mailsigil.config.lifecycle import LifecycleSettings
from mailsigil.demo.postgresql import PASSWORD, Postgresql
from mailsigil.keys.errors import Pending, SourceRefused, SourceUnavailable
from mailsigil.keys.subject import SubjectRequest
from mailsigil.lifecycle.database import connect
from mailsigil.lifecycle.errors import DatabaseUnavailable
from mailsigil.lifecycle.plan import Plan
from mailsigil.lifecycle.run import Run
from mailsigil.lifecycle.turnover import Outcome
from processes import ENVIRONMENT

pytestmark = pytest.mark.integration  # takes seconds


@pytest.fixture
def town(settings: LifecycleSettings, tmp_path: Path) -> Town:
    return _staffed(Town(tmp_path / "town", settings), 30)


def _staffed(town: Town, number: int) -> Town:
    for each in range(number):
        town.bank.hire(f"p{each}", f"Person Nr{each}")
    return town


def _everybody_has_exactly_one(town: Town, number: int) -> None:
    assert len(town.signers()) == number
    good = Counter(uid for uid, status, _ in town.rows() if status == "issued")
    assert set(good.values()) == {1}
    assert len(good) == number
    assert town.steps() == []
    with connect(town.lifecycle) as database, database.look() as connection:
        assert connection.execute(text("SELECT count(*) FROM claim")).scalar() == 0


def test_an_authority_that_issues_and_then_loses_the_connection(town: Town) -> None:
    lost: list[str] = []

    def after(request: SubjectRequest) -> None:
        if len(lost) < 10:
            lost.append(request.address)
            raise SourceUnavailable("ca", "the connection was lost", "Try again")

    town.issuer = Moody(town, after=after)
    report = town.sync()
    failed = {one.action.address for one in report.results if one.outcome is Outcome.FAILED}
    assert failed == set(lost)
    assert all(
        "connection was lost" in one.sentence for one in report.results if one.action.address in failed
    )
    assert town.issued() == 30
    assert len(town.signers()) == 20
    assert {step.split()[0] for step in town.steps()} == {"resume"}
    assert town.sync().is_whole
    # The authority was asked what it had issued, and issued nothing twice.
    assert town.issued() == 30
    _everybody_has_exactly_one(town, 30)


def test_an_authority_that_refuses_every_tenth(town: Town) -> None:
    asked: list[str] = []

    def before(request: SubjectRequest) -> None:
        asked.append(request.address)
        if len(asked) % 10 == 0:
            raise SourceRefused("ca", f"no certificate for {request.address}", "Ask the authority")

    town.issuer = Moody(town, before=before)
    report = town.sync()
    assert report.counts() == {"done": 27, "pending": 0, "failed": 3, "left open": 0}
    assert not report.is_whole
    refused = [one for one in report.results if one.outcome is Outcome.FAILED]
    assert all(f"no certificate for {one.action.address}" in one.sentence for one in refused)
    assert len(town.signers()) == 27
    town.issuer = None
    assert len(town.steps()) == 3
    assert town.sync().is_whole
    assert town.issued() == 30
    _everybody_has_exactly_one(town, 30)


def test_an_authority_that_takes_its_time(town: Town) -> None:
    waiting = {f"p{each}@bank.example" for each in range(5)}

    def before(request: SubjectRequest) -> None:
        if request.address in waiting:
            raise Pending("ca", retry_after=60)

    town.issuer = Moody(town, before=before)
    report = town.sync()
    assert not report.is_whole
    assert report.counts() == {"done": 25, "pending": 5, "failed": 0, "left open": 0}
    keys = {file.name: file.read_bytes() for file in town.state.glob(".*.waiting")}
    assert len(keys) == 5
    town.sync()
    # It is asked again for the same keys.
    assert {file.name: file.read_bytes() for file in town.state.glob(".*.waiting")} == keys
    waiting.clear()
    town.sync()
    _everybody_has_exactly_one(town, 30)
    assert not list(town.state.glob(".*.waiting"))


def test_two_people_of_one_address(town: Town) -> None:
    """The policy file cannot say that, so a directory that can stands in for one."""
    town.sync()
    town.bank.hire("new", "New Person")
    house = town.open()
    directory = house.directory
    people = list(directory.people())
    twins = {"p3@bank.example", "new@bank.example"}
    from dataclasses import replace

    def twice() -> object:
        for one in people:
            yield one
            if one.person.addresses[0] in twins:
                own = one.addresses[0]
                facts = replace(own.identity, source="uid=twin,ou=people")
                yield replace(one, addresses=(replace(own, identity=facts),))

    object.__setattr__(house, "directory", _People(directory, twice))
    from mailsigil.lifecycle.run import begin

    with begin(house, who="test") as run:
        plan = run.plan()
        assert plan.actions == []
        said = {note.address: note.sentence for note in plan.notes}
        assert set(said) == twins
        assert "uid=twin,ou=people" in said["p3@bank.example"]
        assert "policy.toml" in said["p3@bank.example"]
        run.carry_out(plan)
    house.close()
    # The one who had a certificate keeps it; the new one gets none.
    assert "p3" in town.signers()
    assert "new" not in town.signers()


class _People:
    def __init__(self, directory: object, people: Callable[[], object]) -> None:
        self._directory, self.people = directory, people

    def __getattr__(self, name: str) -> object:
        return getattr(self._directory, name)


def test_a_full_disk_under_the_database(tmp_path: Path) -> None:
    town = _staffed(Town(tmp_path, LifecycleSettings(database=f"sqlite:///{tmp_path}/db/l.db")), 30)
    town.sync(only="p0@bank.example")

    def fill(run: Run, plan: Plan) -> None:
        real = run._ledger.database.change  # type: ignore[attr-defined]
        calls = [0]

        def change() -> object:
            calls[0] += 1
            context = real()
            if calls[0] > 4:
                return _Full(context)
            return context

        object.__setattr__(run._ledger.database, "change", change)  # type: ignore[attr-defined]

    report = town.sync(before=fill)
    assert any("its disk is full" in each for each in report.trouble)
    assert not report.is_whole
    done = len(report.results)
    assert done < 29
    assert town.sync().is_whole
    assert town.issued() == 30
    _everybody_has_exactly_one(town, 30)


class _Full:
    """A transaction on a disk that has no room left."""

    def __init__(self, inner: object) -> None:
        self._inner = inner

    def __enter__(self) -> object:
        connection = self._inner.__enter__()  # type: ignore[attr-defined]
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
        return connection

    def __exit__(self, *error: object) -> object:
        return self._inner.__exit__(*error)  # type: ignore[attr-defined]


@pytest.mark.skipif(os.geteuid() != 0, reason="a small file system is mounted by root")
def test_a_full_disk_under_keys_and_authority(tmp_path: Path) -> None:
    """A real one: files of keys and the authority's register find no room."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=100k,mode=0700", "none", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        settings = LifecycleSettings(database=f"sqlite:///{tmp_path}/db/l.db")
        town = _staffed(Town(tmp_path / "town", settings), 30)
        town.state = disk / "state"
        report = town.sync()
        assert report.counts()["failed"] > 0
        assert any("No space left" in one.sentence for one in report.results)
        subprocess.run(["mount", "-o", "remount,size=10m", str(disk)], check=True)
        assert town.sync().is_whole
        assert town.issued() == 30
        _everybody_has_exactly_one(town, 30)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_database_that_goes_away_in_the_middle(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text(PASSWORD)
    password.chmod(0o600)
    with Postgresql() as server:
        settings = LifecycleSettings(database=server.url, password_file=str(password))
        town = _staffed(Town(tmp_path / "town", settings), 40)
        asked: list[str] = []

        def before(request: SubjectRequest) -> None:
            asked.append(request.address)
            if len(asked) == 15:
                server.stop(at_once=True)

        town.issuer = Moody(town, before=before)
        report = town.sync()
        assert len(report.trouble) >= 1
        assert "goes on where this one stopped" in report.trouble[0]
        # Also of the batch that was at work it is told what happened to whom.
        unwritten = [one for one in report.results if "the next run takes it in" in one.sentence]
        assert unwritten
        assert {one.action.address for one in report.results} >= set(asked)
        with pytest.raises(DatabaseUnavailable):
            town.sync()
        server.start()
        report = town.sync()
        assert report.is_whole
        assert town.issued() == 40
        _everybody_has_exactly_one(town, 40)


_CHILD = """
import sys, time
from pathlib import Path
sys.path[:0] = {paths!r}
from lifecycle.town import Moody, Town
from mailsigil.config.lifecycle import LifecycleSettings
town = Town(Path({folder!r}), LifecycleSettings.model_validate_json({settings!r}))
for each in range(30):
    town.bank.hire(f"p{{each}}", f"Person Nr{{each}}")
asked = []
def hang(request):
    asked.append(request)
    if len(asked) == 12:
        Path({folder!r}, "here").touch()
        time.sleep(60)
town.issuer = Moody(town, {when}=hang)
town.sync()
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_process_that_is_killed_in_the_middle(town: Town, when: str) -> None:
    code = _CHILD.format(
        paths=[str(Path(__file__).resolve().parent.parent)],
        folder=str(town.folder),
        settings=town.lifecycle.model_dump_json(),
        when=when,
    )
    child = subprocess.Popen([sys.executable, "-c", code], env=ENVIRONMENT)
    deadline = time.monotonic() + 30
    while not (town.folder / "here").exists():
        assert time.monotonic() < deadline
        assert child.poll() is None
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    # At once: the next run of this machine knows that nobody else is at work here.
    report = town.sync()
    assert report.is_whole
    assert report.counts()["left open"] == 0
    assert town.issued() == 30
    _everybody_has_exactly_one(town, 30)


def test_two_runs_on_one_machine_take_turns(town: Town) -> None:
    from mailsigil.lifecycle.errors import RunRefused

    def again(run: Run, plan: Plan) -> None:
        with pytest.raises(RunRefused, match="another sync is at work"):
            town.sync()

    town.sync(before=again)
    _everybody_has_exactly_one(town, 30)
