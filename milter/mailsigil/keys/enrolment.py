"""Keys that are made here and certified by an issuer: enrolled when they are needed, renewed in time.

The state folder holds one PEM file for each address, with key and chain, readable by the key agent alone.
So a restart enrols nobody again, and all processes of the agent sign with the same keys. What an issuer has
not decided yet waits in a hidden file, with the key it was asked to certify.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from mailsigil.keys.answers import read_private_key
from mailsigil.keys.errors import Pending, SourceAnswer, SourceError, SourceRefused
from mailsigil.keys.files import address_file_name, write_private
from mailsigil.keys.folder import KeyFolder
from mailsigil.keys.guard import Guard
from mailsigil.keys.newkey import NewKey
from mailsigil.keys.profile import KeyKind
from mailsigil.keys.soft_key import SoftKey
from mailsigil.keys.source import HeldKey, Issuer, KeyMaker
from mailsigil.keys.subject import SubjectRequest

log = logging.getLogger("mailsigil.keyd")

LOOK_SECONDS: Final = 60.0
"""So often it is looked which certificates are to be renewed."""
FAILED_SECONDS: Final = 60.0
"""So long nobody asks again after an issuer said no, or answered wrongly."""
RENEWAL_RETRY_SECONDS: Final = 3600.0
MAX_RETRY_AFTER: Final = 86_400.0
LOCKS: Final = 64
"""Files that keep the agent's processes from enrolling the same address twice."""


