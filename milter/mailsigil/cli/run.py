"""``mailsigil run``: key agent, milter and what else is configured, each a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

import click

from mailsigil.cli.options import config_errors_shown, config_option
from mailsigil.config.loading import load_settings


@click.command()
@config_option
def command(config: Path) -> None:
    """Start milter and key agent together, for one machine and for trying it out.

    Where somebody's mail is to be decrypted at delivery, that filter is started, too. SIGHUP is passed on to
    all; SIGTERM and Ctrl-C end all. If one of them ends, so do the others.
    """
    with config_errors_shown():
        settings = load_settings(config)
    # Inherited: a reload that comes while a part still starts must not end it; it reads everything anyway.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    names = ["keyd", "milter", *(["delivery"] if settings.delivery.enabled else [])]
    parts = [_start(name, config) for name in names]

    def pass_on(number: int, frame: FrameType | None) -> None:
        for part in parts:
            if part.poll() is None:
                part.send_signal(signal.SIGHUP if number == signal.SIGHUP else signal.SIGTERM)

    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, pass_on)
    statuses = _wait_for_all(parts)
    raise SystemExit(next((status for status in statuses if status), 0))


def _start(name: str, config: Path) -> subprocess.Popen[bytes]:
    # A session of its own: Ctrl-C reaches this process alone, which then ends both in order.
    arguments = [sys.executable, "-m", "mailsigil", name, "--config", str(config)]
    return subprocess.Popen(arguments, start_new_session=True)


def _wait_for_all(parts: list[subprocess.Popen[bytes]]) -> list[int]:
    while all(part.poll() is None for part in parts):
        signal.sigtimedwait([signal.SIGCHLD], 0.5)
    for part in parts:
        if part.poll() is None:
            part.send_signal(signal.SIGTERM)
    return [_status(part.wait()) for part in parts]


def _status(code: int) -> int:
    # One that was told to end before it could take notice of the signal has ended as it was told to.
    return 0 if code == -signal.SIGTERM else abs(code)
