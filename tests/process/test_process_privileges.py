"""Changing the user, and the kernel's switches."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from mailsigil.process.privileges import PrivilegeError, become, find_user

SOURCES = Path(__file__).resolve().parents[2] / "milter"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the user")


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(SOURCES)},
        capture_output=True,
        text=True,
        timeout=20,
    )


def test_unknown_user_is_named() -> None:
    with pytest.raises(PrivilegeError, match='no user "no-such-user"'):
        find_user("no-such-user")


def test_own_user_needs_no_rights() -> None:
    umask = os.umask(0o022)
    try:
        become(pwd.getpwuid(os.geteuid()).pw_name)
        become("")
        assert os.umask(0o022) == 0o077
    finally:
        os.umask(umask)


@as_root
def test_change_is_complete_and_for_good() -> None:
    result = run(
        "import os\n"
        "from mailsigil.process.privileges import PrivilegeError, become\n"
        "become('nobody')\n"
        "print(len(set(os.getresuid())), len(set(os.getresgid())), 0 in os.getgroups())\n"
        "try: os.setuid(0)\n"
        "except PermissionError: print('for good')\n"
        "try: become('daemon')\n"
        "except PrivilegeError as error: print(error)\n"
    )
    assert result.stdout.splitlines() == [
        "1 1 False",
        "for good",
        'only root can change to user "daemon": start as root or as that user',
    ], result.stderr


def test_hidden_memory_cannot_be_dumped() -> None:
    result = run(
        "import ctypes\n"
        "from mailsigil.process.privileges import hide_memory\n"
        "get = lambda: ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)\n"
        "print(get()); hide_memory(); print(get())\n"
    )
    assert result.stdout.split() == ["1", "0"], result.stderr
