"""What all tests with real servers share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.house import House, open_house
from integration.mailroom import Mailroom

SOURCES = Path(__file__).resolve().parent.parent.parent / "milter"


@pytest.fixture(scope="session", autouse=True)
def _services_run_these_sources() -> Iterator[None]:
    """The services are processes of their own; they run what is tested here, installed or not."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(SOURCES), before)))
    yield
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before


@pytest.fixture(scope="session")
def house() -> Iterator[House]:
    """The site that the modules of the group "house" share."""
    with open_house() as running:
        yield running


@pytest.fixture
def mailroom(house: House) -> Mailroom:
    """Sends and receives at that site."""
    return house.mailroom
