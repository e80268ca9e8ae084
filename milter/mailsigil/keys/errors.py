"""What can go wrong between those who need a signature and the keys.

- :class:`KeyServiceError`
    - :class:`KeyAgentUnavailable`: nobody answers; a later try may succeed.
    - :class:`KeyAgentRefused`: the agent answered no, and says why.
- :class:`ProtocolError`: bytes that are no conversation (inside the room only).
- :class:`KeyFileError`: a file that gives no key; names the file and the mend.
- :class:`SourceError`: a source of keys that gives none; names source and mend (inside the room only).
    - :class:`SourceUnavailable`: it does not answer; a later try may succeed.
        - :class:`SourceLeftAlone`: it failed several times and is not asked for a while.
    - :class:`SourceRefused`: it answered no.
        - :class:`NotSupported`: its protocol has no words for that.
    - :class:`SourceAnswer`: it gave a wrong answer, which is not used.
    - :class:`Pending`: it takes its time, and tells when to ask again.
- :class:`KeyAgentSetupError`: the agent cannot start; names what to mend.
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Final

from mailsigil.pki.names import clean_name

_LONGEST: Final = 2000
"""Letters of a sentence."""


class Refusal(Enum):
    """Why the agent refused."""

    MALFORMED = "malformed"
    """The request could not be read."""
    UNKNOWN_KEY = "unknown-key"
    """The agent holds no such key (any more)."""
    ADDRESS = "address"
    """The key's certificate does not name the address."""
    NOT_VALID = "not-valid"
    """The certificate has expired, or its time has not come."""
    SCHEME = "scheme"
    """The key cannot sign this way."""
    DECRYPTION = "decryption"
    """The wrapped key does not open with this key; why, is not told."""
    PEER = "peer"
    """The caller's user is not allowed to ask."""
    SOURCE = "source"
    """The source of the address's keys gives none now: it is away, refuses, or answers wrongly."""
    FAILED = "failed"
    """The agent or the place of the key failed; its log tells more."""


class KeyServiceError(Exception):
    """No signature, no answer."""


class KeyAgentUnavailable(KeyServiceError):
    """The key agent does not answer. Hint: is ``mailsigil keyd`` running, on this socket?"""


class KeyAgentRefused(KeyServiceError):
    """The key agent answered no."""

    def __init__(self, reason: Refusal, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.sentence = sentence

    def __str__(self) -> str:
        return f"{self.sentence} ({self.reason.value})"


class ProtocolError(ValueError):
    """Bytes on the socket that do not follow the protocol."""


class KeyFileError(Exception):
    """A file from which no key can be taken."""

    def __init__(self, path: Path, sentence: str, mend: str) -> None:
        super().__init__(f"{path}: {sentence}. {mend}.")
        self.path = path
        self.sentence = sentence
        self.mend = mend


class SourceError(Exception):
    """A source of keys gave none. Texts end without a full stop; ``mend`` says what to do.

    What a service said may stand in them: they are cleaned of controls, and cut.
    """

    def __init__(self, source: str, sentence: str, mend: str) -> None:
        sentence = one_line(sentence)
        super().__init__(f'source "{source}": {sentence}. {mend}.')
        self.source = source
        self.sentence = sentence
        self.mend = mend


class SourceUnavailable(SourceError):
    """The source does not answer, or not in time: network, service or token is away.

    ``is_unanswered``: it may have heard the request, and have done what it was asked for.
    """

    def __init__(self, source: str, sentence: str, mend: str, *, is_unanswered: bool = False) -> None:
        super().__init__(source, sentence, mend)
        self.is_unanswered = is_unanswered


class SourceLeftAlone(SourceUnavailable):
    """The source failed several times and is not asked for a while: said with each mail, logged once."""


class SourceRefused(SourceError):
    """The source answered no: a login, a permission or a request that it does not grant."""


class NotSupported(SourceRefused):
    """The source's protocol has no words for what was asked."""


class SourceAnswer(SourceError):
    """The source gave a wrong answer: another person's certificate, HTML, something cut off."""


class Pending(SourceError):
    """The source has taken the request and has not decided yet; ask again after ``retry_after`` seconds."""

    def __init__(self, source: str, *, retry_after: float) -> None:
        super().__init__(
            source,
            f"the request is taken and not decided yet, it says to ask again in {retry_after:.0f} s",
            "Wait, or approve the request there",
        )
        self.retry_after = retry_after


def one_line(text: str) -> str:
    """A text that may hold somebody else's words, for a log, a terminal or a database."""
    return text if text.isprintable() and len(text) <= _LONGEST else clean_name(text, limit=_LONGEST)


class KeyAgentSetupError(Exception):
    """The agent cannot start."""

    def __init__(self, sentence: str, mend: str) -> None:
        super().__init__(f"{sentence}. {mend}.")
        self.sentence = sentence
        self.mend = mend
