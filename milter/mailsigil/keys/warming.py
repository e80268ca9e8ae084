"""Fetches a user's decryption keys ahead of need: when he logs in, his next mail will be decrypted with them.

Whoever knows of a login says so; nobody waits for it, and nothing that goes wrong here is anybody's trouble.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Final

from mailsigil.folding import fold
from mailsigil.keys.decryption import Decrypting
from mailsigil.keys.errors import SourceError
from mailsigil.keys.source import KeySource

log = logging.getLogger("mailsigil.keyd")

MAX_WAITING: Final = 1000
"""Users whose keys are still to be fetched; more are passed over, and fetched with their next mail."""
THREADS: Final = 4


class Warmer:
    """Has sources fetch what they know of a user. Belongs to one process; safe to share between threads.

    ``sources`` tells them each time anew, because a reload may replace them.
    """

    def __init__(self, sources: Callable[[], Sequence[KeySource]]) -> None:
        self._sources = sources
        self._waiting: queue.Queue[str] = queue.Queue(MAX_WAITING)
        self._lock = threading.Lock()
        self._threads = 0

    def warm(self, user: str) -> None:
        """Takes note of a login and returns at once. Never raises."""
        try:
            self._waiting.put_nowait(fold(user))
        except queue.Full:
            log.debug("warming: %d users wait already", MAX_WAITING)
            return
        with self._lock:
            if self._threads >= THREADS:
                return
            self._threads += 1
        threading.Thread(target=self._work, name="warm", daemon=True).start()

    def _work(self) -> None:
        while True:
            try:
                user = self._waiting.get(timeout=1)
            except queue.Empty:
                with self._lock:
                    # Looked at once more under the lock: who came between would wait for the next login.
                    if self._waiting.empty():
                        self._threads -= 1
                        return
                continue
            self._fetch(user)

    def _fetch(self, user: str) -> None:
        for source in self._sources():
            if not isinstance(source, Decrypting):
                continue
            try:
                if keys := source.decrypting(user):
                    log.info("keys for encrypted mail are at hand user=%s keys=%d", user, len(keys))
            except SourceError as error:
                log.debug("warming: %s", error)
            except Exception as error:
                log.exception("warming failed: %s", type(error).__name__)
