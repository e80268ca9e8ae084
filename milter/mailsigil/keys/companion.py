"""What else can live in the key agent's processes: services with sockets of their own, handed in."""

from __future__ import annotations

import contextlib
from typing import Protocol

from mailsigil.keys.agent import KeyAgent


class Companion(Protocol):
    """A further service of the key agent. ``open`` is called once, the others in each process it lives in."""

    def open(self, sockets: contextlib.ExitStack) -> bool:
        """Opens its sockets, before the agent changes its user; False: there is nothing to serve.

        Raises KeyAgentSetupError, PrivilegeError.
        """
        ...

    def start(self, agent: KeyAgent) -> None:
        """Begins to serve, in threads of its own."""
        ...

    def reload(self) -> None:
        """Forgets what it remembers."""
        ...

    def stop(self) -> None:
        """Takes nothing new; what has begun is finished."""
        ...

    def busy(self) -> int:
        """Tells how many requests have begun and are not finished."""
        ...
