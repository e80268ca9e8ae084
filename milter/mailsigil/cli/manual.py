"""The manual page mailsigil(1), written from the commands themselves.

``python -m mailsigil.cli.manual packaging/man/mailsigil.1`` writes it; a test holds the file against them.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from mailsigil.cli.main import COMMANDS, command

_NAME: Final = "mailsigil \\- tells people who really sent a mail"
_DESCRIPTION: Final = """\
mailsigil is a milter for Postfix and a companion for Dovecot. It S/MIME-signs outbound mail by policy,
verifies inbound mail, and writes into its header who the sender really is. Private keys live in a process of
their own, the key agent.
"""
_STATUS: Final = {
    "0": "Done, or passed.",
    "1": "A negative verdict: not verified, refused, deferred, or something is left to do.",
    "2": "Wrong use or configuration; the message says what to mend.",
    "70": "A mistake in mailsigil itself.",
}
_ENVIRONMENT: Final = {
    "MAILSIGIL_CONFIG": "The configuration file, where --config names none.",
    "MAILSIGIL_DEBUG": "When set, a mistake in mailsigil itself is shown with its traceback.",
}
_FILES: Final = {
    "/etc/mailsigil/mailsigil.toml": "The configuration.",
    "/etc/mailsigil/policy.toml": "Policies, where they do not live in LDAP.",
    "/etc/mailsigil/keys": "Keys and certificates of the key agent.",
}
_METAVARS: Final = {"integer range": "N", "float range": "N", "integer": "N", "filename": "FILE"}


def manual() -> str:
    """Give the page, in the macros of man(7)."""
    lines = ['.TH MAILSIGIL 1 "" "mailsigil" "User Commands"', ".SH NAME", _NAME]
    lines += [".SH SYNOPSIS", ".B mailsigil", ".I COMMAND", "[OPTIONS] [ARGUMENTS]"]
    lines += [".SH DESCRIPTION", *_paragraphs(_DESCRIPTION), ".SH COMMANDS"]
    context = click.Context(command, info_name="mailsigil")
    for name in COMMANDS:
        found = command.get_command(context, name)
        if found is not None:
            lines += _command(f"mailsigil {name}", found)
    for heading, entries in (("EXIT STATUS", _STATUS), ("ENVIRONMENT", _ENVIRONMENT), ("FILES", _FILES)):
        lines.append(f".SH {heading}")
        for word, sentence in entries.items():
            lines += _entry(_text(word), sentence)
    lines += [".SH SEE ALSO", *_paragraphs("postconf(1), postfix(1), opendkim(8), systemctl(1)")]
    return "\n".join(lines) + "\n"


def _command(path: str, found: click.Command) -> Iterator[str]:
    arguments = [_argument(one) for one in found.params if isinstance(one, click.Argument)]
    heading = " ".join([path, *(["COMMAND"] if isinstance(found, click.Group) else []), *arguments])
    yield f'.SS "{_text(heading)}"'
    yield from _paragraphs(inspect.cleandoc(found.help or ""))
    for option in found.params:
        if isinstance(option, click.Option) and not option.hidden:
            yield from _entry(_option(option), (option.help or "") + _default(option))
    if isinstance(found, click.Group):
        for name, inner in sorted(found.commands.items()):
            yield from _command(f"{path} {name}", inner)


def _argument(argument: click.Argument) -> str:
    name = argument.metavar or (argument.name or "").upper()
    name += "..." if argument.nargs == -1 and not name.endswith("...") else ""
    return name if argument.required else f"[{name}]"


def _option(option: click.Option) -> str:
    words = f"\\fB{_text(', '.join(option.opts))}\\fR"
    return words if option.is_flag else f"{words} \\fI{_text(_metavar(option))}\\fR"


def _metavar(option: click.Option) -> str:
    if option.metavar:
        return option.metavar
    if isinstance(option.type, click.Choice):
        return "|".join(str(choice) for choice in option.type.choices)
    return _METAVARS.get(option.type.name, option.type.name.upper())


def _default(option: click.Option) -> str:
    shown = option.show_default and isinstance(option.default, str | int | Path) and not option.is_flag
    return f" Default: {option.default}." if shown else " Required." if option.required else ""


def _entry(head: str, sentence: str) -> list[str]:
    return [".TP", head, *_wrapped(sentence)]


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        yield ".PP"
        yield from _wrapped(paragraph)


def _wrapped(text: str) -> list[str]:
    # Each sentence on a line of its own: troff likes it, and changes show as what they are.
    sentences = re.split(r"(?<=[.:;])\s+(?=[A-Z])", " ".join(text.replace("\b", "").split()))
    return [f"\\&{line}" if line[:1] in {".", "'"} else line for line in map(_text, sentences)]


def _text(text: str) -> str:
    return text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(manual(), encoding="utf-8")
