"""Failover, the pause after a failure, kept connections: with servers made of nothing, a clock by hand."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable

import pytest

from mailsigil.directory.api import DirectoryUnavailable
from mailsigil.directory.cached import Answers, Lifetimes
from mailsigil.directory.entry import Entry
from mailsigil.directory.servers import (
    LoginRefused,
    Search,
    SearchFailed,
    Servers,
    Session,
    SessionBroken,
    SessionTimeout,
)

QUESTION = Search(base="dc=x", filter="(a=b)", attributes=("a",), limit=5)
FOUND = (Entry("uid=a", {}),)


class World:
    """Two servers, what is wrong with each, and the time."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.connecting: dict[str, Exception] = {}
        self.searching: dict[str, Exception] = {}
        self.connected: list[str] = []
        self.asked: list[tuple[str, float]] = []

    def connect(self, url: str, seconds: float) -> Session:
        self.connected.append(url)
        if url in self.connecting:
            raise self.connecting[url]
        return Line(self, url)

    def servers(self, *urls: str) -> Servers:
        return Servers(
            "test",
            urls,
            connect=self.connect,
            clock=lambda: self.now,
            timeout=3,
            failover_seconds=0.4,
            connections=2,
        )


class Line:
    """A session."""

    def __init__(self, world: World, url: str) -> None:
        self._world, self._url = world, url
        self.closed = False

    def search(self, search: Search, *, seconds: float) -> tuple[Entry, ...]:
        self._world.asked.append((self._url, seconds))
        if self._url in self._world.searching:
            raise self._world.searching[self._url]
        return FOUND

    def close(self) -> None:
        self.closed = True


def test_a_connection_is_kept() -> None:
    world = World()
    servers = world.servers("a", "b")
    for _ in range(3):
        assert servers.search(QUESTION) == FOUND
    assert world.connected == ["a"]


def test_patience_is_short_while_another_server_is_left() -> None:
    world = World()
    world.searching["a"] = SessionTimeout("no answer in time")
    assert world.servers("a", "b").search(QUESTION) == FOUND
    assert world.asked == [("a", 0.4), ("b", 3)]


@pytest.mark.parametrize("trouble", [SessionBroken("gone"), SessionTimeout("slow"), LoginRefused("who?")])
def test_a_server_that_failed_is_left_alone_and_tried_again(trouble: SessionBroken) -> None:
    world = World()
    world.connecting["a"] = trouble
    servers = world.servers("a", "b")
    for _ in range(5):
        servers.search(QUESTION)
    assert world.connected.count("a") == 1
    del world.connecting["a"]
    world.now += 10
    servers.search(QUESTION)
    servers.search(QUESTION)
    assert world.connected.count("a") == 2
    assert world.asked[-1][0] == "a"


def test_the_pause_grows_and_ends() -> None:
    world = World()
    world.connecting["a"] = SessionBroken("gone")
    servers = world.servers("a")
    tries = []
    for second in range(120):
        world.now = 1000.0 + second
        before = len(world.connected)
        with pytest.raises(DirectoryUnavailable):
            servers.search(QUESTION)
        if len(world.connected) > before:
            tries.append(second)
    assert tries[:5] == [0, 1, 3, 7, 15]
    assert all(later - earlier == 10 for earlier, later in itertools.pairwise(tries[5:]))
    del world.connecting["a"]
    world.now += 10
    assert servers.search(QUESTION) == FOUND


def test_a_restarted_server_has_not_failed() -> None:
    world = World()
    servers = world.servers("a", "b")
    servers.search(QUESTION)
    world.searching["a"] = SessionBroken("closed while idle")

    def connect(url: str, seconds: float) -> Session:
        world.searching.pop(url, None)
        world.connected.append(url)
        return Line(world, url)

    servers._connect = connect
    assert servers.search(QUESTION) == FOUND
    assert world.connected == ["a", "a"]


def test_an_answer_that_it_cannot_tell_is_no_failure_of_the_server() -> None:
    world = World()
    world.searching["a"] = SearchFailed("there is no dc=x")
    servers = world.servers("a", "b")
    for _ in range(3):
        with pytest.raises(DirectoryUnavailable, match="there is no dc=x"):
            servers.search(QUESTION)
    assert world.connected == ["a"]


def test_a_child_process_makes_its_own_connections() -> None:
    world = World()
    servers = world.servers("a")
    servers.search(QUESTION)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        servers.search(QUESTION)
        os.write(writer, str(len(world.connected)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 10) == b"2"


# --- The cache ------------------------------------------------------------------------------------------


class Memory:
    """A cache over an answer that can be changed, or fail."""

    def __init__(self, *, cache: float = 60, negative: float = 10, grace: float = 600) -> None:
        self.now = 0.0
        self.answer: str | None = "alice"
        self.away = False
        self.loads = 0
        nobody: Callable[[str | None], bool] = lambda value: value is None  # noqa: E731
        self.answers: Answers[str, str | None] = Answers(
            self._load,
            negative=nobody,
            lifetimes=Lifetimes(cache=cache, negative=negative, grace=grace),
            clock=lambda: self.now,
            name="test",
        )

    def _load(self, key: str) -> str | None:
        self.loads += 1
        if self.away:
            raise DirectoryUnavailable("away")
        return self.answer

    def at(self, now: float) -> str | None:
        self.now = now
        return self.answers.get("a")


def test_an_answer_serves_for_its_lifetime() -> None:
    memory = Memory()
    assert [memory.at(0), memory.at(59)] == ["alice", "alice"]
    assert memory.loads == 1
    memory.answer = None
    assert memory.at(60) is None, "somebody who left is known to have left when the lifetime is over"


def test_nobody_serves_for_a_shorter_time() -> None:
    memory = Memory()
    memory.answer = None
    assert [memory.at(0), memory.at(9)] == [None, None]
    memory.answer = "alice"
    assert memory.at(9.9) is None
    assert memory.at(10) == "alice"


def test_the_last_answer_serves_on_while_nobody_answers() -> None:
    memory = Memory()
    memory.at(0)
    memory.away = True
    assert memory.at(659) == "alice"
    with pytest.raises(DirectoryUnavailable):
        memory.at(660)
    memory.away = False
    assert memory.at(661) == "alice"


def test_nobody_does_not_serve_on() -> None:
    memory = Memory()
    memory.answer = None
    memory.at(0)
    memory.away = True
    with pytest.raises(DirectoryUnavailable):
        memory.at(10)


def test_invented_senders_push_no_real_one_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailsigil.directory.cached.MAX_NEGATIVE", 10)
    memory = Memory()
    memory.at(0)
    memory.answer = None
    for number in range(1000):
        memory.answers.get(f"invented-{number}")
    loads = memory.loads
    assert memory.at(1) == "alice"
    assert memory.loads == loads
