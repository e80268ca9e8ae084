"""The settings of ``[[source]]``: where the keys of some mail domains come from."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field, model_validator

from mailsigil.config.directories import MailDomain
from mailsigil.config.fields import AbsolutePath, List, OptionalPath
from mailsigil.config.openbao import OpenBaoSource, TransitStore
from mailsigil.config.section import Section
from mailsigil.config.source_fields import KeyKindName, Mailbox, Secret, SourceName, Url

__all__ = [
    "KINDS",
    "CmpSource",
    "EmbeddedSource",
    "EnrolmentSettings",
    "EstSource",
    "FolderSource",
    "KeyKindName",
    "Kind",
    "Mailbox",
    "OpenBaoSource",
    "Pkcs11Source",
    "Secret",
    "SourceName",
    "SourceSettings",
    "TokenStore",
    "TransitStore",
    "Url",
]

Kind = Literal["folder", "pkcs11", "openbao", "est", "cmp", "embedded"]


class FolderSource(Section):
    """For kind = "folder": PEM and PKCS#12 files, as in [keyd]."""

    path: AbsolutePath = Field(description="The folder.")
    passphrase_file: Secret = Field(
        default="", description='File with the passphrase of its encrypted keys, or "credential:NAME".'
    )


class Pkcs11Source(Section):
    """For kind = "pkcs11": an HSM or token; private keys never leave it."""

    module: AbsolutePath = Field(description="The maker's PKCS#11 library.")
    token: str = Field(min_length=1, max_length=32, description="Label of the token.")
    pin_file: Secret = Field(
        min_length=1,
        description='File with the user PIN, or "credential:NAME". A wrong PIN is tried once, and not again'
        " before this file changes.",
    )
    certificates: OptionalPath = Field(
        default="",
        description="Folder with the certificates (PEM), matched to the keys by public key. Empty: they are"
        " on the token.",
    )


class EstSource(Section):
    """For kind = "est": an authority that speaks EST (RFC 7030)."""

    url: Url = Field(
        description='Its address up to the label, such as "https://ca.bank.example/.well-known/est".'
    )
    ca_file: AbsolutePath = Field(
        description="Authorities that vouch for it, PEM: the explicit trust anchor of RFC 7030 3.6.1."
    )
    username: str = Field(default="", max_length=200, description="User for HTTP authentication.")
    password_file: Secret = Field(default="", description="File with the user's password.")
    client_certificate: OptionalPath = Field(default="", description="TLS client certificate, PEM.")
    client_key: OptionalPath = Field(default="", description="Its private key, PEM.")
    server_keygen: bool = Field(default=False, description="true: the authority makes the keys, too.")


class CmpSource(Section):
    """For kind = "cmp": an authority that speaks CMP (RFC 9483) over HTTP."""

    url: Url = Field(description='Its address, such as "http://ca.bank.example/pkix/".')
    trusted: AbsolutePath = Field(
        description="Certificates that may have signed its answers: its own, or its authority's, PEM."
    )
    reference: str = Field(default="", max_length=200, description="Reference value of a shared secret.")
    secret_file: Secret = Field(default="", description="File with the shared secret.")
    client_certificate: OptionalPath = Field(
        default="", description="In place of a secret: the certificate that signs requests, PEM."
    )
    client_key: OptionalPath = Field(default="", description="Its private key, PEM.")
    ca_file: OptionalPath = Field(default="", description="For https: authorities that vouch for it, PEM.")


class EmbeddedSource(Section):
    """For kind = "embedded": mailsigil's own authority on this machine."""

    folder: AbsolutePath = Field(description="Folder of the authority (mailsigil ca init).")


class TokenStore(Section):
    """For key_store = "pkcs11": keys are made on an HSM or token, and never leave it."""

    module: AbsolutePath = Field(description="The maker's PKCS#11 library.")
    token: str = Field(min_length=1, max_length=32, description="Label of the token.")
    pin_file: Secret = Field(
        min_length=1,
        description='File with the user PIN, or "credential:NAME". A wrong PIN is tried once, and not again'
        " before this file changes.",
    )


class EnrolmentSettings(Section):
    """Keys that are made and certified on demand: of "est", "cmp", "embedded" and the pki engines."""

    state: OptionalPath = Field(
        default="",
        description="Folder for enrolled keys, so that a restart does not enrol again; the key agent's user"
        " alone may read it. Empty: a folder of the source's name in /var/lib/mailsigil/keyd.",
    )
    key: KeyKindName = Field(
        default="p256",
        description="The kind of key that is made, unless the authority tells (EST) that it wants another.",
    )
    key_store: Literal["files", "pkcs11", "transit"] = Field(
        default="files",
        description='Where keys are made and stay: "files" of the state folder; "pkcs11": on a token, with a'
        ' section [source.token]; "transit": in OpenBao, with a section [source.transit]. The state folder'
        " then holds certificates alone.",
    )
    on_demand: bool = Field(
        default=True,
        description="true: whoever's mail is to be signed gets a certificate. false: renew what there is,"
        " and no more.",
    )
    new_per_hour: int = Field(
        default=1000,
        ge=0,
        le=1_000_000,
        description="Addresses that each process of the key agent has certified for the first time within an"
        ' hour, at most: a client that may send as "*@" a domain makes addresses up. Who comes later waits,'
        " and the log says so. 0: any number. Under [lifecycle] the directory knows who there is.",
    )
    renew_days: int = Field(
        default=30, ge=0, le=1000, description="Days before its end that a certificate is renewed."
    )
    decrypt_days: float = Field(
        default=3650.0,
        ge=0,
        le=36_500,
        description="Days that a key which others may encrypt to is kept after its certificate was replaced,"
        " was revoked or ran out: to decrypt mail, and never to sign. 0: it is not kept.",
    )
    level: Literal["V1", "V3"] = Field(
        default="V1", description='What to ask for: "V1", or "V3" with "organisation".'
    )
    organisation: str = Field(default="", max_length=64, description="Organisation to ask for.")


