"""Where the log goes: standard error with times, or the journal, which keeps times itself."""

from __future__ import annotations

import logging

from systemd import journal

from mailsigil.config.settings import LogSettings


def start_logging(settings: LogSettings) -> None:
    """Sends everything that mailsigil logs to the configured place."""
    handler: logging.Handler
    if settings.destination == "journal":
        handler = journal.JournalHandler(SYSLOG_IDENTIFIER="mailsigil")
        handler.setFormatter(logging.Formatter("%(message)s"))
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(
            logging.Formatter("%(asctime)s %(name)s[%(process)d]: %(levelname)s %(message)s")
        )
    # What no format above shows need not be looked up for every line.
    logging._srcfile = None
    logging.logThreads = False
    logging.logMultiprocessing = False
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("mailsigil").setLevel(settings.level.upper())
