"""What is to be done with one message, as plain values.

The two flows (``outbound.py``, ``inbound.py``) decide and return a :class:`Plan`; one place
(``milter/apply.py``, or the command line) carries it out. Nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum

from mailsigil.message.fields import Field


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """What SMTP and the host said about one message (RFC 5321), apart from its content."""

    queue_id: str = "-"
    client_address: str = ""
    """IP address of the SMTP client in text form; empty for local submission."""
    login: str = ""
    """SASL login name (macro ``{auth_authen}``); empty when not authenticated."""
    daemon_name: str = ""
    """Macro ``{daemon_name}``: which of the host's listeners took the message."""
    mail_from: str = ""
    """Reverse-path without angle brackets; empty for a bounce (``MAIL FROM:<>``)."""
    recipients: tuple[str, ...] = ()
    """Forward-paths without angle brackets."""


@dataclass(frozen=True, slots=True)
class InsertField:
    """Put a header field above all others. Several keep the order they are listed in."""

    field: Field


@dataclass(frozen=True, slots=True)
class AppendField:
    """Put a header field below all others."""

    field: Field


@dataclass(frozen=True, slots=True)
class ChangeField:
    """Give the ``occurrence``-th field of this name (from 1, as RFC-less milters count) a new value."""

    name: bytes
    occurrence: int
    value: bytes
    """Everything after the colon, leading space included, folds as CRLF."""


@dataclass(frozen=True, slots=True)
class DeleteField:
    """Remove the ``occurrence``-th field of this name (from 1, counted before any edit)."""

    name: bytes
    occurrence: int


@dataclass(frozen=True, slots=True)
class ReplaceBody:
    """Put a new body in the old one's place."""

    chunks: Callable[[], Iterator[bytes]] = field(repr=False)
    """Gives the new body with CRLF line ends; may be called more than once."""


Edit = InsertField | AppendField | ChangeField | DeleteField | ReplaceBody


class Outcome(Enum):
    """How the message goes on, with what the client is told: code, enhanced status, public text.

    The public text carries no internals; the reason for the log is ``Plan.reason``.
    """

    ACCEPT = ("", "", "")
    TEMPFAIL = ("451", "4.7.0", "Message cannot be processed now, try again later")
    REFUSE_SENDER = ("550", "5.7.1", "Sender is not allowed to send as this author")
    REFUSE_CHAIN = ("550", "5.7.5", "Message was DKIM-signed before it was S/MIME-signed")
    REFUSE_FORM = ("550", "5.6.3", "Message must be signed, and its form cannot be")
    REFUSE_SIZE = ("552", "5.3.4", "Message exceeds the limits of this server")

    @property
    def code(self) -> str:
        """SMTP reply code, empty when the message is accepted."""
        return self.value[0]

    @property
    def status(self) -> str:
        """Enhanced status code (RFC 3463), empty when the message is accepted."""
        return self.value[1]

    @property
    def text(self) -> str:
        """The sentence for the outside."""
        return self.value[2]


class Event(Enum):
    """The one vocabulary of the log."""

    SIGNED = "signed"
    PASSED = "passed"
    REFUSED = "refused"
    DEFERRED = "deferred"
    VERIFIED = "verified"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The decision about one message: outcome, edits, and what to write into the log."""

    outcome: Outcome = Outcome.ACCEPT
    edits: tuple[Edit, ...] = ()
    event: Event
    reason: str = ""
    """For the log only: why, in words of the house, never shown to the outside."""
    warnings: tuple[str, ...] = ()
    details: tuple[tuple[str, str], ...] = ()
    """Key and value pairs for the log line, for example level, address, serial."""
