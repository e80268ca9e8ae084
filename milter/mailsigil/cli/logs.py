"""Where the log goes: standard error with times, or the journal, which keeps times itself."""

from __future__ import annotations

import logging
import sys
import time
from typing import TextIO

from systemd import journal

from mailsigil.config.settings import LogSettings


class LineHandler(logging.Handler):
    """Writes ``2026-11-22 02:15:16,042 mailsigil.milter[812]: INFO text`` and a traceback where there is one.

    As a StreamHandler with a Formatter does, at half the price: a milter writes a line for each mail, and the
    key agent for each signature. ``stream`` has to write out whole lines by itself, as standard error does.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._traceback = logging.Formatter()
        self._clock = (-1, "")

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one line; trouble with it is told on standard error and keeps nobody from going on."""
        try:
            self._stream.write(self._line(record))
        except Exception:
            self.handleError(record)

    def _line(self, record: logging.LogRecord) -> str:
        second, text = self._clock
        if second != int(record.created):
            second = int(record.created)
            text = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
            self._clock = (second, text)
        said = record.getMessage()
        if record.exc_info and record.exc_info[0] is not None:
            said = f"{said}\n{self._traceback.formatException(record.exc_info)}"
        who = f"{record.name}[{record.process}]"
        return f"{text},{int(record.msecs):03d} {who}: {record.levelname} {said}\n"


def start_logging(settings: LogSettings) -> None:
    """Sends everything that mailsigil logs to the configured place."""
    handler: logging.Handler
    if settings.destination == "journal":
        handler = journal.JournalHandler(SYSLOG_IDENTIFIER="mailsigil")
        handler.setFormatter(logging.Formatter("%(message)s"))
    else:
        handler = LineHandler(sys.stderr)
    # What no format above shows need not be looked up for every line.
    logging._srcfile = None
    logging.logThreads = False
    logging.logMultiprocessing = False
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("mailsigil").setLevel(settings.level.upper())
