"""The register of the embedded authority: every certificate issued and revoked, one JSON object a line."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

ISSUING: Final = "issuing"
"""The authority that signs certificates for mail; records without an issuer are its own."""
ROOT: Final = "root"
_SPKI: Final = PublicFormat.SubjectPublicKeyInfo
_NEVER: Final = datetime.max.replace(tzinfo=UTC)


class RegisterError(Exception):
    """The register cannot be read or written; the message tells what to mend."""


class Reason(StrEnum):
    """Why a certificate is revoked (RFC 5280 5.3.1), as far as it fits certificates for mail."""

    UNSPECIFIED = "unspecified"
    KEY_COMPROMISE = "keyCompromise"
    AFFILIATION_CHANGED = "affiliationChanged"
    SUPERSEDED = "superseded"
    CESSATION_OF_OPERATION = "cessationOfOperation"
    PRIVILEGE_WITHDRAWN = "privilegeWithdrawn"
    CERTIFICATE_HOLD = "certificateHold"
    """Suspended: the only one that can be taken back."""

    @property
    def flag(self) -> x509.ReasonFlags:
        """The reason as the library names it."""
        return x509.ReasonFlags(self.value)


@dataclass(frozen=True, slots=True)
class Revocation:
    """When and why a certificate was revoked."""

    at: datetime
    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A certificate that was issued. Times are aware, in UTC."""

    serial: int
    address: str
    """The mail address; the host name for the authority's own TLS server."""
    level: str
    not_after: datetime
    issuer: str
    revocation: Revocation | None = None


