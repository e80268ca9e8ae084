"""What the commands that take one message share: reading, times, trust, writing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import click

from mailsigil.cli.misuse import Misuse
from mailsigil.cli.options import config_errors_shown
from mailsigil.config.loading import load_settings
from mailsigil.config.settings import Settings
from mailsigil.config.trust import RevocationSettings
from mailsigil.message.reader import Message, MessageLimitError, read_message
from mailsigil.pki.anchors import AnchorError, AnchorSet, TrustStore, load_anchor_file
from mailsigil.service import new_spool, trust_store

message_argument = click.argument("file", type=click.File("rb"), default="-")


class _Time(click.ParamType[datetime]):
    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            time = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f'"{value}" is no time: write it as 2026-11-22T02:15:16Z', param, ctx)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def verification_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command ``--config``, ``--at`` and ``--trust``."""
    for option in (
        click.option(
            "--config",
            type=click.Path(path_type=Path),
            envvar="MAILSIGIL_CONFIG",
            show_envvar=True,
            help="The configuration file. Not needed beside --trust.",
        ),
        click.option("--at", type=_Time(), help="Judge as of this time (ISO 8601) instead of now."),
        click.option(
            "--trust",
            type=click.Path(path_type=Path, exists=True, dir_okay=False),
            multiple=True,
            help="Trust the authorities in this PEM file, and no others, to assert identity levels.",
        ),
    ):
        function = option(function)
    return function


def settings_and_trust(config: Path | None, trust: Iterable[Path]) -> tuple[Settings, TrustStore]:
    """Settings from the file (built-in ones beside ``--trust``) and the anchors that count."""
    files = list(trust)
    with config_errors_shown():
        if config is not None or not files:
            settings = load_settings(config) if config is not None else load_settings()
        else:
            # Nobody has said that addresses in the certificates of this message may be fetched from.
            settings = Settings(revocation=RevocationSettings(fetch=False))
    try:
        return settings, _named_on_the_command_line(files) if files else trust_store(settings)
    except AnchorError as error:
        raise Misuse(str(error)) from error


def _named_on_the_command_line(files: list[Path]) -> TrustStore:
    # Whoever names an authority here vouches for it: it may assert public and embedded policies, and
    # need not be one that follows the public ones' rules to the letter.
    certificates = tuple(certificate for file in files for certificate in load_anchor_file(file))
    anchors = AnchorSet(
        name="--trust",
        certificates=certificates,
        asserts=frozenset({"br", "mailsigil"}),
        hold_to_br=False,
    )
    return TrustStore((anchors,))


def read(file: BinaryIO, settings: Settings) -> Message:
    """Reads a message; LF line ends become CRLF, as a mail server would make them."""
    try:
        return read_message(
            file, max_bytes=settings.limits.message_bytes or None, spool=new_spool(settings)()
        )
    except MessageLimitError as error:
        raise Misuse(str(error)) from error


def write(chunks: Iterable[bytes]) -> None:
    """Writes a message to standard output, byte for byte, with CRLF line ends."""
    output = sys.stdout.buffer
    for chunk in chunks:
        output.write(chunk)
    output.flush()
