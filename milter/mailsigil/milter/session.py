"""What one SMTP session has told the milter so far, and the message being collected. No protocol, no I/O.

One thread at a time uses a session; the handler is shared by all of a worker's threads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from mailsigil.message.fields import Field
from mailsigil.message.spool import Spool
from mailsigil.plan import Envelope, Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLimits:
    """Bounds on what is kept of one message. Zero octets of message means no bound of ours."""

    header_fields: int = 1000
    header_bytes: int = 262144
    message_bytes: int = 0
    """Header and body together."""
    recipients: int = 50_000
    memory_bytes: int = 262144
    """Octets of body in memory; more goes to an unlinked file."""
    spool_directory: str = ""
    """Where that file is made; empty for the system's folder for temporary files."""


class Handler(Protocol):
    """Decides about one message. Called by several threads at once."""

    def handle(
        self, envelope: Envelope, fields: tuple[Field, ...], body: Spool, *, over_limit: str = ""
    ) -> Plan:
        """Look at a whole message and say what to do. May raise: the client is then told to try again.

        ``over_limit`` names the first bound that the message passed (a field name of
        :class:`SessionLimits`), and is empty for a message within all bounds. Past a bound nothing more
        is kept, so ``fields``, ``body`` or the recipients are not complete then: edits by occurrence
        cannot be trusted to be all. ``body`` is closed once the plan has been carried out.
        """
        ...


@dataclass(slots=True)
class _Message:
    handler: Handler
    mail_from: str
    login: str
    daemon_name: str
    recipients: list[str]
    fields: list[Field]
    header_bytes: int = 0
    body: Spool | None = None
    over_limit: str = ""


class SessionError(Exception):
    """The host sent something out of order."""


class Session:
    """One connection from the host: at most one message at a time, any number after each other."""

    __slots__ = ("_client_address", "_current_handler", "_fault", "_limits", "_message")

    def __init__(self, *, limits: SessionLimits, current_handler: Callable[[], Handler]) -> None:
        self._limits = limits
        self._current_handler = current_handler
        self._client_address = ""
        self._message: _Message | None = None
        self._fault: Exception | None = None

    def connect(self, client_address: str) -> None:
        """The SMTP client's IP address, empty when it has none."""
        self._client_address = client_address

    def begin(self, mail_from: str, *, login: str, daemon_name: str) -> None:
        """MAIL FROM. The handler of this moment judges the message, also if a reload comes between."""
        self.reset()
        self._message = _Message(
            handler=self._current_handler(),
            mail_from=_bare(mail_from),
            login=login,
            daemon_name=daemon_name,
            recipients=[],
            fields=[],
        )

    def add_recipient(self, recipient: str) -> None:
        """RCPT TO, of a recipient that the host accepted so far."""
        message = self._open()
        if len(message.recipients) >= self._limits.recipients:
            self._exceed(message, "recipients")
        else:
            message.recipients.append(_bare(recipient))

    def add_field(self, name: bytes, value: bytes) -> None:
        """One header field: the value with its leading space, folds as CRLF."""
        message = self._open()
        message.header_bytes += len(name) + len(value) + 3  # colon and CRLF
        if len(message.fields) >= self._limits.header_fields:
            self._exceed(message, "header_fields")
        elif message.header_bytes > self._limits.header_bytes:
            self._exceed(message, "header_bytes")
        if not message.over_limit:
            message.fields.append(Field(name, value))

    def add_body(self, chunk: bytes) -> None:
        """The next octets of the body. Raises OSError when the spool does not take them."""
        message = self._open()
        if message.over_limit:
            return
        if message.body is None:
            message.body = self._new_spool()
        bound = self._limits.message_bytes
        if bound and message.header_bytes + len(message.body) + len(chunk) > bound:
            self._exceed(message, "message_bytes")
        else:
            message.body.write(chunk)

    def fail(self, error: Exception) -> None:
        """Something went wrong while the message was collected; :meth:`finish` raises it."""
        self._fault = self._fault or error

    def finish(self, queue_id: str) -> Plan:
        """The message is complete: the handler's plan. Call :meth:`reset` after carrying it out."""
        if self._fault is not None:
            raise self._fault
        message = self._open()
        envelope = Envelope(
            queue_id=queue_id,
            client_address=self._client_address,
            login=message.login,
            daemon_name=message.daemon_name,
            mail_from=message.mail_from,
            recipients=tuple(message.recipients),
        )
        if message.body is None:
            message.body = self._new_spool()
        return message.handler.handle(
            envelope, tuple(message.fields), message.body, over_limit=message.over_limit
        )

    def reset(self) -> None:
        """Forget the message: done, aborted, or the connection ended."""
        if self._message is not None and self._message.body is not None:
            self._message.body.close()
        self._message = None
        self._fault = None

    def _open(self) -> _Message:
        if self._message is None:
            raise SessionError("the host sent a part of a message before MAIL FROM")
        return self._message

    def _new_spool(self) -> Spool:
        return Spool(memory_limit=self._limits.memory_bytes, directory=self._limits.spool_directory or None)

    def _exceed(self, message: _Message, bound: str) -> None:
        if not message.over_limit:
            message.over_limit = bound


def _bare(path: str) -> str:
    """A path of RFC 5321 4.1.2 without its angle brackets."""
    if path.startswith("<") and path.endswith(">"):
        return path[1:-1]
    return path
