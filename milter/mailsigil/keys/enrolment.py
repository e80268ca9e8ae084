"""Keys that an issuer certifies: enrolled when they are needed, renewed in time.

The keyring (keyring.py) says where they lie. A restart enrols nobody again, and all processes of the agent
sign with the same keys. A key is kept before anybody is asked to certify it: whatever becomes of the answer,
the next request is for the same key.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

from mailsigil.keys.decryption import DecryptionKey
from mailsigil.keys.errors import NotSupported, Pending, SourceAnswer, SourceError, SourceRefused
from mailsigil.keys.guard import Guard
from mailsigil.keys.keyring import Enrolled, Keyring, SoftKeyring, StateFolder
from mailsigil.keys.newkey import CertifiableKey
from mailsigil.keys.placed_keyring import KeyPlace, PlacedKeyring
from mailsigil.keys.profile import KeyKind
from mailsigil.keys.remote import RemoteKeys
from mailsigil.keys.source import ChoosesKind, Issuer, KeyMaker, Recalls, SigningKey
from mailsigil.keys.subject import SubjectRequest

log = logging.getLogger("mailsigil.keyd")

LOOK_SECONDS: Final = 60.0
"""So often it is looked which certificates are to be renewed."""
FAILED_SECONDS: Final = 60.0
"""So long nobody asks again after an issuer said no, or answered wrongly."""
PURGE: Final = timedelta(days=1)
"""So often it is looked which former keys were kept for long enough."""
RENEWAL_RETRY_SECONDS: Final = 3600.0
MAX_RETRY_AFTER: Final = 86_400.0
HOUR: Final = timedelta(hours=1)
MAX_REMEMBERED: Final = 10_000
"""Addresses whose failure is remembered; the oldest makes room."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where keys are made that must not lie in files."""

    place: KeyPlace
    keys: RemoteKeys
    """Remembers what was found there."""


class Pace:
    """Admits so many within an hour (0: any number). Safe to share between threads."""

    def __init__(self, most: int, *, now: Callable[[], datetime]) -> None:
        self._most = most
        self._now = now
        self._lock = threading.Lock()
        self._begun = now()
        self._admitted = 0

    def admits(self) -> bool:
        """Counts one more, if there is room."""
        with self._lock:
            now = self._now()
            if not timedelta(0) <= now - self._begun < HOUR:
                self._begun, self._admitted = now, 0
            if 0 < self._most <= self._admitted:
                return False
            self._admitted += 1
            return True


@dataclass(frozen=True, slots=True)
class Managed:
    """Somebody else looks after these certificates: renews them, and is asked for an address's first one."""

    provision: Callable[[str], None]
    """Puts a key and certificate for an address into the state folder. Raises SourceError."""
    seconds: float
    """So long a mail waits for that."""


