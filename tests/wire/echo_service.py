"""A milter service for the wire tests: the handler reports what it saw and edits as it is told.

Run as a program: ``echo_service.py SETTINGS.json``; the file is read again on every reload. It tells what it
was given in header fields, because the test sits in another process.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import os
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mailsigil.message.fields import Field
from mailsigil.message.spool import Spool
from mailsigil.milter.session import SessionLimits
from mailsigil.milter.worker import run_workers
from mailsigil.plan import (
    AppendField,
    ChangeField,
    DeleteField,
    Edit,
    Envelope,
    Event,
    InsertField,
    Outcome,
    Plan,
    ReplaceBody,
)


class EchoHandler:
    """Answers with fields that tell what was received; header fields named X-Do are commands."""

    def __init__(self, generation: str) -> None:
        self._generation = generation

    def handle(
        self, envelope: Envelope, fields: tuple[Field, ...], body: Spool, *, over_limit: str = ""
    ) -> Plan:
        digest = hashlib.sha256()
        for chunk in body.chunks():
            digest.update(chunk)
        report = {
            "pid": os.getpid(),
            "generation": self._generation,
            "envelope": [
                envelope.queue_id,
                envelope.client_address,
                envelope.login,
                envelope.daemon_name,
                envelope.mail_from,
                list(envelope.recipients),
            ],
            "headers": base64.b64encode(b"".join(field.raw for field in fields)).decode(),
            "body": [len(body), digest.hexdigest()],
            "over_limit": over_limit,
            "rss_kb": _resident_kilobytes(),
        }
        text = base64.b64encode(zlib.compress(json.dumps(report).encode()))
        edits: list[Edit] = [InsertField(Field(b"X-Report", b" " + text))]
        outcome = Outcome.ACCEPT
        for field in fields:
            if field.key != b"x-do":
                continue
            order, _, rest = field.value.decode("latin-1").strip().partition(" ")
            outcome = self._obey(order, rest, body, edits) or outcome
        return Plan(
            outcome=outcome, edits=tuple(edits), event=Event.PASSED, details=(("size", str(len(body))),)
        )

    def _obey(self, order: str, rest: str, body: Spool, edits: list[Edit]) -> Outcome | None:
        if order == "crash":
            raise RuntimeError("secret internals\nforged: line")
        if order == "exit":
            os._exit(9)
        if order == "sleep":
            time.sleep(float(rest))
        elif order == "outcome":
            return Outcome[rest]
        elif order == "echo-body":
            edits.append(ReplaceBody(body.chunks))
        elif order == "empty-body":
            edits.append(ReplaceBody(_no_chunks))
        elif order == "insert":
            edits += [InsertField(Field(b"X-First", b" one\r\n two")), InsertField(Field(b"X-Second", b" 2"))]
        elif order == "append":
            edits.append(AppendField(Field(b"X-Last", b" last")))
        elif order == "delete":
            name, occurrence = rest.split()
            edits.append(DeleteField(name.encode(), int(occurrence)))
        elif order == "change":
            name, occurrence, value = rest.split(" ", 2)
            edits.append(ChangeField(name.encode(), int(occurrence), b" " + value.encode("latin-1")))
        return None


class NullHandler:
    """Does nothing: the floor."""

    def handle(
        self, envelope: Envelope, fields: tuple[Field, ...], body: Spool, *, over_limit: str = ""
    ) -> Plan:
        return Plan(event=Event.PASSED)


def _no_chunks() -> Iterator[bytes]:
    return iter(())


def _resident_kilobytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def main() -> int:
    path = Path(sys.argv[1])
    settings: dict[str, Any] = json.loads(path.read_text())
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(name)s %(levelname)s %(message)s")

    def make_handler(_handed: bytes) -> EchoHandler | NullHandler:
        current = json.loads(path.read_text())
        if current.get("broken"):
            raise ValueError("settings are broken")
        return NullHandler() if current.get("null") else EchoHandler(current.get("generation", "one"))

    return run_workers(
        make_handler=make_handler,
        limits=SessionLimits(**settings.get("limits", {})),
        **settings["service"],
    )


if __name__ == "__main__":
    sys.exit(main())
