"""``mailsigil delivery``: the filter that decrypts mail when Dovecot stores it."""

from __future__ import annotations

from pathlib import Path

import click

from mailsigil.cli.live import Live
from mailsigil.cli.logs import start_logging
from mailsigil.cli.misuse import Misuse
from mailsigil.cli.options import config_errors_shown, config_option
from mailsigil.config.reading import ReadText
from mailsigil.config.settings import Settings
from mailsigil.dovecot.delivery_service import run_delivery
from mailsigil.dovecot.filter import DeliveryFilter
from mailsigil.keys.errors import KeyAgentSetupError
from mailsigil.pki.anchors import AnchorError
from mailsigil.process.privileges import PrivilegeError
from mailsigil.service import delivery_parts, new_spool, trust_store


@click.command()
@config_option
def command(config: Path) -> None:
    """Start the filter that decrypts mail for Dovecot. It needs the key agent (mailsigil keyd) beside it.

    SIGHUP reads the configuration anew; the sockets and the processes stay as they are.
    """
    with config_errors_shown():
        try:
            live = Live(config, _filter)
        except AnchorError as error:
            raise Misuse(str(error)) from error
    settings = live.settings
    if not settings.delivery.enabled:
        raise Misuse(
            "nobody's mail is to be decrypted at delivery.\n"
            f'  mend: write "domains", "users" or "by_policy" under [delivery] in {config}'
        )
    start_logging(settings.log)
    try:
        status = run_delivery(settings.delivery, make_filter=live.make, on_reload=live.reload)
    except (KeyAgentSetupError, PrivilegeError) as error:
        raise Misuse(str(error)) from error
    raise SystemExit(status)


def _filter(settings: Settings, read: ReadText) -> DeliveryFilter:
    return DeliveryFilter(
        delivery_parts(settings, trust_store(settings), read=read),
        max_bytes=settings.delivery.message_bytes,
        new_spool=new_spool(settings),
    )
