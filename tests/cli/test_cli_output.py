"""Where a command's output goes: nowhere left to write, nobody who reads, names of a command misspelt."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from processes import ENVIRONMENT, command

FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="this machine has no /dev/full")
@pytest.mark.parametrize("arguments", [("--help",), ("ca", "init", "--help")], ids=["overview", "command"])
def test_a_full_disk_is_told_as_one(arguments: tuple[str, ...]) -> None:
    with FULL.open("wb") as full:
        done = subprocess.run(
            command(*arguments), stdout=full, stderr=subprocess.PIPE, env=ENVIRONMENT, timeout=60
        )
    assert done.returncode == 2
    (line,) = done.stderr.decode().splitlines()
    assert line == "Error: the output cannot be written: No space left on device; make room, and try again"


def test_a_reader_who_has_seen_enough_gets_no_complaint() -> None:
    words = " ".join(command("--help"))
    done = subprocess.run(["sh", "-c", f"{words} | true"], capture_output=True, env=ENVIRONMENT, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_misspelt_command_gets_a_suggestion() -> None:
    done = subprocess.run(command("chekc"), capture_output=True, env=ENVIRONMENT, timeout=60)
    assert done.returncode == 2
    assert "No such command 'chekc'. Did you mean 'check'?" in done.stderr.decode()
