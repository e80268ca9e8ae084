"""The delivery filter: answers Dovecot's Sieve with the decrypted message, or says that it stays as it is.

Nothing is answered before everything is done, so a failure never leaves half a message behind.

On top of each message that goes back stands a field that says what became of it; the Sieve script makes a
keyword of the first such field and removes all of them, so that a sender's own count for nothing.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterable
from typing import BinaryIO, Final, cast

from mailsigil.delivery import Delivered, Delivery, DeliveryParts, deliver
from mailsigil.dovecot.script import (
    DONE,
    FAILED,
    Mailbox,
    Received,
    ScriptError,
    read_mailbox,
    read_received,
)
from mailsigil.message.fields import named
from mailsigil.message.spool import Spool

log = logging.getLogger("mailsigil.delivery")

IO_SECONDS: Final = 10.0
"""For each piece that is read or written."""
MARK: Final = b"Mailsigil-Decryption"
"""The field; its values are those of ``Delivered``."""
_SHOWN: Final = 120
_TROUBLE: Final = (Delivered.CLOSED, Delivered.UNAVAILABLE)


class DeliveryFilter:
    """Serves one message a connection. Safe to share between threads."""

    def __init__(
        self,
        parts: DeliveryParts,
        *,
        max_bytes: int,
        new_spool: Callable[[], Spool] = Spool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._parts = parts
        self._max_bytes = max_bytes
        self._new_spool = new_spool
        self._clock = clock

    def converse(self, connected: socket.socket) -> None:
        """Takes a message and answers. Raises OSError when the other side is gone or too slow."""
        connected.settimeout(IO_SECONDS)
        stream = cast(BinaryIO, connected.makefile("rb"))
        with stream, self._new_spool() as spool:
            try:
                mailbox = read_mailbox(stream)
                received = read_received(stream, spool, max_bytes=self._max_bytes)
            except ScriptError as error:
                log.warning("%s", error)
                # What was not read yet would make the answer a reset connection.
                _drain(stream)
                connected.sendall(FAILED)
                return
            self._answer(connected, mailbox, received)

    def _answer(self, connected: socket.socket, mailbox: Mailbox, received: Received) -> None:
        started = self._clock()
        try:
            delivery = deliver(
                received.fields,
                received.body,
                mailbox.addresses,
                self._parts,
                sender=mailbox.sender,
                damage=received.damage,
            )
        except Exception as error:
            # The one catch-all: the message is stored as it came, whatever happened here.
            log.exception("not decrypted user=%s: unexpected %s", _shown(mailbox.user), type(error).__name__)
            connected.sendall(FAILED)
            return
        try:
            _tell(mailbox, received, delivery, (self._clock() - started) * 1000)
            connected.sendall(b"%b: %b\r\n" % (MARK, delivery.outcome.value.encode("ascii")))
            opened = delivery.outcome is Delivered.DECRYPTED
            _send(connected, delivery.chunks() if opened else (received.head, *received.body.chunks()))
        finally:
            delivery.close()


def _send(connected: socket.socket, chunks: Iterable[bytes]) -> None:
    for chunk in chunks:
        connected.sendall(chunk)
    connected.sendall(DONE)


def _drain(stream: BinaryIO) -> None:
    while stream.read(65_536):
        pass


def _tell(mailbox: Mailbox, received: Received, delivery: Delivery, milliseconds: float) -> None:
    details = [("user", mailbox.user), ("message-id", _message_id(received)), ("reason", delivery.reason)]
    if delivery.plan is not None:
        details += delivery.plan.details
    text = " ".join(f"{name}={_shown(value)}" for name, value in details if value)
    level = logging.WARNING if delivery.outcome in _TROUBLE else logging.INFO
    log.log(level, "%s %s ms=%.0f", delivery.outcome.value, text, milliseconds)


def _message_id(received: Received) -> str:
    found = named(received.fields, b"message-id")
    return found[0].unfolded.decode("utf-8", "replace") if found else ""


def _shown(text: str) -> str:
    """A value from outside as one bounded word of the log."""
    word = "".join(c if c.isprintable() and not c.isspace() else "_" for c in text[:_SHOWN])
    return word or "-"