class EnrolledKeys:
    """A KeySource on top of an issuer. Safe to share between threads and processes.

    ``subject_of`` tells what to ask for an address. Keys lie in the state folder, unless there is a
    ``placement``. Where the certificates are ``managed``, nothing is asked for or renewed here. At most
    ``new_per_hour`` addresses are enrolled on demand (0: any number): who may send as a whole domain may make
    addresses up. ``now`` gives the time, aware, in UTC.
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
        new_per_hour: int = 0,
        renew_before: timedelta = timedelta(days=30),
        maker: KeyMaker | None = None,
        placement: Placement | None = None,
        managed: Managed | None = None,
        keep_former: timedelta = timedelta(0),
    ) -> None:
        self._issuer = issuer
        self._managed = managed
        self._maker = maker
        self._guard = guard
        self._state = StateFolder(issuer.name, state, keep_former=keep_former)
        self._kind = kind
        self._now = now
        self._subject_of = subject_of
        self._on_demand = on_demand
        self._pace = Pace(new_per_hour, now=now)
        self._renew_before = renew_before
        self._placement = placement
        self._keyring: Keyring = SoftKeyring(self._state)
        if placement is not None:
            self._keyring = PlacedKeyring(self._state, placement.place, placement.keys, now=now)
        self._lock = threading.Lock()
        self._not_before: dict[str, tuple[datetime, SourceError]] = {}
        self._next_look: datetime | None = None
        self._next_purge: datetime | None = None

    def find(self, address: str) -> tuple[SigningKey, ...]:
        """Gives the keys for an address; the first time they are enrolled. Raises SourceError."""
        keys = self.at_hand(address)
        if keys or not self._on_demand:
            return keys
        if self._managed is not None:
            seconds = self._managed.seconds
            self._guard.call(lambda: self._remembering(address, self._provision), timeout=seconds)
        else:
            self._guard.call(lambda: self._remembering(address, self._enrol))
        return self._valid(address)

    def at_hand(self, address: str) -> tuple[SigningKey, ...]:
        """Gives the keys for an address that are there. Raises SourceError where it is known why none is."""
        keys = self._valid(address)
        if self._on_demand and not keys:
            self._refuse_too_early(address)
        return keys

    def decrypting(self, address: str) -> tuple[DecryptionKey, ...]:
        """Gives the keys to decrypt an address's mail with; nothing is enrolled for it."""
        held = self._keyring.find(address)
        keys = {
            key.credential.key_id: key
            for key in (*self._state.former.find(address), *held)
            if isinstance(key, DecryptionKey) and key.decrypts
        }
        return tuple(keys.values())

    def get(self, key_id: str) -> SigningKey | None:
        """Gives the key of a name."""
        return self._keyring.get(key_id)

    def held(self) -> tuple[SigningKey, ...]:
        """Gives all keys of the state folder, the expired ones included."""
        return tuple(self._keyring.held())

    def count(self) -> int:
        """Tells how many keys there are."""
        return self._keyring.count()

    def refresh(self) -> None:
        """Takes in what other processes enrolled, and starts what is to be renewed."""
        self._state.prepare()
        self._keyring.refresh()
        now = self._now()
        self._purge_former(now)
        if self._managed is not None or (self._next_look is not None and now < self._next_look):
            return
        self._next_look = now + timedelta(seconds=LOOK_SECONDS)
        if due := self._due(now):
            self._guard.start(lambda: self._renew_all(due))

    def _purge_former(self, now: datetime) -> None:
        if self._next_purge is not None and now < self._next_purge:
            return
        self._next_purge = now + PURGE
        try:
            removed = self._state.former.purge(now)
        except OSError as error:
            log.warning('source "%s": former keys are not removed: %s', self._issuer.name, error)
        else:
            if removed:
                log.info('source "%s": %d former keys are removed', self._issuer.name, removed)

    def reload(self) -> None:
        """Reads the state folder anew, and forgets what failed."""
        with self._lock:
            self._not_before.clear()
        self._state.prepare()
        self._keyring.reload()

    def close(self) -> None:
        """Keeps no threads from now on; calls on their way are finished."""
        self._guard.retire()
        if self._placement is not None:
            self._placement.keys.close()

    def renew(self, address: str) -> tuple[SigningKey, ...]:
        """Has the certificate of an address renewed now, however long it lasts; gives its keys, the newest
        first. Raises SourceError; SourceRefused where there is none to renew."""
        self._state.prepare()
        self._keyring.refresh()
        mine = [one for one in self._keyring.newest() if one.address == address]
        if not mine:
            raise SourceRefused(
                self._issuer.name, f"{address} has no certificate of it", "Have one enrolled before"
            )
        self._guard.call(lambda: self._renew(mine[0]))
        return self._valid(address)

    def revoke(self, address: str) -> int:
        """Has all certificates of an address revoked and drops the keys; gives how many.

        Raises SourceError.
        """
        keys = self._keyring.find(address)
        for key in keys:
            self._guard.call(partial(self._issuer.revoke, key.credential.certificate))
            self._keyring.remove(key)
        return len(keys)

    def _valid(self, address: str) -> tuple[SigningKey, ...]:
        now = self._now()
        return tuple(key for key in self._keyring.find(address) if key.valid_from <= now <= key.valid_until)

    def _refuse_too_early(self, address: str) -> None:
        with self._lock:
            entry = self._not_before.get(address)
            if entry is None:
                return
            if self._now() < entry[0]:
                # Without where it was raised before: that would grow with each mail.
                raise entry[1].with_traceback(None)
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
            self._not_before.pop(address, None)
            while len(self._not_before) >= MAX_REMEMBERED:
                del self._not_before[next(iter(self._not_before))]
            self._not_before[address] = (self._now() + timedelta(seconds=seconds), error)

    def _provision(self, address: str) -> None:
        # Another process may have been quicker.
        self._keyring.refresh()
        if self._managed is not None and not self._valid(address):
            self._managed.provision(address)
            self._keyring.refresh()

    def _enrol(self, address: str) -> None:
        self._state.prepare()
        with self._state.alone(address):
            # Another process may have been quicker.
            self._keyring.refresh()
            if self._valid(address):
                return
            if self._state.waiting(address) is None and not self._pace.admits():
                raise SourceRefused(
                    self._issuer.name,
                    f"{address} has no certificate, and the new ones of this hour are issued",
                    "Look who sends as so many addresses; if all is well, raise new_per_hour",
                )
            request = self._subject_of(address)
            self._certify(request, lambda new: self._issuer.enrol(request, new))
        log.info('source "%s": enrolled %s', self._issuer.name, address)

    def _certify(self, request: SubjectRequest, ask: Callable[[CertifiableKey], tuple[bytes, ...]]) -> None:
        """Has a key certified, and keeps both (RFC 7030 4.2.3: who was told to wait asks for the same)."""
        if self._maker is not None:
            made, chain = self._maker.make(request)
            self._keyring.store(made, chain)
            return
        waited = self._state.waiting(request.address) is not None
        new = self._keyring.new_key(request, self._kind_now())
        try:
            chain = (self._recalled(request, new) if waited else None) or ask(new)
        except Pending:
            raise
        except (SourceRefused, SourceAnswer):
            self._keyring.drop_waiting(request.address)
            raise
        self._keyring.store(new, chain)

    def _recalled(self, request: SubjectRequest, new: CertifiableKey) -> tuple[bytes, ...] | None:
        """What the issuer made of an earlier request for this key, whose answer was lost."""
        if not isinstance(self._issuer, Recalls):
            return None
        try:
            return self._issuer.recall(request, new)
        except NotSupported as error:
            log.warning("%s", error)
            return None

    def _kind_now(self) -> KeyKind:
        return self._issuer.kind_for(self._kind) if isinstance(self._issuer, ChoosesKind) else self._kind

    def _due(self, now: datetime) -> list[Enrolled]:
        """What to renew: each address's newest, when its end is near."""
        return [one for one in self._keyring.newest() if one.valid_until >= now and self._ends_soon(one, now)]

    def _ends_soon(self, one: Enrolled, now: datetime) -> bool:
        # A short-lived certificate is renewed after two thirds of its life.
        margin = min(self._renew_before, (one.valid_until - one.valid_from) / 3)
        return now > one.valid_until - margin

    def _renew_all(self, due: list[Enrolled]) -> None:
        for one in due:
            address = one.address
            with self._lock:
                entry = self._not_before.get(address)
            if entry is not None and self._now() < entry[0]:
                continue
            try:
                self._renew(one)
            except Pending as pending:
                self._wait(address, min(pending.retry_after, MAX_RETRY_AFTER), pending)
            except SourceError as error:
                self._wait(address, RENEWAL_RETRY_SECONDS, error)
                log.warning("%s The certificate of %s is not renewed yet.", error, address)

    def _renew(self, one: Enrolled) -> None:
        with self._state.alone(one.address):
            self._keyring.refresh()
            held = self._keyring.held_key(one)
            if held is None:
                return  # Another process was quicker.
            request = self._subject_of(one.address)
            self._certify(request, lambda new: self._issuer.renew(request, new, current=held))
        log.info('source "%s": renewed %s', self._issuer.name, one.address)
