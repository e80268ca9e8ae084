"""The command line as a process of its own, as an administrator runs it, or called in this one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner

from mailsigil.cli.main import command as whole

SOURCES = Path(__file__).resolve().parent.parent / "milter"
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if name != "MAILSIGIL_CONFIG"},
    "PYTHONPATH": os.pathsep.join(filter(None, (str(SOURCES), os.environ.get("PYTHONPATH")))),
}


def mailsigil(*arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Runs a command to its end."""
    return subprocess.run(
        command(*arguments), input=stdin, capture_output=True, timeout=60, check=False, env=ENVIRONMENT
    )


def called(*arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Runs a command in this process: without the second that an interpreter takes to start."""
    words = [str(argument) for argument in arguments]
    done = CliRunner(env={"MAILSIGIL_CONFIG": None}).invoke(
        whole, words, input=stdin, prog_name="mailsigil", catch_exceptions=False
    )
    return subprocess.CompletedProcess(words, done.exit_code, done.stdout_bytes, done.stderr_bytes)


def start(*arguments: str | Path, log: Path) -> subprocess.Popen[bytes]:
    """Starts a command; what it says goes into a file."""
    with log.open("ab") as output:
        return subprocess.Popen(
            command(*arguments), stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=ENVIRONMENT
        )


def command(*arguments: str | Path) -> list[str]:
    """The words of a command line."""
    return [sys.executable, "-m", "mailsigil", *map(str, arguments)]
