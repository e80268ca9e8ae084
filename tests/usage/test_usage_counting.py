"""Signatures are counted once each, by several processes and machines, and no mail waits for the database."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select

from keys.employees import employee, put_employee
from mailsigil.config.lifecycle import LifecycleSettings
from mailsigil.config.settings import Settings
from mailsigil.config.usage import UsageSettings
from mailsigil.keys.agent import KeyAgent
from mailsigil.keys.folder import KeyFolder
from mailsigil.keys.source import SigningKey
from mailsigil.lifecycle.database import Database, connect
from mailsigil.lifecycle.errors import DatabaseUnavailable
from mailsigil.lifecycle.tables import usage_batches
from mailsigil.lifecycle.upgrade import upgrade
from mailsigil.usage.batch import Counted
from mailsigil.usage.companion import UsageCounting, Writer
from mailsigil.usage.counter import Counter
from mailsigil.usage.spool import Spool
from mailsigil.usage.store import UsageStore

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
ALICE = "alice@bank.example"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> KeyFolder:
    """A folder with one key."""
    path = tmp_path_factory.mktemp("keys")
    path.chmod(0o700)
    put_employee(path, "alice", employee(begin=datetime.now(UTC) - timedelta(hours=1)))
    folder = KeyFolder(path)
    folder.reload()
    return folder


@pytest.fixture
def key(keys: KeyFolder) -> SigningKey:
    (found,) = keys.held()
    return found


class Process:
    """One process of the key agent."""

    def __init__(self, folder: Path, settings: LifecycleSettings) -> None:
        self.now = NOW
        self.away = False
        self._settings = settings
        self.spool = Spool(folder)
        self.counter = Counter(self.spool, now=lambda: self.now)
        self.writer = Writer(self.counter, self.spool, opening=self._open, now=lambda: self.now)

    def _open(self) -> Database:
        if self.away:
            raise DatabaseUnavailable("it is away", "Wait")
        return connect(self._settings)

    def killed(self) -> None:
        """The kernel gives its lock back."""
        os.close(self.spool._lock)


@pytest.fixture
def process(tmp_path: Path, settings: LifecycleSettings) -> Callable[[], Process]:
    return lambda: Process(tmp_path / "spool", settings)


def _counted(settings: LifecycleSettings, month: str = "2026-11") -> dict[tuple[str, str], int]:
    with connect(settings) as database:
        upgrade(database)
        return {(one.address, one.level): one.signatures for one in UsageStore(database).month(month)}


def test_each_signature_counts_in_its_month(
    process: Callable[[], Process], settings: LifecycleSettings, key: SigningKey
) -> None:
    one = process()
    one.now = datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC)
    for _ in range(3):
        one.counter.count(key, ALICE)
    one.now += timedelta(seconds=1)
    one.counter.count(key, ALICE)
    assert one.writer.write()
    assert _counted(settings) == {(ALICE, "V1"): 3}
    assert _counted(settings, "2026-12") == {(ALICE, "V1"): 1}
    assert one.spool.waiting() == 0
    # Nothing is written where nothing was counted.
    assert one.writer.write()
    assert _counted(settings) == {(ALICE, "V1"): 3}


def test_processes_and_machines_add_up(
    process: Callable[[], Process], settings: LifecycleSettings, key: SigningKey, tmp_path: Path
) -> None:
    several = [process(), process(), Process(tmp_path / "other machine", settings)]

    def work(one: Process) -> None:
        for _ in range(10):
            for number in range(50):
                one.counter.count(key, f"p{number}@bank.example")
            assert one.writer.write()

    threads = [threading.Thread(target=work, args=(one,)) for one in several]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = _counted(settings)
    assert len(found) == 50
    assert set(found.values()) == {30}


def test_counts_wait_while_the_database_is_away(
    process: Callable[[], Process],
    settings: LifecycleSettings,
    key: SigningKey,
    caplog: pytest.LogCaptureFixture,
) -> None:
    one = process()
    one.away = True
    for _ in range(20):
        one.counter.count(key, ALICE)
        one.counter.save()
        assert not one.writer.write()
    # However long it lasts, there are few files, and one line in the log.
    assert len(list(one.spool.folder.glob("*.json"))) <= 2
    assert caplog.text.count("counts of signatures wait") == 1
    assert one.spool.waiting() == 20
    one.away = False
    assert one.writer.write()
    assert one.writer.write()
    assert _counted(settings) == {(ALICE, "V1"): 20}


def test_a_killed_process_is_counted_by_another(
    process: Callable[[], Process], settings: LifecycleSettings, key: SigningKey
) -> None:
    one, other = process(), process()
    for _ in range(5):
        one.counter.count(key, ALICE)
    one.counter.save()
    assert other.writer.write()
    assert _counted(settings) == {}
    one.killed()
    assert other.writer.write()
    assert _counted(settings) == {(ALICE, "V1"): 5}
    assert list(other.spool.folder.glob("*.json")) == []


def test_a_lost_answer_counts_once(
    process: Callable[[], Process],
    settings: LifecycleSettings,
    key: SigningKey,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, other = process(), process()
    for _ in range(7):
        one.counter.count(key, ALICE)
    add = UsageStore.add

    def broken_off(*values: object, **more: object) -> bool:
        add(*values, **more)  # type: ignore[arg-type]
        raise DatabaseUnavailable("the connection was lost", "Try again")

    monkeypatch.setattr(UsageStore, "add", broken_off)
    assert not one.writer.write()
    monkeypatch.undo()
    one.counter.count(key, ALICE)
    # Killed before it could say it again: another process finds the file.
    one.counter.save()
    one.killed()
    assert other.writer.write()
    assert _counted(settings) == {(ALICE, "V1"): 8}


def test_the_database_forgets_batches_whose_files_are_gone(
    process: Callable[[], Process], settings: LifecycleSettings, key: SigningKey
) -> None:
    one = process()
    for _ in range(10):
        one.counter.count(key, ALICE)
        assert one.writer.write()
    with connect(settings) as database, database.look() as connection:
        assert connection.execute(select(func.count()).select_from(usage_batches)).scalar_one() == 1


def test_old_counts_are_dropped_where_settings_say_so(settings: LifecycleSettings, tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    with connect(settings) as database:
        upgrade(database)
        store = UsageStore(database)
        for month in ("2025-10", "2025-11", "2026-11"):
            batch = spool.new(now=NOW)
            batch.add(Counted(month, ALICE, "k", "1", "V4"), 1)
            assert store.add(batch, now=NOW)
        store.tidy(now=NOW, keep_months=0)
        assert store.months() == ["2025-10", "2025-11", "2026-11"]
        store.tidy(now=NOW, keep_months=12)
        assert store.months() == ["2025-11", "2026-11"]


def test_memory_is_bounded(tmp_path: Path, key: SigningKey) -> None:
    spool = Spool(tmp_path)
    counter = Counter(spool, now=lambda: NOW, max_entries=10)
    for _ in range(3):
        for number in range(30):
            counter.count(key, f"p{number}@bank.example")
        counter.save()
    batch = counter.seal()
    assert batch is not None
    assert batch.total == 90
    assert len(batch.counts) == 11
    assert [one.address for one in batch.counts if one.address.startswith("*")] == ["*@bank.example"]


def test_a_folder_that_cannot_be_written_loses_nothing_while_the_database_answers(
    tmp_path: Path, settings: LifecycleSettings, key: SigningKey, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "place").write_text("a file where a folder should be")
    one = Process(tmp_path / "place" / "spool", settings)
    one.counter.count(key, ALICE)
    one.away = True
    assert not one.writer.write()
    assert "stay in memory" in caplog.text
    # Nobody waits for files that cannot be written.
    assert not one.counter.is_waiting()
    (tmp_path / "place").unlink()
    one.counter.count(key, ALICE)
    assert not one.writer.write()
    assert one.spool.waiting() == 1, "what was counted later waits for the batch that was sent"
    one.counter.save()
    assert one.spool.waiting() == 2
    one.away = False
    assert one.writer.write()
    assert one.writer.write()
    assert _counted(settings) == {(ALICE, "V1"): 2}


# The hot path


@pytest.fixture
def silent_server() -> Iterator[tuple[int, threading.Event]]:
    """A database server that takes connections and never says a word."""
    asked = threading.Event()
    connections: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connections.append(listener.accept()[0])
                    asked.set()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1], asked
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    for connection in connections:
        connection.close()


def test_no_mail_waits_for_a_database_that_hangs(
    silent_server: tuple[int, threading.Event], keys: KeyFolder, key: SigningKey, tmp_path: Path
) -> None:
    port, asked = silent_server
    settings = Settings(
        lifecycle=LifecycleSettings(database=f"postgresql://mailsigil@127.0.0.1:{port}/mailsigil"),
        usage=UsageSettings(count="on", spool=str(tmp_path / "spool"), flush_seconds=0.1),
    )
    agent = KeyAgent([keys], now=lambda: datetime.now(UTC))
    counting = UsageCounting(settings, now=lambda: NOW)
    counting.start(agent)

    def sign() -> float:
        begun = time.monotonic()
        scheme = key.credential.schemes[0]
        agent.sign(key_id=key.credential.key_id, address=ALICE, scheme=scheme, data=b"x", peer_uid=0)
        return time.monotonic() - begun

    sign()
    assert asked.wait(30), "the database is being asked"
    # It hangs now, for ten seconds at the least (database.CONNECT_SECONDS).
    begun = time.monotonic()
    slowest = max(sign() for _ in range(300))
    assert time.monotonic() - begun < 5
    assert slowest < 2
    # Also the end of the process waits for files alone.
    counting.stop()
    deadline = time.monotonic() + 5
    while counting.busy():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert Spool(tmp_path / "spool").waiting() == 301


def test_a_signature_that_cannot_be_counted_is_made(keys: KeyFolder, key: SigningKey) -> None:
    agent = KeyAgent([keys], now=lambda: datetime.now(UTC))

    def broken(_key: SigningKey, _address: str) -> None:
        raise RuntimeError("no")

    agent.on_signed = broken
    scheme = key.credential.schemes[0]
    assert agent.sign(key_id=key.credential.key_id, address=ALICE, scheme=scheme, data=b"x", peer_uid=0)


def test_refused_requests_are_not_counted(keys: KeyFolder) -> None:
    agent = KeyAgent([keys], now=lambda: datetime.now(UTC))
    counted: list[str] = []
    agent.on_signed = lambda key, address: counted.append(address)
    with pytest.raises(Exception, match="no such key"):
        agent.sign(key_id="none", address=ALICE, scheme="x", data=b"x", peer_uid=0)
    assert counted == []
