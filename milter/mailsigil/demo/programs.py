"""Finding and running the real servers' programs, with errors that say what to install."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

_SEARCH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin", "/usr/local/sbin"))


class DemoError(Exception):
    """A part is missing or did not start; the text tells an administrator what to do."""


def require(program: str, *, package: str) -> str:
    """Gives a program's path, or says which Debian package brings it."""
    path = shutil.which(program, path=_SEARCH)
    if path is None:
        raise DemoError(f"the program {program} is missing: apt-get install {package}")
    return path


def run(arguments: Sequence[str | Path], *, stdin: bytes = b"", timeout: float = 60) -> bytes:
    """Runs a program to its end and gives its standard output; a failure quotes its last words."""
    done = subprocess.run([str(a) for a in arguments], input=stdin, capture_output=True, timeout=timeout)
    if done.returncode != 0:
        words = (done.stderr or done.stdout).decode("utf-8", "replace").strip()[-2000:]
        raise DemoError(f"{Path(str(arguments[0])).name} ended with status {done.returncode}: {words}")
    return done.stdout


def free_port() -> int:
    """Gives a loopback TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(ready: Callable[[], bool], *, what: str, timeout: float = 20) -> None:
    """Waits for a server to be ready, with an end to patience."""
    deadline = time.monotonic() + timeout
    while not ready():
        if time.monotonic() > deadline:
            raise DemoError(f"{what} was not ready within {timeout:.0f} s")
        time.sleep(0.02)


def accepts(address: str | tuple[str, int]) -> bool:
    """Tells whether somebody listens on a loopback TCP address or on a unix socket's path."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as probe:
        probe.settimeout(1)
        try:
            probe.connect(address)
        except OSError:
            return False
        return True


class Daemon:
    """A server process in the foreground of its own group, stopped by its process id."""

    def __init__(
        self, arguments: Sequence[str | Path], *, log: Path, env: dict[str, str] | None = None
    ) -> None:
        self.name = Path(str(arguments[0])).name
        self._log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [str(a) for a in arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env={**os.environ, **(env or {})},
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    def wait_until(self, ready: Callable[[], bool], *, timeout: float = 20) -> None:
        """Waits until it is ready; if it ends before, its last words become the error.

        What does not become ready is stopped.
        """

        def check() -> bool:
            if self.process.poll() is not None:
                words = self._log.read_text(errors="replace").strip()[-2000:]
                raise DemoError(f"{self.name} ended with status {self.process.returncode}: {words}")
            return ready()

        try:
            wait_until(check, what=self.name, timeout=timeout)
        except DemoError:
            self.stop()
            raise

    def stop(self, *, timeout: float = 40) -> None:
        """Ends it politely, then firmly."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
