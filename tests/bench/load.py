"""Mail in bulk: the messages, who sends them (Postfix's smtp-source), and what Postfix says of them."""

from __future__ import annotations

import os
import re
import subprocess
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

from mailsigil.demo.programs import DemoError, require, wait_until

SESSIONS = 8
SENDER = "alice@bank.example"
DISCARDED = "bob@customer.example"
SAMPLED = "bob@sample.example"
"""Mail to this one arrives at the sink, everything else is thrown away."""

_TEXT = b"The quick brown fox jumps over the lazy dog, again and again: %07d\n"
_EIGHT_BIT = "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich: %07d\n"
_REMOVED = re.compile(rb": removed\n")


def write_message(path: Path, *, size: int, eight_bit: bool = False) -> Path:
    """Writes a message of Alice's with ``size`` octets of text, with LF line ends as smtp-source wants it."""
    line = _EIGHT_BIT.encode() if eight_bit else _TEXT
    header = (
        f"From: Alice Example <{SENDER}>\nTo: Bob Customer <{DISCARDED}>\nSubject: A measured mail\n"
        f"Date: {format_datetime(datetime.now(UTC))}\nMessage-ID: <measured@bank.example>\n"
        "MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n"
        f"Content-Transfer-Encoding: {'8bit' if eight_bit else '7bit'}\n\n"
    )
    with path.open("wb") as file:
        file.write(header.encode())
        for number in range(size // len(line % 0)):
            file.write(line % number)
    return path


@dataclass(frozen=True, slots=True)
class Sending:
    """What it took to hand the messages over; seconds."""

    elapsed: float
    cpu: float


def send(port: int, message: Path, *, count: int = 1, to: str = DISCARDED, timeout: float = 300) -> Sending:
    """Sends a message ``count`` times over eight sessions, a connection each time; all must be accepted."""
    command = require("smtp-source", package="postfix")
    sessions = min(SESSIONS, count)
    arguments = ["-s", sessions, "-m", count, "-f", SENDER, "-t", to, "-F", message, f"127.0.0.1:{port}"]
    before, start = os.times(), time.monotonic()
    done = subprocess.run([command, *map(str, arguments)], capture_output=True, timeout=timeout)
    elapsed, after = time.monotonic() - start, os.times()
    if done.returncode != 0:
        raise DemoError(f"smtp-source was not served: {done.stderr.decode('utf-8', 'replace').strip()}")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Sending(elapsed, cpu)


class Queue:
    """Watches Postfix's log from now on until its queue is empty again."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._offset = log.stat().st_size

    def drained(self, count: int, *, timeout: float = 120) -> bytes:
        """Waits until ``count`` messages have left; what Postfix said of them."""
        said = bytearray()

        def empty() -> bool:
            time.sleep(0.1)
            with self._log.open("rb") as file:
                file.seek(self._offset + len(said))
                said.extend(file.read())
            return len(_REMOVED.findall(said)) >= count

        wait_until(empty, what="an empty mail queue", timeout=timeout)
        return bytes(said)
