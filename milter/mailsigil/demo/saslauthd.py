"""Logins by the passwords in LDAP: a private saslauthd that Postfix asks."""

from __future__ import annotations

from pathlib import Path

from mailsigil.demo.programs import Daemon, accepts, require
from mailsigil.demo.slapd import SUFFIX, Slapd

_CONFIG = """\
ldap_servers: {url}
ldap_search_base: ou=people,{suffix}
ldap_filter: (mail=%u)
ldap_auth_method: bind
ldap_timeout: 5
"""


class Saslauthd:
    """Starts on entry, stops by process id on exit. Who is added to the directory can log in at once."""

    def __init__(self, folder: Path, directory: Slapd) -> None:
        self._folder = folder
        self._directory = directory

    @property
    def socket(self) -> Path:
        """For ``saslauthd_path`` of Cyrus SASL, which Postfix uses."""
        return self._folder / "mux"

    def __enter__(self) -> Saslauthd:
        self._folder.mkdir(mode=0o755)
        config = self._folder / "saslauthd.conf"
        config.write_text(_CONFIG.format(url=self._directory.url, suffix=SUFFIX))
        # -d: in the foreground. -r: a login is a whole address. -c is not given: who left is out at once.
        command = [require("saslauthd", package="sasl2-bin"), "-d", "-r", "-n", "2", "-a", "ldap"]
        self._daemon = Daemon([*command, "-O", config, "-m", self._folder], log=self._folder / "log")
        self._daemon.wait_until(lambda: accepts(str(self.socket)))
        return self

    def __exit__(self, *_: object) -> None:
        self._daemon.stop()
