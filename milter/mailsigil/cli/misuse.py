"""How a command tells of wrong use or configuration: one sentence on standard error, exit status 2."""

from __future__ import annotations

import click


class Misuse(click.ClickException):
    """Wrong use, or something around the command that has to be mended first."""

    exit_code = 2
