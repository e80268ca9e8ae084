"""That the work was really done: samples looked at by others, and every single message counted."""

from __future__ import annotations

from pathlib import Path

import dkim
from bench.load import SAMPLED, Queue, send
from bench.subjects import DKIM, Bench, Subject
from mailsigil.demo.programs import DemoError, require, run


def sample(bench: Bench, subject: Subject, message: Path) -> Path:
    """Sends one message through a subject to the sink; the file, with LF line ends, that came out."""
    number = len(bench.sink.deliveries) + 1
    queue = Queue(bench.postfix.log)
    send(subject.port, message, to=SAMPLED)
    content = bench.sink.wait_for(number)[number - 1].content
    queue.drained(1)
    path = bench.folder / f"sample-{number}.eml"
    path.write_bytes(content.replace(b"\r\n", b"\n"))
    return path


def check_sample(bench: Bench, subject: Subject, path: Path) -> None:
    """Has somebody else confirm what a subject did to a message. Raises DemoError."""
    content = path.read_bytes()
    if subject.mark.encode() not in content:
        raise DemoError(f"{subject.name}: no field {subject.mark} in the message")
    if subject.anchor:
        openssl = require("openssl", package="openssl")
        run([openssl, "cms", "-verify", "-in", path, "-CAfile", subject.anchor, "-purpose", "smimesign"])
    if subject.mark == DKIM:
        record = bench.dkim.record.encode()
        if not dkim.verify(content.replace(b"\n", b"\r\n"), dnsfunc=lambda *_, **__: record):
            raise DemoError(f"{subject.name}: the DKIM signature does not verify")


class Count:
    """Holds a run against what Postfix's log says about it, from now on."""

    def __init__(self, bench: Bench, subject: Subject) -> None:
        self._subject = subject
        self._queue = Queue(bench.postfix.log)

    def check(self, count: int) -> None:
        """Waits for the end of a run of ``count`` messages. Raises DemoError if one was not treated."""
        subject = self._subject
        treated = self._queue.drained(count).count(f"info: header {subject.mark}".encode())
        if subject.mark and treated != count:
            raise DemoError(f"{subject.name}: {treated} of {count} messages were treated")
