"""Both services for Dovecot inside the key agent: their sockets, their users, their threads."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Final

from mailsigil.config.storage import DovecotSettings, StorageSettings
from mailsigil.dovecot.mail_crypt import Release
from mailsigil.dovecot.passdb_keys import PasswordService
from mailsigil.dovecot.postlogin import PostloginService
from mailsigil.dovecot.public_keys import PublicKeyService
from mailsigil.dovecot.storage_keys import StorageKeys
from mailsigil.keys.agent import KeyAgent
from mailsigil.keys.server import listen
from mailsigil.keys.storage.build import build_storage
from mailsigil.process.activation import inherited_sockets
from mailsigil.process.callers import Callers
from mailsigil.process.privileges import find_user

log = logging.getLogger("mailsigil.keyd")

POSTLOGIN: Final = "postlogin"
PUBLIC_KEYS: Final = "public-keys"
LOGIN_KEYS: Final = "login-keys"
"""FileDescriptorName= of the sockets that systemd hands in."""
SWEEP_SECONDS: Final = 10.0
ROOT: Final = 0


class DovecotServices:
    """A Companion of the key agent. ``on_login`` makes, in its process, who is told of each login."""

    def __init__(
        self,
        settings: DovecotSettings,
        storage: Sequence[StorageSettings],
        *,
        on_login: Callable[[KeyAgent], Callable[[str], None]] = lambda agent: lambda address: None,
        inherited: Callable[[], dict[str, socket.socket]] = inherited_sockets,
    ) -> None:
        self._settings = settings
        self._storage = tuple(storage)
        self._on_login = on_login
        self._inherited = inherited
        self._listeners: dict[str, socket.socket] = {}
        self._public_uids: Collection[int] = ()
        self._services: list[Callers] = []
        self._keys: StorageKeys | None = None
        self._stopped = threading.Event()

    def open(self, sockets: contextlib.ExitStack) -> bool:
        """Takes the sockets from systemd, else opens those of the settings; False where there are none."""
        inherited = self._inherited()
        settings = self._settings
        for name, path, mode in (
            (POSTLOGIN, settings.postlogin_socket, 0o600),
            (PUBLIC_KEYS, settings.public_key_socket, 0o666),
            (LOGIN_KEYS, settings.password_socket, 0o666),
        ):
            if name in inherited:
                self._listeners[name] = sockets.enter_context(inherited.pop(name))
            elif path:
                self._listeners[name] = sockets.enter_context(listen(Path(path), mode=mode))
                sockets.callback(_remove, Path(path))
        for unknown, listener in inherited.items():
            log.warning('the socket "%s" that systemd handed in is none of ours', unknown)
            listener.close()
        if self._listeners.keys() & {PUBLIC_KEYS, LOGIN_KEYS}:
            self._public_uids = {ROOT, *(find_user(user).pw_uid for user in settings.public_key_users)}
        return bool(self._listeners)

    def start(self, agent: KeyAgent) -> None:
        """Begins to serve, in threads."""
        settings = self._settings
        routes = build_storage(self._storage, settings.public_keys)
        keys = self._keys = StorageKeys(routes)
        if POSTLOGIN in self._listeners:
            postlogin = PostloginService(
                keys,
                release=Release(settings.version),
                bare_domain=settings.bare_domain,
                on_login=self._on_login(agent),
            )
            self._serve(POSTLOGIN, postlogin.converse, {ROOT})
        if PUBLIC_KEYS in self._listeners:
            public = PublicKeyService(routes, bare_domain=settings.bare_domain)
            self._serve(PUBLIC_KEYS, public.converse, self._public_uids)
        if LOGIN_KEYS in self._listeners:
            passwords = PasswordService(routes, bare_domain=settings.bare_domain)
            self._serve(LOGIN_KEYS, passwords.converse, self._public_uids)
        threading.Thread(target=self._sweep, args=(keys,), name="sweep", daemon=True).start()

    def reload(self) -> None:
        """Forgets the keys in memory and opens connections anew."""
        if self._keys is not None:
            self._keys.forget()

    def stop(self) -> None:
        """Takes no new login; those that have begun are finished."""
        self._stopped.set()
        for service in self._services:
            service.stop()

    def busy(self) -> int:
        """Tells how many requests are open."""
        return sum(service.busy() for service in self._services)

    def _serve(
        self, name: str, converse: Callable[[socket.socket], None], allowed_uids: Collection[int]
    ) -> None:
        service = Callers(
            name,
            self._listeners[name],
            lambda connected, _uid: converse(connected),
            allowed_uids=allowed_uids,
            connections=self._settings.connections,
        )
        self._services.append(service)
        service.start()

    def _sweep(self, keys: StorageKeys) -> None:
        while not self._stopped.wait(SWEEP_SECONDS):
            keys.sweep()


def _remove(path: Path) -> None:
    # As a lesser user the agent may not be able to; a stale socket is replaced by the next start.
    with contextlib.suppress(OSError):
        path.unlink()
