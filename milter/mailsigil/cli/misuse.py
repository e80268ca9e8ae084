"""How a command tells of wrong use or configuration: one sentence on standard error, exit status 2."""

from __future__ import annotations

import click

from mailsigil.cli.printable import printable


class Misuse(click.ClickException):
    """Wrong use, or something around the command that has to be mended first."""

    exit_code = 2

    def format_message(self) -> str:
        """The sentence, which may repeat what a server said."""
        return "\n".join(map(printable, self.message.split("\n")))
