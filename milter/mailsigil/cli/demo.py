"""``mailsigil demo``: see it work, on a real private Postfix."""

from __future__ import annotations

import os
import signal
import smtplib
import sys
import tempfile
from pathlib import Path
from types import FrameType

import click

from mailsigil.cli.misuse import Misuse
from mailsigil.demo.bank_site import BankSite
from mailsigil.demo.programs import DemoError
from mailsigil.demo.show import ENTRIES, demonstrate, serve


@click.command()
@click.option("--once", is_flag=True, help="End after the demonstration; status 0 if every step succeeded.")
def command(once: bool) -> None:
    """Set up a throwaway bank on a private Postfix; hire, sign, verify, validate, dismiss, and show it.

    Its people are in a private OpenLDAP, and nobody has a key: certificates come about by themselves. Needs
    root, Postfix, OpenLDAP, saslauthd, OpenDKIM, dnsmasq and OpenSSL. Everything lies in a temporary folder
    and on loopback ports; nothing is left behind.
    """
    if os.geteuid() != 0:
        raise Misuse("a private Postfix can only be started by root: run this as root")

    def end(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="mailsigil-demo-") as name,
            BankSite(
                Path(name),
                entries=ENTRIES,
                lifecycle={"every_minutes": 1},
                directory={"cache_seconds": 1},  # nobody wants to wait in a demonstration
            ) as bank,
        ):
            demonstrate(bank, _say)
            if not once:
                serve(bank, _say)
    except (DemoError, smtplib.SMTPException) as error:
        click.echo(f"mailsigil demo: {error}", err=True)
        raise SystemExit(1) from error
    except KeyboardInterrupt:
        click.echo("ended; nothing is left running")


def _say(line: str) -> None:
    click.echo(line)
    sys.stdout.flush()
