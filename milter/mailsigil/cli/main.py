"""The ``mailsigil`` command: finds the file of a command and runs it.

Each command lives in the file of its name and is imported only when it is asked for, so that
``mailsigil --help`` and the small commands start fast.
"""

from __future__ import annotations

import difflib
import errno
import importlib
import logging
import os
import sys
import threading
from typing import Final, NoReturn

import click

from mailsigil.cli.misuse import Misuse

_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""How the system refuses to write what a command has to say."""

UNEXPECTED: Final = 70
"""Exit status of a mistake in mailsigil itself (EX_SOFTWARE of sysexits.h)."""

COMMANDS = {
    "run": "Start milter and key agent together, for one machine and for trying it out.",
    "milter": "Start the milter alone.",
    "keyd": "Start the key agent alone.",
    "delivery": "Start the filter that decrypts mail when Dovecot stores it.",
    "sign": "Send one message the outbound way, to standard output.",
    "annotate": "Send one message the inbound way, to standard output.",
    "verify": "Tell who signed a message: the verdict alone.",
    "inspect": "Show a certificate's identity level, names and addresses.",
    "explain": "Show which policy applies to a sender, and why.",
    "check": "Check configuration and surroundings, with a mend for every finding.",
    "trust": "The authorities that are believed: list them, check them, prepare a new one.",
    "ca": "The embedded certification authority.",
    "keys": "Keys and certificates: list, show, export, revoke, import existing ones, reload.",
    "storage": "Keys that encrypt stored mail: make them, replace them, list them.",
    "sync": "A certificate for everybody in the directory: show what is to be done, and do it.",
    "usage": "How many signatures each sender made in a month.",
    "km": "The conformance test for your own CA or key-management system.",
    "demo": "A throwaway organisation on a private Postfix: sign, send, verify, show.",
}
"""Every command with its line in the overview."""


class _Commands(click.Group):
    """Looks a command up in the file of its name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"mailsigil.cli.{cmd_name}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        near = difflib.get_close_matches(args[0], COMMANDS, n=1)
        if near and args[0] not in COMMANDS:
            ctx.fail(f"No such command '{args[0]}'. Did you mean '{near[0]}'?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mailsigil")
def command() -> None:
    """mailsigil tells people who really sent a mail.

    Exit status: 0 done or passed, 1 a negative verdict, 2 wrong use or configuration, 70 a mistake in
    mailsigil itself.
    """


def main() -> NoReturn:
    """Entry point of the console script."""
    try:
        command(prog_name="mailsigil")
    except SystemExit as end:
        _leave(end.code if isinstance(end.code, int) else 0 if end.code is None else UNEXPECTED)
    except BrokenPipeError:
        _discard_output()
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            _discard_output()
            refusal = Misuse(f"the output cannot be written: {error.strerror}; make room, and try again")
            refusal.show()
            _leave(refusal.exit_code)
        if os.environ.get("MAILSIGIL_DEBUG"):
            raise
        click.echo(
            f"mailsigil: unexpected {type(error).__name__}: {error}\n"
            "This is a mistake in mailsigil. Set MAILSIGIL_DEBUG=1 to see where it happened, and report it.",
            err=True,
        )
        _leave(UNEXPECTED)
    _leave(0)


def _discard_output() -> None:
    # What is still in memory would fail once more when the interpreter ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _leave(status: int) -> NoReturn:
    if threading.active_count() > 1:
        # A look-up that nobody waits for any longer may be at work, and an interpreter that is taken down
        # under it crashes. What is left to do is done here; then the process ends as it stands.
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)
