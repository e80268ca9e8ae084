"""What processes cost, from /proc (proc(5)): CPU seconds of a whole tree, resident memory of its parts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")
_PARENT, _UTIME, _CSTIME = 1, 11, 14
"""Places in /proc/PID/stat, counted behind the command's name."""


def tree(root: int) -> list[int]:
    """Gives a process and all that descend from it, parents first."""
    children: dict[int, list[int]] = {}
    for pid, stat in _all_stats():
        children.setdefault(int(stat[_PARENT]), []).append(pid)
    found = [root]
    for pid in found:
        found.extend(children.get(pid, ()))
    return found


def cpu_seconds(root: int) -> float:
    """CPU time, user and system, of a process and its descendants, also of those that ended since."""
    members = set(tree(root))
    ticks = sum(sum(map(int, stat[_UTIME : _CSTIME + 1])) for pid, stat in _all_stats() if pid in members)
    return ticks / _TICK


def command_line(pid: int) -> str:
    """What a process was started as."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()


def memory_kib(pid: int, key: str) -> int:
    """A line of /proc/PID/status in KiB: ``VmRSS`` is resident now, ``VmHWM`` was so at most."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0])
    raise LookupError(f"process {pid} has no {key}")


def forget_peak(pid: int) -> None:
    """Makes ``VmHWM`` start again from what is resident now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _all_stats() -> Iterator[tuple[int, list[str]]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue  # It has just ended.
            yield int(entry.name), stat.rpartition(")")[2].split()
