"""A private Dovecot: own folders, IMAP on a high loopback port, LMTP on a unix socket, stopped by its id.

Version 2.3 and 2.4 differ in the names of almost all settings; both are written here. ``root`` is the folder
of another Debian (a chroot) whose Dovecot is to run: it sees ``folder`` under the same path, in a mount
namespace of its own, and is not changed.
"""

from __future__ import annotations

import os
import re
import shlex
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from mailsigil.demo.programs import Daemon, DemoError, accepts, free_port, require, run

MAIL_USER: Final = "mail"
"""Owner of the stored mail; every Debian has this user."""

_COMMON: Final = """\
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/dovecot.log
listen = 127.0.0.1
ssl = {ssl}
default_internal_user = dovecot
default_login_user = dovenull
first_valid_uid = 1
auth_failure_delay = 0
"""

_LISTENERS: Final = """\
service imap-login {{
  process_min_avail = 1
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service lmtp {{
  unix_listener {folder}/lmtp.sock {{
    mode = 0666
  }}
}}
"""

_V23: Final = """\
protocols = {protocols}
disable_plaintext_auth = no
mail_location = maildir:~
postmaster_address = postmaster@localhost
service imap-login {{
  service_count = 0
}}
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%u {folder}/passwd
  result_success = {success}
}}
"""

_V23_USERDB: Final = """\
userdb {{
  driver = passwd-file
  args = username_format=%u {folder}/passwd
  result_success = continue-ok
}}
"""

_V24: Final = """\
protocols {{
{protocols}
}}
auth_allow_cleartext = yes
mail_driver = maildir
mail_path = ~
postmaster_address = postmaster@localhost
service imap-login {{
  restart_request_count = unlimited
}}
passdb passwd-file {{
  passwd_file_path = {folder}/passwd
  default_password_scheme = plain
  result_success = {success}
}}
"""

_V24_USERDB: Final = """\
userdb passwd-file {{
  passwd_file_path = {folder}/passwd
  result_success = continue-ok
}}
"""


