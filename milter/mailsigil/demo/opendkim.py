"""A private OpenDKIM that signs: own key, unix socket, nothing shared with the system's."""

from __future__ import annotations

import base64
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from mailsigil.demo.programs import Daemon, accepts, require


class OpenDkim:
    """Starts on entry, stops by process id on exit. ``record`` is the TXT record of its key."""

    def __init__(self, folder: Path, domain: str, *, selector: str = "mail") -> None:
        self.folder = folder
        self.domain = domain
        self.selector = selector
        self.socket = folder / "opendkim.sock"
        self.record = ""
        self._daemon: Daemon | None = None

    @property
    def milter(self) -> str:
        """As ``smtpd_milters`` takes it."""
        return f"unix:{self.socket}"

    @property
    def record_name(self) -> str:
        """Where the key is looked up (RFC 6376 3.6.2.1)."""
        return f"{self.selector}._domainkey.{self.domain}"

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        if self._daemon is None:
            raise RuntimeError("OpenDKIM has not been started")
        return self._daemon.pid

    def __enter__(self) -> OpenDkim:
        command = require("opendkim", package="opendkim")
        self.folder.mkdir(parents=True, exist_ok=True)
        key = self._make_key()
        config = self.folder / "opendkim.conf"
        config.write_text(
            f"Domain {self.domain}\nSelector {self.selector}\nKeyFile {key}\nSocket local:{self.socket}\n"
            "Mode s\nCanonicalization relaxed/simple\nInternalHosts 127.0.0.0/8\nUMask 000\n"
            "Syslog no\nBackground no\nRequireSafeKeys no\nOversignHeaders From\n"
        )
        self._daemon = Daemon([command, "-f", "-x", config], log=self.folder / "opendkim.log")
        self._daemon.wait_until(lambda: accepts(str(self.socket)))
        return self

    def __exit__(self, *_: object) -> None:
        if self._daemon is not None:
            self._daemon.stop()

    def _make_key(self) -> Path:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        path = self.folder / "key.pem"
        path.touch(mode=0o600)
        path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
        public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.record = f"v=DKIM1; k=rsa; p={base64.b64encode(public).decode()}"
        return path
