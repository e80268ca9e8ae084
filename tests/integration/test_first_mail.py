"""contrib/postfix/README.md, followed to the letter on a sandboxed machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import ROOT
from servers.sandbox import UNSHARE, why_not

pytestmark = [
    pytest.mark.integration,
    pytest.mark.xdist_group("sandbox"),
    pytest.mark.skipif(bool(why_not()), reason=why_not()),
]
SCRIPT = Path(__file__).with_name("first_mail.py")
OFFLINE = ("Temporary failure in name resolution", "No matching distribution found", "Failed to establish")


@pytest.fixture
def work() -> Iterator[Path]:
    # Not pytest's folder: the services' own users have to come here.
    folder = Path(tempfile.mkdtemp(prefix="mailsigil-docs-"))
    yield folder
    shutil.rmtree(folder)


def _complaint(what: str, work: Path) -> str:
    """What the page's follower had to complain about; empty for nothing."""
    done = subprocess.run(
        [*UNSHARE, sys.executable, str(SCRIPT), what, str(ROOT), str(work)],
        env={
            **os.environ,
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",  # root's on Debian
            "PYTHONPATH": f"{ROOT / 'tests'}:{ROOT / 'milter'}",
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        cwd="/",
        capture_output=True,
        timeout=300,
    )
    return "" if done.returncode == 0 else (done.stdout + done.stderr).decode("utf-8", "replace")


@pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="systemd-sysusers is not installed")
@pytest.mark.skipif(not Path("/usr/sbin/postfix").exists(), reason="Postfix is not installed")
def test_from_nothing_to_the_first_signed_mail(work: Path) -> None:
    if complaint := _complaint("story", work):
        pytest.fail(complaint, pytrace=False)


def test_installation(work: Path) -> None:
    complaint = _complaint("install", work)
    if any(words in complaint for words in OFFLINE):
        pytest.skip("there is no network to install Python packages from")
    if complaint:
        pytest.fail(complaint, pytrace=False)
