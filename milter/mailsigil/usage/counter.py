"""Counts signatures where they are made: a step in memory, and nothing that a mail could wait for."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Final

from cryptography import x509

from mailsigil.keys.source import SigningKey
from mailsigil.pki.level import asserted_levels, claimed_level
from mailsigil.pki.policies import Level
from mailsigil.usage.batch import MAX_TEXT, Batch, Counted
from mailsigil.usage.spool import Spool

log = logging.getLogger("mailsigil.usage")

MAX_ENTRIES: Final = 200_000
"""Senders and certificates that are told apart between two writings; further ones count for their domain."""

_Fresh = tuple[int, int, str, str]
"""Year, month, address and key."""


class Counter:
    """What one process of the key agent signed. Safe to share between threads.

    :meth:`count` alone stands in a mail's way, and meets no lock that is held while a file is written.
    """

    def __init__(self, spool: Spool, *, now: Callable[[], datetime], max_entries: int = MAX_ENTRIES) -> None:
        self._spool = spool
        self._now = now
        self._max = max_entries
        self._lock = threading.Lock()
        self._fresh: dict[_Fresh, int] = {}
        self._unread: dict[str, bytes] = {}
        # Below here: one background thread at a time.
        self._saving = threading.Lock()
        self._described: dict[str, tuple[str, str]] = {}
        self._batch: Batch | None = None
        self._saved = True
        self._complained = False

    def count(self, key: SigningKey, address: str) -> None:
        """One more signature for an address (key form)."""
        moment = self._now()
        key_id = key.credential.key_id
        entry = (moment.year, moment.month, address, key_id)
        with self._lock:
            fresh = self._fresh
            if entry not in fresh:
                if len(fresh) >= self._max:
                    entry = (moment.year, moment.month, f"*@{address.rpartition('@')[2]}", key_id)
                self._unread[key_id] = key.credential.certificate
            fresh[entry] = fresh.get(entry, 0) + 1

    def is_waiting(self) -> bool:
        """Tell whether something is about to be written into a file; False while files cannot be written."""
        return (bool(self._fresh) or not self._saved) and not self._complained

    def save(self) -> None:
        """Write what was counted into the spool; what cannot be written stays in memory."""
        with self._saving:
            self._take_in()
            if self._saved or self._batch is None:
                return
            try:
                self._spool.write(self._batch)
            except OSError as error:
                if not self._complained:
                    log.error(
                        "counts of signatures stay in memory, because %s cannot be written: %s",
                        self._spool.folder,
                        error.strerror,
                    )
                self._complained = True
            else:
                self._saved = True
                self._complained = False

    def seal(self) -> Batch | None:
        """Give what was counted up to now; nothing is added to it any more."""
        self.save()
        with self._saving:
            batch, self._batch = self._batch, None
            self._saved = True
            return batch

    def _take_in(self) -> None:
        with self._lock:
            # First: whoever looks in between must not take it for saved.
            self._saved = self._saved and not self._fresh
            fresh, self._fresh = self._fresh, {}
            unread, self._unread = self._unread, {}
        if not fresh:
            return
        if self._batch is None:
            self._batch = self._spool.new(now=self._now())
        for key_id, der in unread.items():
            if key_id not in self._described:
                self._described[key_id] = _described(der)
        for (year, month, address, key_id), number in fresh.items():
            if len(self._batch.counts) >= self._max:
                address = f"*@{address.rpartition('@')[2]}"
            serial, level = self._described[key_id]
            what = Counted(f"{year:04}-{month:02}", address[:MAX_TEXT], key_id, serial, level)
            self._batch.add(what, number)
        if len(self._described) > self._max:
            self._described.clear()


def _described(der: bytes) -> tuple[str, str]:
    """Serial and level of a certificate; it is counted also where they cannot be read."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        level = claimed_level(asserted_levels(certificate)).level.value
        return f"{certificate.serial_number:x}", level
    except ValueError:
        return "", Level.V1.value
