"""`make run` as a new user meets it: the demonstration ends well, and somebody hired after it signs."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailsigil.demo.show import identity_lines

pytestmark = [
    pytest.mark.integration,
    pytest.mark.xdist_group("demo"),
    pytest.mark.skipif(os.geteuid() != 0, reason="a private Postfix is started by root"),
    pytest.mark.skipif(not Path("/usr/sbin/postfix").exists(), reason="Postfix is not installed"),
    pytest.mark.skipif(not shutil.which("slapd", path="/usr/sbin"), reason="slapd is not installed"),
]
MAIL = "From: Erin Newcomer <erin@bank.example>\nSubject: First day\n\nHello Bob\n"


class Demo:
    """The running program, and what it has said."""

    def __init__(self, output: Path, made: Path) -> None:
        self.output = output
        with output.open("wb") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mailsigil", "demo"],
                stdout=said,
                stderr=said,
                env={**os.environ, "TMPDIR": str(made), "COLUMNS": "100"},
            )

    def said(self) -> str:
        """All of it, so far."""
        return self.output.read_text(encoding="utf-8")

    def wait_for(self, pattern: str, *, seconds: float = 90) -> re.Match[str]:
        """The first place where it says this."""
        deadline = time.monotonic() + seconds
        while not (found := re.search(pattern, self.said(), re.MULTILINE | re.DOTALL)):
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.1)
        return found


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    # Not pytest's folder: Postfix's own user has to reach what is made, and paths of sockets are short.
    made = Path(tempfile.mkdtemp(prefix="mailsigil-it-"))
    made.chmod(0o755)
    running = Demo(tmp_path / "output", made)
    try:
        yield running
    finally:
        running.process.send_signal(signal.SIGTERM)
        status = running.process.wait(60)
        left = list(made.iterdir())
        shutil.rmtree(made)
    assert (status, left) == (0, []), running.said()
    assert "nothing is left running" in running.said()


def test_who_is_hired_while_it_runs_signs_the_next_mail(demo: Demo, tmp_path: Path) -> None:
    demo.wait_for(r"^Ctrl-C ends it\.$")
    demonstrated = demo.said()
    for words in ("CMS Verification successful", "V3 Example Bank", "level: V3 → V4", "reason=revoked"):
        assert words in demonstrated
    assert "V4 Alice Example, Example Bank, Account Manager" in " ".join(demonstrated.split())
    # Word for word what it says one should do.
    hire, send, see = re.findall(r"^   ((?:ldapadd|curl|/).*)$", demonstrated, re.MULTILINE)
    mail = tmp_path / "mail.txt"
    mail.write_text(MAIL)
    for command in (hire, send.replace("YOUR.eml", str(mail))):
        done = subprocess.run(command.split(), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    path = demo.wait_for(r"^Received as (\S+):\n.*^   Verified-Identity-Text: (V3 [^\n]*)$", seconds=30)
    assert path[2] == "V3 Example Bank, Identity Validated and Trusted"
    assert any("erin@bank.example" in line for line in identity_lines(Path(path[1]).read_bytes()))
    listed = subprocess.run(see.split(), capture_output=True, text=True, check=True).stdout
    assert re.search(r"^erin@bank\.example +V3 +issued ", listed, re.MULTILINE), listed
