"""The sources in force, and how a reload brings the next: what did not change stays as it is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime

from mailsigil.config.reading import Kept, ReadText, unpacked
from mailsigil.config.sources import SourceSettings
from mailsigil.config.surroundings import Severity
from mailsigil.keys.enrolment import Managed
from mailsigil.keys.routes import DomainRoute
from mailsigil.keys.sources.build import build_source, known_addresses, utc_now
from mailsigil.keys.sources.review import files

log = logging.getLogger("mailsigil.keyd")


class ReloadRefused(Exception):
    """The new sources cannot be used; the message tells why."""


class LiveSources:
    """Made before the agent forks. ``load`` reads the settings anew and raises when they cannot be used.

    A source whose settings are as before is not built again: it knows keys, and serves them while its
    service is away. ``managed`` tells who else looks after a source's certificates. ``taken`` is called
    once what was loaded is in force. ``now`` gives the time, aware, in UTC.
    """

    def __init__(
        self,
        settings: Sequence[SourceSettings],
        *,
        load: Callable[[ReadText], Sequence[SourceSettings]],
        now: Callable[[], datetime] = utc_now,
        managed: Callable[[SourceSettings], Managed | None] = lambda source: None,
        taken: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = tuple(settings)
        self._load = load
        self._now = now
        self._managed = managed
        self._taken = taken
        self._built: dict[SourceSettings, DomainRoute] = {}

    def check(self) -> bytes:
        """In the supervisor: takes the new settings for processes to come, if they can be used.

        Gives what :meth:`again` builds from.

        Raises what ``load`` raises, and ReloadRefused when a file that a new source needs is no good: a
        slip must not take the place of a source that works.
        """
        kept = Kept()
        fresh = tuple(self._load(kept))
        before = {one.name: one for one in self._settings}
        changed = [one for one in fresh if before.get(one.name) != one]
        for one in changed:
            for remark in files(one, user="", now=self._now()):
                if remark.severity is Severity.ERROR:
                    raise ReloadRefused(f"{remark.subject}: {remark.sentence}; {remark.mend}")
        gone = sorted(before.keys() - {one.name for one in fresh})
        if changed or gone:
            log.info(
                "sources: new or changed %s; gone %s",
                ", ".join(f'"{one.name}"' for one in changed) or "none",
                ", ".join(f'"{name}"' for name in gone) or "none",
            )
        self._settings = fresh
        self._taken()
        return kept.packed()

    def first(self) -> tuple[DomainRoute, ...]:
        """In a process of the agent, when it begins: builds what the supervisor knows to be good."""
        return self._build(self._settings)

    def again(self, handed: bytes) -> tuple[DomainRoute, ...]:
        """In a process of the agent, on a reload: builds what changed, from what the supervisor has read.

        Raises what ``load`` raises; then everything stays.
        """
        built = self._build(tuple(self._load(unpacked(handed))))
        self._taken()
        return built

    def _build(self, settings: Sequence[SourceSettings]) -> tuple[DomainRoute, ...]:
        # All new ones first: if one cannot be built, nothing has changed.
        built = {one: self._built.get(one) or self._source(one) for one in settings}
        dropped = [route for one, route in self._built.items() if one not in built]
        self._settings, self._built = tuple(settings), built
        for route in dropped:
            route.close()
        return tuple(built.values())

    def _source(self, one: SourceSettings) -> DomainRoute:
        return build_source(one, now=self._now, managed=self._managed(one), addresses=known_addresses(one))
