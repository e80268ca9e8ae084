"""What was revoked or suspended becomes known: authorities publish after it, now or with a later run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from mailsigil.keys.errors import SourceError
from mailsigil.keys.source import Withdraws
from mailsigil.lifecycle.actions import Kind
from mailsigil.lifecycle.workplace import Workplace

CHANGES_LISTS: Final = frozenset({Kind.REVOKE, Kind.HOLD, Kind.RELEASE, Kind.REISSUE, Kind.RESUME})
"""Steps after which an authority publishes anew."""
_OWED: Final = ".unpublished"
"""The mark in a state folder that says so; it outlives a run that dies, and a list that cannot be written."""


class Publishing:
    """For the authorities that publish by our word; the others do by themselves."""

    def __init__(self, places: Mapping[str, Workplace]) -> None:
        self._places = {name: place for name, place in places.items() if isinstance(place.issuer, Withdraws)}
        self._ours: set[str] = set()
        """Whatever becomes of the marks: another process may publish, and remove one, too early for us."""

    def owe(self, sources: Iterable[str]) -> None:
        """Before an authority is told anything. Raises SourceError where that cannot be written down."""
        names = self._places.keys() & set(sources)
        self._ours |= names
        for name in sorted(names):
            place = self._places[name]
            place.state.prepare()
            place.state.write(_mark(place), b"")

    def settle(self) -> list[str]:
        """Have all publish that owe it; gives what keeps them from it."""
        trouble = []
        for name, place in sorted(self._places.items()):
            if name not in self._ours and not _mark(place).exists():
                continue
            try:
                _publish(place)
            except SourceError as error:
                trouble.append(f"{error} What was revoked is not published yet; the next run tries again.")
            else:
                self._ours.discard(name)
                with contextlib.suppress(OSError):  # Published once more is no harm.
                    _mark(place).unlink(missing_ok=True)
        return trouble


def _publish(place: Workplace) -> None:
    if isinstance(place.issuer, Withdraws):
        place.issuer.publish()


def _mark(place: Workplace) -> Path:
    return place.state.path / _OWED
