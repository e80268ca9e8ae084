"""The outcome of DKIM verification as values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class DkimWord(Enum):
    """The result of one DKIM check (RFC 8601 2.7.1)."""

    NONE = "none"
    """The message is not signed."""
    PASS = "pass"  # noqa: S105 - the word of the standard, no password
    """Signed, acceptable here, and the signature holds."""
    FAIL = "fail"
    """Signed, acceptable here, and the signature does not hold."""
    POLICY = "policy"
    """Signed in a way that this host does not accept."""
    NEUTRAL = "neutral"
    """Signed, and not checked."""
    TEMPERROR = "temperror"
    """A later try may give a result."""
    PERMERROR = "permerror"
    """No try will give a result."""


@dataclass(frozen=True, slots=True)
class DkimResult:
    """What was found out about one DKIM signature.

    ``domain`` (d=) and ``selector`` (s=) are lower-case A-labels, or empty where the signature gave none
    that can be read. ``reason`` is one of our own sentences, never a text from the message; it is empty
    for a signature that holds.
    """

    word: DkimWord
    domain: str
    selector: str
    reason: str = ""


class DkimFault(Exception):
    """Why a signature gets another word than ``pass``. Stays inside this room."""

    def __init__(self, word: DkimWord, reason: str) -> None:
        super().__init__(reason)
        self.word = word
        self.reason = reason
