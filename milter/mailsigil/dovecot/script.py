"""The conversation of Dovecot's Sieve with a filter on a unix socket (sieve_filter_socket_dir).

The request: ``VERSION<TAB>script<TAB>MAJOR<TAB>MINOR``, lines ``env_NAME=value``, a line ``-``, the script's
arguments, an empty line; then the message, up to the end of what is sent. The answer: the new message and a
last line ``+``, or ``-`` alone. The protocol is not documented; versions 3 and 4 are those of Dovecot 2.3 and
2.4, and a test against each of them pins it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO, Final

from mailsigil.folding import fold
from mailsigil.message.fields import Field, parse_fields
from mailsigil.message.spool import Spool

DONE: Final = b"+\n"
FAILED: Final = b"-\n"
MAX_LINE: Final = 4096
MAX_LINES: Final = 64
MAX_HEADER: Final = 1_048_576
_CHUNK: Final = 65_536
_VERSIONS: Final = ("3", "4")


class ScriptError(ValueError):
    """What came is no request of this protocol, or beyond its bounds."""


@dataclass(frozen=True, slots=True)
class Mailbox:
    """For whom the message is. Dovecot says it, and not the message.

    The original recipient of the envelope is left out on purpose: the sender can choose it (ORCPT, RFC 3461
    4.2), and so have another user's mail decrypted into a mailbox of his own.
    """

    user: str
    recipient: str
    sender: str = ""
    """Of the envelope: who gets automatic answers; empty for none."""

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses whose keys may open the message, folded."""
        given = (fold(self.user), fold(self.recipient))
        return tuple(dict.fromkeys(address for address in given if "@" in address))


@dataclass(frozen=True, slots=True)
class Received:
    """A message as it came."""

    head: bytes
    """The header with the empty line behind it, octet by octet."""
    fields: tuple[Field, ...]
    body: Spool
    damage: str = ""


def read_mailbox(stream: BinaryIO) -> Mailbox:
    """Reads a request up to the message. Raises ScriptError."""
    version = _line(stream).split("\t")
    if version[:2] != ["VERSION", "script"] or len(version) != 4 or version[2] not in _VERSIONS:
        raise ScriptError("the request is of another protocol or version")
    environment: dict[str, str] = {}
    for _ in range(MAX_LINES):
        line = _line(stream)
        if line in ("-", "noreply"):
            break
        name, _, value = line.partition("=")
        environment.setdefault(name, value)
    else:
        raise ScriptError("the request has too many lines")
    if line == "noreply":
        raise ScriptError("the script wants no answer: call it as a filter")
    for _ in range(MAX_LINES):
        if not _line(stream):
            said = (environment.get(f"env_{name}", "") for name in ("USER", "RECIPIENT", "SENDER"))
            return Mailbox(*said)
    raise ScriptError("the request has too many arguments")


def read_received(stream: BinaryIO, spool: Spool, *, max_bytes: int) -> Received:
    """Reads the message. Raises ScriptError past ``max_bytes`` octets, or for an endless header."""
    head = b""
    while b"\r\n\r\n" not in head and (data := stream.read1(_CHUNK)):  # type: ignore[attr-defined]
        head += data
        if len(head) > MAX_HEADER:
            raise ScriptError(f"the header is larger than {MAX_HEADER} octets")
    fields, offset = parse_fields(head)
    data = head[offset:]
    while data:
        spool.write(data)
        if offset + len(spool) > max_bytes:
            raise ScriptError(f"the message is larger than {max_bytes} octets")
        data = stream.read(_CHUNK)
    separated = head[max(offset - 4, 0) : offset] == b"\r\n\r\n"
    damage = "" if separated else "the header ends at a line that is no field, without an empty line"
    return Received(head[:offset], fields, spool, damage)


def _line(stream: BinaryIO) -> str:
    line = stream.readline(MAX_LINE)
    if not line.endswith(b"\n"):
        raise ScriptError("a line of the request is cut off or too long")
    return _unescaped(line[:-1]).decode("utf-8", "replace")


# Dovecot escapes what would end a line or a field: \x01 followed by 0 1 t r n.
_ESCAPES: Final = {b"0": b"\0", b"1": b"\x01", b"t": b"\t", b"r": b"\r", b"n": b"\n"}


def _unescaped(line: bytes) -> bytes:
    first, *rest = line.split(b"\x01")
    return first + b"".join(_ESCAPES.get(piece[:1], b"") + piece[1:] for piece in rest)