class Register:
    """A file that is only appended to, by one process at a time, and read on from where it was read to.

    Safe to share between threads; several processes may each have their own.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._forget()

    def issued(
        self,
        *,
        serial: int,
        address: str,
        level: str,
        not_after: datetime,
        issuer: str = ISSUING,
        certificate: x509.Certificate | None = None,
    ) -> None:
        """Note a certificate that is about to be handed out; with ``certificate`` it can be found again."""
        record = {
            "event": "issued",
            "serial": f"{serial:x}",
            "address": address,
            "level": level,
            "not_after": _stamp(not_after),
        }
        if issuer != ISSUING:
            record["issuer"] = issuer
        if certificate is not None:
            record["key"] = _key_digest(certificate.public_key().public_bytes(Encoding.DER, _SPKI))
            record["certificate"] = base64.b64encode(certificate.public_bytes(Encoding.DER)).decode("ascii")
        self._append(lambda: record)

    def find(self, spki: bytes) -> tuple[x509.Certificate, ...]:
        """Give the certificates for a public key (SubjectPublicKeyInfo, DER), the latest first.

        Those that were noted without the certificate itself are not found.
        """
        return self._find("key", _key_digest(spki))

    def find_address(self, address: str) -> tuple[x509.Certificate, ...]:
        """Give the certificates for a mail address, the latest first; as :meth:`find`."""
        return self._find("address", address)

    def _find(self, name: str, value: str) -> tuple[x509.Certificate, ...]:
        wanted = json.dumps({name: value}, ensure_ascii=False)[1:-1].encode("utf-8")
        try:
            with self.path.open("rb") as file:
                records = [json.loads(line) for line in file if wanted in line]
            found = [base64.b64decode(one["certificate"]) for one in records if "certificate" in one]
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise RegisterError(f"{self.path} cannot be read: {error.strerror}") from error
        except (ValueError, TypeError) as error:
            raise RegisterError(f"{self.path} is damaged; correct or remove the line") from error
        return tuple(x509.load_der_x509_certificate(der) for der in reversed(found))

    def release(self, *, serial: int, at: datetime) -> None:
        """Note that a suspended certificate is good again."""
        record = {"event": "released", "serial": f"{serial:x}", "at": _stamp(at)}
        self._append(lambda: record)

    def revoke(self, *, serial: int, at: datetime, reason: Reason) -> None:
        """Note that a certificate is revoked."""
        record = {"event": "revoked", "serial": f"{serial:x}", "at": _stamp(at), "reason": reason.value}
        self._append(lambda: record)

    def next_crl_number(self, now: datetime) -> int:
        """Take the next number for a revocation list (RFC 5280 5.2.3: ever growing)."""

        def following() -> dict[str, Any]:
            with self._lock:
                self._read_on()
                return {"event": "crl", "number": self._crl_number + 1, "at": _stamp(now)}

        return int(self._append(following)["number"])

    def entry(self, serial: int) -> Entry | None:
        """Give what is known about a serial."""
        with self._lock:
            self._read_on()
            return self._known(serial)

    def entries(self) -> tuple[Entry, ...]:
        """Give all certificates, the oldest first."""
        with self._lock:
            self._read_on()
            return tuple(known for serial in self._issued if (known := self._known(serial)) is not None)

    def revoked(self) -> dict[int, Revocation]:
        """Give the serials that were revoked."""
        with self._lock:
            self._read_on()
            return dict(self._revoked)

    def _known(self, serial: int) -> Entry | None:
        entry = self._issued.get(serial)
        return entry and replace(entry, revocation=self._revoked.get(serial))

    def _append(self, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Writes what ``make`` gives, which nobody else writes meanwhile."""
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "r+b", buffering=0) as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                record = make()
                line = json.dumps(record, ensure_ascii=False) + "\n"
                size = os.fstat(descriptor).st_size
                # A line that a crash cut off must not take this one with it.
                torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
                file.write(b"\n" * torn + line.encode("utf-8"))
                os.fsync(descriptor)
        except OSError as error:
            raise RegisterError(f"{self.path} cannot be written: {error.strerror}") from error
        return record

    def _forget(self) -> None:
        self._issued: dict[int, Entry] = {}
        self._revoked: dict[int, Revocation] = {}
        self._crl_number = 0
        self._offset = 0
        self._line = 0
        self._inode = 0

    def _read_on(self) -> None:
        """Takes in the lines that were added. Raises RegisterError for one that is damaged."""
        for number, line in self._new_lines():
            if not line.strip():
                continue
            try:
                self._take(json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                self._forget()
                raise RegisterError(f"{self.path}:{number} is damaged; correct or remove the line") from error

    def _new_lines(self) -> Iterator[tuple[int, str]]:
        try:
            with self.path.open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_ino != self._inode or status.st_size < self._offset:
                    self._forget()  # Somebody put another file in its place.
                    self._inode = status.st_ino
                if status.st_size == self._offset:
                    return
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            self._forget()
            return
        except OSError as error:
            raise RegisterError(f"{self.path} cannot be read: {error.strerror}") from error
        # Another process may be in the middle of its line; a file that was edited may end without one.
        complete = data[: data.rfind(b"\n") + 1]
        for line in complete.splitlines(keepends=True):
            self._line += 1
            yield self._line, line.decode("utf-8", "replace")
            self._offset += len(line)

    def _take(self, event: dict[str, Any]) -> None:
        """Raises ``ValueError``, ``KeyError`` or ``TypeError`` for a record that is not as it should be."""
        match event["event"]:
            case "issued":
                serial = int(event["serial"], 16)
                self._issued[serial] = Entry(
                    serial=serial,
                    address=str(event.get("address", "")),
                    level=str(event.get("level", "")),
                    not_after=_moment(event["not_after"]) if "not_after" in event else _NEVER,
                    issuer=str(event.get("issuer", ISSUING)),
                )
            case "revoked":
                reason = Reason(event.get("reason", Reason.UNSPECIFIED))
                # The first moment counts: what was signed after it has been worthless since. One that was
                # suspended has been worthless since then (RFC 5280 5.3.1), if it never comes back.
                serial, new = int(event["serial"], 16), Revocation(_moment(event["at"]), reason)
                old = self._revoked.setdefault(serial, new)
                if old.reason is Reason.CERTIFICATE_HOLD:
                    self._revoked[serial] = Revocation(old.at, reason)
            case "released":
                serial = int(event["serial"], 16)
                held = self._revoked.get(serial)
                if held is not None and held.reason is Reason.CERTIFICATE_HOLD:
                    del self._revoked[serial]
            case "crl":
                self._crl_number = max(self._crl_number, int(event["number"]))


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.utcoffset() is None:
        raise ValueError("a time without its zone")
    return moment


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).replace(microsecond=0).isoformat()


def _key_digest(spki: bytes) -> str:
    return hashlib.sha256(spki).hexdigest()[:40]
