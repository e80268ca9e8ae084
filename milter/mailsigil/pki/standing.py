"""Which of several valid paths counts, once it has been asked whether anybody on them was revoked.

Cross-certificates give one sender several paths. Whoever revokes the sender's own certificate has spoken
about all of them: the same key issued it on each. An authority that is revoked on one path, or about which
nothing can be found out there, leaves the others open (RFC 5280 6.1: one path that holds is enough).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from mailsigil.pki.anchors import RevocationMode
from mailsigil.pki.evidence import RevocationStatus
from mailsigil.pki.path import PathVerdict
from mailsigil.pki.revocation import Carried, Revocation, RevocationVerdict

_NOT_ASKED: Final = RevocationVerdict(RevocationStatus.GOOD)


@dataclass(frozen=True, slots=True)
class Standing:
    """A path, and what is known of revocation on it."""

    path: PathVerdict
    revocation: RevocationVerdict

    @property
    def mode(self) -> RevocationMode:
        """What the path's anchor makes of it."""
        anchors = self.path.anchor_set
        return anchors.revocation if anchors is not None else RevocationMode.REQUIRE

    @property
    def rank(self) -> int:
        """The lower the better; 0 is a path with nothing against it."""
        if self.revocation.status is RevocationStatus.GOOD:
            return 0
        if self.revocation.status is RevocationStatus.REVOKED:
            return 4
        if self.mode is RevocationMode.PREFER:
            return 1
        return 2 if self.revocation.status is RevocationStatus.UNKNOWN else 3


def best_standing(
    paths: Iterable[PathVerdict],
    revocation: Revocation,
    *,
    carried: Carried,
    at: datetime,
    clock: Callable[[], float] = time.monotonic,
) -> Standing:
    """Ask about trusted paths, one after another, until one is good; else give the best of them.

    All of them together wait no longer than one would. Raises ``ValueError`` where there is no path.
    """
    begun = clock()
    best: Standing | None = None
    for path in paths:
        standing = Standing(path, _NOT_ASKED)
        if standing.mode is not RevocationMode.OFF:
            waited = clock() - begun
            standing = Standing(path, revocation.status(path.chain, carried=carried, at=at, waited=waited))
        found = standing.revocation
        if found.status is RevocationStatus.REVOKED and found.certificate == path.chain[0]:
            return standing
        if best is None or standing.rank < best.rank:
            best = standing
        if best.rank == 0:
            break
    if best is None:
        raise ValueError("no path to ask about")
    return best
