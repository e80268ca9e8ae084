"""The register of the embedded authority: every certificate issued and revoked, one JSON object a line."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


class RegisterError(Exception):
    """The register cannot be read or written; the message tells what to mend."""


class Register:
    """A file that is only appended to, by one process at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def issued(self, *, serial: int, address: str, level: str, not_after: datetime) -> None:
        """Note a certificate that is about to be handed out."""
        self._append(
            {
                "event": "issued",
                "serial": f"{serial:x}",
                "address": address,
                "level": level,
                "not_after": _stamp(not_after),
            }
        )

    def next_crl_number(self, now: datetime) -> int:
        """Take the next number for a revocation list (RFC 5280 5.2.3: ever growing)."""
        number = 1 + max((int(e["number"]) for e in self._events() if e["event"] == "crl"), default=0)
        self._append({"event": "crl", "number": number, "at": _stamp(now)})
        return number

    def revoked(self) -> dict[int, datetime]:
        """Give the serials that were revoked, each with the moment."""
        return {
            int(e["serial"], 16): datetime.fromisoformat(e["at"])
            for e in self._events()
            if e["event"] == "revoked"
        }

    def _append(self, record: dict[str, Any]) -> None:
        line = json.dumps(record, ensure_ascii=False) + "\n"
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "ab") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                file.write(line.encode("utf-8"))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise RegisterError(f"{self.path} cannot be written: {error.strerror}") from error

    def _events(self) -> Iterator[dict[str, Any]]:
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return
        except (OSError, UnicodeDecodeError) as error:
            raise RegisterError(f"{self.path} cannot be read: {error}") from error
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                event = json.loads(line)
                _check(event)
            except (ValueError, KeyError, TypeError) as error:
                raise RegisterError(f"{self.path}:{number} is damaged; correct or remove the line") from error
            yield event


def _check(event: dict[str, Any]) -> None:
    """Raise ``ValueError``, ``KeyError`` or ``TypeError`` for a record that is not as it should be."""
    match event["event"]:
        case "issued":
            int(event["serial"], 16)
        case "revoked":
            int(event["serial"], 16)
            if datetime.fromisoformat(event["at"]).utcoffset() is None:
                raise ValueError("a time without its zone")
        case "crl":
            int(event["number"])


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).replace(microsecond=0).isoformat()
