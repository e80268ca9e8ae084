"""Addresses that a source was asked for lately: what its processes tell each other, and the next start.

What a source told is remembered by the process that asked. When the source goes away, a sender who is known
to one process only would be signed for now and then. So each process writes down whom it asked for, and the
others ask for the same. Addresses alone stand in the file, each with a time: no key, and no certificate.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from pathlib import Path
from typing import Final

from mailsigil.keys.files import write_private

log = logging.getLogger("mailsigil.keyd")

MAX_BYTES: Final = 8_388_608
"""Octets of the file; beyond that it is written anew, with what still counts."""
MAX_LINE: Final = 400


class KnownAddresses:
    """The file of one source, shared by all processes. Safe to share between threads; never raises.

    The folder that it stands in has to be there. Times are seconds since 1970.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._read: tuple[int, int] = (0, 0)
        """The file that was read (its inode), and how far."""
        self._told = False

    def note(self, address: str, now: float) -> None:
        """Write down that the source was asked for an address."""
        line = f"{now:.0f} {address}\n".encode("utf-8", "replace")
        if len(line) > MAX_LINE or len(line.split()) != 2:
            return
        try:
            handle = os.open(
                self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
            try:
                if os.geteuid() == 0:  # For the owner of the folder, as files.write_private does.
                    folder = self._path.parent.stat()
                    os.fchown(handle, folder.st_uid, folder.st_gid)
                fcntl.flock(handle, fcntl.LOCK_SH)
                os.write(handle, line)
            finally:
                os.close(handle)
        except OSError as error:
            self._tell(error)

    def news(self) -> dict[str, float]:
        """Give what was written since the last time, by anybody: addresses, and when they were asked for."""
        with self._lock:
            try:
                with self._path.open("rb") as file:
                    status = os.fstat(file.fileno())
                    inode, at = self._read
                    if inode != status.st_ino or status.st_size < at:
                        at = 0
                    if status.st_size == at:
                        self._read = (status.st_ino, at)
                        return {}
                    file.seek(at)
                    data = file.read(2 * MAX_BYTES)
            except FileNotFoundError:
                return {}
            except OSError as error:
                self._tell(error)
                return {}
            whole = data[: data.rfind(b"\n") + 1]  # Another process may be in the middle of a line.
            self._read = (status.st_ino, at + len(whole))
        return _addresses(whole)

    def tidy(self, before: float) -> None:
        """Write the file anew without what was asked for before a time, once it has grown large."""
        try:
            with self._path.open("rb") as file:
                if os.fstat(file.fileno()).st_size <= MAX_BYTES:
                    return
                # Who writes meanwhile loses a line at worst, and writes it again before long.
                fcntl.flock(file, fcntl.LOCK_EX)
                kept = {who: at for who, at in _addresses(file.read(2 * MAX_BYTES)).items() if at >= before}
                text = "".join(f"{at:.0f} {who}\n" for who, at in kept.items())
                write_private(self._path, text.encode(), replace=True)
        except OSError as error:
            self._tell(error)

    def _tell(self, error: OSError) -> None:
        level = logging.DEBUG if self._told else logging.INFO
        self._told = True
        words = "%s cannot be used: %s; each process of the key agent asks for itself"
        log.log(level, words, self._path, error.strerror)


def _addresses(data: bytes) -> dict[str, float]:
    found: dict[str, float] = {}
    for line in data.decode("utf-8", "replace").splitlines():
        when, _, address = line.partition(" ")
        if when.isdigit() and len(when) < 14 and "@" in address and len(address) < MAX_LINE:
            found[address] = max(float(when), found.get(address, 0.0))
    return found
