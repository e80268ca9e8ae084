"""Places for a whole machine's set-up inside a mount, process and network namespace of its own.

What is written below the usual folders stays in memory and is gone at the end; the machine's own files
are underneath and untouched. To be used only in a process started by :data:`UNSHARE`.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import socket
import struct
import subprocess
from pathlib import Path

UNSHARE = ("unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child")
_FOLDERS = ("/etc", "/usr", "/var", "/opt")
_CLONE_NEWNET = 0x40000000
_SIOCSIFADDR = 0x8916
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1
OUTSIDE = "198.51.100.1"
"""An address of this machine that no mail server would count as its own network."""


def why_not() -> str:
    """Why there can be no sandbox here; empty when there can."""
    if os.geteuid() != 0:
        return "only root can make a sandbox"
    if shutil.which("unshare") is None:
        return "unshare (util-linux) is missing"
    layers = "lowerdir=/etc,upperdir=/mnt/u,workdir=/mnt/w"
    probe = f"mount -t tmpfs t /mnt && mkdir /mnt/u /mnt/w && mount -t overlay o -o {layers} /etc"
    done = subprocess.run([*UNSHARE, "--net", "sh", "-c", probe], capture_output=True, timeout=30)
    return "" if done.returncode == 0 else "this kernel or container allows no sandbox"


def cover(folder: Path, *needed: Path) -> None:
    """Lay memory over the system's folders, and make the ``needed`` paths readable for every user."""
    _mount("-t", "tmpfs", "-o", "mode=0755", "tmpfs", folder)
    # What lies in /tmp is left as it is: the work folder is there, too.
    tops = {str(Path(*path.resolve().parts[:2])) for path in needed} - {"/tmp"}
    for top in sorted({*_FOLDERS, *tops}):
        upper, work = (folder / kind / top.strip("/") for kind in ("upper", "work"))
        for place in (upper, work):
            place.mkdir(parents=True)
        shutil.copystat(top, upper)
        _mount("-t", "overlay", "-o", f"lowerdir={top},upperdir={upper},workdir={work}", "overlay", top)
    _mount("-t", "tmpfs", "-o", "mode=0755", "tmpfs", "/run")
    for path in needed:
        for part in (path.resolve(), *path.resolve().parents):
            if str(Path(*part.parts[:2])) in tops:
                part.chmod(part.stat().st_mode | 0o055)


def leave_network() -> None:
    """Go on in a network with nothing but loopback, which also has the address :data:`OUTSIDE`."""
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))
        address = struct.pack("16sHH4s8x", b"lo:1", socket.AF_INET, 0, socket.inet_aton(OUTSIDE))
        fcntl.ioctl(control, _SIOCSIFADDR, address)
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo:1", _IFF_UP))


def write(path: str, text: str) -> None:
    """A file of its own, also where the machine has a link."""
    place = Path(path)
    place.unlink(missing_ok=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text, encoding="utf-8")


def _mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *arguments], check=True)
