"""DKIM verdicts: which domains vouch for a message (RFC 6376 6).

dkimpy cuts tags and canonicalises and selects the signed header fields. Body hash, key and time are
handled here, because a hostile message may take dkimpy's own way very long, it reads the clock by
itself, and it leaves out checks that RFC 6376 and RFC 8301 ask for.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from datetime import UTC, datetime

from dkim.canonicalization import CanonicalizationPolicy

import dkim
from mailsigil.dkim.body import BodyHash, hash_body
from mailsigil.dkim.key import PublicKey, check_signature, read_key
from mailsigil.dkim.resolver import DnsTrouble as DnsTrouble
from mailsigil.dkim.resolver import TxtLookup as TxtLookup
from mailsigil.dkim.signature import Signature, read_domain, read_selector, read_signature, read_tags
from mailsigil.dkim.words import DkimFault
from mailsigil.dkim.words import DkimResult as DkimResult
from mailsigil.dkim.words import DkimWord as DkimWord
from mailsigil.message.fields import Field, named
from mailsigil.message.spool import Spool

_log = logging.getLogger(__name__)

MAX_DNS_TROUBLES = 2
"""After so many lookups without an answer the other signatures of the message are not asked for."""

_RANK = (
    DkimWord.PASS,
    DkimWord.TEMPERROR,
    DkimWord.POLICY,
    DkimWord.NEUTRAL,
    DkimWord.FAIL,
    DkimWord.PERMERROR,
    DkimWord.NONE,
)


def verify_dkim(
    fields: Sequence[Field],
    body: Spool,
    *,
    txt: TxtLookup,
    max_bytes: int,
    max_signatures: int,
    at: datetime | None = None,
) -> tuple[DkimResult, ...]:
    """Verify the DKIM signatures of a message, from the top, at most ``max_signatures`` of them.

    Gives one result for each, in their order, and none for an unsigned message. A body of more than
    ``max_bytes`` octets is not hashed: its signatures are ``neutral``. ``at`` is the time of receipt,
    the present when not given. Raises nothing but what reading the spool may raise.
    """
    signatures = named(fields, b"dkim-signature")[:max_signatures]
    if not signatures:
        return ()
    check = MessageCheck(fields, body, txt, max_bytes, at or datetime.now(UTC))
    return tuple(check.result(field) for field in signatures)


def aligned(domain: str, author_domain: str) -> bool:
    """Tell whether a signing domain may speak for an author's domain: it is the same or above it.

    A domain below the author's is left out on purpose: it may have been given to somebody else.
    """
    domain, author_domain = domain.lower(), author_domain.lower()
    return bool(domain) and (domain == author_domain or author_domain.endswith("." + domain))


def best(results: Sequence[DkimResult], author_domain: str) -> DkimResult | None:
    """Give the result that says most: one for the author's domain first, and of those ``pass`` first."""
    return min(
        results,
        key=lambda result: (not aligned(result.domain, author_domain), _RANK.index(result.word)),
        default=None,
    )


class MessageCheck:
    """One message under verification: what its signatures share."""

    def __init__(
        self, fields: Sequence[Field], body: Spool, txt: TxtLookup, max_bytes: int, at: datetime
    ) -> None:
        self._headers = [(field.name, field.value + b"\r\n") for field in fields]
        self._body = body
        self._txt = txt
        self._max_bytes = max_bytes
        self._at = at
        self._troubles = 0
        self._hashes: dict[tuple[bool, int | None], BodyHash] = {}

    def result(self, field: Field) -> DkimResult:
        """Verify one signature: every fault becomes a word and a reason."""
        domain = selector = ""
        try:
            tags = read_tags(field.value)
            domain = read_domain(tags)
            selector = read_selector(tags)
            self.verify(field, read_signature(tags, domain=domain, at=self._at), domain, selector)
        except DkimFault as fault:
            return DkimResult(fault.word, domain, selector, fault.reason)
        return DkimResult(DkimWord.PASS, domain, selector)

    def verify(self, field: Field, signature: Signature, domain: str, selector: str) -> None:
        """Verify body and header hash of one signature. Raises :class:`DkimFault`."""
        if len(self._body) > self._max_bytes:
            raise DkimFault(DkimWord.NEUTRAL, "message too large")
        # RFC 6376 6.1.2: get the key.
        key = self.key(signature, domain, selector)
        # RFC 6376 6.1.3: compute the verification.
        hashed = self._hash_body(signature)
        if hashed.digest != signature.body_hash:
            raise DkimFault(DkimWord.FAIL, "the body was changed")
        check_signature(key, signature.value, self._hash_header(field, signature))
        if signature.body_length is None or signature.body_length == hashed.size:
            return
        if signature.body_length > hashed.size:  # RFC 6376 3.5
            raise DkimFault(DkimWord.PERMERROR, "the signature covers more than there is")
        raise DkimFault(DkimWord.POLICY, "the signature leaves a part of the body unsigned")  # RFC 6376 8.2

    def key(self, signature: Signature, domain: str, selector: str) -> PublicKey:
        """Get the key behind a selector, if it may be used. Raises :class:`DkimFault`."""
        record = self._ask(f"{selector}._domainkey.{domain}.".encode("ascii"))
        return read_key(record, signature, domain=domain)

    def _ask(self, name: bytes) -> bytes | None:
        if self._troubles >= MAX_DNS_TROUBLES:
            raise DkimFault(DkimWord.TEMPERROR, "DNS gave no answers")
        try:
            return self._txt(name)
        except DnsTrouble as trouble:
            self._troubles += 1
            _log.info("no DNS answer for %s: %s", name.decode("ascii"), trouble)
            raise DkimFault(DkimWord.TEMPERROR, "DNS gave no answer") from trouble

    def _hash_body(self, signature: Signature) -> BodyHash:
        wanted = (signature.body_relaxed, signature.body_length)
        if wanted not in self._hashes:
            self._hashes[wanted] = hash_body(
                self._body.chunks(), relaxed=signature.body_relaxed, length=signature.body_length
            )
        return self._hashes[wanted]

    def _hash_header(self, field: Field, signature: Signature) -> bytes:
        policy = CanonicalizationPolicy.from_c_value(b"relaxed" if signature.header_relaxed else b"simple")
        # One more "from" than the signer wrote: a second From field was not there when it signed.
        names = [*signature.signed_names, b"from"]
        hasher = hashlib.sha256()
        try:
            dkim.hash_headers(
                hasher,
                policy,
                policy.canonicalize_headers(self._headers),
                names,
                (field.name, field.value + b"\r\n"),
                {},
            )
        except Exception as error:  # dkimpy promises nothing about what it raises on hostile input
            _log.warning("dkimpy could not read a header: %r", error)
            raise DkimFault(DkimWord.PERMERROR, "the header cannot be read") from error
        return hasher.digest()
