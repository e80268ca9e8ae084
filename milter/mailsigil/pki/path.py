"""Path validation: does a certificate lead to a trust anchor, and may it sign mail? (RFC 5280 6, RFC 8550)

:meth:`PathValidator.validate` is one function of numbered steps with a cache in front. Nothing here opens
a connection; what a certificate says about where to fetch something is not followed.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from functools import lru_cache
from typing import Final

from mailsigil.pki import pkix
from mailsigil.pki.anchors import AnchorSet, TrustStore
from mailsigil.pki.chains import Anchor, AnchorIndex, Chain, ChainLimit, candidate_chains
from mailsigil.pki.conformance import MAX_NAME_CHECKS, name_checks, nonconformity
from mailsigil.pki.constraints import unread_constraint, violated_constraint
from mailsigil.pki.parsed import Parsed, UnreadableCertificate, parse_certificate
from mailsigil.pki.purpose import authority_misuse, leaf_misuse

MAX_INTERMEDIATES: Final = 30
MAX_OCTETS: Final = 256 * 1024
"""Of all certificates of a message. Each has one to four thousand, more with post-quantum keys."""
MAX_OTHERS: Final = 3
"""Further paths of one certificate that are given where something is known against the first."""
_PARSED_KEPT: Final = 256
_REMEMBERED: Final = 8192
"""Octets of a certificate that is remembered: nobody may fill the memory with huge ones."""
_NEGATIVE_KEPT: Final = timedelta(minutes=10)


class PathStatus(Enum):
    """The outcome of path validation."""

    TRUSTED = "trusted"
    """A path to an anchor holds, and the certificate is one for signing mail."""
    UNTRUSTED = "untrusted"
    """No path leads to an anchor, or a signature on it does not hold."""
    EXPIRED = "expired"
    NOT_YET_VALID = "not-yet-valid"
    BAD_PURPOSE = "bad-purpose"
    """A certificate of the path is not meant for this."""
    WEAK = "weak"
    """A key or a signature algorithm of the path is too weak or not known."""
    CONSTRAINT = "constraint"
    """An authority of the path was not allowed to issue what is below it."""
    MALFORMED = "malformed"
    LIMIT = "limit"
    """The certificates exceed what is checked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PathVerdict:
    """What validation found. All but ``status`` and ``reason`` speak of a path that is trusted."""

    status: PathStatus
    reason: str = ""
    """A sentence for the log and the command line."""
    anchor_set: AnchorSet | None = None
    chain: tuple[bytes, ...] = ()
    """DER from the leaf to the anchor."""
    policies: frozenset[str] = frozenset()
    """The policies that the whole path allows (RFC 5280 6.1.6), dotted."""


@dataclass(frozen=True, slots=True)
class _Cached:
    verdict: PathVerdict
    since: datetime
    until: datetime


