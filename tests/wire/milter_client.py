"""A small milter host: speaks the milter protocol as Postfix does, to test the real server process.

Byte-exact on purpose: what is put in as a header value goes over the wire unchanged, and what comes back
is kept as the packets that came.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from dataclasses import dataclass, field

# Actions (SMFIF_*) and protocol steps (SMFIP_*) that Postfix 3 offers.
ADDHDRS, CHGBODY, CHGHDRS, SETSYMLIST = 0x01, 0x02, 0x10, 0x100
POSTFIX_ACTIONS = 0x1FF
HDR_LEADSPC = 0x100000
NR_HDR, NR_CONN, NR_MAIL, NR_RCPT, NR_EOH, NR_BODY = 0x80, 0x1000, 0x4000, 0x8000, 0x40000, 0x80000
NOHELO, NOUNKNOWN, NODATA = 0x02, 0x100, 0x200
POSTFIX_STEPS = 0x1FFFFF

_SILENT_BITS = {
    b"C": NR_CONN,
    b"M": NR_MAIL,
    b"R": NR_RCPT,
    b"L": NR_HDR,
    b"N": NR_EOH,
    b"B": NR_BODY,
}


class HostError(Exception):
    """The milter closed the connection or broke the protocol."""


@dataclass
class Answer:
    """What came back at the end of a message."""

    verdict: bytes = b""
    """The final packet's command letter: c continue, a accept, t tempfail, r reject, y reply code."""
    reply: bytes = b""
    inserted: list[tuple[int, bytes, bytes]] = field(default_factory=list)
    added: list[tuple[bytes, bytes]] = field(default_factory=list)
    changed: list[tuple[int, bytes, bytes]] = field(default_factory=list)
    edits: list[bytes] = field(default_factory=list)
    """Command letters of the edits in the order they came."""
    body: bytes | None = None


class MilterClient:
    """One connection to a milter."""

    def __init__(
        self,
        address: str | tuple[str, int],
        *,
        actions: int = POSTFIX_ACTIONS,
        steps: int = POSTFIX_STEPS,
        timeout: float = 20.0,
    ) -> None:
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        self.sock.settimeout(timeout)
        self.sock.connect(address)
        self._buffer = b""
        self._offer = (actions, steps)
        self.actions = 0
        self.steps = 0
        self.macros: dict[int, bytes] = {}

    def __enter__(self) -> MilterClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Packets

    def send(self, command: bytes, payload: bytes = b"") -> None:
        self.sock.sendall(struct.pack("!I", len(payload) + 1) + command + payload)

    def receive(self) -> tuple[bytes, bytes]:
        size = struct.unpack("!I", self._exactly(4))[0]
        packet = self._exactly(size)
        return packet[:1], packet[1:]

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            data = self.sock.recv(262144)
            if not data:
                raise HostError("the milter closed the connection")
            self._buffer += data
        head, self._buffer = self._buffer[:size], self._buffer[size:]
        return head

    # Conversation

    def negotiate(self) -> MilterClient:
        self.send(b"O", struct.pack("!III", 6, *self._offer))
        command, payload = self.receive()
        if command != b"O":
            raise HostError(f"expected the answer to the offer, got {command!r}")
        _, self.actions, self.steps = struct.unpack("!III", payload[:12])
        rest = payload[12:]
        while rest:
            stage = struct.unpack("!I", rest[:4])[0]
            names, _, rest = rest[4:].partition(b"\0")
            self.macros[stage] = names
        return self

    def macro(self, stage: bytes, **values: str) -> None:
        """Macro values for a stage; ``i`` stays as it is, longer names get their braces."""
        payload = b"".join(
            (name if len(name) == 1 else f"{{{name}}}").encode()
            + b"\0"
            + value.encode("utf-8", "surrogateescape")
            + b"\0"
            for name, value in values.items()
        )
        self.send(b"D", stage + payload)

    def step(self, command: bytes, payload: bytes) -> bytes:
        """One step; the answer's letter, or an empty one where none was negotiated."""
        self.send(command, payload)
        if self.steps & _SILENT_BITS[command]:
            return b""
        return self.receive()[0]

    def connect(
        self, host: str = "client.example", address: str = "192.0.2.7", **macros: str
    ) -> MilterClient:
        self.negotiate()
        if macros:
            self.macro(b"C", **macros)
        family = b"6" if ":" in address else b"4"
        self.step(b"C", host.encode() + b"\0" + family + struct.pack("!H", 4711) + address.encode() + b"\0")
        return self

    def envelope(self, sender: bytes, *recipients: bytes, **macros: str) -> None:
        if macros:
            self.macro(b"M", **macros)
        self.step(b"M", b"<" + sender + b">\0")
        for recipient in recipients:
            self.step(b"R", b"<" + recipient + b">\0")

    def header(self, name: bytes, value: bytes) -> None:
        self.step(b"L", name + b"\0" + value + b"\0")

    def body(self, data: bytes, size: int = 65535) -> None:
        self.step(b"N", b"")
        for start in range(0, len(data), size):
            self.step(b"B", data[start : start + size])

    def end(self, queue_id: str = "4XyZ12") -> Answer:
        self.macro(b"E", i=queue_id)
        self.send(b"E")
        answer = Answer()
        parts: list[bytes] = []
        while True:
            command, payload = self.receive()
            if command == b"i":
                name, value = payload[4:].split(b"\0")[:2]
                answer.inserted.append((struct.unpack("!I", payload[:4])[0], name, value))
            elif command == b"h":
                name, value = payload.split(b"\0")[:2]
                answer.added.append((name, value))
            elif command == b"m":
                name, value = payload[4:].split(b"\0")[:2]
                answer.changed.append((struct.unpack("!I", payload[:4])[0], name, value))
            elif command == b"b":
                parts.append(payload)
            elif command != b"p":
                answer.verdict, answer.reply = command, payload.rstrip(b"\0")
                break
            answer.edits.append(command)
        if b"b" in answer.edits:
            answer.body = b"".join(parts)
        return answer

    def message(
        self,
        fields: list[tuple[bytes, bytes]],
        body: bytes,
        *,
        sender: bytes = b"alice@bank.example",
        recipients: tuple[bytes, ...] = (b"bob@shop.example",),
        queue_id: str = "4XyZ12",
        **macros: str,
    ) -> Answer:
        """A whole message."""
        self.envelope(sender, *recipients, **macros)
        for name, value in fields:
            self.header(name, value)
        self.body(body)
        return self.end(queue_id)

    def abort(self) -> None:
        self.send(b"A")

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.send(b"Q")
        self.sock.close()
