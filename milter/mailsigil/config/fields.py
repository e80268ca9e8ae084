"""Kinds of values that settings have beyond what TOML knows, each with a sentence for what is none."""

from __future__ import annotations

import re
from ipaddress import ip_address, ip_network
from pathlib import PurePosixPath
from socket import gethostname
from typing import Annotated, Final, TypeVar

from pydantic import AfterValidator, Strict

from mailsigil.config.sockets import parse_socket

T = TypeVar("T")

List = Annotated[tuple[T, ...], Strict(False)]
"""A list of TOML, as a tuple. Its elements stay strict."""

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?")
_HOST_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,253}[A-Za-z0-9])?")
_OID: Final = re.compile(r"[0-2](\.(0|[1-9][0-9]{0,39})){1,20}")
_DOMAIN: Final = re.compile(r"(\*\.)?[a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9_])?")


def _absolute(text: str) -> str:
    if not PurePosixPath(text).is_absolute() or "\0" in text:
        raise ValueError(f'a path must begin with "/", and "{text}" does not')
    return text


def _network(text: str) -> str:
    try:
        ip_network(text)
    except ValueError as error:
        try:
            meant = ip_network(text, strict=False)
        except ValueError:
            raise ValueError(
                f'"{text}" is no network; write one like "192.0.2.0/24", "192.0.2.10" or "2001:db8::/32"'
            ) from error
        raise ValueError(f'"{text}" names a host inside a network; did you mean "{meant}"?') from error
    return text


def _address(text: str) -> str:
    try:
        ip_address(text)
    except ValueError as error:
        raise ValueError(f'"{text}" is no IP address; write one like "192.0.2.53"') from error
    return text


def _mode(text: str) -> str:
    if not re.fullmatch(r"0?[0-7]{3}", text):
        raise ValueError(f'"{text}" is no file mode; write one like "0660"')
    return text


def _user(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError(f'"{text}" is no name of a user or group')
    return text


def _host_name(text: str) -> str:
    text = text or gethostname()
    # RFC 8601 2.2 allows more, but a name that mail programs compare wants no surprises.
    if not _HOST_NAME.fullmatch(text):
        raise ValueError(f'"{text}" is no host name; write one like "mx.example.com"')
    return text


def _oid(text: str) -> str:
    if not _OID.fullmatch(text):
        raise ValueError(f'"{text}" is no object identifier; write one like "1.3.6.1.4.1.99999.1"')
    return text


def _trust_domain(text: str) -> str:
    if not _DOMAIN.fullmatch(text):
        raise ValueError(
            f'"{text}" is no mail domain; write it in lower case and in A-labels, like "bank.example" or,'
            ' for the domains below it, "*.bank.example"'
        )
    return text


def _socket(text: str) -> str:
    parse_socket(text)
    return text


AbsolutePath = Annotated[str, AfterValidator(_absolute)]
Network = Annotated[str, AfterValidator(_network)]
IpAddress = Annotated[str, AfterValidator(_address)]
FileMode = Annotated[str, AfterValidator(_mode)]
UserName = Annotated[str, AfterValidator(_user)]
HostName = Annotated[str, AfterValidator(_host_name)]
"""An empty one becomes the name of the machine."""
Oid = Annotated[str, AfterValidator(_oid)]
TrustDomain = Annotated[str, AfterValidator(_trust_domain)]
Socket = Annotated[str, AfterValidator(_socket)]
OptionalPath = Annotated[str, AfterValidator(lambda text: text and _absolute(text))]
OptionalUser = Annotated[str, AfterValidator(lambda text: text and _user(text))]
