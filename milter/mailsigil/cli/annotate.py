"""``mailsigil annotate``: the inbound way on one message."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

import click

from mailsigil.cli.messages import message_argument, read, settings_and_trust, verification_options, write
from mailsigil.inbound import inbound
from mailsigil.rewrite import rewritten
from mailsigil.service import inbound_parts


@click.command()
@message_argument
@verification_options
def command(file: BinaryIO, config: Path | None, at: datetime | None, trust: tuple[Path, ...]) -> None:
    """Send the message in FILE the inbound way, and write it with its identity fields.

    Without FILE it comes from standard input. Forged fields are removed, as in the milter.
    """
    settings, store = settings_and_trust(config, trust)
    message = read(file, settings)
    parts = inbound_parts(settings, store)
    if at is not None:
        parts = replace(parts, now=lambda: at)
    plan = inbound(message.fields, message.body, parts, damage=message.damage)
    write(rewritten(message.fields, message.body, plan.edits))