class EnrolledKeys:
    """A KeySource on top of an issuer. Safe to share between threads and processes.

    ``subject_of`` tells what to ask for an address. ``now`` gives the time, aware, in UTC.
    """

    def __init__(
        self,
        issuer: Issuer,
        guard: Guard,
        *,
        state: Path,
        kind: KeyKind,
        now: Callable[[], datetime],
        subject_of: Callable[[str], SubjectRequest],
        on_demand: bool = True,
        renew_before: timedelta = timedelta(days=30),
        maker: KeyMaker | None = None,
    ) -> None:
        self._issuer = issuer
        self._maker = maker
        self._guard = guard
        self._state = state
        self._kind = kind
        self._now = now
        self._subject_of = subject_of
        self._on_demand = on_demand
        self._renew_before = renew_before
        self._folder = KeyFolder(state)
        self._lock = threading.Lock()
        self._not_before: dict[str, tuple[datetime, SourceError]] = {}
        self._next_look: datetime | None = None

    def find(self, address: str) -> tuple[SoftKey, ...]:
        """Gives the keys for an address; the first time they are enrolled. Raises SourceError."""
        keys = self._valid(address)
        if keys or not self._on_demand:
            return keys
        self._refuse_too_early(address)
        self._guard.call(lambda: self._remembering(address, self._enrol))
        return self._valid(address)

    def get(self, key_id: str) -> SoftKey | None:
        """Gives the key of a name."""
        return self._folder.get(key_id)

    def held(self) -> tuple[SoftKey, ...]:
        """Gives all keys of the state folder, the expired ones included."""
        return self._folder.held()

    def count(self) -> int:
        """Tells how many keys there are."""
        return self._folder.count()

    def refresh(self) -> None:
        """Takes in what other processes enrolled, and starts what is to be renewed."""
        self._prepare()
        self._folder.refresh()
        now = self._now()
        if self._next_look is not None and now < self._next_look:
            return
        self._next_look = now + timedelta(seconds=LOOK_SECONDS)
        if due := self._due(now):
            self._guard.start(lambda: self._renew_all(due))

    def reload(self) -> None:
        """Reads the state folder anew, and forgets what failed."""
        with self._lock:
            self._not_before.clear()
        self._prepare()
        self._folder.reload()

    def revoke(self, address: str) -> int:
        """Has all certificates of an address revoked and drops the keys; gives how many.

        Raises SourceError.
        """
        keys = self._folder.find(address)
        for key in keys:
            self._guard.call(partial(self._issuer.revoke, key.credential.certificate))
            key.origin.unlink(missing_ok=True)
        self._folder.refresh()
        return len(keys)

    def _valid(self, address: str) -> tuple[SoftKey, ...]:
        now = self._now()
        return tuple(key for key in self._folder.find(address) if key.valid_from <= now <= key.valid_until)

    def _refuse_too_early(self, address: str) -> None:
        with self._lock:
            entry = self._not_before.get(address)
            if entry is None:
                return
            if self._now() < entry[0]:
                raise entry[1]
            del self._not_before[address]

    def _remembering(self, address: str, action: Callable[[str], None]) -> None:
        """Runs an action; when the issuer said no, or later, it is not asked again at once."""
        try:
            action(address)
        except Pending as pending:
            self._wait(address, min(max(1.0, pending.retry_after), MAX_RETRY_AFTER), pending)
            raise
        except (SourceRefused, SourceAnswer) as error:
            self._wait(address, FAILED_SECONDS, error)
            log.warning("%s", error)
            raise

    def _wait(self, address: str, seconds: float, error: SourceError) -> None:
        with self._lock:
            self._not_before[address] = (self._now() + timedelta(seconds=seconds), error)

    def _enrol(self, address: str) -> None:
        self._prepare()
        with self._alone(address):
            # Another process may have been quicker.
            self._folder.refresh()
            if self._valid(address):
                return
            request = self._subject_of(address)
            if self._maker is not None:
                new, chain = self._maker.make(request)
            else:
                new = self._new_key(request)
                chain = self._certified(new, lambda: self._issuer.enrol(request, new))
            self._store(new, chain)
        log.info('source "%s": enrolled %s', self._issuer.name, address)

    def _certified(self, new: NewKey, ask: Callable[[], tuple[bytes, ...]]) -> tuple[bytes, ...]:
        """Asks, and keeps the key when the answer is: later (RFC 7030 4.2.3: the same request again)."""
        waiting = self._waiting_file(new.request.address)
        try:
            chain = ask()
        except Pending:
            write_private(waiting, new.private_pem(), replace=True)
            raise
        except (SourceRefused, SourceAnswer):
            waiting.unlink(missing_ok=True)
            raise
        waiting.unlink(missing_ok=True)
        return chain

    def _new_key(self, request: SubjectRequest) -> NewKey:
        try:
            held = self._waiting_file(request.address).read_bytes()
        except FileNotFoundError:
            return NewKey.generate(request, self._kind)
        return NewKey(request, read_private_key(self._issuer.name, held))

    def _due(self, now: datetime) -> list[SoftKey]:
        """The keys to renew: each address's newest, when its end is near."""
        newest = {keys[0].credential.key_id: keys[0] for keys in self._folder.newest_first() if keys}
        return [key for key in newest.values() if key.valid_until >= now and self._ends_soon(key, now)]

    def _ends_soon(self, key: SoftKey, now: datetime) -> bool:
        # A short-lived certificate is renewed after two thirds of its life.
        margin = min(self._renew_before, (key.valid_until - key.valid_from) / 3)
        return now > key.valid_until - margin

    def _renew_all(self, due: list[SoftKey]) -> None:
        for key in due:
            address = min(key.addresses)
            with self._lock:
                entry = self._not_before.get(address)
            if entry is not None and self._now() < entry[0]:
                continue
            try:
                self._renew(address, key)
            except Pending as pending:
                self._wait(address, min(pending.retry_after, MAX_RETRY_AFTER), pending)
            except SourceError as error:
                self._wait(address, RENEWAL_RETRY_SECONDS, error)
                log.warning("%s The certificate of %s is not renewed yet.", error, address)

    def _renew(self, address: str, key: SoftKey) -> None:
        with self._alone(address):
            self._folder.refresh()
            if self._folder.get(key.credential.key_id) is None:
                return  # Another process was quicker.
            request = self._subject_of(address)
            if self._maker is not None:
                new, chain = self._maker.make(request)
            else:
                new = self._new_key(request)
                held = HeldKey(key, key.origin)
                chain = self._certified(new, lambda: self._issuer.renew(request, new, current=held))
            self._store(new, chain)
        log.info('source "%s": renewed %s', self._issuer.name, address)

    def _store(self, new: NewKey, chain: tuple[bytes, ...]) -> None:
        certificates = [x509.load_der_x509_certificate(der) for der in chain]
        content = b"".join([new.private_pem(), *(each.public_bytes(Encoding.PEM) for each in certificates)])
        try:
            write_private(self._state / address_file_name(new.request.address), content, replace=True)
        except OSError as error:
            raise self._unusable(error) from error
        self._folder.refresh()

    def _waiting_file(self, address: str) -> Path:
        return self._state / f".{address_file_name(address)}.waiting"

    @contextmanager
    def _alone(self, address: str) -> Iterator[None]:
        """One enrolment for an address at a time, over all processes."""
        number = hashlib.sha256(address.encode()).digest()[0] % LOCKS
        path = self._state / f".{number}.lock"
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _prepare(self) -> None:
        try:
            self._state.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise self._unusable(error) from error

    def _unusable(self, error: OSError) -> SourceRefused:
        return SourceRefused(
            self._issuer.name,
            f"its state folder {self._state} cannot be used: {error.strerror}",
            "Create it for the key agent's user, with mode 0700",
        )
