"""A running milter service for the wire tests."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from wire.milter_client import MilterClient

HERE = Path(__file__).resolve().parent
SOURCES = HERE.parent.parent / "milter"


class Service:
    """One service process with its workers. Each is ended by its process id."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder
        self.settings: dict[str, Any] = {
            "limits": options.pop("limits", {}),
            "service": {"socket": f"unix:{folder}/m.sock", "workers": 1, "drain_seconds": 5.0, **options},
        }
        self._file = folder / "settings.json"
        self._log = folder / "log"
        self.write()
        environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(HERE / "echo_service.py"), str(self._file)],
                stderr=log,
                env=environment,
            )

    def write(self, **changes: Any) -> None:
        self.settings.update(changes)
        self._file.write_text(json.dumps(self.settings))

    @property
    def address(self) -> str | tuple[str, int]:
        kind, _, rest = self.settings["service"]["socket"].partition(":")
        if kind == "unix":
            return str(rest)
        host, _, port = rest.rpartition(":")
        return host, int(port)

    def client(self, **options: Any) -> MilterClient:
        return MilterClient(self.address, **options)

    def log(self) -> str:
        return self._log.read_text()

    def workers(self) -> list[int]:
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    def reload(self) -> None:
        self.process.send_signal(signal.SIGHUP)

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def wait_for(self, condition: Callable[[], object], what: str, seconds: float = 10.0) -> None:
        limit = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > limit:
                pytest.fail(f"waited in vain for {what}; log:\n{self.log()}")
            time.sleep(0.02)

    def answers(self) -> bool:
        with contextlib.suppress(OSError):
            self.client().close()
            return True
        return False

    def close(self) -> None:
        """End what is still alive."""
        pids = []
        if self.process.poll() is None:
            pids = [*self.workers(), self.process.pid]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def start_service(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Starts services with the options of ``run_workers`` (and ``limits``); ends them with the test."""
    with starting_services(tmp_path) as start:
        yield start


@contextlib.contextmanager
def starting_services(folder: Path) -> Iterator[Callable[..., Service]]:
    """Gives what starts services in a folder; ends them in the end."""
    started: list[Service] = []

    def start(**options: Any) -> Service:
        service = Service(folder, **options)
        started.append(service)
        service.wait_for(service.answers, "the service to answer")
        # The first one answers before the others are there.
        count = service.settings["service"]["workers"]
        service.wait_for(lambda: len(service.workers()) == count, "all workers")
        return service

    try:
        yield start
    finally:
        for service in started:
            service.close()
