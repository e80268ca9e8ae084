"""The decryption desk inside the key agent: a socket of its own, for the delivery filter's user alone."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Collection
from pathlib import Path

from mailsigil.keys.agent import KeyAgent
from mailsigil.keys.decryption_desk import DecryptionDesk
from mailsigil.keys.server import KeyAgentServer, listen
from mailsigil.process.privileges import find_user

ROOT = 0


class DecryptionService:
    """A Companion of the key agent. ``user`` may ask on the socket at ``path``, and root."""

    def __init__(self, path: str | os.PathLike[str], *, user: str = "") -> None:
        self._path = Path(path)
        self._user = user
        self._listener: socket.socket | None = None
        self._allowed: Collection[int] = ()
        self._server: KeyAgentServer | None = None

    def open(self, sockets: contextlib.ExitStack) -> bool:
        """Opens the socket, before the agent changes its user."""
        self._allowed = {ROOT, os.geteuid(), *([find_user(self._user).pw_uid] if self._user else [])}
        mode = 0o666 if self._user else 0o600
        self._listener = sockets.enter_context(listen(self._path, mode=mode))
        sockets.callback(self._remove)
        return True

    def start(self, agent: KeyAgent) -> None:
        """Begins to serve, in threads of its own."""
        if self._listener is None:
            return
        self._server = KeyAgentServer(
            DecryptionDesk(lambda: agent.sources),
            self._listener,
            allowed_uids=self._allowed,
            allowed_by="delivery.user",
        )
        threading.Thread(target=self._server.serve, name="decryption", daemon=True).start()

    def reload(self) -> None:
        """Has nothing to do: the desk asks the agent for its sources each time."""

    def stop(self) -> None:
        """Takes no new connection."""
        if self._server is not None:
            self._server.stop()

    def busy(self) -> int:
        """Tells how many connections are open."""
        return 0 if self._server is None else self._server.open_connections()

    def _remove(self) -> None:
        # As a lesser user the agent may not be able to; a stale socket is replaced by the next start.
        with contextlib.suppress(OSError):
            self._path.unlink()
