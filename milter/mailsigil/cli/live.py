"""What a service of several processes has in force, and how a reload brings the next."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from mailsigil.config.loading import load_settings
from mailsigil.config.reading import Kept, ReadText, unpacked
from mailsigil.config.settings import Settings

T = TypeVar("T")


class Live(Generic[T]):
    """Built by the supervisor before any fork and on each reload, and by each worker on a reload.

    A worker that is started inherits what is known to be good. One that reloads builds from the texts that
    the supervisor has read and found good: it reads none of these files itself, because somebody may be
    writing them just then, and an empty file is a policy, too.
    """

    def __init__(self, config: Path, build: Callable[[Settings, ReadText], T]) -> None:
        """Read everything; raises what ``load_settings`` and ``build`` raise."""
        self._config = config
        self._build = build
        self.reload()

    def reload(self) -> bytes:
        """In the supervisor: give what workers build from. Raises if it is no good; the old one stays."""
        kept = Kept()
        self.settings, self._built = self._load(kept)
        return kept.packed()

    def make(self, handed: bytes) -> T:
        """In a worker: what was inherited, or with a reload what the supervisor has handed over."""
        if handed:
            self.settings, self._built = self._load(unpacked(handed))
        return self._built

    def _load(self, read: ReadText) -> tuple[Settings, T]:
        settings = load_settings(self._config, read=read)
        return settings, self._build(settings, read)
