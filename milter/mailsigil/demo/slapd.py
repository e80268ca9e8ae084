"""A private slapd: own folder, loopback ports, TLS and ldapi, nothing shared with the system's."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote

from mailsigil.demo.programs import Daemon, accepts, free_port, require, run

SUFFIX: Final = "dc=bank,dc=example"
ADMIN: Final = f"cn=admin,{SUFFIX}"
PASSWORD: Final = "demo"  # noqa: S105  # of a throwaway server on loopback

_SYSTEM_SCHEMAS: Final = tuple(
    Path("/etc/ldap/schema") / f"{name}.ldif" for name in ("core", "cosine", "inetorgperson")
)

_CONFIG: Final = """\
dn: cn=config
objectClass: olcGlobal
cn: config
olcPidFile: {folder}/slapd.pid
olcIdleTimeout: {idle}
{tls}
dn: cn=module,cn=config
objectClass: olcModuleList
cn: module
olcModulePath: /usr/lib/ldap
olcModuleLoad: back_mdb

dn: cn=schema,cn=config
objectClass: olcSchemaConfig
cn: schema

{schemas}
dn: olcDatabase={{0}}config,cn=config
objectClass: olcDatabaseConfig
olcDatabase: {{0}}config
olcAccess: to * by dn.exact=gidNumber={gid}+uidNumber={uid},cn=peercred,cn=external,cn=auth manage

dn: olcDatabase={{1}}mdb,cn=config
objectClass: olcDatabaseConfig
objectClass: olcMdbConfig
olcDatabase: {{1}}mdb
olcDbDirectory: {folder}/db
olcDbMaxSize: 1073741824
olcSuffix: {suffix}
olcRootDN: {admin}
olcRootPW: {password}
olcDbIndex: objectClass eq
olcDbIndex: uid,mail,member,uniqueMember eq
olcDbNoSync: TRUE
olcSizeLimit: unlimited
olcAccess: to * by dn.exact=gidNumber={gid}+uidNumber={uid},cn=peercred,cn=external,cn=auth manage
  by {readers} read by * auth
"""


class Slapd:
    """Starts on entry, stops by process id on exit. Keeps its ports and data over a restart."""

    def __init__(
        self,
        folder: Path,
        *,
        schemas: Sequence[Path] = (),
        data: Sequence[str] = (),
        certificate: Path | None = None,
        key: Path | None = None,
        ca: Path | None = None,
        readers: str = "*",
        idle_timeout: int = 0,
    ) -> None:
        self.folder = folder
        self.port = free_port()
        self.tls_port = free_port()
        self._schemas = (*_SYSTEM_SCHEMAS, *schemas)
        self._data = data
        self._tls = (certificate, key, ca)
        self._readers = readers
        self._idle = idle_timeout
        self._daemon: Daemon | None = None

    @property
    def url(self) -> str:
        """``ldap://``, for StartTLS or none."""
        return f"ldap://127.0.0.1:{self.port}"

    @property
    def tls_url(self) -> str:
        """``ldaps://``."""
        return f"ldaps://localhost:{self.tls_port}"

    @property
    def ldapi_url(self) -> str:
        """``ldapi://``."""
        return f"ldapi://{quote(str(self.folder / 'ldapi'), safe='')}"

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        if self._daemon is None:
            raise RuntimeError("slapd has not been started")
        return self._daemon.pid

    def __enter__(self) -> Slapd:
        self._write()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start, or start again with the same data and ports."""
        urls = [self.url, self.ldapi_url, *([self.tls_url] if self._tls[0] else [])]
        config = ("-F", self.folder / "slapd.d")
        self._daemon = Daemon(
            [require("slapd", package="slapd"), *config, "-h", " ".join(urls), "-d", "0"],
            log=self.folder / "slapd.log",
        )
        self._daemon.wait_until(lambda: accepts(("127.0.0.1", self.port)))

    def stop(self) -> None:
        """Stop politely."""
        if self._daemon is not None:
            self._daemon.stop()

    def kill(self) -> None:
        """End it as a crash would: SIGKILL."""
        if self._daemon is not None:
            self._daemon.process.kill()
            self._daemon.process.wait()

    def add(self, ldif: str) -> None:
        """Add entries to the running server."""
        self._change("ldapadd", ldif)

    def modify(self, ldif: str) -> None:
        """Change entries of the running server, as ldapmodify reads it."""
        self._change("ldapmodify", ldif)

    def _change(self, program: str, ldif: str) -> None:
        command = [require(program, package="ldap-utils"), "-x", "-H", self.url, "-D", ADMIN, "-w", PASSWORD]
        run(command, stdin=ldif.encode())

    def _write(self) -> None:
        for name in ("slapd.d", "db"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        config = self.folder / "config.ldif"
        config.write_text(
            _CONFIG.format(
                folder=self.folder,
                idle=self._idle,
                tls=self._tls_lines(),
                schemas="\n".join(path.read_text() for path in self._schemas),
                suffix=SUFFIX,
                admin=ADMIN,
                password=PASSWORD,
                readers=self._readers,
                uid=os.geteuid(),
                gid=os.getegid(),
            )
        )
        slapadd = require("slapadd", package="slapd")
        run([slapadd, "-n", "0", "-F", self.folder / "slapd.d", "-l", config])
        top = f"dn: {SUFFIX}\nobjectClass: dcObject\nobjectClass: organization\ndc: bank\no: Example Bank\n"
        data = self.folder / "data.ldif"
        data.write_text("\n".join([top, *self._data]))
        run([slapadd, "-q", "-n", "1", "-F", self.folder / "slapd.d", "-l", data], timeout=600)

    def _tls_lines(self) -> str:
        certificate, key, ca = self._tls
        if certificate is None:
            return ""
        return (
            f"olcTLSCACertificateFile: {ca}\nolcTLSCertificateFile: {certificate}\n"
            f"olcTLSCertificateKeyFile: {key}\nolcTLSVerifyClient: allow\n"
        )
