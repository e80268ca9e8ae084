"""Addresses of sockets as Postfix writes them: ``unix:PATH``, ``inet:HOST:PORT``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_address
from typing import Final

MAX_UNIX_PATH: Final = 107
"""Octets that Linux allows for the path of a socket, without the final NUL."""


class SocketFamily(Enum):
    """The families of sockets, in libmilter's words."""

    UNIX = "unix"
    INET = "inet"
    INET6 = "inet6"


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketAddress:
    """Where a server listens."""

    family: SocketFamily
    path: str = ""
    host: str = ""
    port: int = 0

    @property
    def libmilter(self) -> str:
        """The form that libmilter reads: ``unix:PATH``, ``inet:PORT@HOST``."""
        if self.family is SocketFamily.UNIX:
            return f"unix:{self.path}"
        return f"{self.family.value}:{self.port}@{self.host}"


def parse_socket(text: str) -> SocketAddress:
    """Read an address; raises ``ValueError`` with a sentence."""
    family, _, rest = text.partition(":")
    if family == "unix":
        return _unix(rest)
    match = re.fullmatch(r"\[([^]]*)\]:([0-9]{1,5})|([^:]*):([0-9]{1,5})", rest)
    if family not in {"inet", "inet6"} or not match:
        raise ValueError(f'"{text}" is no socket; write "unix:/path/to/socket" or "inet:127.0.0.1:8891"')
    host, port = match[1] or match[3] or "", int(match[2] or match[4])
    try:
        version = ip_address(host).version
    except ValueError as error:
        raise ValueError(f'"{host}" is no IP address to listen on; write one like "127.0.0.1"') from error
    if not 0 < port < 65536:
        raise ValueError(f"the port must lie between 1 and 65535, and is {port}")
    return SocketAddress(
        family=SocketFamily.INET if version == 4 else SocketFamily.INET6, host=host, port=port
    )


def _unix(path: str) -> SocketAddress:
    if not path.startswith("/"):
        raise ValueError(f'the path of a unix socket must begin with "/", and "{path}" does not')
    if len(path.encode()) > MAX_UNIX_PATH:
        raise ValueError(f"the path of a unix socket may have at most {MAX_UNIX_PATH} octets")
    return SocketAddress(family=SocketFamily.UNIX, path=path)