class SourceSettings(Section):
    """Keys and certificates of some mail domains that come from elsewhere than the folder of [keyd].

    There may be several, also for the same domain: then the sender has a certificate of each. After the
    general settings follows the section of its kind.
    """

    name: SourceName = Field(description="A name for logs and messages.")
    kind: Kind = Field(
        description='"folder", "pkcs11", "openbao", "est", "cmp" or "embedded"; a section of this name'
        " follows."
    )
    domains: List[MailDomain] = Field(
        min_length=1, description="Mail domains whose keys are there. Others never wait for this source."
    )
    domain_certificate: bool = Field(
        default=False,
        description="true: a certificate of the domain itself may sign for each of its senders.",
    )
    domain_mailbox: Mailbox = Field(
        default="domain-signing-authority",
        description="Local part of the address that such a certificate names (RFC 3183).",
    )
    timeout: float = Field(
        default=2.0, gt=0, le=60, description="Seconds for one answer; keep it below that of [keyd]."
    )
    failures: int = Field(
        default=3, ge=1, le=100, description="Failures in a row after which the source is left alone."
    )
    pause_seconds: float = Field(
        default=15.0,
        ge=0,
        le=3600,
        description="So long it is left alone, before one request tries it again.",
    )
    key_seconds: float = Field(
        default=3600.0,
        ge=1,
        le=604_800,
        description="Seconds that what the source told, and a key that it gave, are kept in memory.",
    )
    stale_seconds: float = Field(
        default=14_400.0,
        ge=0,
        le=604_800,
        description="Seconds beyond key_seconds that they serve while the source does not answer.",
    )
    known_addresses: OptionalPath = Field(
        default="",
        description="File in which the processes of the key agent tell each other whom they asked this source"
        " for, so that all of them go on signing when it is away. Addresses alone stand there. Empty: one in"
        " the state folder, or of its name in /var/lib/mailsigil/keyd, where that folder is.",
    )
    when_silent: Literal["wait", "others"] = Field(
        default="wait",
        description="Where another source has keys for the same sender, and this one does not answer, or"
        ' answers wrongly, and nothing is known from before: "wait": no other key signs in its place, and'
        ' mail that must be signed waits (451); "others": theirs sign, and the log names this source.',
    )
    folder: FolderSource | None = None
    pkcs11: Pkcs11Source | None = None
    openbao: OpenBaoSource | None = None
    est: EstSource | None = None
    cmp: CmpSource | None = None
    embedded: EmbeddedSource | None = None
    enrolment: EnrolmentSettings | None = None
    token: TokenStore | None = None
    transit: TransitStore | None = None

    @property
    def issues(self) -> bool:
        """The source certifies keys, in place of holding them."""
        if self.openbao is not None:
            return self.openbao.issues
        return self.kind in ("est", "cmp", "embedded")

    @model_validator(mode="after")
    def _fits_together(self) -> SourceSettings:
        problem = _problem(self) or _login_problem(self)
        if problem:
            raise ValueError(problem)
        return self


KINDS: Final = ("folder", "pkcs11", "openbao", "est", "cmp", "embedded")


def _problem(source: SourceSettings) -> str:
    """What cannot be meant, as a sentence; empty where all is well."""
    given = [kind for kind in KINDS if getattr(source, kind) is not None]
    if source.kind not in given:
        return f'kind = "{source.kind}" needs its settings in a section [source.{source.kind}] below'
    for kind in given:
        if kind != source.kind:
            return f'the section [source.{kind}] does not belong to kind = "{source.kind}"'
    if source.enrolment is not None:
        if not source.issues:
            return "the section [source.enrolment] is for sources that certify keys, and this one holds them"
        if (source.enrolment.level == "V3") != bool(source.enrolment.organisation):
            return '"organisation" and level = "V3" belong together'
    return _store_problem(source)


def _store_problem(source: SourceSettings) -> str:
    """What the place of keys lacks; empty where all is well."""
    store = source.enrolment.key_store if source.enrolment is not None else "files"
    for name, section, given in (("pkcs11", "token", source.token), ("transit", "transit", source.transit)):
        if store == name and given is None:
            return f'key_store = "{name}" needs its settings in a section [source.{section}] below'
        if store != name and given is not None:
            return f'the section [source.{section}] is for key_store = "{name}" of [source.enrolment]'
    made_there = source.est is not None and source.est.server_keygen
    if store != "files" and (made_there or (source.openbao and source.openbao.engine == "pki-issue")):
        return f'key_store = "{store}" makes the keys itself: have the authority make none'
    return source.transit.problem() if source.transit is not None else ""


def _login_problem(source: SourceSettings) -> str:
    """What a login lacks; empty where all is well."""
    if source.openbao is not None:
        return source.openbao.problem()
    login = source.est or source.cmp
    if login is not None and bool(login.client_certificate) != bool(login.client_key):
        return '"client_certificate" and "client_key" belong together'
    if source.est is not None:
        if not source.est.url.startswith("https:"):
            return "EST goes over https alone (RFC 7030 3.3)"
        if bool(source.est.username) != bool(source.est.password_file):
            return '"username" and "password_file" belong together'
    if source.cmp is not None:
        if bool(source.cmp.reference) != bool(source.cmp.secret_file):
            return '"reference" and "secret_file" belong together'
        if bool(source.cmp.reference) == bool(source.cmp.client_certificate):
            return '[source.cmp] needs either "reference" with "secret_file", or "client_certificate"'
    return ""
