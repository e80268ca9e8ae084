"""Counting, inside the key agent's processes: one thread keeps the counts in files, one in the database."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from mailsigil.config.lifecycle import SQLITE, LifecycleSettings
from mailsigil.config.settings import Settings
from mailsigil.keys.agent import KeyAgent
from mailsigil.lifecycle.database import Database, connect
from mailsigil.lifecycle.errors import DatabaseError
from mailsigil.lifecycle.upgrade import upgrade
from mailsigil.usage.batch import Batch
from mailsigil.usage.counter import Counter
from mailsigil.usage.spool import Spool
from mailsigil.usage.store import UsageStore

log = logging.getLogger("mailsigil.usage")

SAVE_SECONDS: Final = 1.0
"""What is counted is in a file after this time: a process that is killed loses no more."""
LAST_SECONDS: Final = 0.02
TIDY_EVERY: Final = timedelta(days=1)
DEFAULT_SPOOL: Final = Path("/var/lib/mailsigil/keyd/usage")


def spool_folder(settings: Settings) -> Path:
    """Give the folder for counts that are not in the database yet."""
    if settings.usage.spool:
        return Path(settings.usage.spool)
    database = settings.lifecycle.database
    if database.startswith(SQLITE):
        return Path(database.removeprefix(SQLITE)).parent / "usage"
    return DEFAULT_SPOOL


class UsageCounting:
    """A companion of the key agent (keys/companion.py)."""

    def __init__(
        self,
        settings: Settings,
        *,
        now: Callable[[], datetime],
        opening: Callable[[LifecycleSettings], Database] = connect,
    ) -> None:
        self._settings = settings
        self._now = now
        self._opening = opening
        self._stop = threading.Event()
        self._counter: Counter | None = None

    def open(self, sockets: contextlib.ExitStack) -> bool:
        """There is nothing to open before the fork."""
        return True

    def start(self, agent: KeyAgent) -> None:
        """Count what the agent signs."""
        spool = Spool(spool_folder(self._settings))
        counter = self._counter = Counter(spool, now=self._now)
        agent.on_signed = counter.count
        writer = Writer(
            counter,
            spool,
            opening=lambda: self._opening(self._settings.lifecycle),
            keep_months=self._settings.usage.keep_months,
            now=self._now,
        )
        threading.Thread(target=self._save, args=(counter,), name="usage", daemon=True).start()
        threading.Thread(target=self._write, args=(writer,), name="usage-database", daemon=True).start()

    def reload(self) -> None:
        """There is nothing to forget."""

    def stop(self) -> None:
        """Save what comes from now on at once."""
        self._stop.set()

    def busy(self) -> int:
        """Tell whether something is not saved yet; a folder that cannot be written holds nobody up."""
        return int(self._counter is not None and self._counter.is_waiting())

    def _save(self, counter: Counter) -> None:
        while True:
            # After the stop there are still mails on their way.
            if self._stop.wait(SAVE_SECONDS):
                threading.Event().wait(LAST_SECONDS)
            counter.save()

    def _write(self, writer: Writer) -> None:
        while not self._stop.wait(self._settings.usage.flush_seconds):
            writer.write()


class Writer:
    """Brings counts into the database, whenever it is there."""

    def __init__(
        self,
        counter: Counter,
        spool: Spool,
        *,
        opening: Callable[[], Database],
        now: Callable[[], datetime],
        keep_months: int = 0,
    ) -> None:
        self._counter = counter
        self._spool = spool
        self._opening = opening
        self._now = now
        self._keep_months = keep_months
        self._database: Database | None = None
        self._sealed: Batch | None = None
        self._gone: list[str] = []
        self._complained = False
        self._tidied: datetime | None = None

    def write(self) -> bool:
        """Bring in all that there is; False where it has to wait. Never raises: the next time tries again."""
        try:
            self._write()
        except DatabaseError as error:
            self._close()
            self._keep()
            self._complain("counts of signatures wait in %s: %s", self._spool.folder, error)
            return False
        except OSError as error:
            self._complain("counts of signatures: %s: %s", error.filename, error.strerror)
            return False
        except Exception as error:
            self._close()
            log.exception("counts of signatures wait: unexpected %s", type(error).__name__)
            return False
        if self._complained:
            log.info("counts of signatures are in the database again")
        self._complained = False
        return True

    def _write(self) -> None:
        if self._sealed is None:
            self._sealed = self._counter.seal()
        if self._sealed is not None:
            self._add(self._sealed)
            self._sealed = None
        with self._spool.left_over() as batches:
            for batch in batches:
                self._add(batch)
        now = self._now()
        if self._database is not None and (self._tidied is None or now - self._tidied >= TIDY_EVERY):
            UsageStore(self._database).tidy(now=now, keep_months=self._keep_months)
            self._tidied = now

    def _add(self, batch: Batch) -> None:
        if self._database is None:
            database = self._opening()
            try:
                upgrade(database)
            except BaseException:
                database.close()
                raise
            self._database = database
        if not UsageStore(self._database).add(batch, gone=self._gone, now=self._now()):
            log.info("counts of signatures %s are in the database already", batch.id)
        self._gone.clear()
        # The file goes first, and for good; then the database may forget the id.
        self._spool.drop(batch)
        self._gone.append(batch.id)

    def _keep(self) -> None:
        """What could not be written into a file when it was counted is tried again."""
        if self._sealed is not None and not self._spool.has(self._sealed):
            with contextlib.suppress(OSError):
                self._spool.keep(self._sealed)

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def _complain(self, words: str, *values: object) -> None:
        if not self._complained:
            log.error(words, *values)
        self._complained = True
