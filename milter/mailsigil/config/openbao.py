"""The settings of OpenBao and Vault: as a source, and as the place where a source's keys are made."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mailsigil.config.fields import OptionalPath
from mailsigil.config.section import Section
from mailsigil.config.source_fields import Secret, Url


class BaoLogin(Section):
    """Where a server is, and how to log in: with a token, as an application, or with a certificate."""

    url: Url = Field(description="Its address, without /v1.")
    namespace: str = Field(default="", max_length=200, description="Namespace, where there are several.")
    token_file: Secret = Field(default="", description='File with a token, or "credential:NAME".')
    role_id: str = Field(default="", max_length=200, description="In place of a token: AppRole, its role_id.")
    secret_id_file: Secret = Field(default="", description="AppRole: file with the secret_id.")
    approle_mount: str = Field(default="approle", max_length=200, description="Where AppRole is.")
    client_certificate: OptionalPath = Field(
        default="",
        description="In place of a token: TLS client certificate, PEM. Beside a token, for a server that asks"
        " for one.",
    )
    client_key: OptionalPath = Field(default="", description="Its private key, PEM.")
    cert_mount: str = Field(
        default="cert", max_length=200, description="Where the login with certificates is."
    )
    cert_role: str = Field(
        default="", max_length=200, description="The role there; empty: the first that fits."
    )
    ca_file: OptionalPath = Field(default="", description="Authorities that vouch for it, PEM.")

    def login_problem(self, section: str) -> str:
        """What the login lacks, as a sentence; empty where all is well."""
        if self.token_file and self.role_id:
            return f'[{section}] needs either "token_file", or "role_id" with "secret_id_file"'
        if bool(self.role_id) != bool(self.secret_id_file):
            return '"role_id" and "secret_id_file" belong together'
        if bool(self.client_certificate) != bool(self.client_key):
            return '"client_certificate" and "client_key" belong together'
        if self.client_certificate and not self.url.startswith("https:"):
            return '"client_certificate" needs a url with https'
        if not (self.token_file or self.role_id or self.client_certificate):
            return (
                f'[{section}] needs "token_file", or "role_id" with "secret_id_file", or'
                ' "client_certificate" with "client_key"'
            )
        return ""


class OpenBaoSource(BaoLogin):
    """For kind = "openbao": OpenBao or HashiCorp Vault."""

    engine: Literal["pki-sign", "pki-issue", "kv", "transit"] = Field(
        description='"pki-sign": its authority signs keys made here; "pki-issue": it makes the keys, too;'
        ' "kv": keys and certificates lie in KV version 2; "transit": it signs, and keys never leave it.'
    )
    mount: str = Field(default="", max_length=200, description="Where the engine is. Empty: as it is named.")
    role: str = Field(default="", max_length=200, description="Role of the pki engines.")
    key_path: str = Field(
        default="",
        max_length=400,
        description="Name of the entry in kv or of the key in transit; {address}, {local} and {domain} are"
        ' replaced, and {name}, the address in letters that transit takes: "alice_40bank.example". Empty:'
        " {address} in kv, {name} in transit.",
    )
    certificates: OptionalPath = Field(
        default="", description="Folder with the certificates (PEM) of the keys in transit."
    )
    passphrase_file: Secret = Field(
        default="", description="File with the passphrase of PKCS#12 or encrypted PKCS#8 in kv."
    )

    @property
    def issues(self) -> bool:
        """The engine certifies keys, in place of holding them."""
        return self.engine in ("pki-sign", "pki-issue")

    def problem(self) -> str:
        """What cannot be meant, as a sentence; empty where all is well."""
        if problem := self.login_problem("source.openbao"):
            return problem
        if self.issues and not self.role:
            return f'engine = "{self.engine}" needs "role"'
        if self.engine == "transit" and not self.certificates:
            return 'engine = "transit" needs "certificates", for it holds keys alone'
        return _transit_path_problem(self.key_path) if self.engine == "transit" else ""

    @property
    def path(self) -> str:
        """``key_path``, or what it is when it is empty."""
        return self.key_path or ("{name}" if self.engine == "transit" else "{address}")


class TransitStore(BaoLogin):
    """For key_store = "transit": keys are made in a transit engine, which signs, and never leave it.

    The login needs to read, create, rotate and sign with the keys there.
    """

    mount: str = Field(default="transit", max_length=200, description="Where the engine is.")
    key_path: str = Field(
        default="{name}",
        min_length=1,
        max_length=400,
        description="Name of a key; {name} is replaced by the address in letters that transit takes:"
        ' "alice_40bank.example".',
    )

    def problem(self) -> str:
        """What cannot be meant, as a sentence; empty where all is well."""
        if problem := self.login_problem("source.transit"):
            return problem
        if "{name}" not in self.key_path:
            return '"key_path" of [source.transit] needs {name}, so that each address has its own key'
        return _transit_path_problem(self.key_path)


def _transit_path_problem(path: str) -> str:
    if "@" in path or "{address}" in path:
        return 'names of keys in transit hold no "@": write {name} for the address in "key_path"'
    return ""
