"""Reads what the echo service tells about the message it got."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import dataclass

from wire.milter_client import Answer


@dataclass
class Report:
    """What the handler in the service process saw."""

    pid: int
    generation: str
    envelope: list[object]
    headers: bytes
    body_size: int
    body_sha256: str
    over_limit: str
    rss_kb: int


def report_of(answer: Answer) -> Report:
    """The report among the inserted fields."""
    assert answer.verdict == b"c", answer
    value = next(value for _, name, value in answer.inserted if name == b"X-Report")
    return read_report(value)


def read_report(value: bytes) -> Report:
    """A report from the value of its field, folded or not."""
    data = json.loads(zlib.decompress(base64.b64decode(value)))
    return Report(
        pid=data["pid"],
        generation=data["generation"],
        envelope=data["envelope"],
        headers=base64.b64decode(data["headers"]),
        body_size=data["body"][0],
        body_sha256=data["body"][1],
        over_limit=data["over_limit"],
        rss_kb=data["rss_kb"],
    )
