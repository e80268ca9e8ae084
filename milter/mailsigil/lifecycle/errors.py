"""What can go wrong in the lifecycle of certificates; each says what to mend.

- :class:`LifecycleError`
    - :class:`DatabaseError`: nothing is known, and nothing was changed by the step that failed.
        - :class:`DatabaseUnavailable`: it does not answer, or is busy; a later try may succeed.
        - :class:`DatabaseUnusable`: it answers, and cannot be used before somebody mends it.
    - :class:`RunRefused`: a run is not begun, or not gone on with, before a person says so.
"""

from __future__ import annotations


class LifecycleError(Exception):
    """Texts end without a full stop; ``mend`` says what to do."""

    def __init__(self, sentence: str, mend: str) -> None:
        super().__init__(f"{sentence}. {mend}.")
        self.sentence = sentence
        self.mend = mend


class DatabaseError(LifecycleError):
    """The database gives or takes nothing."""


class DatabaseUnavailable(DatabaseError):
    """The database does not answer, or not in time."""


class DatabaseUnusable(DatabaseError):
    """The database cannot be used as it is: full, read-only, of another version, or the login is wrong."""


class RunRefused(LifecycleError):
    """Something looks wrong enough for a person to look at it first."""
