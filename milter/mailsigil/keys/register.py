"""The register of the embedded authority: every certificate issued and revoked, one JSON object a line."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mailsigil.keys.authority_files import AuthorityError
from mailsigil.keys.os_errors import mend_of
from mailsigil.keys.register_file import CutLine, append, opened, read_from

log = logging.getLogger("mailsigil.keys")

ISSUING: Final = "issuing"
"""The authority that signs certificates for mail; records without an issuer are its own."""
ROOT: Final = "root"
_SPKI: Final = PublicFormat.SubjectPublicKeyInfo
_NEVER: Final = datetime.max.replace(tzinfo=UTC)


class RegisterError(AuthorityError):
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

    A line that was cut off while it was written is skipped; one that is whole and wrong is an error. Safe to
    share between threads; several processes may each have their own.
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
        self._append(lambda _: record)

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
        found: list[x509.Certificate] = []
        try:
            with self.path.open("rb") as file:
                for number, line in enumerate(file, 1):
                    if wanted in line and CutLine.of(number, line) is None:
                        found += self._certificate(number, line)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise self._unusable("read", error) from error
        return tuple(reversed(found))

    def _certificate(self, number: int, line: bytes) -> list[x509.Certificate]:
        try:
            record = json.loads(line)
            if "certificate" not in record:
                return []
            return [x509.load_der_x509_certificate(base64.b64decode(record["certificate"]))]
        except (ValueError, TypeError) as error:
            raise self._damaged(number) from error

    def release(self, *, serial: int, at: datetime) -> None:
        """Note that a suspended certificate is good again."""
        record = {"event": "released", "serial": f"{serial:x}", "at": _stamp(at)}
        self._append(lambda _: record)

    def revoke(self, *, serial: int, at: datetime, reason: Reason) -> None:
        """Note that a certificate is revoked."""
        record = {"event": "revoked", "serial": f"{serial:x}", "at": _stamp(at), "reason": reason.value}
        self._append(lambda _: record)

    def next_crl_number(self, now: datetime) -> int:
        """Take the next number for a revocation list (RFC 5280 5.2.3: ever growing)."""

        def following(descriptor: int) -> dict[str, Any]:
            with self._lock:
                self._read_on(descriptor)
                return {"event": "crl", "number": self._crl_number + 1, "at": _stamp(now)}

        return int(self._append(following)["number"])

    def entry(self, serial: int) -> Entry | None:
        """Give what is known about a serial."""
        with self._up_to_date():
            return self._known(serial)

    def entries(self) -> tuple[Entry, ...]:
        """Give all certificates, the oldest first."""
        with self._up_to_date():
            return tuple(known for serial in self._issued if (known := self._known(serial)) is not None)

    def revoked(self) -> dict[int, Revocation]:
        """Give the serials that were revoked."""
        with self._up_to_date():
            return dict(self._revoked)

    def cut_lines(self) -> tuple[CutLine, ...]:
        """Give the lines whose writing was cut off, by a crash or a full disk; they are skipped."""
        with self._up_to_date():
            return tuple(self._cut.values())

    def _known(self, serial: int) -> Entry | None:
        entry = self._issued.get(serial)
        return entry and replace(entry, revocation=self._revoked.get(serial))

    def _append(self, make: Callable[[int], dict[str, Any]]) -> dict[str, Any]:
        """Writes what ``make`` gives for the open file, which nobody else writes meanwhile."""
        try:
            with opened(self.path, writing=True) as descriptor:
                record = make(descriptor)
                line = json.dumps(record, ensure_ascii=False) + "\n"
                append(self.path, descriptor, line.encode("utf-8"))
        except OSError as error:
            raise self._unusable("written", error) from error
        return record

    def _forget(self) -> None:
        self._issued: dict[int, Entry] = {}
        self._revoked: dict[int, Revocation] = {}
        self._cut: dict[int, CutLine] = {}
        self._crl_number = 0
        self._offset = 0
        self._line = 0
        self._inode = 0

    @contextmanager
    def _up_to_date(self) -> Iterator[None]:
        """What is known, and stays as it is meanwhile. Raises RegisterError for a line that is damaged."""
        try:
            # The file before the memory: whoever writes holds the file, and may ask the memory then.
            with opened(self.path, writing=False) as descriptor, self._lock:
                self._read_on(descriptor)
                yield
        except FileNotFoundError:
            with self._lock:
                self._forget()
                yield
        except OSError as error:
            raise self._unusable("read", error) from error

    def _read_on(self, descriptor: int) -> None:
        """Takes in the lines that were added."""
        for number, line in self._new_lines(descriptor):
            if not line.strip() or self._is_cut(number, line):
                continue
            try:
                self._take(json.loads(line.decode("utf-8", "replace")))
            except (ValueError, KeyError, TypeError) as error:
                self._forget()
                raise self._damaged(number) from error

    def _new_lines(self, descriptor: int) -> Iterator[tuple[int, bytes]]:
        status = os.fstat(descriptor)
        if status.st_ino != self._inode or status.st_size < self._offset:
            self._forget()  # Somebody put another file in its place.
            self._inode = status.st_ino
        if status.st_size == self._offset:
            return
        data = read_from(descriptor, self._offset)
        end = data.rfind(b"\n") + 1
        for line in data[:end].splitlines(keepends=True):
            self._line += 1
            yield self._line, line
            self._offset += len(line)
        # What has no end is left for the next time: a file that was edited may go on there.
        self._is_cut(self._line + 1, data[end:])

    def _is_cut(self, number: int, line: bytes) -> bool:
        cut = CutLine.of(number, line)
        if cut is None:
            self._cut.pop(number, None)
        elif self._cut.setdefault(number, cut) is cut:
            log.warning("%s: %s and is skipped. Mend: %s", self.path, cut, cut.mend(self.path))
        return cut is not None

    def _damaged(self, number: int) -> RegisterError:
        return RegisterError(f"{self.path}:{number} is damaged; correct or remove the line")

    def _unusable(self, how: str, error: OSError) -> RegisterError:
        folder = self.path.parent
        mend = mend_of(error, folder, otherwise="See to the file and its folder")
        return RegisterError(f"{self.path} cannot be {how}: {error.strerror}", mend)

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
