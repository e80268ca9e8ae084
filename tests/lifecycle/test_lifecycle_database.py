"""The database: made and brought up to date, private, and clear about what is wrong with it."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import insert, select, text

from mailsigil.config.lifecycle import LifecycleSettings
from mailsigil.demo.postgresql import Postgresql
from mailsigil.lifecycle import upgrade as upgrade_module
from mailsigil.lifecycle.database import connect
from mailsigil.lifecycle.errors import DatabaseError, DatabaseUnavailable, DatabaseUnusable
from mailsigil.lifecycle.tables import claims, metadata
from mailsigil.lifecycle.upgrade import HEAD, upgrade

LATER = datetime(2030, 1, 1, tzinfo=UTC)
MIGRATIONS = Path(upgrade_module.__file__).parent / "migrations"


def _revisions() -> list[str]:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    script = ScriptDirectory.from_config(config)
    assert script.get_current_head() == HEAD
    return [each.revision for each in reversed(list(script.walk_revisions()))]


@pytest.mark.parametrize("start", ["", *_revisions()])
def test_each_earlier_step_is_brought_to_the_models(settings: LifecycleSettings, start: str) -> None:
    with connect(settings) as database:
        if start:
            upgrade(database, to=start)
        upgrade(database)
        upgrade(database)
        with database.look() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            assert compare_metadata(context, metadata) == []


def test_who_opens_a_new_file_waits_for_another_who_does(tmp_path: Path) -> None:
    file = tmp_path / "lifecycle.db"
    file.touch(mode=0o600)
    other = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    # The lock of one who is changing the mode of the file: SQLite itself waits for every other, not for this.
    other.execute("BEGIN IMMEDIATE")
    gives_back = threading.Timer(0.2, lambda: other.execute("COMMIT"))
    gives_back.start()
    settings = LifecycleSettings(enabled=True, database=f"sqlite:///{file}")
    with connect(settings) as database, database.look() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar_one() == "wal"
    gives_back.join()
    other.close()


_TAKE_OVER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=0)
print(connection.execute("PRAGMA journal_mode = DELETE").fetchone()[0])
"""
"""What the last one to leave a database does: it needs it for itself."""


def test_a_second_connection_of_a_process_takes_no_lock_from_the_first(tmp_path: Path) -> None:
    file = tmp_path / "l.db"
    settings = LifecycleSettings(enabled=True, database=f"sqlite:///{file}")
    with connect(settings) as first, first.look() as connection:
        upgrade_module.revision(first)
        connection.execute(text("SELECT count(*) FROM sqlite_master"))
        with connect(settings) as second, second.look() as other:
            other.execute(text("SELECT 1"))
        done = subprocess.run([sys.executable, "-c", _TAKE_OVER, file], capture_output=True, text=True)
    assert "database is locked" in done.stderr, done.stdout


def test_steps_are_taken_once_when_many_start_at_a_time(settings: LifecycleSettings) -> None:
    errors: list[Exception] = []

    def start() -> None:
        try:
            with connect(settings) as database:
                upgrade(database)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with connect(settings) as database, database.look() as connection:
        assert connection.execute(text("SELECT count(*) FROM alembic_version")).scalar() == 1


def test_a_newer_database_is_left_alone(settings: LifecycleSettings) -> None:
    with connect(settings) as database:
        upgrade(database)
        with database.change() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        with pytest.raises(DatabaseUnusable, match=r"newer mailsigil \(step 9999.*Update mailsigil"):
            upgrade(database)


def test_a_change_is_done_whole_or_not_at_all(settings: LifecycleSettings) -> None:
    row = {"source": "s", "address": "a@b", "holder": "h", "until": LATER}
    with connect(settings) as database:
        upgrade(database)

        def half_done() -> None:
            with database.change() as connection:
                connection.execute(insert(claims), row)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            half_done()
        with database.look() as connection:
            assert connection.execute(select(claims)).all() == []
        with database.change() as connection:
            connection.execute(insert(claims), row)
        with database.look() as connection:
            assert connection.execute(select(claims.c.until)).scalar_one() == row["until"]


def test_looking_changes_nothing(settings: LifecycleSettings) -> None:
    if settings.database.startswith("sqlite"):
        pytest.skip("SQLite has no transactions that only read")
    with connect(settings) as database:
        upgrade(database)
        with pytest.raises(DatabaseUnusable, match="read-only"), database.look() as connection:
            connection.execute(text("DELETE FROM claim"))


