"""A private PostgreSQL: own folder, own unix socket, loopback port, nothing shared with the system's.

PostgreSQL refuses to run as root, so root starts it as ``postgres`` or ``nobody``.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Final, TypedDict

from mailsigil.demo.programs import DemoError, accepts, free_port, wait_until

USER: Final = "mailsigil"
PASSWORD: Final = "demo"  # noqa: S105  # of a throwaway server on loopback
DATABASE: Final = "mailsigil"

_SETTINGS: Final = """\
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = '{folder}'
max_connections = 60
shared_buffers = 32MB
fsync = {fsync}
log_min_messages = warning
"""


class _User(TypedDict, total=False):
    """What subprocess is told about another user."""

    user: int
    group: int
    extra_groups: list[int]


class Postgresql:
    """Starts on entry, stops by process id on exit. Keeps its port and data over a restart.

    ``fsync`` off is for tests that do not ask for the disk's speed.
    """

    def __init__(self, *, fsync: bool = False) -> None:
        self.port = free_port()
        self._account = _account()
        self._bin = _programs()
        self._fsync = fsync
        self._process: subprocess.Popen[bytes] | None = None
        # Not below a folder of the caller's: another user has to get there, and socket paths are short.
        self.folder = Path(tempfile.mkdtemp(prefix="pg-"))

    @property
    def url(self) -> str:
        """For ``database`` of [lifecycle]; the password is :data:`PASSWORD`."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{DATABASE}"

    def __enter__(self) -> Postgresql:
        if self._account is not None:
            os.chown(self.folder, self._account.pw_uid, self._account.pw_gid)
        password = self.folder / "password"
        password.write_text(PASSWORD)
        if self._account is not None:
            os.chown(password, self._account.pw_uid, self._account.pw_gid)
        self._run(
            "initdb", "-D", self._data, "-U", USER, "-A", "scram-sha-256", f"--pwfile={password}",
            "-E", "UTF8", "--locale=C.UTF-8", "--no-sync",
        )  # fmt: skip
        fsync = "on" if self._fsync else "off"
        settings = _SETTINGS.format(port=self.port, folder=self.folder, fsync=fsync)
        with (self._data / "postgresql.conf").open("a") as file:
            file.write(settings)
        self.start()
        self.statement(f"CREATE DATABASE {DATABASE}", database="postgres")
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Start, or start again with the same data and port."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._bin / "postgres"), "-D", str(self._data)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", start_new_session=True,
                **self._as_user(),
            )  # fmt: skip
        wait_until(self._answers, what="PostgreSQL", timeout=60)

    def stop(self, *, at_once: bool = False) -> None:
        """End it: sessions are cut off (fast shutdown); ``at_once`` as a crash would."""
        if self._process is None:
            return
        if self._process.poll() is None:
            # pg_ctl's words: SIGINT is a fast shutdown, SIGQUIT an immediate one.
            self._process.send_signal(signal.SIGQUIT if at_once else signal.SIGINT)
        self._process.wait(60)
        self._process = None

    def statement(self, text: str, *, database: str = DATABASE) -> str:
        """Run one statement as the owner, and give what psql prints."""
        return self._run(
            "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", str(self.port),
            "-U", USER, "-d", database, "-c", text,
        ).decode().strip()  # fmt: skip

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _answers(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            words = (self.folder / "log").read_text(errors="replace").strip()[-2000:]
            raise DemoError(f"PostgreSQL ended with status {self._process.returncode}: {words}")
        if not accepts(("127.0.0.1", self.port)):
            return False
        try:
            self.statement("SELECT 1", database="postgres")
        except DemoError:
            return False  # It is starting up.
        return True

    def _run(self, program: str, *arguments: str | Path) -> bytes:
        done = subprocess.run(
            [str(self._bin / program), *map(str, arguments)],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=120, cwd="/", check=False,
            env={**os.environ, "PGPASSWORD": PASSWORD}, **self._as_user(),
        )  # fmt: skip
        if done.returncode != 0:
            words = (done.stderr or done.stdout).decode("utf-8", "replace").strip()[-2000:]
            raise DemoError(f"{program} ended with status {done.returncode}: {words}")
        return done.stdout

    def _as_user(self) -> _User:
        if self._account is None:
            return {}
        return {"user": self._account.pw_uid, "group": self._account.pw_gid, "extra_groups": []}


def _account() -> pwd.struct_passwd | None:
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise DemoError("PostgreSQL does not run as root, and there is no other user: apt-get install postgresql")


def _programs() -> Path:
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4].split(".")[0])
    )
    if not found:
        raise DemoError("the program postgres is missing: apt-get install postgresql")
    return found[-1].parent
