"""libest's estserver in a network namespace of its own: in Debian 13, and on 12 unpacked beside."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from mailsigil.demo.programs import Daemon, accepts, run
from servers import relay

USER, PASSWORD = "estuser", "estpwd"
_PORT = 8085


MISSING = (
    "libest is not here: packaging/prepare finds it on Debian 13; elsewhere unpack Debian 13's libest3 and"
    " libest-utils, and name the folder in MAILSIGIL_LIBEST"
)


def folder() -> Path | None:
    """Where libest is: the folder of MAILSIGIL_LIBEST, where packaging/prepare put it, or installed."""
    named = os.environ.get("MAILSIGIL_LIBEST")
    places = [Path(named)] if named else [Path(sys.prefix) / "libest", Path("/")]
    return next((place for place in places if (place / "usr/bin/estserver").exists()), None)


def why_not() -> str:
    """Why it cannot be run here; empty where it can."""
    if folder() is None:
        return MISSING
    if os.geteuid() != 0 or not shutil.which("unshare"):
        return "only root can give estserver a network namespace"
    return ""


_CA_CONF = """
[ca]
default_ca = CA_default
[CA_default]
dir = {home}
database = {home}/index.txt
new_certs_dir = {home}
certificate = {home}/ca.pem
serial = {home}/serial
private_key = {home}/ca.key
default_days = 30
default_md = sha256
policy = any
x509_extensions = mail
copy_extensions = copy
unique_subject = no
[any]
commonName = optional
organizationName = optional
givenName = optional
surname = optional
title = optional
emailAddress = optional
[mail]
keyUsage = critical, digitalSignature
extendedKeyUsage = emailProtection, clientAuth
[authority]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign, cRLSign
[server]
subjectAltName = IP:127.0.0.1
"""


class LibEst:
    """Started on entry; ``more`` are options of estserver, such as ``-m 5`` (202, ask again after 5 s)."""

    def __init__(self, home: Path, *more: str) -> None:
        self.home = home
        self._more = more

    def __enter__(self) -> LibEst:
        home, base = self.home, folder()
        assert base is not None
        (home / "ca.cnf").write_text(_CA_CONF.format(home=home))
        (home / "index.txt").touch()
        (home / "serial").write_text("1000\n")
        key = ["-newkey", "rsa:2048", "-nodes", "-config", home / "ca.cnf"]
        # The request's own section is not in this configuration: names come from the command line.
        (home / "req.cnf").write_text("[req]\ndistinguished_name = dn\n[dn]\n" + _CA_CONF.format(home=home))
        key[-1] = home / "req.cnf"
        ca = ["-x509", "-days", "100", "-subj", "/CN=EST Root", "-extensions", "authority"]
        run(["openssl", "req", *key, *ca, "-keyout", home / "ca.key", "-out", home / "ca.pem"])
        run(
            [
                "openssl",
                "req",
                *key,
                "-subj",
                "/CN=est",
                "-keyout",
                home / "srv.key",
                "-out",
                home / "srv.csr",
            ]
        )
        signing = ["-CA", home / "ca.pem", "-CAkey", home / "ca.key", "-days", "90"]
        signing += ["-extfile", home / "ca.cnf", "-extensions", "server", "-set_serial", "2"]
        run(["openssl", "x509", "-req", "-in", home / "srv.csr", *signing, "-out", home / "srv.pem"])
        arguments = [
            "-o",
            "-b",
            "-r",
            "estrealm",
            "-c",
            home / "srv.pem",
            "-k",
            home / "srv.key",
            "-p",
            str(_PORT),
        ]
        socket_path = home / "relay"
        script = '"$0" "$1" "$2" "$3" & exec "$4" "${@:5}"'
        self._daemon = Daemon(
            [
                *("unshare", "-n", "bash", "-c", script),
                *(sys.executable, relay.__file__, socket_path, str(_PORT)),
                *(base / "usr/bin/estserver", *arguments, *self._more),
            ],
            log=home / "est.log",
            env={
                "EST_CACERTS_RESP": f"{home}/ca.pem",
                "EST_TRUSTED_CERTS": f"{home}/ca.pem",
                "EST_OPENSSL_CACONFIG": f"{home}/ca.cnf",
                "LD_LIBRARY_PATH": str(base / "usr/lib/x86_64-linux-gnu"),
            },
        )
        self._daemon.wait_until(lambda: socket_path.exists() and accepts(str(socket_path)))
        self._relay = relay.Relay(socket_path)
        self.url = f"https://127.0.0.1:{self._relay.port}/.well-known/est"
        return self

    def __exit__(self, *_: object) -> None:
        self._relay.close()
        self._daemon.stop()
