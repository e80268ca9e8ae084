"""Stands in for systemd in a sandbox: starts what a unit file says, as the unit's user, and waits for READY.

    manager.py systemctl ARGUMENTS...
    manager.py journalctl ARGUMENTS...

It honours the directives that decide whether a service can work at all: user, groups, umask, runtime
directory, locked memory, no new privileges, no memory that is both writable and executable.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

UNITS = (Path("/etc/systemd/system"), Path("/usr/lib/systemd/system"))
STATE = Path("/run/manager")
JOURNAL_SOCKET = Path("/run/systemd/journal/socket")
JOURNAL = STATE / "journal"
_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_MDWE = 65


def keep_journal() -> None:
    """Take what services send to the journal, until the process ends. To be run in a thread."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(JOURNAL_SOCKET))
        JOURNAL_SOCKET.chmod(0o666)
        while True:
            entry = receiver.recv(1 << 20).decode("utf-8", "replace")
            with JOURNAL.open("a", encoding="utf-8") as log:
                log.writelines(line[8:] + "\n" for line in entry.splitlines() if line.startswith("MESSAGE="))


def systemctl(arguments: list[str]) -> None:
    """The verbs that the documentation and the Debian package use."""
    verb, *units = [argument for argument in arguments if not argument.startswith("-")]
    for name in units:
        name = name.removesuffix(".service")
        unit = _read(name)
        if verb == "enable" and "--now" in arguments:
            _start(name, unit)
        elif verb == "reload":
            os.kill(_process(name), signal.SIGHUP)
        elif verb in {"stop", "try-restart"}:
            if (STATE / name).exists():
                _stop(name, unit)
                if verb == "try-restart":
                    _start(name, unit)
        else:
            raise SystemExit(f"manager: {verb} is not known here")


def _read(name: str) -> dict[str, str]:
    file = name if name.endswith(".socket") else f"{name}.service"
    path = next(folder / file for folder in UNITS if (folder / file).exists())
    lines = path.read_text(encoding="utf-8").splitlines()
    pairs = (line.partition("=") for line in lines if "=" in line and not line.startswith("#"))
    return {key: value for key, _, value in pairs}


def _process(name: str) -> int:
    return int((STATE / name).read_text())


def _stop(name: str, unit: dict[str, str]) -> None:
    process = _process(name)
    os.kill(process, signal.SIGTERM)
    deadline = time.monotonic() + 30
    while _runs(process):
        if time.monotonic() > deadline:
            raise SystemExit(f"manager: {name} does not stop")
        time.sleep(0.05)
    (STATE / name).unlink()
    (STATE / f"{name}.notify").unlink()
    if "RuntimeDirectory" in unit:
        shutil.rmtree(Path("/run") / unit["RuntimeDirectory"])


def _runs(process: int) -> bool:
    """Whether it does; who has ended may be waited for by nobody here."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def _start(name: str, unit: dict[str, str]) -> None:
    user, group = unit["User"], unit["Group"]
    if "RuntimeDirectory" in unit:
        folder = Path("/run") / unit["RuntimeDirectory"]
        folder.mkdir()
        folder.chmod(int(unit["RuntimeDirectoryMode"], 8))
        subprocess.run(["chown", f"{user}:{group}", folder], check=True)
    if unit.get("LimitMEMLOCK") == "infinity":
        with contextlib.suppress(ValueError):  # A container may forbid it; the agent does without.
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    address = STATE / f"{name}.notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver, JOURNAL.open("a") as output:
        receiver.bind(str(address))
        address.chmod(0o666)
        process = subprocess.Popen(
            shlex.split(unit["ExecStart"]),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            user=user,
            group=group,
            extra_groups=unit.get("SupplementaryGroups", "").split(),
            umask=int(unit["UMask"], 8),
            cwd="/",
            env={"PATH": os.defpath, "LANG": "C.UTF-8", "NOTIFY_SOCKET": str(address)},
            start_new_session=True,
            preexec_fn=lambda: _confine(unit),
        )
        (STATE / name).write_text(str(process.pid))
        _wait_for_ready(receiver, process, name)


def _confine(unit: dict[str, str]) -> None:
    libc = ctypes.CDLL(None)
    if unit["NoNewPrivileges"] == "yes":
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if unit["MemoryDenyWriteExecute"] == "yes":
        libc.prctl(_PR_SET_MDWE, 1, 0, 0, 0)


def _wait_for_ready(receiver: socket.socket, process: subprocess.Popen[bytes], name: str) -> None:
    receiver.settimeout(0.2)
    deadline = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(TimeoutError):
            if b"READY=1" in receiver.recv(65536).splitlines():
                return
    raise SystemExit(f"manager: {name} did not become ready:\n{JOURNAL.read_text()}")


if __name__ == "__main__":
    if sys.argv[1] == "systemctl":
        if sys.argv[2] != "daemon-reload":
            systemctl(sys.argv[2:])
    else:
        sys.stdout.write(JOURNAL.read_text(encoding="utf-8"))
