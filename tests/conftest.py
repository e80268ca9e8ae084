"""Fixtures for the whole suite."""

from __future__ import annotations

import logging
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent
CORPORA = Path(os.environ.get("MAILSIGIL_CORPORA", ROOT.parent / "shared" / "corpora"))

# The same examples in each run, however slow or busy the machine is. Others are tried on purpose:
# pytest --hypothesis-profile=search
settings.register_profile("search", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("steady", settings.get_profile("search"), derandomize=True, database=None)
settings.load_profile("steady")


UMASK = 0o022


def pytest_configure() -> None:
    """Folders of the tests are entered by the users of servers, whatever the shell's umask is."""
    os.umask(UMASK)


@pytest.fixture(autouse=True)
def _the_process_as_it_was() -> Iterator[None]:
    """A command that is called in this process sets up log and umask; the next test finds none of it."""
    root, ours = logging.getLogger(), logging.getLogger("mailsigil")
    levels, handlers, source = (root.level, ours.level), list(root.handlers), logging._srcfile
    yield
    root.setLevel(levels[0])
    ours.setLevel(levels[1])
    root.handlers[:] = handlers
    logging._srcfile = source
    os.umask(UMASK)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gives a folder with the unpacked corpus of a name, or skips the test where it is absent."""
    unpacked: dict[str, Path] = {}

    def unpack(name: str) -> Path:
        if name not in unpacked:
            archive = CORPORA / f"{name}.tar.xz"
            if not archive.is_file():
                pytest.skip(
                    f"corpus {name} is not here: set MAILSIGIL_CORPORA to the folder of {archive.name}"
                )
            folder = tmp_path_factory.mktemp(name)
            with tarfile.open(archive) as tar:
                if hasattr(tarfile, "data_filter"):  # Debian 12's Python 3.11.2 does not have it
                    tar.extraction_filter = tarfile.data_filter
                tar.extractall(folder)
            unpacked[name] = folder
        return unpacked[name]

    return unpack
