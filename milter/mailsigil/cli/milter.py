"""``mailsigil milter``: the milter, which reads mail and holds no private key."""

from __future__ import annotations

from pathlib import Path

import click

from mailsigil.cli.logs import start_logging
from mailsigil.cli.misuse import Misuse
from mailsigil.cli.options import config_errors_shown, config_option
from mailsigil.config.loading import load_settings
from mailsigil.config.settings import Settings
from mailsigil.milter.listener import ListenError
from mailsigil.milter.session import SessionLimits
from mailsigil.milter.worker import run_workers
from mailsigil.pki.anchors import AnchorError
from mailsigil.process.privileges import PrivilegeError
from mailsigil.service import Service, build_service


class _Live:
    """What is in force, and how a reload brings the next.

    The supervisor builds a service before any fork and on each reload, so that a worker started later
    inherits one that is known to be good, whatever has become of the files since.
    """

    def __init__(self, config: Path) -> None:
        self._config = config
        self._inherited = True
        self.settings, self._service = self._load()

    def reload(self) -> None:
        """In the supervisor: raises if the new configuration is no good, and the old one stays."""
        self.settings, self._service = self._load()

    def service(self) -> Service:
        """In a worker: first the inherited service, then, on a reload, a fresh one."""
        if not self._inherited:
            self.reload()
        self._inherited = False
        return self._service

    def _load(self) -> tuple[Settings, Service]:
        settings = load_settings(self._config)
        return settings, build_service(settings)


@click.command()
@config_option
def command(config: Path) -> None:
    """Start the milter for Postfix. It needs the key agent (mailsigil keyd) beside it.

    SIGHUP reloads the configuration without dropping a connection; SIGTERM lets open sessions end.
    """
    with config_errors_shown():
        try:
            live = _Live(config)
        except AnchorError as error:
            raise Misuse(str(error)) from error
    settings = live.settings
    start_logging(settings.log)
    limits = settings.limits
    try:
        status = run_workers(
            socket=settings.milter.socket,
            socket_mode=int(settings.milter.socket_mode, 8),
            socket_group=settings.milter.socket_group,
            workers=settings.milter.workers,
            recycle_after=settings.milter.recycle_after,
            drain_seconds=settings.milter.drain_seconds,
            user=settings.milter.user,
            make_handler=live.service,
            on_reload=live.reload,
            limits=SessionLimits(
                header_fields=limits.header_fields,
                header_bytes=limits.header_bytes,
                message_bytes=limits.message_bytes,
                memory_bytes=limits.memory_bytes,
                spool_directory=limits.spool_directory,
            ),
        )
    except (ListenError, PrivilegeError) as error:
        raise Misuse(str(error)) from error
    raise SystemExit(status)
