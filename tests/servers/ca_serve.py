"""``mailsigil ca serve`` as a process of its own, on a throwaway authority."""

from __future__ import annotations

import shutil
import sys
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

import mailsigil
from mailsigil.ca.passwords import Passwords
from mailsigil.demo.programs import Daemon, accepts, free_port
from mailsigil.keys.authority import Authority

PASSWORD = "correct-horse-battery"
"""Of every user."""

SAME_CODE = {"PYTHONPATH": str(Path(mailsigil.__file__).resolve().parent.parent)}
"""For processes that are to run the code which is tested."""

_SETTINGS = """
[publish]
url = "http://127.0.0.1:{lookups}"
listen = "127.0.0.1:{lookups}"
[est]
listen = "127.0.0.1:{est}"
names = ["localhost", "127.0.0.1"]
server_keygen = "p256"
{more}
[[enrol]]
user = "keyd"
addresses = ["*@bank.example"]
levels = ["V1", "V3", "V4"]
organisation = "Example Bank"
names_from_request = true
[[enrol]]
user = "alice"
addresses = ["alice@bank.example"]
levels = ["V1", "V4"]
given_name = "Alice"
surname = "Example"
organisation = "Example Bank"
title = "Account Manager"
"""


class CaServe:
    """Started on entry. Users are ``keyd``, for everybody of bank.example, and ``alice``, for herself."""

    def __init__(self, home: Path, *, more: str = "", log_level: str = "debug", user: str = "") -> None:
        self.folder = home / "ca"
        self.log = home / "ca.log"
        self._log_level = log_level
        self._user = user
        self.est_port, self.lookups_port = free_port(), free_port()
        self.folder.mkdir(mode=0o700, parents=True)
        self.settings(more)
        self.authority = Authority.init(self.folder, organisation="Example Bank", now=datetime.now(UTC))
        passwords = Passwords(self.folder / "passwords")
        for user in ("keyd", "alice"):
            passwords.set(user, PASSWORD.encode())

    def settings(self, more: str = "", *, rules: str = "") -> None:
        """Writes ca.toml: ``more`` into [est], and further rules."""
        text = _SETTINGS.format(est=self.est_port, lookups=self.lookups_port, more=more)
        (self.folder / "ca.toml").write_text(text + rules)

    @property
    def url(self) -> str:
        """Of EST, up to the label."""
        return f"https://localhost:{self.est_port}/.well-known/est"

    @property
    def lookups(self) -> str:
        """Of lists and OCSP."""
        return f"http://127.0.0.1:{self.lookups_port}"

    @property
    def root(self) -> Path:
        """The trust anchor, PEM."""
        return self.folder / "root.pem"

    @property
    def issuing(self) -> Path:
        """The issuing authority, PEM."""
        return self.folder / "issuing.pem"

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._daemon.pid

    def __enter__(self) -> CaServe:
        program = [sys.executable, "-m", "mailsigil", "ca", "serve", "--dir", self.folder]
        options = ["--log-level", self._log_level, *(["--user", self._user] if self._user else [])]
        self._daemon = Daemon([*program, *options], log=self.log, env=SAME_CODE)
        # Its ports are open before it can answer.
        self._daemon.wait_until(lambda: self._answers() and accepts(("127.0.0.1", self.est_port)))
        return self

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.lookups}/root.crl", timeout=10) as answer:
                return bool(answer.read())
        except OSError:
            return False

    def __exit__(self, *_: object) -> None:
        self._daemon.stop()


def why_not(*programs: str) -> str:
    """Which of some programs are missing; empty when all are here."""
    missing = [program for program in programs if shutil.which(program) is None]
    return f"{', '.join(missing)} not installed" if missing else ""
