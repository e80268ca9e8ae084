"""Users and their passwords, hashed with scrypt (RFC 7914): one ``name:scrypt$N$r$p$salt$hash`` a line."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from mailsigil.keys.files import write_private

MAX_FILE: Final = 4_194_304
MAX_PASSWORD: Final = 1024
MIN_PASSWORD: Final = 12
MAX_REMEMBERED: Final = 1000
"""Passwords that were right, remembered by a keyed digest: scrypt is slow on purpose."""
AT_ONCE: Final = 2
"""Passwords that are hashed at a time; each takes 16 MiB."""

_COST: Final = 14
_USER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")


class PasswordError(Exception):
    """A file or a password that cannot be used; the message tells what to mend."""


@dataclass(frozen=True, slots=True)
class _Hash:
    cost: int
    block: int
    lanes: int
    salt: bytes = field(repr=False)
    digest: bytes = field(repr=False)

    def fits(self, password: bytes) -> bool:
        return hmac.compare_digest(
            self.digest, _scrypt(password, self.salt, self.cost, self.block, self.lanes)
        )


class Passwords:
    """The file of passwords, read again when it changes. Safe to share between threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._work = threading.BoundedSemaphore(AT_ONCE)
        self._mark: tuple[int, int, int] | None = None
        self._users: Mapping[str, _Hash] = {}
        self._key = secrets.token_bytes(32)
        self._right: set[bytes] = set()
        # Who is not in the file costs as much time as who is.
        self._nobody = _Hash(_COST, 8, 1, secrets.token_bytes(16), secrets.token_bytes(32))

    def accept(self, user: str, password: bytes) -> bool:
        """Tells whether this is the user's password. Raises PasswordError for a file that cannot be used."""
        users = self._read()
        if not password or len(password) > MAX_PASSWORD:
            return False
        digest = hmac.digest(self._key, user.encode() + b"\0" + password, "sha256")
        with self._lock:
            if digest in self._right:
                return True
        with self._work:
            right = users.get(user, self._nobody).fits(password) and user in users
        if right:
            with self._lock:
                if len(self._right) < MAX_REMEMBERED and users is self._users:
                    self._right.add(digest)
        return right

    def set(self, user: str, password: bytes) -> None:
        """Writes a user's password into the file, in place of an earlier one. Raises PasswordError."""
        if not _USER.fullmatch(user):
            raise PasswordError(f"{user!r} is no user name; use letters, digits and . _ -")
        if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
            raise PasswordError(f"a password has {MIN_PASSWORD} to {MAX_PASSWORD} octets")
        lines = {name: _line(name, each) for name, each in self._read().items()}
        salt = secrets.token_bytes(16)
        lines[user] = _line(user, _Hash(_COST, 8, 1, salt, _scrypt(password, salt, _COST, 8, 1)))
        try:
            write_private(self.path, "".join(lines.values()).encode(), replace=True)
        except OSError as error:
            raise PasswordError(f"{self.path} cannot be written: {error.strerror}") from error

    def users(self) -> frozenset[str]:
        """Gives who is in the file. Raises PasswordError."""
        return frozenset(self._read())

    def _read(self) -> Mapping[str, _Hash]:
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise PasswordError(f"{self.path} cannot be read: {error.strerror}") from error
        mark = (status.st_ino, status.st_size, status.st_mtime_ns)
        with self._lock:
            if mark != self._mark:
                self._users = _parse(self.path, status)
                self._right.clear()
                self._mark = mark
            return self._users


def _parse(path: Path, status: os.stat_result) -> Mapping[str, _Hash]:
    if status.st_mode & 0o077:
        raise PasswordError(f"{path} is open to other users; run chmod 600 {path}")
    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE).decode("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise PasswordError(f"{path} cannot be read: {error}") from error
    users = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        user, _, hashed = line.partition(":")
        try:
            users[user] = _hash(hashed)
        except (ValueError, binascii.Error) as error:
            raise PasswordError(
                f"{path}:{number} is no password; write it with mailsigil ca password"
            ) from error
    return users


def _hash(text: str) -> _Hash:
    kind, cost, block, lanes, salt, digest = text.split("$")
    made = _Hash(
        int(cost), int(block), int(lanes), base64.b64decode(salt, validate=True), base64.b64decode(digest)
    )
    # A file that asks for gigabytes would stop the server.
    if kind != "scrypt" or not (10 <= made.cost <= 18 and made.block == 8 and 1 <= made.lanes <= 4):
        raise ValueError("another kind of hash")
    if len(made.digest) != 32 or len(made.salt) < 8:
        raise ValueError("cut off")
    return made


def _line(user: str, each: _Hash) -> str:
    salt, digest = (base64.b64encode(octets).decode() for octets in (each.salt, each.digest))
    return f"{user}:scrypt${each.cost}${each.block}${each.lanes}${salt}${digest}\n"


def _scrypt(password: bytes, salt: bytes, cost: int, block: int, lanes: int) -> bytes:
    return hashlib.scrypt(
        password, salt=salt, n=1 << cost, r=block, p=lanes, dklen=32, maxmem=(256 << cost) * block
    )
