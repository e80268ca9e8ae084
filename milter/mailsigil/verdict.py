"""What verification found out about one inbound message, as plain values.

``SmimeWord`` are the result words of RFC 8601 2.7 as RFC 7281 3 gives them a meaning for S/MIME.
``Status`` is what the reader is told; ``Reason`` says why there is no identity.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from mailsigil.pki.policies import Level


class SmimeWord(Enum):
    """The result of the S/MIME check (RFC 8601 2.7, RFC 7281 3)."""

    NONE = "none"
    """The message is not signed."""
    PASS = "pass"  # noqa: S105
    """Signed, the signature holds, and the signer is who the author field says."""
    FAIL = "fail"
    """Signed, and the signature does not hold."""
    POLICY = "policy"
    """The signature holds, and this host does not accept it."""
    NEUTRAL = "neutral"
    """Signed in a form that cannot be read or judged."""
    TEMPERROR = "temperror"
    """A later try may give a result."""
    PERMERROR = "permerror"
    """No try will give a result."""


class Status(Enum):
    """What the reader is told in ``Verified-Identity``."""

    TRUSTED = "trusted"
    UNSIGNED = "unsigned"
    INVALID = "invalid"
    UNTRUSTED = "untrusted"
    MISMATCH = "mismatch"
    UNCHECKED = "unchecked"


_NOT_SIGNED = (SmimeWord.NONE, Status.UNSIGNED)
_NOT_READ = (SmimeWord.NEUTRAL, Status.UNCHECKED)
_AMBIGUOUS = (SmimeWord.NEUTRAL, Status.INVALID)
_BROKEN = (SmimeWord.FAIL, Status.INVALID)
_REFUSED = (SmimeWord.POLICY, Status.INVALID)
_UNTRUSTED = (SmimeWord.POLICY, Status.UNTRUSTED)
_MISMATCH = (SmimeWord.POLICY, Status.MISMATCH)
_TOO_MUCH = (SmimeWord.POLICY, Status.UNCHECKED)
_NOT_NOW = (SmimeWord.TEMPERROR, Status.UNCHECKED)
_ACCEPTED = (SmimeWord.PASS, Status.TRUSTED)


class Reason(Enum):
    """Why a message has no identity: result and status, a token for the header, a sentence for a person."""

    NONE = (_ACCEPTED, "", "")
    UNSIGNED = (_NOT_SIGNED, "unsigned", "The message carries no S/MIME signature.")
    ENCRYPTED = (_NOT_READ, "encrypted", "The message is encrypted, so a signature inside cannot be seen.")
    COMPRESSED = (_NOT_READ, "compressed", "The message is compressed, so a signature inside cannot be seen.")
    PARTIAL = (_REFUSED, "partial", "The signature covers only a part of the message.")
    TRAILING = (_REFUSED, "trailing", "Text stands behind the signed part, outside of the signature.")
    STRUCTURE = (_AMBIGUOUS, "structure", "The structure of the signed message is not what S/MIME asks for.")
    CONTENT_TYPE = (
        _AMBIGUOUS,
        "content-type",
        "Mail programs can read the type of this message in different ways.",
    )
    ELSEWHERE = (_REFUSED, "elsewhere", "The signed part only points to content that lies elsewhere.")
    SYNTAX = (_AMBIGUOUS, "syntax", "The signature cannot be read.")
    ATTRIBUTES = (
        _BROKEN,
        "attributes",
        "The signature breaks a rule about what is signed, or contradicts itself.",
    )
    NO_SIGNER = (_BROKEN, "no-signer", "The signature names no signer.")
    SEVERAL_SIGNERS = (_REFUSED, "several-signers", "Several signers signed, so there is no one identity.")
    DIGEST = (_BROKEN, "digest", "The message was changed after it was signed.")
    SIGNATURE = (_BROKEN, "signature", "The signature was not made with the certificate's key.")
    NO_CERTIFICATE = (_NOT_READ, "no-certificate", "The signer's certificate is missing.")
    CERTIFICATE = (_BROKEN, "certificate", "The signature was bound to another certificate.")
    ALGORITHM = (_NOT_READ, "algorithm", "The signature uses an algorithm that is not known here.")
    WEAK = (_UNTRUSTED, "weak", "The signature or a certificate uses an algorithm or a key that is too weak.")
    CERTIFICATE_FORM = (_AMBIGUOUS, "certificate-form", "A certificate breaks the rules for certificates.")
    NO_PATH = (_UNTRUSTED, "no-path", "The certificate was not issued by an authority that is trusted here.")
    EXPIRED = (_BROKEN, "expired", "A certificate had expired.")
    NOT_YET_VALID = (_BROKEN, "not-yet-valid", "A certificate was not valid yet.")
    REVOKED = (_BROKEN, "revoked", "A certificate was revoked.")
    REVOCATION_UNKNOWN = (
        _NOT_NOW,
        "revocation-unknown",
        "Whether a certificate was revoked could not be found out, and this host asks for it.",
    )
    PURPOSE = (_BROKEN, "purpose", "The certificate was not issued for signing mail.")
    CONSTRAINT = (_BROKEN, "constraint", "An authority issued a certificate that it had no right to issue.")
    DOMAIN = (_UNTRUSTED, "domain", "The authority is not trusted for this sender's domain.")
    FUTURE = (_BROKEN, "future", "The signing time lies in the future.")
    ADDRESS = (_MISMATCH, "address", "The certificate belongs to another address than the author's.")
    AUTHOR_MISSING = (_MISMATCH, "author-missing", "The message has no From field.")
    AUTHOR_SEVERAL = (_MISMATCH, "author-several", "The message has more than one author.")
    AUTHOR_GROUP = (_MISMATCH, "author-group", "The From field holds a group instead of an address.")
    AUTHOR_MALFORMED = (_MISMATCH, "author-malformed", "The From field cannot be read.")
    AUTHOR_NAME = (_MISMATCH, "author-name", "The author's display name shows another address.")
    HEADER = (_AMBIGUOUS, "header", "The header has lines that only some mail programs see.")
    HEADER_MISMATCH = (_MISMATCH, "header-mismatch", "A header field differs from the one that was signed.")
    SENDER = (_MISMATCH, "sender", "The Sender field, which some mail programs show, names somebody else.")
    REPLY_TO = (
        _MISMATCH,
        "reply-to",
        "The Reply-To field shows another address than the one that replies go to.",
    )
    LIMIT = (_TOO_MUCH, "limit", "The message exceeds what this host is ready to check.")

    @property
    def token(self) -> str:
        """The word for ``reason=``."""
        return self.value[1]

    @property
    def sentence(self) -> str:
        """The same for a person."""
        return self.value[2]

    @property
    def word(self) -> SmimeWord:
        """The result that goes with it."""
        return self.value[0][0]

    @property
    def status(self) -> Status:
        """What the reader is told with it."""
        return self.value[0][1]


class Note(Enum):
    """What a reader of a message with an identity should know besides: a token, and a sentence."""

    SIGNED_EARLIER = (
        "signed-earlier",
        "The message was signed long before its date: it may be an old one, sent again by anybody.",
    )
    REPLY_ELSEWHERE = ("reply-elsewhere", "Replies go to another domain than the author's.")
    OTHER_SENDER = ("other-sender", "The Sender field, which nobody signed, names another address.")

    @property
    def token(self) -> str:
        """The word for ``note=``."""
        return self.value[0]

    @property
    def sentence(self) -> str:
        """The same for a person."""
        return self.value[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who really sent the message. Texts are cleaned of everything that could mislead an eye."""

    level: Level
    name: str
    org: str
    title: str
    address: str
    issuer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The outcome of the S/MIME verification of one message."""

    word: SmimeWord
    status: Status
    reason: Reason = Reason.NONE
    detail: str = ""
    """What exactly was found, for the log and the command line."""
    identity: Identity | None = None
    """Present only with ``SmimeWord.PASS`` and ``Status.TRUSTED``."""
    signers: tuple[str, ...] = ()
    """Mail addresses of the certificates whose signatures hold."""
    serial: str = ""
    """Serial number of the signer's certificate, lower-case hexadecimal."""
    issuer: str = ""
    """Issuer of the signer's certificate as an RFC 4514 string."""
    signed: datetime | None = None
    """The signing time that the signer claims, in UTC."""
    notes: tuple[Note, ...] = ()
    """Beside an identity alone."""
