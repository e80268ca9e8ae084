"""The settings of the embedded authority: ``ca.toml`` in its folder."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from mailsigil.config.fields import HostName, List, OptionalPath, UserName
from mailsigil.config.section import Section

SETTINGS_FILE: Final = "ca.toml"

_PATTERN: Final = re.compile(r"(\*|[^\s@*\"<>]{1,64})@(\*\.)?[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")


def _listen(text: str) -> str:
    host, _, port = text.rpartition(":")
    try:
        ip_address(host.strip("[]"))
        if not 0 <= int(port) <= 65535:
            raise ValueError
    except ValueError:
        raise ValueError(f'"{text}" is no address to listen on; write one like "127.0.0.1:8443"') from None
    return text


def _publish_url(text: str) -> str:
    if not text:
        return ""
    try:
        parts = urlsplit(text)
        usable = (
            parts.hostname and (parts.port or 1) and not (parts.query or parts.fragment or parts.username)
        )
    except ValueError:
        usable = False
    # RFC 5280 4.2.1.13: over https a verifier would have to verify a certificate to verify a certificate.
    if not usable or parts.scheme != "http" or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError(f'"{text}" is no place to publish at; write one like "http://pki.bank.example"')
    return text.rstrip("/")


def _pattern(text: str) -> str:
    if not _PATTERN.fullmatch(text):
        raise ValueError(
            f'"{text}" is no address to enrol; write one like "alice@bank.example", "*@bank.example" or'
            ' "*@*.bank.example"'
        )
    return text


Listen = Annotated[str, AfterValidator(_listen)]
PublishUrl = Annotated[str, AfterValidator(_publish_url)]
AddressPattern = Annotated[str, AfterValidator(_pattern)]
LevelName = Literal["V1", "V2", "V3", "V4"]


class PublishSettings(Section):
    """Where relying parties look up what was revoked; it stands in every certificate issued from then on."""

    url: PublishUrl = Field(
        default="",
        description='Where "mailsigil ca serve", or a web server in front of it, is found by others, such as'
        ' "http://pki.bank.example". Empty: certificates say nothing about it.',
    )
    listen: Listen = Field(
        default="127.0.0.1:8080",
        description="Address and port for revocation lists and OCSP, in plain HTTP: what is answered there is"
        " signed.",
    )
    crl_days: int = Field(default=7, ge=1, le=400, description="Days until the next revocation list is due.")
    ocsp_hours: int = Field(default=12, ge=1, le=2400, description="Hours that an OCSP answer may be kept.")


class EstSettings(Section):
    """The EST server (RFC 7030), in HTTPS."""

    listen: Listen = Field(default="127.0.0.1:8443", description="Address and port.")
    names: List[HostName] = Field(
        default=("localhost",),
        min_length=1,
        max_length=20,
        description="Names and IP addresses by which clients know it; they go into its TLS certificate, which"
        " this authority issues.",
    )
    days: int = Field(default=365, ge=1, le=1185, description="Life of a certificate that is enrolled.")
    server_keygen: Literal["", "p256", "p384", "rsa2048", "rsa3072", "rsa4096"] = Field(
        default="", description="The kind of key that the server makes when asked to. Empty: it makes none."
    )
    retry_seconds: int = Field(
        default=300,
        ge=1,
        le=86_400,
        description="Seconds after which a client asks again, whose request waits for approval.",
    )
    passwords: OptionalPath = Field(
        default="",
        description='File with hashed passwords (mailsigil ca password). Empty: "passwords" in this folder.',
    )


class ServeLimits(Section):
    """Bounds on clients."""

    connections: int = Field(default=64, ge=1, le=1000, description="Connections at a time, for each port.")
    seconds: float = Field(default=10.0, gt=0, le=300, description="Seconds for one request altogether.")
    idle_seconds: float = Field(
        default=15.0, gt=0, le=300, description="Seconds for the next request to begin."
    )
    request_bytes: int = Field(default=65_536, ge=4096, le=1_048_576, description="Octets of one request.")
    failed_logins: int = Field(
        default=10, ge=1, le=1000, description="Wrong passwords from one address in a minute."
    )


class EnrolRule(Section):
    """Who may enrol for whom. There may be several, also for one user; the first that fits decides."""

    user: UserName = Field(description="The user, whose password is in the file of passwords.")
    addresses: List[AddressPattern] = Field(
        min_length=1,
        description='Addresses: "alice@bank.example", "*@bank.example", or "*@*.bank.example" for the domains'
        " below.",
    )
    levels: List[LevelName] = Field(
        default=("V1",), min_length=1, description='Levels: any of "V1", "V2", "V3" and "V4".'
    )
    organisation: str = Field(
        default="", max_length=64, description="The organisation that V3 and V4 certificates name."
    )
    given_name: str = Field(default="", max_length=64, description="The person's given name, for V2 and V4.")
    surname: str = Field(
        default="", max_length=64, description="The person's surname, together with given_name."
    )
    title: str = Field(default="", max_length=64, description="The person's title, for V2 and V4.")
    approval: Literal["none", "required"] = Field(
        default="none",
        description='"required": a person decides each request (mailsigil ca pending); the client is told to'
        " ask again until then. Renewals with a certificate need none.",
    )
    names_from_request: bool = Field(
        default=False,
        description="true: a person's names and title are taken from the request, because this user has"
        " checked them; a personnel office, or a key agent that knows the directory.",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> EnrolRule:
        problem = self._problem()
        if problem:
            raise ValueError(problem)
        return self

    def _problem(self) -> str:
        if bool(self.given_name) != bool(self.surname):
            return '"given_name" and "surname" belong together'
        if self.names_from_request and (self.given_name or self.title):
            return 'with "names_from_request" leave out "given_name", "surname" and "title"'
        if {"V3", "V4"} & set(self.levels) and not self.organisation:
            return 'V3 and V4 need "organisation"'
        person = self.given_name or self.names_from_request
        if {"V2", "V4"} & set(self.levels) and not person:
            return 'V2 and V4 need "given_name" and "surname", or "names_from_request"'
        return ""


class AuthoritySettings(Section):
    """All settings of the embedded authority."""

    publish: PublishSettings = PublishSettings()
    est: EstSettings = EstSettings()
    limits: ServeLimits = ServeLimits()
    enrol: List[EnrolRule] = ()
