"""A rehearsal sees what is there, and what it changed itself; nobody else ever does."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import func, insert, inspect, select

from mailsigil.config.lifecycle import LifecycleSettings
from mailsigil.lifecycle.database import Database, connect
from mailsigil.lifecycle.errors import DatabaseError
from mailsigil.lifecycle.rehearsal import rehearse
from mailsigil.lifecycle.tables import claims
from mailsigil.lifecycle.upgrade import upgrade

LATER = datetime(2030, 1, 1, tzinfo=UTC)


def _claim(database: Database, address: str) -> None:
    with database.change() as connection:
        connection.execute(insert(claims).values(address=address, source="ca", holder="x", until=LATER))


def _claimed(database: Database) -> int:
    with database.look() as connection:
        return int(connection.execute(select(func.count()).select_from(claims)).scalar_one())


def test_tables_are_made_for_it_alone(settings: LifecycleSettings) -> None:
    with rehearse(settings) as rehearsal:
        upgrade(rehearsal)
        _claim(rehearsal, "alice@bank.example")
        assert _claimed(rehearsal) == 1
    if settings.database.startswith("sqlite"):
        assert not Path(settings.database.removeprefix("sqlite:///")).parent.exists()
    else:
        with connect(settings) as database, database.look() as connection:
            assert inspect(connection).get_table_names() == []


def test_what_is_there_is_seen_and_stays(settings: LifecycleSettings) -> None:
    with connect(settings) as database:
        upgrade(database)
        _claim(database, "alice@bank.example")
        with rehearse(settings) as rehearsal:
            upgrade(rehearsal)
            _claim(rehearsal, "bob@bank.example")
            assert _claimed(rehearsal) == 2
            # Others go on meanwhile.
            _claim(database, "carol@bank.example")
        assert _claimed(database) == 2


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    file = tmp_path / "l.db"
    file.write_text("this is no database, and it is long enough to be looked at" * 10)
    file.chmod(0o600)
    settings = LifecycleSettings(database=f"sqlite:///{file}")
    with rehearse(settings) as rehearsal, pytest.raises(DatabaseError, match="this file is no database"):
        upgrade(rehearsal)


def test_a_file_that_is_open_to_others_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "l.db"
    file.touch(mode=0o644)
    settings = LifecycleSettings(database=f"sqlite:///{file}")
    with (
        rehearse(settings) as rehearsal,
        pytest.raises(DatabaseError, match=r"open to other users.*chmod 600"),
    ):
        upgrade(rehearsal)
