"""Databases for the tests of the lifecycle: SQLite, and a PostgreSQL that all tests of a worker share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from mailsigil.config.lifecycle import LifecycleSettings
from mailsigil.demo.postgresql import PASSWORD, Postgresql
from mailsigil.demo.programs import DemoError

_numbers = count(1)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Postgresql]:
    """A running server; skips the test where PostgreSQL is not installed."""
    try:
        server = Postgresql()
    except DemoError as error:
        pytest.skip(str(error))
    with server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.integration)])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> LifecycleSettings:
    """Settings with a fresh, empty database of each kind."""
    if request.param == "sqlite":
        return LifecycleSettings(enabled=True, database=f"sqlite:///{tmp_path}/db/lifecycle.db", node="mx1")
    make: Callable[[], LifecycleSettings] = request.getfixturevalue("fresh_postgresql")
    return make()


@pytest.fixture
def fresh_postgresql(postgresql: Postgresql, tmp_path: Path) -> Callable[[], LifecycleSettings]:
    """Makes settings with an empty database of the shared server."""
    password = tmp_path / "password"
    password.write_text(PASSWORD + "\n")
    password.chmod(0o600)

    def make() -> LifecycleSettings:
        name = f"test{next(_numbers)}"
        postgresql.statement(f"CREATE DATABASE {name}", database="postgres")
        url = postgresql.url.rpartition("/")[0]
        return LifecycleSettings(
            enabled=True, database=f"{url}/{name}", password_file=str(password), node="mx1"
        )

    return make
