"""``mailsigil milter``: the milter, which reads mail and holds no private key."""

from __future__ import annotations

from pathlib import Path

import click

from mailsigil.cli.live import Live
from mailsigil.cli.logs import start_logging
from mailsigil.cli.misuse import Misuse
from mailsigil.cli.options import config_errors_shown, config_option
from mailsigil.milter.listener import ListenError
from mailsigil.milter.session import SessionLimits
from mailsigil.milter.worker import run_workers
from mailsigil.pki.anchors import AnchorError
from mailsigil.process.privileges import PrivilegeError
from mailsigil.service import build_service


@click.command()
@config_option
def command(config: Path) -> None:
    """Start the milter for Postfix. It needs the key agent (mailsigil keyd) beside it.

    SIGHUP reloads the configuration without dropping a connection; SIGTERM lets open sessions end.
    """
    with config_errors_shown():
        try:
            live = Live(config, build_service)
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
            make_handler=live.make,
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