def test_the_file_is_private(tmp_path: Path) -> None:
    with connect(LifecycleSettings(database=f"sqlite:///{tmp_path}/db/l.db")) as database:
        upgrade(database)
        with database.change() as connection:
            connection.execute(text("DELETE FROM claim"))
            modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "db").iterdir()}
    assert modes["l.db"] == 0o600
    assert set(modes.values()) == {0o600}
    assert (tmp_path / "db").stat().st_mode & 0o777 == 0o700


def _junk(folder: Path) -> str:
    (folder / "l.db").write_bytes(b"this is no database, and long enough to be looked at as one" * 10)
    (folder / "l.db").chmod(0o600)
    return "no database"


def _open_to_others(folder: Path) -> str:
    (folder / "l.db").touch(mode=0o644)
    (folder / "l.db").chmod(0o644)
    return "open to other users.*chmod 600"


def _folder(folder: Path) -> str:
    (folder / "l.db").mkdir()
    return "it is no regular file"


def _link(folder: Path) -> str:
    (folder / "l.db").symlink_to("/etc/passwd")
    return "it is no regular file"


@pytest.mark.parametrize("prepare", [_junk, _open_to_others, _folder, _link])
def test_a_file_that_cannot_be_used_is_told(tmp_path: Path, prepare: Callable[[Path], str]) -> None:
    sentence = prepare(tmp_path)
    settings = LifecycleSettings(database=f"sqlite:///{tmp_path}/l.db")
    with connect(settings) as database, pytest.raises(DatabaseUnusable, match=sentence):
        upgrade(database)


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    with connect(LifecycleSettings(database=f"sqlite:///{tmp_path}/l.db")) as database:
        upgrade(database)
        row = {"source": "s", "address": "x" * 100_000, "holder": "h", "until": LATER}

        def fill() -> None:
            with database.change() as connection:
                pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
                connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
                connection.execute(insert(claims), row)

        with pytest.raises(DatabaseUnusable, match=r"its disk is full.*Make room"):
            fill()


def test_a_busy_file_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailsigil.lifecycle.database.BUSY_SECONDS", 0.1)
    with connect(LifecycleSettings(database=f"sqlite:///{tmp_path}/l.db")) as database:
        upgrade(database)
        other = sqlite3.connect(tmp_path / "l.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseUnavailable, match="another process writes"), database.change():
            pass
        other.close()


def test_nobody_there_is_told() -> None:
    settings = LifecycleSettings(database="postgresql://mailsigil@127.0.0.1:9/mailsigil?connect_timeout=2")
    with connect(settings) as database, pytest.raises(DatabaseUnavailable) as caught:
        upgrade(database)
    assert "mailsigil on 127.0.0.1:9" in str(caught.value)
    assert "does not answer" in str(caught.value)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("database", "password", "sentence"),
    [
        pytest.param("nowhere", "demo", "there is no such database", id="no database"),
        pytest.param("mailsigil", "wrong-secret", "the login is refused", id="wrong password"),
        pytest.param("mailsigil", "", "password", id="empty password"),
    ],
)
def test_a_login_that_fails_is_told_without_its_password(
    postgresql: Postgresql, tmp_path: Path, database: str, password: str, sentence: str
) -> None:
    file = tmp_path / "password"
    file.write_text(password)
    file.chmod(0o600)
    url = f"{postgresql.url.rpartition('/')[0]}/{database}"
    settings = LifecycleSettings(database=url, password_file=str(file))
    with connect(settings) as opened, pytest.raises(DatabaseError, match=sentence) as caught:
        upgrade(opened)
    assert not password or password not in str(caught.value)


def test_a_password_that_others_can_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("demo")
    file.chmod(0o644)
    settings = LifecycleSettings(database="postgresql://m@127.0.0.1:9/m", password_file=str(file))
    with connect(settings) as database, pytest.raises(DatabaseUnusable, match="password for PostgreSQL"):
        upgrade(database)


@pytest.mark.integration
def test_a_server_that_comes_back_is_used_again(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("demo")
    password.chmod(0o600)
    with Postgresql() as server:
        settings = LifecycleSettings(database=server.url, password_file=str(password))
        with connect(settings) as database:
            upgrade(database)
            server.stop(at_once=True)
            with pytest.raises(DatabaseUnavailable), database.look() as connection:
                connection.execute(select(claims))
            server.start()
            with database.look() as connection:
                assert connection.execute(select(claims)).all() == []
            clock = database.clock()
            assert clock is not None
        assert not os.path.exists(tmp_path / "lifecycle.db")
