"""What the service manager is told (sd_notify). Without a manager every call does nothing."""

from __future__ import annotations

import logging
import time

from systemd import daemon

log = logging.getLogger("mailsigil.process")


class Notifier:
    """Speaks to systemd through ``NOTIFY_SOCKET``."""

    def ready(self, status: str) -> None:
        """Start or reload is complete."""
        self._send(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """A reload begins; :meth:`ready` ends it."""
        # sd_notify(3): Type=notify-reload wants the time along with it.
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self, status: str) -> None:
        """The service is on its way out."""
        self._send(f"STOPPING=1\nSTATUS={status}")

    def _send(self, text: str) -> None:
        try:
            daemon.notify(text)
        except OSError as error:
            # A manager that is away for a moment is no reason to end a service that works.
            log.warning("the service manager cannot be told: %s", error)