class Dovecot:
    """Starts on entry, stops on exit. Needs root, as Dovecot does.

    ``users`` are names (with their domain) and passwords. ``before`` stands in front of the user database and
    ``more`` at the end of the configuration, in the words of the version that runs (see ``version``).
    ``own_userdb`` leaves the user database to them. With ``certificate`` and ``key`` (PEM files) STARTTLS is
    offered.
    """

    def __init__(
        self,
        folder: Path,
        users: Mapping[str, str],
        *,
        before: str = "",
        more: str = "",
        protocols: Sequence[str] = ("imap", "lmtp"),
        root: Path | None = None,
        own_userdb: bool = False,
        certificate: Path | None = None,
        key: Path | None = None,
    ) -> None:
        self.folder = folder
        self.config = folder / "dovecot.conf"
        self.log = folder / "dovecot.log"
        self.lmtp_socket = folder / "lmtp.sock"
        self.imap_port = free_port()
        self.root = root
        self.before = before
        self.right_result = "return-ok"
        """What follows a right password; ``continue-ok`` asks the databases of ``more``, too."""
        self.more = more
        self._users = dict(users)
        self._protocols = tuple(protocols)
        self._own_userdb = own_userdb
        self._tls = (certificate, key)
        self._daemon: Daemon | None = None
        self._version: tuple[int, int, int] | None = None

    @property
    def version(self) -> tuple[int, int, int]:
        """What runs: (2, 3, 19)."""
        if self._version is None:
            words = run([*self._inside(), self._program("dovecot"), "--version"]).decode("ascii", "replace")
            found = re.match(r"(\d+)\.(\d+)\.(\d+)", words)
            if found is None:
                raise DemoError(f"dovecot --version says {words.strip()!r}, which is no version")
            self._version = (int(found[1]), int(found[2]), int(found[3]))
        return self._version

    @property
    def pid(self) -> int:
        """The process id of its master."""
        if self._daemon is None:
            raise DemoError("this Dovecot has not been started")
        return self._daemon.pid

    def uid_of(self, user: str) -> int:
        """The number of a user where this Dovecot runs, which may be another Debian."""
        for line in Path(self.root or "/", "etc/passwd").read_text().splitlines():
            name, _, number, *_ = line.split(":")
            if name == user:
                return int(number)
        raise DemoError(f'there is no user "{user}"; it comes with dovecot-core')

    def mail(self, user: str) -> list[Path]:
        """The stored mail of a user, oldest first, as files."""
        folder = self.folder / "mail" / user
        files = [path for path in folder.rglob("*") if path.parent.name in ("cur", "new") and path.is_file()]
        return sorted(files, key=lambda path: (path.stat().st_mtime_ns, path.name))

    def __enter__(self) -> Dovecot:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Writes the configuration and starts; returns when both sockets answer."""
        if os.geteuid() != 0:
            raise DemoError("a private Dovecot can only be started by root: run this as root")
        self.write()
        self._daemon = Daemon(
            [*self._inside(), self._program("dovecot"), "-F", "-c", self.config],
            log=self.folder / "dovecot.out",
        )
        self._daemon.wait_until(self._answers)

    def stop(self) -> None:
        """Stops the master process and all that it started."""
        if self._daemon is not None:
            self._daemon.stop()
            self._daemon = None

    def restart(self) -> None:
        """Stops it, and starts it with the configuration as it is wanted now."""
        self.stop()
        self.start()

    def doveadm(self, *arguments: str, stdin: bytes = b"") -> bytes:
        """Runs ``doveadm`` against this instance and gives its output."""
        return run([*self._inside(), self._program("doveadm"), "-c", self.config, *arguments], stdin=stdin)

    def doveconf(self, *arguments: str) -> bytes:
        """Runs ``doveconf`` on this configuration and gives its output."""
        return run([*self._inside(), self._program("doveconf"), "-c", self.config, *arguments])

    def sievec(self, script: Path) -> bytes:
        """Compiles a global Sieve script in place and gives what ``sievec`` says."""
        return run([*self._inside(), self._program("sievec"), "-c", self.config, str(script)])

    def write(self) -> None:
        """Writes the configuration and its folders, and starts nothing."""
        uid = self.uid_of(MAIL_USER)
        for name in ("run", "state", "mail"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        os.chown(self.folder / "mail", uid, uid)
        _open_way_to(self.folder)
        passwords = self.folder / "passwd"
        passwords.write_text(
            "".join(
                f"{user}:{{PLAIN}}{password}:{uid}:{uid}::{self.folder}/mail/{user}::\n"
                for user, password in self._users.items()
            )
        )
        os.chown(passwords, self.uid_of("dovecot"), -1)
        passwords.chmod(0o600)
        self.config.write_text(self._text())

    def _text(self) -> str:
        new = self.version >= (2, 4, 0)
        values = {
            "folder": self.folder,
            "port": self.imap_port,
            "success": self.right_result,
            "ssl": "yes" if self._tls[0] else "no",
            "protocols": "\n".join(f"  {each} = yes" for each in self._protocols)
            if new
            else " ".join(self._protocols),
        }
        parts = [_COMMON, _LISTENERS, _V24 if new else _V23]
        text = "".join(part.format(**values) for part in parts) + self.before
        if not self._own_userdb:
            text += (_V24_USERDB if new else _V23_USERDB).format(**values)
        text += self._tls_text(new) + self.more
        if not new:
            return text
        version = ".".join(str(number) for number in self.version)
        # These two have to stand at the top.
        return f"dovecot_config_version = {version}\ndovecot_storage_version = {version}\n{text}"

    def _tls_text(self, new: bool) -> str:
        certificate, key = self._tls
        if certificate is None or key is None:
            return ""
        if new:
            return f"ssl_server_cert_file = {certificate}\nssl_server_key_file = {key}\n"
        return f"ssl_cert = <{certificate}\nssl_key = <{key}\n"

    def _program(self, name: str) -> str:
        if self.root is None:
            return require(name, package="dovecot-core dovecot-imapd dovecot-lmtpd")
        for place in ("usr/sbin", "usr/bin"):
            if (self.root / place / name).exists():
                return f"/{place}/{name}"
        raise DemoError(f"there is no {name} below {self.root}: install dovecot-core there")

    def _inside(self) -> list[str]:
        """What stands before a command that is to run where this Dovecot is installed."""
        if self.root is None:
            return []
        folder = shlex.quote(str(self.folder))
        top = shlex.quote(str(self.root / self.folder.parts[1]))
        below = shlex.quote(str(self.root) + str(self.folder))
        root = shlex.quote(str(self.root))
        # A file system in memory hides the other Debian's own folder of that name, so nothing is left there.
        script = (
            f"mount -t tmpfs tmpfs {top} && mkdir -p {below} && mount --bind {folder} {below}"
            f" && mount -t proc proc {root}/proc && mount --rbind /dev {root}/dev"
            f' && exec chroot {root} "$@"'
        )
        return [require("unshare", package="util-linux"), "-m", "sh", "-ec", script, "sh"]

    def _answers(self) -> bool:
        if "lmtp" in self._protocols and not accepts(str(self.lmtp_socket)):
            return False
        return "imap" not in self._protocols or _greets(self.imap_port)


def _greets(port: int) -> bool:
    """Tells whether the IMAP server greets: it does when it has found the process that knows passwords."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as client:
            return client.recv(4) == b"* OK"
    except OSError:
        return False


def _open_way_to(folder: Path) -> None:
    """Dovecot's users must get through to its folder; test runners make theirs private."""
    for each in (folder, *folder.parents):
        mode = each.stat().st_mode
        if each == Path("/"):
            return
        if not mode & 0o001:
            each.chmod(mode & 0o7777 | 0o711)


def wait_for_mail(dovecot: Dovecot, user: str, *, count: int = 1, timeout: float = 20) -> list[Path]:
    """Gives the stored mail of a user once there are ``count`` files."""
    deadline = time.monotonic() + timeout
    while len(found := dovecot.mail(user)) < count:
        if time.monotonic() > deadline:
            raise DemoError(f"{len(found)} of {count} messages for {user} came within {timeout:.0f} s")
        time.sleep(0.02)
    return found
