"""A private Postfix: own folders, high loopback ports, nothing shared with the system's mail server."""

from __future__ import annotations

import os
import pwd
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from mailsigil.demo.programs import DemoError, accepts, require, run, wait_until

_MAIN = {
    "compatibility_level": "3.6",
    "myhostname": "mx.example.com",
    "mydomain": "example.com",
    "myorigin": "$mydomain",
    "mydestination": "",
    "local_recipient_maps": "",
    "alias_maps": "",
    "alias_database": "",
    "inet_interfaces": "127.0.0.1",
    "inet_protocols": "ipv4",
    "mynetworks": "127.0.0.0/8",
    "smtpd_peername_lookup": "no",
    "smtp_dns_support_level": "disabled",
    "smtp_host_lookup": "native",
    "smtpd_relay_restrictions": "permit_mynetworks, permit_sasl_authenticated, reject",
    "smtpd_recipient_restrictions": "",
    "message_size_limit": "0",
    "mailbox_size_limit": "0",
    "milter_default_action": "tempfail",
    "milter_protocol": "6",
    "milter_command_timeout": "60s",
    "milter_content_timeout": "300s",
    "maillog_file_prefixes": "/",
    "smtpd_client_connection_rate_limit": "0",
    "smtpd_client_connection_count_limit": "0",
    "smtpd_error_sleep_time": "0",
    "in_flow_delay": "0",
    "default_process_limit": "100",
    "queue_minfree": "0",
    "minimal_backoff_time": "2s",
    "maximal_backoff_time": "5s",
    "queue_run_delay": "2s",
}

_SERVICES = """\
pickup    unix n - n 60   1 pickup
cleanup   unix n - n -    0 cleanup
qmgr      unix n - n 300  1 qmgr
rewrite   unix - - n -    - trivial-rewrite
bounce    unix - - n -    0 bounce
defer     unix - - n -    0 bounce
trace     unix - - n -    0 bounce
flush     unix n - n 1000? 0 flush
proxymap  unix - - n -    - proxymap
smtp      unix - - n -    - smtp
relay     unix - - n -    - smtp
lmtp      unix - - n -    - lmtp
showq     unix n - n -    - showq
error     unix - - n -    - error
retry     unix - - n -    - error
discard   unix - - n -    - discard
anvil     unix - - n -    1 anvil
scache    unix - - n -    1 scache
postlog   unix-dgram n - n - 1 postlogd
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """One SMTP port of the private Postfix."""

    port: int
    name: str
    """Its ``{daemon_name}`` for milters."""
    milters: tuple[str, ...] = ()
    """As ``smtpd_milters`` takes them, in order."""
    logins: bool = False
    """Offers SASL PLAIN and LOGIN with the users of the instance."""
    options: Mapping[str, str] = field(default_factory=dict)


class Postfix:
    """Starts on entry, stops by process id on exit. Needs root, as Postfix does.

    ``next_hop`` is ``host:port`` of the server that gets all mail; empty throws it away. Who may log in is in
    ``users`` (with passwords), or known to the ``saslauthd`` behind this socket.
    """

    def __init__(
        self,
        folder: Path,
        listeners: tuple[Listener, ...],
        *,
        next_hop: str = "",
        users: Mapping[str, str] | None = None,
        saslauthd: Path | None = None,
        options: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.config = folder / "etc"
        self.log = folder / "mail.log"
        self._listeners = listeners
        self._next_hop = next_hop
        self._users = dict(users or {})
        self._saslauthd = saslauthd
        self._options = dict(options or {})

    def __enter__(self) -> Postfix:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Writes the configuration and starts; returns when every port answers."""
        command = require("postfix", package="postfix")
        if os.geteuid() != 0:
            raise DemoError("a private Postfix can only be started by root: run this as root")
        self._write()
        run([command, "-c", self.config, "start"])
        wait_until(
            lambda: all(accepts(("127.0.0.1", listener.port)) for listener in self._listeners),
            what="Postfix",
        )

    def stop(self) -> None:
        """Stops the master process and all that it started."""
        pid = self.master_pid
        if pid is None:
            return
        with suppress(DemoError):
            run([require("postfix", package="postfix"), "-c", self.config, "stop"])
        try:
            wait_until(lambda: self.master_pid is None, what="Postfix's end")
        except DemoError:
            os.kill(pid, signal.SIGKILL)

    def reload(self) -> None:
        """Makes it read its configuration again."""
        run([require("postfix", package="postfix"), "-c", self.config, "reload"])

    @property
    def master_pid(self) -> int | None:
        """The process id of the master while it runs."""
        try:
            pid = int((self.folder / "queue" / "pid" / "master.pid").read_text().strip())
            os.kill(pid, 0)
        except (OSError, ValueError):
            return None
        return pid

    def _write(self) -> None:
        owner = pwd.getpwnam("postfix")
        for name in ("etc/sasl", "queue", "data"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        os.chown(self.folder / "data", owner.pw_uid, owner.pw_gid)
        main = {
            **_MAIN,
            "config_directory": str(self.config),
            "queue_directory": str(self.folder / "queue"),
            "data_directory": str(self.folder / "data"),
            "maillog_file": str(self.log),
            "default_transport": f"smtp:[{self._next_hop.replace(':', ']:')}"
            if self._next_hop
            else "discard:",
            **self._sasl(),
            **self._options,
        }
        text = "".join(f"{name} = {value}\n" for name, value in main.items())
        (self.config / "main.cf").write_text(text)
        services = "".join(_smtpd(listener) for listener in self._listeners)
        (self.config / "master.cf").write_text(services + _SERVICES)

    def _sasl(self) -> dict[str, str]:
        if self._saslauthd is not None:
            check = f"pwcheck_method: saslauthd\nsaslauthd_path: {self._saslauthd}\n"
        elif self._users:
            check = f"pwcheck_method: auxprop\nauxprop_plugin: sasldb\nsasldb_path: {self._passwords()}\n"
        else:
            return {}
        # Debian's Postfix looks here, whatever cyrus_sasl_config_path says.
        folder = self.config / "sasl"
        (folder / "smtpd.conf").write_text(f"{check}mech_list: PLAIN LOGIN\n")
        return {
            "cyrus_sasl_config_path": str(folder),
            "smtpd_sasl_path": "smtpd",
            "smtpd_sasl_local_domain": "local",
        }

    def _passwords(self) -> Path:
        """A database of the users' passwords."""
        database = self.folder / "data" / "sasldb2"
        command = require("saslpasswd2", package="sasl2-bin")
        for login, password in self._users.items():
            name, _, realm = login.partition("@")
            run([command, "-p", "-c", "-f", database, "-u", realm or "local", name], stdin=password.encode())
        os.chown(database, pwd.getpwnam("postfix").pw_uid, -1)
        return database


def _smtpd(listener: Listener) -> str:
    options = {"milter_macro_daemon_name": listener.name, **listener.options}
    if listener.milters:
        options["smtpd_milters"] = ", ".join(listener.milters)
    if listener.logins:
        options["smtpd_sasl_auth_enable"] = "yes"
    lines = "".join(f"  -o {{ {name} = {value} }}\n" for name, value in options.items())
    return f"127.0.0.1:{listener.port} inet n - n - - smtpd\n{lines}"
