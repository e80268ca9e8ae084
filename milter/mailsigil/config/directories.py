"""The settings of ``[[directory]]``: an LDAP directory that knows who sends mail."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, Field, model_validator

from mailsigil.config.fields import List, OptionalPath
from mailsigil.config.section import Section

LDAP_PORT: Final = 389
LDAPS_PORT: Final = 636

_SERVER: Final = re.compile(r"(ldap|ldaps)://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?/?")
_LDAPI: Final = re.compile(r"ldapi://(%2[fF][^/?#]+)/?")
_ATTRIBUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}|[0-2](\.[0-9]{1,40}){1,20}")
_DOMAIN: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_CREDENTIAL: Final = re.compile(r"[A-Za-z0-9_.@:-]{1,200}")


def _server(text: str) -> str:
    if not (_SERVER.fullmatch(text) or _LDAPI.fullmatch(text)):
        raise ValueError(
            f'"{text}" is no LDAP server; write one like "ldaps://ldap.bank.example",'
            ' "ldap://ldap.bank.example:389" or "ldapi://%2Frun%2Fslapd%2Fldapi"'
        )
    return text


def _attribute(text: str) -> str:
    if not _ATTRIBUTE.fullmatch(text):
        raise ValueError(f'"{text}" is no attribute name')
    return text


def _filter(text: str) -> str:
    depth = 0
    for letter in re.sub(r"\\[0-9A-Fa-f]{2}", "", text):
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if depth < 0:
            break
    if text and (depth != 0 or not text.startswith("(") or not text.endswith(")") or "\0" in text):
        raise ValueError(f'"{text}" is no LDAP filter; write one like "(objectClass=inetOrgPerson)"')
    return text


def _dn(text: str) -> str:
    if text and ("=" not in text or not text.isprintable()):
        raise ValueError(f'"{text}" is no distinguished name; write one like "ou=people,dc=bank,dc=example"')
    return text


def _credential(text: str) -> str:
    if text and not _CREDENTIAL.fullmatch(text):
        raise ValueError(f'"{text}" is no name of a systemd credential')
    return text


def _domain(text: str) -> str:
    if not _DOMAIN.fullmatch(text):
        raise ValueError(
            f'"{text}" is no mail domain; write it in lower case and in A-labels, like "bank.example"'
        )
    return text


LdapServer = Annotated[str, AfterValidator(_server)]
MailDomain = Annotated[str, AfterValidator(_domain)]
AttributeName = Annotated[str, AfterValidator(_attribute)]
LdapFilter = Annotated[str, AfterValidator(_filter)]
Dn = Annotated[str, AfterValidator(_dn)]
CredentialName = Annotated[str, AfterValidator(_credential)]

Role = Literal[
    "address",
    "alias",
    "login",
    "name",
    "given_name",
    "surname",
    "title",
    "company",
    "member_of",
    "group_member",
    "send_as",
    "delegates",
    "validated_level",
    "validated_by",
    "validated_until",
    "domain",
    "organisation_valid_until",
    "key_service",
]
"""What an attribute is for."""


class DirectorySettings(Section):
    """An LDAP directory that says who sends mail for some domains, and which policy applies to them.

    There may be several, each for domains of its own. People of other domains are looked up in the policy
    file, whose [default], [[domain]] and [[group]] entries apply beside those of the directory.
    """

    name: str = Field(min_length=1, max_length=100, description="A name for logs and messages.")
    domains: List[MailDomain] = Field(
        min_length=1,
        description="Mail domains that this directory speaks for. What it says of other domains is ignored.",
    )
    profile: Literal["openldap", "active-directory"] = Field(
        description='Which attributes and classes it uses: "openldap" (inetOrgPerson, groupOfNames) or'
        ' "active-directory".'
    )
    servers: List[LdapServer] = Field(
        min_length=1,
        description='Its servers, the preferred one first: "ldaps://HOST", "ldap://HOST" (with StartTLS) or'
        ' "ldapi://%2Fpath%2Fof%2Fsocket". Where one fails, the next is asked.',
    )
    encryption: Literal["required", "none"] = Field(
        default="required",
        description='"required": ldaps or StartTLS, certificates verified. "none": plain ldap, to loopback'
        " addresses only.",
    )
    ca_file: OptionalPath = Field(
        default="", description="Authorities that vouch for the servers, PEM. Empty: those of the system."
    )
    bind: Literal["anonymous", "simple", "external"] = Field(
        default="anonymous",
        description='How to log in: "anonymous", "simple" (bind_dn and a password) or "external" (SASL'
        " EXTERNAL: the user of the process through ldapi, or a client certificate through TLS).",
    )
    bind_dn: Dn = Field(default="", description="Whom a simple bind logs in.")
    password_file: OptionalPath = Field(
        default="", description="File with the password, readable by the milter's user alone."
    )
    password_credential: CredentialName = Field(
        default="", description="In place of a file: the name of a systemd credential (LoadCredential=)."
    )
    client_certificate: OptionalPath = Field(
        default="", description='Client certificate for bind = "external" through TLS, PEM.'
    )
    client_key: OptionalPath = Field(default="", description="Its private key, PEM.")
    people_base: Dn = Field(min_length=1, description="Where people are.")
    group_base: Dn = Field(default="", description="Where groups are. Empty: as people_base.")
    policy_base: Dn = Field(
        default="",
        description="Where policy and organisation entries are (see policies/README.md). Empty: there are"
        " none, and the policy file says all.",
    )
    people_filter: LdapFilter = Field(
        default="", description="Which entries are people, as an LDAP filter. Empty: as the profile has it."
    )
    group_filter: LdapFilter = Field(
        default="", description="Which entries are groups. Empty: as the profile has it."
    )
    attributes: dict[Role, List[AttributeName]] = Field(
        default={},
        description='Attributes that differ from the profile, such as { login = ["uid", "mail"] }. An empty'
        " list: there is none.",
    )
    require_validation: bool = Field(
        default=False,
        description="true: who is not recorded as validated signs V1 only, even where no organisation entry"
        " covers the domain.",
    )
    bare_logins: bool = Field(
        default=False,
        description="true: login names without a domain belong to this directory. With one directory that is"
        " so anyway.",
    )
    timeout: float = Field(
        default=3.0, gt=0, le=60, description="Seconds for one answer where no other server is left to ask."
    )
    failover_seconds: float = Field(
        default=0.4, gt=0, le=60, description="Seconds for one answer before the next server is asked."
    )
    connections: int = Field(
        default=4, ge=1, le=100, description="Most connections that one process keeps to one server."
    )
    cache_seconds: float = Field(
        default=60.0,
        ge=0,
        le=86_400,
        description="Seconds that an answer is used again. Disabled people sign for that long.",
    )
    negative_seconds: float = Field(
        default=30.0,
        ge=0,
        le=86_400,
        description="Seconds for which nobody is asked about an unknown sender.",
    )
    grace_seconds: float = Field(
        default=3600.0,
        ge=0,
        le=604_800,
        description="Seconds beyond cache_seconds that the last answer serves while no server answers. Then"
        " mail is deferred.",
    )
    sample_sender: str = Field(
        default="", max_length=320, description="An address that `mailsigil check` looks up. Empty: none."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> DirectorySettings:
        problem = _problem(self)
        if problem:
            raise ValueError(problem)
        return self


def _problem(settings: DirectorySettings) -> str:
    """What cannot be meant, as a sentence; empty where all is well."""
    simple = settings.bind == "simple"
    secrets = bool(settings.password_file) + bool(settings.password_credential)
    if simple and not (settings.bind_dn and secrets == 1):
        return 'bind = "simple" needs "bind_dn" and either "password_file" or "password_credential"'
    if not simple and (settings.bind_dn or secrets):
        return f'"bind_dn" and passwords are for bind = "simple", and it is "{settings.bind}"'
    if bool(settings.client_certificate) != bool(settings.client_key):
        return '"client_certificate" and "client_key" belong together'
    if settings.bind == "external" and not settings.client_certificate:
        over_tls = [server for server in settings.servers if not server.startswith("ldapi:")]
        if over_tls:
            return f'bind = "external" needs "client_certificate" for {over_tls[0]}'
    if settings.encryption == "none":
        for server in settings.servers:
            if not is_local(server):
                return f'encryption = "none" is for loopback addresses only, and {server} is none'
    return ""


def is_local(server: str) -> bool:
    """Tell whether a server is on this machine: ldapi, or a loopback address."""
    parts = urlsplit(server)
    return parts.scheme == "ldapi" or parts.hostname in {"localhost", "127.0.0.1", "::1"}


def ldapi_path(server: str) -> str:
    """Give the socket of an ``ldapi://`` server."""
    return unquote(server.removeprefix("ldapi://").rstrip("/"))
