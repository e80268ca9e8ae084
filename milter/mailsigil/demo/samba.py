"""A private Samba domain controller: an Active Directory in a network namespace of its own.

Samba insists on its ports and listens on all interfaces, so it gets a loopback of its own. What asks it runs
in the same namespace: see :meth:`SambaAd.inside`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mailsigil.demo.programs import Daemon, DemoError, require, run

REALM: Final = "AD.BANK.EXAMPLE"
SUFFIX: Final = "DC=ad,DC=bank,DC=example"
HOST: Final = "dc1"
PASSWORD: Final = "Demo-password-1"  # noqa: S105  # of a throwaway server in its own namespace
ADMIN: Final = f"CN=Administrator,CN=Users,{SUFFIX}"


class SambaAd:
    """Provisions and starts on entry, stops by process id on exit. Needs root."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.domain = folder / "domain"
        self._holder: Daemon | None = None
        self._daemon: Daemon | None = None

    @property
    def ca(self) -> Path:
        """The authority of its self-made certificate."""
        return self.domain / "private" / "tls" / "ca.pem"

    @property
    def host(self) -> str:
        """Its full name, which stands in the certificate."""
        return f"{HOST}.{REALM.lower()}"

    def __enter__(self) -> SambaAd:
        if os.geteuid() != 0:
            raise DemoError("a private domain controller can only be started by root")
        samba = require("samba", package="samba-ad-dc samba-ad-provision samba-dsdb-modules winbind")
        if not Path("/usr/share/samba/setup").is_dir():
            raise DemoError("the program samba is missing: apt-get install samba-ad-provision")
        self.folder.mkdir(parents=True, exist_ok=True)
        # A process that does nothing holds the namespaces open; in its view of the files the name of the
        # domain controller is known.
        self._holder = Daemon(
            [require("unshare", package="util-linux"), "-n", "-m", "sleep", "infinity"],
            log=self.folder / "namespace.log",
        )
        try:
            self._holder.wait_until(self._is_apart)
            run(self.inside([require("ip", package="iproute2"), "link", "set", "lo", "up"]))
            hosts = self.folder / "hosts"
            hosts.write_text(f"127.0.0.1 localhost {self.host} {HOST}\n")
            run(self.inside(["mount", "--bind", hosts, "/etc/hosts"]))
            try:
                self._provision()
            except DemoError as error:
                # Samba 4.22 of Debian 13 does so where it may not set the rights of its files.
                raise DemoError(f"samba-tool cannot set up a domain on this machine: {error}") from error
            self._daemon = Daemon(
                self.inside([samba, "-F", "--no-process-group", "-s", self.domain / "etc" / "smb.conf"]),
                log=self.folder / "samba.log",
            )
            self._daemon.wait_until(self._answers, timeout=60)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for daemon in (self._daemon, self._holder):
            if daemon is not None:
                daemon.stop()
        shutil.rmtree(self.domain, ignore_errors=True)

    def inside(self, command: Sequence[str | Path]) -> list[str]:
        """Give the command that runs ``command`` where the domain controller is."""
        if self._holder is None:
            raise DemoError("the domain controller has not been started")
        enter = require("nsenter", package="util-linux")
        # -r: its root, too, which is another than the namespace's where this runs in a chroot.
        return [enter, "-t", str(self._holder.pid), "-n", "-m", "-r", *(str(one) for one in command)]

    def tool(self, *arguments: str) -> bytes:
        """Run samba-tool on the domain's database."""
        config = ["-s", str(self.domain / "etc" / "smb.conf")]
        return run(self.inside([require("samba-tool", package="samba"), *arguments, *config]))

    def change(self, ldif: str) -> None:
        """Change entries, or the schema, as ldapmodify reads it."""
        program = require("ldapmodify", package="ldap-utils")
        command = [program, "-x", "-H", f"ldaps://{self.host}", "-D", ADMIN, "-w", PASSWORD]
        run(self.inside(["env", f"LDAPTLS_CACERT={self.ca}", *command]), stdin=ldif.encode())

    def _provision(self) -> None:
        run(
            self.inside(
                [
                    require("samba-tool", package="samba"),
                    "domain",
                    "provision",
                    f"--targetdir={self.domain}",
                    f"--realm={REALM}",
                    f"--domain={REALM.partition('.')[0]}",
                    f"--host-name={HOST}",
                    "--server-role=dc",
                    "--dns-backend=SAMBA_INTERNAL",
                    "--host-ip=127.0.0.1",
                    f"--adminpass={PASSWORD}",
                    "--option=interfaces=lo",
                    "--option=bind interfaces only=yes",
                    "--option=dsdb:schema update allowed=yes",
                ]
            ),
            timeout=180,
        )

    def _is_apart(self) -> bool:
        if self._holder is None:
            return False
        own = os.readlink("/proc/self/ns/net")
        return os.readlink(f"/proc/{self._holder.pid}/ns/net") != own

    def _answers(self) -> bool:
        try:
            run(self.inside(["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/636"]), timeout=10)
        except DemoError:
            return False
        return self.ca.exists()
