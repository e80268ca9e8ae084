"""SIGHUP of the key agent: the new [[source]] is built first, and on an error the old ones stay."""

from __future__ import annotations

import datetime as dt
import getpass
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from keys.employees import ALICE, Employee, employee, put_employee
from mailsigil.config.sources import FolderSource, SourceSettings
from mailsigil.keys.client import KeyAgentClient, KeyAgentRefused, KeyAgentUnavailable, Refusal
from mailsigil.keys.errors import SourceRefused
from mailsigil.keys.guard import Breaker, Guard
from mailsigil.keys.sources.live import LiveSources, ReloadRefused

SOURCE = Path(__file__).resolve().parents[2] / "milter"
BOB = "bob@shop.example"


def fresh(*addresses: str) -> Employee:
    begin = dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)
    return employee(addresses=addresses, begin=begin)


def folder(path: Path, *addresses: str) -> Path:
    path.mkdir(mode=0o700)
    for address in addresses:
        put_employee(path, address, fresh(address))
    return path


def settings(name: str, path: Path, domain: str = "bank.example") -> SourceSettings:
    return SourceSettings(name=name, kind="folder", domains=(domain,), folder=FolderSource(path=str(path)))


class TestLive:
    def test_what_did_not_change_stays_as_it_is(self, tmp_path: Path) -> None:
        one = settings("one", folder(tmp_path / "one"))
        two = settings("two", folder(tmp_path / "two"))
        other = settings("two", folder(tmp_path / "other"))
        now = [one, two]
        live = LiveSources(now, load=lambda read: now)
        first = live.first()
        now[:] = [other, one]
        again = live.again(live.check())
        assert [route.name for route in again] == ["two", "one"]
        assert again[1] is first[0]
        assert again[0] is not first[1]
        # A process that begins later gets the new ones.
        later = LiveSources(now, load=lambda read: now)
        assert [route.name for route in later.first()] == ["two", "one"]

    def test_a_slip_takes_the_place_of_nothing(self, tmp_path: Path) -> None:
        one = settings("one", folder(tmp_path / "one"))
        now = [one]
        taken: list[str] = []
        live = LiveSources(now, load=lambda read: now, taken=lambda: taken.append("taken"))
        (route,) = live.first()
        now[:] = [settings("one", tmp_path / "none")]
        with pytest.raises(
            ReloadRefused, match=r'source "one": the folder .*none does not exist; install -d'
        ):
            live.check()
        assert live.first() == (route,)
        assert taken == []
        now[:] = [one]
        live.check()
        assert taken == ["taken"]

    def test_a_source_that_was_no_good_before_is_in_nobodys_way(self, tmp_path: Path) -> None:
        bad = settings("bad", tmp_path / "none")
        now = [bad]
        live = LiveSources(now, load=lambda read: now)
        now[:] = [bad, settings("one", folder(tmp_path / "one"))]
        assert len(live.again(live.check())) == 2


def test_a_retired_guard_keeps_no_threads() -> None:
    guard = Guard("retired", timeout=5, breaker=Breaker(failures=3, pause=1))

    def threads() -> int:
        return sum(thread.name == "source retired" for thread in threading.enumerate())

    gate = threading.Event()
    assert guard.call(lambda: 1) == 1
    guard.start(lambda: gate.wait(5))
    guard.retire()
    # What is on its way is finished, and a late call is still made.
    assert guard.call(lambda: 2) == 2
    gate.set()
    deadline = time.monotonic() + 5
    while threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threads() == 0
    with pytest.raises(SourceRefused):
        guard.call(_refuse)


def _refuse() -> None:
    raise SourceRefused("retired", "no", "Ask")


