"""Dovecot's post-login protocol (script-login, version 1), as bytes. It is the same in 2.3 and 2.4.

A request is ``VERSION\\tscript-login\\t1\\t0\\n`` and one line of fields between tabs: local address, remote
address, user, ``name=value`` and so on. The answer is one line: user, ``name=value`` and so on. It takes the
place of what the user database said, so the fields of the request are repeated in it. All this is internal
to Dovecot and not documented: tests hold it against each release.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

MAX_REQUEST: Final = 65_536
"""Octets of a request."""
MAX_FIELDS: Final = 512
_VERSION: Final = re.compile(rb"VERSION\tscript-login\t1\t[0-9]{1,5}")
_ESCAPED: Final = re.compile(rb"\x01(.?)", re.DOTALL)
_CODES: Final[Mapping[bytes, bytes]] = {b"0": b"\0", b"1": b"\x01", b"t": b"\t", b"r": b"\r", b"n": b"\n"}
_TO_ESCAPE: Final = re.compile(rb"[\0\x01\t\r\n]")
_LETTERS: Final = {octet: b"\x01" + letter for letter, octet in _CODES.items()}


class PostloginError(ValueError):
    """Bytes that do not follow the protocol."""


@dataclass(frozen=True, slots=True)
class PostloginRequest:
    """Who has logged in."""

    local: str
    remote: str
    user: str
    fields: Mapping[str, str]
    """By name; a field that is a name alone has an empty value."""
    said: tuple[str, ...] = ()
    """The same as they came."""

    @property
    def is_master(self) -> bool:
        """Somebody else logged in as this user: a master user, or one who was authorised to."""
        return any(self.fields.get(name) for name in ("master_user", "auth_user"))


def is_complete(data: bytes) -> bool:
    """Tells whether the request is there as a whole. Raises PostloginError when it is too long."""
    if len(data) > MAX_REQUEST:
        raise PostloginError(f"the request is longer than {MAX_REQUEST} octets")
    return data.count(b"\n") >= 2


def parse_request(data: bytes) -> PostloginRequest:
    """Reads a whole request. Raises PostloginError."""
    version, _, rest = data.partition(b"\n")
    if not _VERSION.fullmatch(version):
        raise PostloginError("the request is of another protocol, or of a version that is not known")
    line, end, more = rest.partition(b"\n")
    if not end or more:
        raise PostloginError("the request is not one line")
    parts = line.split(b"\t")
    if not 3 <= len(parts) <= MAX_FIELDS:
        raise PostloginError("the request has too few fields, or too many")
    local, remote, user, *others = (_unescape(part) for part in parts)
    if not user:
        raise PostloginError("the request names no user")
    fields: dict[str, str] = {}
    for other in others:
        name, _, value = other.partition("=")
        if name in fields:
            raise PostloginError("the request has a field twice")
        fields[name] = value
    return PostloginRequest(local, remote, user, fields, tuple(others))


def write_reply(request: PostloginRequest, fields: Sequence[tuple[str, str]]) -> bytes:
    """Writes the answer that lets a user in, with further fields for the mail process."""
    ours = {name for name, _ in fields}
    kept = (each for each in request.said if each.partition("=")[0] not in ours)
    parts = [request.user, *kept, *(f"{name}={value}" for name, value in fields)]
    return b"\t".join(_escape(part) for part in parts) + b"\n"


def _escape(text: str) -> bytes:
    raw = text.encode("utf-8", "surrogateescape")
    return _TO_ESCAPE.sub(lambda match: _LETTERS[match[0]], raw)


def _unescape(data: bytes) -> str:
    if b"\0" in data or b"\r" in data:
        raise PostloginError("the request has octets that have to be escaped")

    def plain(match: re.Match[bytes]) -> bytes:
        if match[1] not in _CODES:
            raise PostloginError("the request has an escape that is not known")
        return _CODES[match[1]]

    return _ESCAPED.sub(plain, data).decode("utf-8", "surrogateescape")
