"""What an authority says about one certificate: not revoked, revoked since when, and how long that counts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Final

from mailsigil.pki.parsed import Parsed

CLOCK_SKEW: Final = timedelta(minutes=5)
"""How far an authority's clock may be off ours."""


class RevocationStatus(Enum):
    """Whether a certificate was revoked."""

    GOOD = "good"
    REVOKED = "revoked"
    UNKNOWN = "unknown"
    """Nobody who may say so has said it, for this time; a later try may find it."""
    UNPUBLISHED = "unpublished"
    """The certificate names no place where it would be found, and nobody has handed it in."""


class Unusable(Exception):
    """A CRL or an OCSP response proves nothing about a certificate; the message is a sentence."""


@dataclass(frozen=True, slots=True)
class Link:
    """A certificate and the one that issued it, as a validated path has them."""

    certificate: Parsed
    issuer: Parsed

    @property
    def key(self) -> tuple[bytes, bytes]:
        """What tells this link from others."""
        return self.certificate.sha256, self.issuer.key


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """A statement whose signature holds and whose signer may make it."""

    status: RevocationStatus
    this_update: datetime
    until: datetime
    """What the statement itself gives as its end, or what is believed of one that gives none."""
    revoked_at: datetime | None = None
    """When the certificate ceased to be good: the earlier of revocation and known compromise."""
    final: bool = True
    """A revocation that is never taken back, as all are but holds (RFC 5280 5.3.1)."""
    responder: Link | None = None
    """Who made the statement, where that is somebody appointed who may have been revoked since."""

    def judge(self, certificate: Parsed, *, at: datetime, now: datetime) -> RevocationStatus:
        """Tell what this says about a time ``at``, with ``now`` on the clock."""
        if self.this_update > now + CLOCK_SKEW:
            return RevocationStatus.UNKNOWN
        stale = at > self.until + CLOCK_SKEW
        if self.status is RevocationStatus.REVOKED and self._had_happened(at):
            # Whoever keeps us from newer lists must not undo a revocation that is known.
            return RevocationStatus.UNKNOWN if stale and not self.final else RevocationStatus.REVOKED
        if stale or self.this_update > certificate.not_after:
            # An authority forgets certificates that have expired (RFC 5280 3.3).
            return RevocationStatus.UNKNOWN
        # Good, or revoked only later than the time that is asked about.
        return RevocationStatus.GOOD

    def _had_happened(self, at: datetime) -> bool:
        # A statement that was there at the time counts, whatever date it gives.
        return self.revoked_at is None or self.revoked_at <= at + CLOCK_SKEW or self.this_update <= at