class Agent:
    """``mailsigil keyd`` as processes, with a configuration that tests rewrite."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.config, self.log, self.socket = home / "m.toml", home / "log", home / "s"
        self.keys = folder(home / "keys")
        self.write()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mailsigil", "keyd", "--config", self.config],
                env={**os.environ, "PYTHONPATH": str(SOURCE)},
                stderr=log,
            )
        self.until(lambda: self.client().ping() >= 0)

    def write(self, *sources: tuple[str, str, Path], more: str = "") -> None:
        text = f'[keyd]\nsocket = "{self.socket}"\nfolder = "{self.keys}"\nprocesses = 2\n'
        text += f'allowed_users = ["{getpass.getuser()}"]\n'
        for name, domain, path in sources:
            text += f'[[source]]\nname = "{name}"\nkind = "folder"\ndomains = ["{domain}"]\n'
            text += f'[source.folder]\npath = "{path}"\n'
        self.config.write_text(text + more)

    def client(self) -> KeyAgentClient:
        return KeyAgentClient(self.socket, cache_seconds=0)

    def found(self, address: str) -> int:
        """The least that any of the two processes has; each connection meets one of them."""
        return min(len(self.client().find(address)) for _ in range(8))

    def most(self, address: str) -> int:
        return max(len(self.client().find(address)) for _ in range(8))

    def reload(self) -> None:
        self.process.send_signal(signal.SIGHUP)

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 15
        while True:
            try:
                if condition():
                    return
            except KeyAgentUnavailable:
                pass
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)

    def logged(self, words: str) -> bool:
        return words in self.log.read_text()


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    made = Agent(tmp_path)
    yield made
    made.process.terminate()
    assert made.process.wait(15) == 0


@pytest.mark.integration
def test_sources_come_and_go_with_a_reload(agent: Agent, tmp_path: Path) -> None:
    bank, shop = folder(tmp_path / "bank", ALICE), folder(tmp_path / "shop", BOB)
    assert agent.found(ALICE) == 0
    agent.write(("bank", "bank.example", bank), ("shop", "shop.example", shop))
    agent.reload()
    agent.until(lambda: agent.found(ALICE) == agent.found(BOB) == 1)
    assert agent.logged('sources: new or changed "bank", "shop"; gone none')
    agent.write(("shop", "shop.example", shop))
    agent.reload()
    agent.until(lambda: agent.most(ALICE) == 0)
    assert agent.found(BOB) == 1
    assert agent.logged('gone "bank"')


@pytest.mark.integration
@pytest.mark.parametrize("slip", ["syntax", "setting", "folder"])
def test_a_slip_leaves_the_old_sources(agent: Agent, tmp_path: Path, slip: str) -> None:
    bank = folder(tmp_path / "bank", ALICE)
    agent.write(("bank", "bank.example", bank))
    agent.reload()
    agent.until(lambda: agent.found(ALICE) == 1)
    words = {
        "syntax": ("[[source\n", "m.toml:12"),
        "setting": ('[[source]]\nname = "x"\nkind = "wire"\ndomains = ["x.example"]\n', '"wire"'),
        "folder": ("", "does not exist; install -d"),
    }[slip]
    path = tmp_path / "none" if slip == "folder" else bank
    agent.write(("bank", "bank.example", path), more=words[0])
    agent.reload()
    agent.until(lambda: agent.logged("reload refused, the old settings stay"))
    assert agent.logged(words[1])
    assert agent.found(ALICE) == 1
    # A process that takes a dead one's place has the old ones, too.
    pid = agent.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)
    agent.until(lambda: agent.logged("another takes its place"))
    agent.until(lambda: agent.found(ALICE) == 1)
    # Mended, it is taken.
    agent.write(("bank", "bank.example", bank), ("keyed", "shop.example", folder(tmp_path / "k", BOB)))
    agent.reload()
    agent.until(lambda: agent.found(BOB) == 1)


@pytest.mark.integration
def test_a_file_that_is_missing_keeps_no_agent_from_starting(tmp_path: Path) -> None:
    """Each source's trouble is its own domains' alone."""

    class Half(Agent):
        def write(self, *sources: tuple[str, str, Path], more: str = "") -> None:
            est = (
                '[[source]]\nname = "ca"\nkind = "est"\ndomains = ["shop.example"]\n[source.est]\n'
                'url = "https://127.0.0.1:9/est"\nca_file = "/nonexistent/ca.pem"\n'
                f'[source.enrolment]\nstate = "{self.home}/state"\n'
            )
            super().write(("bank", "bank.example", self.home / "bank"), more=est)

    folder(tmp_path / "bank", ALICE)
    agent = Half(tmp_path)
    try:
        assert agent.found(ALICE) == 1
        with pytest.raises(KeyAgentRefused, match=r"/nonexistent/ca\.pem") as caught:
            agent.found(BOB)
        assert caught.value.reason is Refusal.SOURCE
    finally:
        agent.process.terminate()
        agent.process.wait(15)
