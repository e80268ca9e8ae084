"""The key agent's timer: a run every now and then, in a process of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Final

from mailsigil.config.errors import ConfigError
from mailsigil.config.settings import Settings
from mailsigil.directory.api import DirectoryUnavailable, Population
from mailsigil.keys.errors import SourceError
from mailsigil.keys.hygiene import guard_memory
from mailsigil.lifecycle.carry_out import Report
from mailsigil.lifecycle.errors import LifecycleError
from mailsigil.lifecycle.run import begin, open_house
from mailsigil.lifecycle.turnover import Outcome
from mailsigil.process.control import WorkerControl

log = logging.getLogger("mailsigil.lifecycle")

FIRST_SECONDS: Final = 5.0
"""From the start of the agent to the first run, at the least."""
NEVER: Final = 365 * 86_400.0
SPREAD: Final = 0.1
"""A part of the interval by which each pause differs, so that mail servers take turns."""


class Timer:
    """Runs until it is told to stop.

    ``chance`` gives numbers from 0 to 1, ``again`` the settings that a reload brings.
    """

    def __init__(
        self,
        settings: Settings,
        directory: Callable[[Settings], Population],
        *,
        now: Callable[[], datetime],
        chance: Callable[[], float],
        again: Callable[[bytes], Settings],
    ) -> None:
        self._settings = settings
        self._directory = directory
        self._now = now
        self._chance = chance
        self._again = again
        self._stop = threading.Event()
        self._wake = threading.Event()

    def serve(self, control: WorkerControl) -> None:
        """The life of the process. A reload of the agent brings the next run at once."""
        guard_memory()
        control.start(on_reload=self._reload, on_retire=self.stop)
        self._pause(FIRST_SECONDS + min(30.0, self._interval * SPREAD) * self._chance())
        while not self._stop.is_set():
            self.run()
            self._pause(self._interval * (1 + SPREAD * (2 * self._chance() - 1)))

    def stop(self) -> None:
        """End after the batch that is at work; the next run goes on from there."""
        self._stop.set()
        self._wake.set()

    @property
    def _interval(self) -> float:
        """Seconds from one run to the next; without any, a reload alone brings one."""
        return self._settings.lifecycle.every_minutes * 60 or NEVER

    def _reload(self, handed: bytes) -> None:
        self._settings = self._again(handed)
        self._wake.set()

    def run(self) -> Report | None:
        """One run. Whatever keeps it from its end is logged, and the next one tries again."""
        try:
            return self._run()
        except (LifecycleError, DirectoryUnavailable, SourceError, ConfigError) as error:
            log.error("certificates are not looked after: %s", error)
        except Exception as error:
            # The certificates of everybody hang on the next run, whatever went wrong in this one.
            log.exception("certificates are not looked after: unexpected %s", type(error).__name__)
        return None

    def _run(self) -> Report:
        settings = self._settings
        house = open_house(settings, self._directory(settings), now=self._now)
        try:
            with begin(house, who="timer") as run:
                run.check_clock()
                plan = run.plan(patient=True)
                for note in plan.notes:
                    log.warning("%s: %s", note.address, note.sentence)
                report = run.carry_out(plan, stopping=self._stop.is_set)
        finally:
            house.close()
        self._tell(report)
        return report

    def _tell(self, report: Report) -> None:
        for result in report.results:
            level = logging.INFO if result.outcome in (Outcome.DONE, Outcome.LEFT_OPEN) else logging.WARNING
            action = result.action
            log.log(
                level, "%s %s: %s: %s", action.kind, action.address, result.outcome.value, result.sentence
            )
        for sentence in report.trouble:
            log.error("%s", sentence)
        if report.results:
            counts = ", ".join(f"{number} {outcome}" for outcome, number in report.counts().items() if number)
            log.info("certificates: %s", counts)

    def _pause(self, seconds: float) -> None:
        self._wake.wait(seconds)
        if not self._stop.is_set():
            self._wake.clear()
