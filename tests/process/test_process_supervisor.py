"""The supervisor with real processes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mailsigil.process.supervisor import Supervisor

HERE = Path(__file__).resolve().parent
SOURCES = HERE.parent.parent / "milter"


class Program:
    """A supervised program and what its processes noted."""

    def __init__(self, folder: Path, scenario: str) -> None:
        self._folder = folder
        (folder / "events").touch()
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(HERE / "supervised.py"), str(folder), scenario],
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(SOURCES)},
            )

    def events(self) -> list[tuple[str, int]]:
        lines = (self._folder / "events").read_text().splitlines()
        return [(name, int(pid)) for name, pid in (line.split() for line in lines)]

    def count(self, name: str) -> int:
        return Counter(event for event, _ in self.events())[name]

    def pids(self) -> list[int]:
        return [pid for name, pid in self.events() if name == "start"]

    def log(self) -> str:
        return (self._folder / "log").read_text()

    def until(self, condition: Callable[[], object]) -> None:
        limit = time.monotonic() + 10
        while not condition():
            if time.monotonic() > limit:
                pytest.fail(f"waited in vain; events {self.events()}; log:\n{self.log()}")
            time.sleep(0.02)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


pytestmark = pytest.mark.integration

Start = Callable[[str], Program]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    programs: list[Program] = []

    def begin(scenario: str) -> Program:
        programs.append(Program(tmp_path, scenario))
        return programs[-1]

    yield begin
    for program in programs:
        program.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
@pytest.mark.parametrize("scenario", ["steady", "slow"], ids=["control in front", "control in a thread"])
def test_starts_all_and_stops_all(start: Start, scenario: str, number: signal.Signals) -> None:
    program = start(scenario)
    program.until(lambda: len(program.pids()) == 2)
    time.sleep(0.2)
    program.process.send_signal(number)
    assert program.process.wait(timeout=5) == 0
    assert program.count("stop") == 1
    assert "ended by" not in program.log()
    for pid in program.pids():
        assert not Path(f"/proc/{pid}").exists()


def test_reload_reaches_supervisor_and_workers(start: Start) -> None:
    program = start("steady")
    program.until(lambda: len(program.pids()) == 2)
    program.process.send_signal(signal.SIGHUP)
    program.until(lambda: program.count("reload-settings") == 2)
    assert program.count("supervisor-reload") == 1


def test_refused_reload_reaches_no_worker(start: Start, tmp_path: Path) -> None:
    program = start("steady")
    program.until(lambda: len(program.pids()) == 2)
    (tmp_path / "refuse").touch()
    program.process.send_signal(signal.SIGHUP)
    program.until(lambda: "bad settings" in program.log())
    time.sleep(0.2)
    assert program.count("reload-settings") == 0
    assert program.process.poll() is None


def test_dead_worker_is_replaced(start: Start) -> None:
    program = start("steady")
    program.until(lambda: len(program.pids()) == 2)
    os.kill(program.pids()[0], signal.SIGKILL)
    program.until(lambda: len(program.pids()) == 3)
    assert "ended by signal 9" in program.log()


def test_first_start_may_fail_once(start: Start) -> None:
    program = start("flaky")
    program.until(lambda: len(program.pids()) == 2)
    assert "ended by status 3" in program.log()
    assert program.process.poll() is None


def test_start_that_never_succeeds_ends_with_an_error(start: Start) -> None:
    program = start("failing")
    assert program.process.wait(timeout=15) == 1
    assert program.log().count("cannot begin") >= 4
    assert "giving up" in program.log()


def test_retiring_worker_is_replaced_before_it_is_gone(start: Start, tmp_path: Path) -> None:
    program = start("recycling")
    program.until(lambda: len(program.pids()) == 2)
    old, new = program.pids()
    assert Path(f"/proc/{old}").exists()
    (tmp_path / "go").touch()
    program.until(lambda: not Path(f"/proc/{old}").exists())
    assert Path(f"/proc/{new}").exists()
    assert "ended by" not in program.log()


def test_work_that_does_not_end_is_ended(start: Start) -> None:
    program = start("stubborn")
    program.until(program.pids)
    time.sleep(0.2)
    program.process.terminate()
    assert program.process.wait(timeout=5) == 0
    assert "still had open work" in program.log()


def test_killed_supervisor_takes_its_workers_along(start: Start) -> None:
    program = start("steady")
    program.until(lambda: len(program.pids()) == 2)
    program.process.kill()
    program.process.wait()
    program.until(lambda: all(_gone(pid) for pid in program.pids()))


def test_worker_has_a_process_group_of_its_own(start: Start) -> None:
    program = start("steady")
    program.until(lambda: len(program.pids()) == 2)
    assert {os.getpgid(pid) for pid in program.pids()} == set(program.pids())


def test_no_workers_is_no_supervisor() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Supervisor(spawn=lambda _: None, count=0, drain_seconds=1)


def _gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_other_work_beside_the_workers_holds_none_of_them_up(start: Start) -> None:
    program = start("beside")
    program.until(lambda: program.count("beside") == 3 and len(program.pids()) == 2)
    assert program.count("start") == 2
    program.process.send_signal(signal.SIGHUP)
    program.until(lambda: program.count("other-reload") == 1 and program.count("reload-settings") == 2)
    os.kill(program.pids()[0], signal.SIGKILL)
    program.until(lambda: program.count("start") == 3)
    assert program.count("beside") == 3
    program.process.send_signal(signal.SIGTERM)
    assert program.process.wait(timeout=5) == 0
    assert program.count("other-retire") == 1
