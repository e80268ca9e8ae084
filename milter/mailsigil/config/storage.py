"""The settings of ``[[storage]]`` and ``[dovecot]``: keys that encrypt stored mail, and who gets them."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field, model_validator

from mailsigil.config.directories import MailDomain
from mailsigil.config.fields import AbsolutePath, List, OptionalPath, UserName
from mailsigil.config.openbao import BaoLogin
from mailsigil.config.section import Section
from mailsigil.config.sources import EstSource, Secret, SourceName

StorageKeyKindName = Literal["p256", "p384", "p521", "rsa2048", "rsa3072", "rsa4096"]
HOLDERS: Final = ("folder", "openbao", "pkcs11")


class DovecotSettings(Section):
    """What the key agent does for Dovecot: private storage keys at login, public ones at delivery."""

    version: Literal["2.3", "2.4"] = Field(
        default="2.4",
        description="The Dovecot here, for the names of its settings differ; `mailsigil check` compares.",
    )
    postlogin_socket: OptionalPath = Field(
        default="",
        description='Path of the unix socket that stands behind "imap" in Dovecot\'s "executable"; root alone'
        " is heard there. Empty: none, unless systemd hands one in (mailsigil-postlogin.socket).",
    )
    public_key_socket: OptionalPath = Field(
        default="",
        description="Path of the unix socket where Dovecot's Lua script asks for public keys. Empty: none,"
        " unless systemd hands one in (mailsigil-public-keys.socket).",
    )
    public_key_users: List[UserName] = Field(
        default=("dovecot",),
        description="Users who may ask there and at password_socket: Dovecot's internal one. Root may, too.",
    )
    password_socket: OptionalPath = Field(
        default="",
        description="Path of the unix socket where Dovecot's Lua script hands over login passwords, for keys"
        ' that they open (opened_by = "login" in [[storage]]). Empty: none.',
    )
    public_keys: AbsolutePath = Field(
        default="/var/lib/mailsigil/public-keys",
        description="Folder with the public storage keys of all users. They are at hand while the key server"
        " is away, and a private key that fits none of them is refused.",
    )
    bare_domain: str = Field(
        default="",
        max_length=253,
        description="Mail domain of users who log in without one. Empty: they have no storage keys.",
    )
    connections: int = Field(
        default=512, ge=1, le=4096, description="Logins that one process of the key agent serves at a time."
    )


class FolderStorage(Section):
    """For kind = "folder": files named after the address, ADDRESS.pem or ADDRESS.p12, the newest key first.

    It is for trying out, and for folders that another program fills; the keys are then on this machine.
    """

    path: AbsolutePath = Field(description="The folder; the key agent's user alone may read it.")
    passphrase_file: Secret = Field(
        default="", description='File with the passphrase of PKCS#12, or "credential:NAME".'
    )


class OpenBaoStorage(BaoLogin):
    """For kind = "openbao": entries of KV version 2 in OpenBao or HashiCorp Vault."""

    mount: str = Field(default="secret", min_length=1, max_length=200, description="Where the engine is.")
    key_path: str = Field(
        default="storage/{address}",
        min_length=1,
        max_length=400,
        description="Name of the entry; {address}, {local} and {domain} are replaced.",
    )
    passphrase_file: Secret = Field(
        default="", description="File with the passphrase of PKCS#12 or encrypted PKCS#8 there."
    )


class Pkcs11Storage(Section):
    """For kind = "pkcs11": files that only a key on a token opens. Without the token they are worth nothing.

    The token's key is an AES key (CKM_AES_KEY_WRAP) or an RSA pair (CKM_RSA_PKCS_OAEP).
    """

    path: AbsolutePath = Field(description="Folder of the wrapped keys.")
    module: AbsolutePath = Field(description="The maker's PKCS#11 library.")
    token: str = Field(min_length=1, max_length=32, description="Label of the token.")
    pin_file: Secret = Field(min_length=1, description='File with the user PIN, or "credential:NAME".')
    key_label: str = Field(min_length=1, max_length=64, description="Label of the token's key.")


class StorageSettings(Section):
    """Storage keys of some mail domains: Dovecot's mail_crypt plugin encrypts stored mail with them.

    There may be several, each for domains of its own. After the general settings follows the section of its
    kind, which holds the keys, and perhaps [storage.est], which makes new ones.
    """

    name: SourceName = Field(description="A name for logs and messages.")
    kind: Literal["folder", "openbao", "pkcs11"] = Field(
        description='"folder", "openbao" or "pkcs11"; a section of this name follows.'
    )
    domains: List[MailDomain] = Field(min_length=1, description="Mail domains whose users have keys there.")
    on_failure: Literal["deny", "degraded"] = Field(
        default="deny",
        description='When the keys cannot be had at login: "deny" refuses it with a sentence, "degraded" lets'
        " the user in, who then sees folders and flags and cannot read what is encrypted.",
    )
    without_key: Literal["clear", "refuse"] = Field(
        default="clear",
        description='Users of these domains who have no key: "clear" stores their mail as Dovecot always did,'
        ' "refuse" defers it, and refuses the login.',
    )
    adopt: bool = Field(
        default=False,
        description="true: keys that another program puts into the key server are taken over when they come"
        " to sight, if the entry records the user. false: only keys that `mailsigil storage` made or pinned.",
    )
    opened_by: Literal["agent", "login"] = Field(
        default="agent",
        description='Who opens what lies there: "agent" with its own passphrase or token, "login" with the'
        " password that the user logs in with. The second one is a fallback, see contrib/dovecot.",
    )
    new_key: StorageKeyKindName = Field(default="p256", description="The kind of key that is made here.")
    timeout: float = Field(default=2.0, gt=0, le=10, description="Seconds for one answer.")
    failures: int = Field(
        default=3, ge=1, le=100, description="Failures in a row after which the key server is left alone."
    )
    pause_seconds: float = Field(
        default=5.0, ge=0, le=3600, description="So long it is left alone, before one login tries it again."
    )
    key_seconds: float = Field(
        default=300.0,
        ge=0,
        le=86_400,
        description="Seconds that the private keys of a user are kept in memory for the next login.",
    )
    calls: int = Field(default=128, ge=1, le=1024, description="Calls to the key server at a time.")
    folder: FolderStorage | None = None
    openbao: OpenBaoStorage | None = None
    pkcs11: Pkcs11Storage | None = None
    est: EstSource | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> StorageSettings:
        problem = _problem(self)
        if problem:
            raise ValueError(problem)
        return self


def _problem(storage: StorageSettings) -> str:
    """What cannot be meant, as a sentence; empty where all is well."""
    given = [kind for kind in HOLDERS if getattr(storage, kind) is not None]
    if storage.kind not in given:
        return f'kind = "{storage.kind}" needs its settings in a section [storage.{storage.kind}] below'
    for kind in given:
        if kind != storage.kind:
            return f'the section [storage.{kind}] does not belong to kind = "{storage.kind}"'
    bao = storage.openbao
    if bao is not None:
        if problem := bao.login_problem("storage.openbao"):
            return problem
        if not any(f"{{{part}}}" in bao.key_path for part in ("address", "local")):
            return '"key_path" names the same entry for everybody; write {address} into it'
    if storage.est is not None:
        if not storage.est.server_keygen:
            return "[storage.est] makes keys over there: write server_keygen = true"
        if not storage.est.url.startswith("https:"):
            return "EST goes over https alone (RFC 7030 3.3)"
    return ""
