"""One PKCS#11 library in one process, shared by all sources that use it.

Libraries of makers are not safe for threads, so all calls into one go one after the other. To see a token
that was plugged in, a library has to be initialised anew, and that ends all of its sessions: each session
knows its generation, and is opened anew when that has passed.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import ssl
import threading
import weakref
from collections.abc import Iterator
from typing import Any, Final

import pkcs11
from pkcs11 import exceptions

_libraries: dict[str, Library] = {}
_guard = threading.Lock()


def library_of(module: str) -> Library:
    """Gives the one library of a path; nothing is loaded yet."""
    with _guard:
        return _libraries.setdefault(module, Library(module))


class Library:
    """Call its methods, and those of its tokens and sessions, within :meth:`turn`."""

    def __init__(self, module: str) -> None:
        self._module = module
        self._lock = threading.RLock()
        self.generation = 0
        """Sessions of another generation are gone."""
        self._users: weakref.WeakSet[Any] = weakref.WeakSet()
        self._suspect = True
        self._salt = secrets.token_bytes(32)
        self._logins: dict[str, bytes] = {}
        """Digests of the PINs that tokens are logged in with."""

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """For one caller at a time; it leaves nothing behind that could disturb the thread's TLS."""
        with self._lock:
            try:
                yield
            finally:
                forget_libcrypto_errors()

    def token(self, label: str, user: object) -> Any:
        """Finds a token by its label; ``user`` is who will have a session of it.

        Raises PKCS11Error, RuntimeError where the library cannot be loaded.
        """
        loaded = pkcs11.lib(self._module)
        # A library lists the tokens that were there when it was initialised.
        if self._suspect or set(self._users) <= {user}:
            self._renew(loaded)
            found = loaded.get_token(token_label=label)
        else:
            try:
                found = loaded.get_token(token_label=label)
            except exceptions.PKCS11Error:
                self._renew(loaded)
                found = loaded.get_token(token_label=label)
        self._users.add(user)
        return found

    def session(self, token: Any, pin: bytes) -> Any:
        """Opens a session of a token, logged in. Raises PKCS11Error.

        All sessions of a process share one login to a token (PKCS#11 v2.40, 6.7.4). Who comes with another
        PIN than the one that is logged in is not let in on it: the login is made anew.
        """
        text = pin.decode("utf-8", "surrogateescape")
        digest = hashlib.blake2b(pin, key=self._salt).digest()
        try:
            opened = token.open(user_pin=text)
        except exceptions.UserAlreadyLoggedIn:
            if self._logins.get(token.label) == digest:
                return token.open()
            loaded = pkcs11.lib(self._module)
            self._renew(loaded)
            opened = loaded.get_token(token_label=token.label).open(user_pin=text)
        self._logins[token.label] = digest
        return opened

    def left_by(self, user: object) -> None:
        """Notes that somebody has no session any more."""
        self._users.discard(user)

    def distrust(self) -> None:
        """Notes that a call failed, or a session was closed: all sessions are opened anew, after the next
        who opens a token has had the library initialised anew.

        To close one session is to log out, and that logs out all sessions of the process (PKCS#11 v2.40,
        6.7.4): those would find no private key any more.
        """
        self._suspect = True
        self.generation += 1

    def _renew(self, loaded: Any) -> None:
        loaded.reinitialize()
        self.generation += 1
        self._users.clear()
        self._logins.clear()
        self._suspect = False


# Never used for a connection.
_SPARE: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def forget_libcrypto_errors() -> None:
    """Empties the queue of errors that libcrypto keeps for this thread.

    SoftHSM shares libcrypto with Python's TLS and leaves errors there (ENGINE_by_id, "no such engine"). The
    thread's next call of a TLS connection would take them for its own. ``ssl`` offers no way to empty the
    queue, but does so itself when a context refuses a list of ciphers.
    """
    with contextlib.suppress(ssl.SSLError):
        _SPARE.set_ciphers("NONE-OF-THESE")
