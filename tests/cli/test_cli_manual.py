"""packaging/man/mailsigil.1: as the commands are today, complete, and good troff."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from conftest import ROOT
from mailsigil.cli.main import COMMANDS
from mailsigil.cli.manual import manual

PAGE = ROOT / "packaging" / "man" / "mailsigil.1"
AGAIN = "python -m mailsigil.cli.manual packaging/man/mailsigil.1 (with PYTHONPATH=milter) writes it anew"


def test_the_page_is_what_the_commands_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == manual(), AGAIN


def test_every_command_has_a_section() -> None:
    sections = {line.split()[2].strip('"') for line in manual().splitlines() if line.startswith(".SS")}
    assert sections == set(COMMANDS)


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_troff_has_nothing_to_say_about_it() -> None:
    done = subprocess.run(
        ["groff", "-man", "-ww", "-Tutf8", str(PAGE)], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr == ""
    shown = " ".join(done.stdout.split())
    assert "nothing is left behind" in shown
    assert '"None"' not in shown