class PathValidator:
    """Validates certificates against one trust store. May be used from several threads."""

    def __init__(self, trust: TrustStore, *, cache_size: int = 1024) -> None:
        """Prepare the anchors.

        ``cache_size`` counts verdicts. Raises ``UnreadableCertificate`` for an anchor that cannot be used.
        """
        self._index = AnchorIndex(
            Anchor(parse_certificate(pkix.der(certificate)), anchors)
            for anchors in trust.sets
            for certificate in anchors.certificates
        )
        self._cache_size = cache_size
        self._verdicts: OrderedDict[bytes, _Cached] = OrderedDict()
        self._parsed: OrderedDict[bytes, Parsed] = OrderedDict()
        # One lock for everything: asn1crypto parses on access, which two threads must not do at a time.
        self._lock = threading.Lock()

    def validate(self, leaf: bytes, intermediates: Sequence[bytes], *, at: datetime) -> PathVerdict:
        """Validate a signer's certificate at a time.

        ``leaf`` and ``intermediates`` are DER; the latter in any order, with others among them. ``at`` must
        know its time zone. Verdicts are kept until the first certificate of the path expires.
        """
        if at.utcoffset() is None:
            raise ValueError("the time of validation needs a time zone")
        # Certificates know whole seconds, and the last one of their validity belongs to it.
        at = at.replace(microsecond=0)
        key = _cache_key(leaf, intermediates)
        with self._lock:
            cached = self._verdicts.get(key)
            if cached is not None and cached.since <= at <= cached.until:
                self._verdicts.move_to_end(key)
                return cached.verdict
            found = self._evaluate(leaf, intermediates, at)
            self._verdicts[key] = found
            self._verdicts.move_to_end(key)
            while len(self._verdicts) > self._cache_size:
                self._verdicts.popitem(last=False)
            return found.verdict

    def others(
        self, leaf: bytes, intermediates: Sequence[bytes], *, at: datetime, but: PathVerdict
    ) -> tuple[PathVerdict, ...]:
        """Give further trusted paths of a certificate that :meth:`validate` trusts, at most ``MAX_OTHERS``.

        They are searched each time: who asks has found something against the first one, ``but``.
        """
        at = at.replace(microsecond=0)
        found: list[PathVerdict] = []
        with self._lock:
            try:
                chains = candidate_chains(parse_certificate(leaf), self._pool(intermediates), self._index)
                for chain in _affordable(chains):
                    if (chain.leaf.der, *(one.der for one in chain.authorities)) == but.chain:
                        continue
                    verdict = _judge(chain, at)
                    if verdict.status is PathStatus.TRUSTED:
                        found.append(verdict)
                    if len(found) == MAX_OTHERS:
                        break
            except (ChainLimit, UnreadableCertificate):
                pass  # what was found until then holds all the same
        return tuple(found)

    def _evaluate(self, leaf_der: bytes, intermediates: Sequence[bytes], at: datetime) -> _Cached:
        # 1. There is somebody to trust, and the input is within bounds.
        if not self._index:
            return _negative(PathStatus.UNTRUSTED, "no trust anchors are configured", at)
        if len(intermediates) > MAX_INTERMEDIATES:
            return _negative(
                PathStatus.LIMIT, f"the message carries more than {MAX_INTERMEDIATES} certificates", at
            )
        if len(leaf_der) + sum(map(len, intermediates)) > MAX_OCTETS:
            return _negative(PathStatus.LIMIT, f"the certificates have more than {MAX_OCTETS} octets", at)
        # 2. The certificates can be read; one that cannot and is not needed does no harm.
        try:
            leaf = parse_certificate(leaf_der)
        except UnreadableCertificate as error:
            return _negative(PathStatus.MALFORMED, str(error), at)
        pool = self._pool(der for der in intermediates if der != leaf_der)
        # 3. An anchor vouches for others, not for itself as a sender.
        if self._index.holds(leaf):
            return _negative(PathStatus.BAD_PURPOSE, "the certificate is itself a trust anchor", at)
        # 4. The first chain that holds counts; when none does, the first one's reason.
        first: PathVerdict | None = None
        try:
            for chain in _affordable(candidate_chains(leaf, pool, self._index)):
                verdict = _judge(chain, at)
                if verdict.status is PathStatus.TRUSTED:
                    members = (leaf, *chain.authorities)
                    since = max(member.not_before for member in members)
                    return _Cached(verdict, since, min(member.not_after for member in members))
                first = first or verdict
        except ChainLimit as error:
            return _negative(PathStatus.LIMIT, str(error), at)
        if first is not None:
            return _negative(first.status, first.reason, at)
        return _negative(PathStatus.UNTRUSTED, _no_path(leaf) + _first_unread(intermediates), at)

    def _pool(self, intermediates: Iterable[bytes]) -> list[Parsed]:
        pool: dict[bytes, Parsed] = {}
        for der in intermediates:
            digest = _digest(der)
            parsed = self._parsed.get(digest)
            if parsed is None:
                try:
                    parsed = parse_certificate(der)
                except UnreadableCertificate:
                    continue
                if len(der) <= _REMEMBERED:
                    self._parsed[digest] = parsed
                if len(self._parsed) > _PARSED_KEPT:
                    self._parsed.popitem(last=False)
            else:
                self._parsed.move_to_end(digest)
            pool[digest] = parsed
        return list(pool.values())


def _affordable(chains: Iterable[Chain]) -> Iterator[Chain]:
    """Give the chains as long as looking at their names is affordable; then raise ``ChainLimit``."""
    checks = 0
    for chain in chains:
        checks += name_checks([chain.leaf.certificate, *(one.certificate for one in chain.authorities)])
        if checks > MAX_NAME_CHECKS:
            raise ChainLimit("the paths have too many names and constraints")
        yield chain


