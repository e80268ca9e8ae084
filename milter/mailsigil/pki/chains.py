"""Which chains of certificates could lead from a leaf to an anchor: a bounded search (RFC 4158).

The certificates come out of a hostile message. The search looks at names and key identifiers only, goes
no deeper than ``MAX_DEPTH``, and looks at no more than ``MAX_STEPS`` certificates altogether.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from mailsigil.pki.anchors import AnchorSet
from mailsigil.pki.parsed import Parsed

MAX_DEPTH: Final = 8
"""Intermediate authorities in one path."""
MAX_STEPS: Final = 400
"""Certificates that the search looks at."""
MAX_CHAINS: Final = 16
"""Chains that are tried for one leaf."""


class ChainLimit(Exception):
    """The search met one of its bounds before it was through."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """One trust anchor and the set it belongs to."""

    parsed: Parsed
    anchors: AnchorSet


@dataclass(frozen=True, slots=True)
class Chain:
    """A leaf, its intermediates from the leaf upwards, and the anchor."""

    leaf: Parsed
    intermediates: tuple[Parsed, ...]
    anchor: Anchor

    @property
    def authorities(self) -> tuple[Parsed, ...]:
        """Everybody who vouches for the leaf, the anchor last."""
        return (*self.intermediates, self.anchor.parsed)


class AnchorIndex:
    """All anchors by subject."""

    def __init__(self, anchors: Iterable[Anchor]) -> None:
        self._by_subject: dict[str, list[Anchor]] = defaultdict(list)
        seen: set[tuple[str, bytes]] = set()
        for anchor in anchors:
            identity = (anchor.parsed.subject, anchor.parsed.sha256)
            if identity not in seen:  # the set that is listed first counts
                seen.add(identity)
                self._by_subject[anchor.parsed.subject].append(anchor)

    def __bool__(self) -> bool:
        return bool(self._by_subject)

    def issuers(self, certificate: Parsed) -> Iterator[Anchor]:
        """Give the anchors that may have issued a certificate."""
        for anchor in self._by_subject.get(certificate.issuer, ()):
            if _may_issue(anchor.parsed, certificate):
                yield anchor

    def holds(self, certificate: Parsed) -> bool:
        """Tell whether a certificate has the name and the key of an anchor."""
        return any(a.parsed.key == certificate.key for a in self._by_subject.get(certificate.subject, ()))


def candidate_chains(leaf: Parsed, pool: Sequence[Parsed], index: AnchorIndex) -> Iterator[Chain]:
    """Give possible chains, those with the fewest certificates of the message first at each branch.

    Raises ``ChainLimit`` when a bound ends the search.
    """
    by_subject: dict[str, list[Parsed]] = defaultdict(list)
    for certificate in pool:
        if certificate.sha256 != leaf.sha256 and not index.holds(certificate):
            by_subject[certificate.subject].append(certificate)
    steps = found = 0
    stack: list[tuple[Parsed, ...]] = [(leaf,)]
    while stack:
        path = stack.pop()
        steps += 1
        if steps > MAX_STEPS:
            raise ChainLimit("the certificates in the message can be chained in too many ways")
        for anchor in index.issuers(path[-1]):
            found += 1
            if found > MAX_CHAINS:
                raise ChainLimit("the certificates in the message can be chained in too many ways")
            yield Chain(leaf, path[1:], anchor)
        further = [
            (*path, issuer)
            for issuer in by_subject.get(path[-1].issuer, ())
            if _may_issue(issuer, path[-1]) and not _repeats(issuer, path)
        ]
        if further and len(path) > MAX_DEPTH:
            raise ChainLimit(f"the chain has more than {MAX_DEPTH} intermediate certificates")
        stack.extend(reversed(further))


def _may_issue(issuer: Parsed, certificate: Parsed) -> bool:
    # RFC 5280 4.2.1.1: the key identifier tells apart authorities of one name.
    wanted = certificate.asn1.authority_key_identifier
    given = issuer.asn1.key_identifier
    return not (wanted and given and wanted != given)


def _repeats(certificate: Parsed, path: Sequence[Parsed]) -> bool:
    # RFC 4158 2.4.2: the same name with the same key is a loop, whoever issued it.
    return any(c.subject == certificate.subject and c.key == certificate.key for c in path)
