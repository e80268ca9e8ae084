"""The Date of a message (RFC 5322 3.3)."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from mailsigil.message.fields import Field

MAX_VALUE = 998
"""Octets of a value that is read: a whole line (RFC 5322 2.1.1)."""


def read_date(field: Field) -> datetime | None:
    """Give the time that a Date field tells, aware, in UTC; None where it cannot be read."""
    if len(field.value) > MAX_VALUE:
        return None
    try:
        date = parsedate_to_datetime(field.unfolded.decode("ascii"))
        # "-0000" is a time in UTC of unknown origin.
        return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