def _judge(chain: Chain, at: datetime) -> PathVerdict:
    """Judge one chain, in steps."""
    anchors = chain.anchor.anchors
    authorities = [authority.certificate for authority in chain.authorities]
    # 1. Keys and signature algorithms are strong enough; the anchor's own signature proves nothing.
    weakness = _weakness(chain)
    if weakness:
        return PathVerdict(status=PathStatus.WEAK, reason=weakness)
    # 2. The certificates keep to their profile (RFC 5280 4).
    fault = nonconformity(chain.leaf, chain.intermediates, public=anchors.public)
    if fault:
        return PathVerdict(status=PathStatus.MALFORMED, reason=fault)
    if unread := unread_constraint(authorities):
        return PathVerdict(status=PathStatus.CONSTRAINT, reason=unread)
    # 3. Signatures, validity, names, policies, constraints and critical extensions (RFC 5280 6.1).
    try:
        policies = pkix.validate_chain(chain, at)
    except pkix.ChainInvalid as error:
        return PathVerdict(status=_STATUS[error.fault], reason=error.sentence)
    # 4. The mail addresses lie within name constraints (RFC 5280 4.2.1.10, RFC 9598 6).
    violation = violated_constraint(chain.leaf.certificate, authorities)
    if violation:
        return PathVerdict(status=PathStatus.CONSTRAINT, reason=violation)
    # 5. Everybody acts within their purpose (RFC 8550 4.4).
    misuse = leaf_misuse(chain.leaf.certificate, public=anchors.public) or authority_misuse(
        authorities, public=anchors.public
    )
    if misuse:
        return PathVerdict(status=PathStatus.BAD_PURPOSE, reason=misuse)
    # 6. Trusted. Revocation is a question of its own (pki/revocation.py), asked for this chain only: so a
    #    verdict can be kept until expiry, and what is known of revocation until the next update.
    return PathVerdict(
        status=PathStatus.TRUSTED,
        anchor_set=anchors,
        chain=(chain.leaf.der, *(authority.der for authority in chain.authorities)),
        policies=policies,
    )


def _weakness(chain: Chain) -> str:
    for member in (chain.leaf, *chain.authorities):
        if member.key_weakness:
            return f"{member.label}: {member.key_weakness}"
    for member in (chain.leaf, *chain.intermediates):
        if member.signature_weakness:
            return f"{member.label}: {member.signature_weakness}"
    return ""


_STATUS: Final = {
    pkix.Fault.SIGNATURE: PathStatus.UNTRUSTED,
    pkix.Fault.EXPIRED: PathStatus.EXPIRED,
    pkix.Fault.NOT_YET_VALID: PathStatus.NOT_YET_VALID,
    pkix.Fault.ALGORITHM: PathStatus.WEAK,
    pkix.Fault.CONSTRAINT: PathStatus.CONSTRAINT,
    pkix.Fault.UNREADABLE: PathStatus.MALFORMED,
}


def _negative(status: PathStatus, reason: str, at: datetime) -> _Cached:
    # A path that does not hold now may hold when time has passed, so this is kept for a while only.
    return _Cached(PathVerdict(status=status, reason=reason), at, at + _NEGATIVE_KEPT)


def _no_path(leaf: Parsed) -> str:
    issuer: str = leaf.certificate.issuer.rfc4514_string()
    return f"no path leads from its issuer {issuer[:120] or '(without a name)'} to a trust anchor"


def _first_unread(intermediates: Sequence[bytes]) -> str:
    """Name the fault of the first certificate of a message that cannot be read: perhaps it was the issuer."""
    for der in intermediates:
        try:
            parse_certificate(der)
        except UnreadableCertificate as error:
            return f"; another certificate in the message was left out, because {error}"
    return ""


def _cache_key(leaf: bytes, intermediates: Sequence[bytes]) -> bytes:
    return b"".join([_digest(der) for der in (leaf, *intermediates)])


def _digest(der: bytes) -> bytes:
    """The SHA-256 of a certificate; the same few stand in many mails."""
    return (_sha256 if len(der) <= _REMEMBERED else _sha256.__wrapped__)(der)


@lru_cache(maxsize=2048)
def _sha256(der: bytes) -> bytes:
    return hashlib.sha256(der).digest()
