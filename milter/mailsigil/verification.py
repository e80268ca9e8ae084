"""Who signed this message? One function of numbered steps, to be held against the RFCs.

RFC 8551 (S/MIME messages), RFC 8550 (certificate handling), RFC 5652 (CMS), RFC 8601 and RFC 7281
(the words). Each step either goes on or ends with a verdict; a doubt never ends with an identity.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache

from cryptography import x509

from mailsigil.cms.parse import CmsLimitError, CmsLimits
from mailsigil.cms.verify import SignerStatus, check_signer, digests_needed
from mailsigil.message.address import Address, AddressError
from mailsigil.message.author import Author, AuthorFault, parse_author
from mailsigil.message.fields import Field
from mailsigil.message.mime import MimeLimitError, MimeLimits, parse_mime
from mailsigil.message.spool import Spool
from mailsigil.pki.anchors import domains_allow
from mailsigil.pki.level import Level, identity_level
from mailsigil.pki.names import CertificateNames
from mailsigil.pki.path import PathStatus, PathValidator, PathVerdict
from mailsigil.signature import Ended, ended, find_signature
from mailsigil.verdict import Identity, Reason, SmimeWord, Status, Verdict

CLOCK_SKEW = timedelta(minutes=5)
"""How far a signer's clock may be ahead of ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationParts:
    """What verification is handed: the path validator, bounds, and a place for big bodies."""

    validator: PathValidator
    mime_limits: MimeLimits
    cms_limits: CmsLimits
    new_spool: Callable[[], Spool] = Spool


def verify(
    fields: Sequence[Field],
    body: Spool,
    parts: VerificationParts,
    *,
    at: datetime,
    with_identity: bool = True,
) -> Verdict:
    """Gives the verdict about one message at a time (aware; normally that of receipt).

    ``with_identity=False`` judges signature and certificate path alone: no author is compared and
    no identity is given.
    """
    try:
        return _steps(fields, body, parts, at, with_identity)
    except Ended as end:
        return end.verdict
    except (MimeLimitError, CmsLimitError) as error:
        return ended(SmimeWord.POLICY, Status.UNCHECKED, Reason.LIMIT, str(error)).verdict


def _steps(
    fields: Sequence[Field],
    body: Spool,
    parts: VerificationParts,
    at: datetime,
    with_identity: bool,
) -> Verdict:
    # 1. Structure: a signature counts only if it covers everything a client shows (RFC 8551 3.5).
    root = parse_mime(fields, body, limits=parts.mime_limits)
    with parts.new_spool() as store:
        signature = find_signature(fields, body, root, store, parts.cms_limits)
        # 2. Exactly one signer: several names would be no one's (RFC 5652 5.1).
        data = signature.data
        if not data.signers:
            raise ended(SmimeWord.FAIL, Status.INVALID, Reason.NO_SIGNER)
        if len(data.signers) > 1:
            raise ended(
                SmimeWord.POLICY, Status.INVALID, Reason.SEVERAL_SIGNERS, f"{len(data.signers)} signers"
            )
        # 3. Content digest, signed attributes, signature (RFC 5652 5.4 to 5.6).
        digests = _digests(signature.content(), digests_needed(data))
    signer = data.signers[0]
    check = check_signer(signer, data, digests)
    if check.status is not SignerStatus.VALID or check.certificate is None:
        raise ended(*_SIGNER_VERDICTS[check.status], check.reason)

    # 4. From here on the signer is known, so every verdict names the certificate.
    names, serial, issuer = _describe(check.certificate)
    base = Verdict(
        word=SmimeWord.PASS,
        status=Status.TRUSTED,
        signers=names.addresses,
        serial=serial,
        issuer=issuer,
        signed=signer.signing_time,
    )
    if signer.signing_time is not None and signer.signing_time > at + CLOCK_SKEW:
        return _refused(base, SmimeWord.FAIL, Status.INVALID, Reason.FUTURE)

    # 5. Certificate path to an anchor of ours, purpose and strength (RFC 5280 6, RFC 8550 4).
    path = parts.validator.validate(check.certificate, data.certificates, at=at)
    if path.status is not PathStatus.TRUSTED or path.anchor_set is None:
        word, status, reason = _PATH_VERDICTS[path.status]
        return _refused(base, word, status, reason, path.reason)

    # 6. Revocation: its place is here, in the path's verdict; nothing asks for it yet.

    if not with_identity:
        return base
    # 7. One author, shown as who he is (RFC 5322 3.6.2).
    author = parse_author(fields)
    if isinstance(author, AuthorFault):
        return _refused(base, SmimeWord.POLICY, Status.MISMATCH, _AUTHOR_REASONS[author])
    # 8. The author's address is one of the certificate's (RFC 8550 3), within the anchor's domains.
    if not _names_author(names.addresses, author):
        return _refused(base, SmimeWord.POLICY, Status.MISMATCH, Reason.ADDRESS, f"author {author.address}")
    if not domains_allow(path.anchor_set, str(author.address)):
        return _refused(base, SmimeWord.POLICY, Status.UNTRUSTED, Reason.DOMAIN, path.anchor_set.name)
    # 9. Level and names, as far as the anchor may assert them.
    return replace(base, identity=_identity(check.certificate, path, names, author.address))


def _digests(content: Iterable[bytes], names: Iterable[str]) -> dict[str, bytes]:
    running = {name: hashlib.new(name) for name in sorted(names)}
    for chunk in content:
        for digest in running.values():
            digest.update(chunk)
    return {name: digest.digest() for name, digest in running.items()}


@lru_cache(maxsize=4096)
def _describe(certificate: bytes) -> tuple[CertificateNames, str, str]:
    parsed = x509.load_der_x509_certificate(certificate)
    return (
        CertificateNames.from_certificate(parsed),
        f"{parsed.serial_number:x}",
        parsed.issuer.rfc4514_string(),
    )


def _names_author(addresses: Iterable[str], author: Author) -> bool:
    for address in addresses:
        try:
            if Address.parse(address).same_mailbox(author.address):
                return True
        except AddressError:
            continue
    return False


def _identity(certificate: bytes, path: PathVerdict, names: CertificateNames, address: Address) -> Identity:
    level = _level(certificate, path)
    person = level in {Level.V2, Level.V4}
    return Identity(
        level=level,
        name=names.full_name if person else "",
        org=names.organisation if level in {Level.V3, Level.V4} else "",
        title=names.title if person else "",
        address=str(address),
        issuer=names.issuer,
    )


def _level(certificate: bytes, path: PathVerdict) -> Level:
    if path.anchor_set is None:
        return Level.V1
    parsed = x509.load_der_x509_certificate(certificate)
    return identity_level(parsed, path.anchor_set, policies=path.policies).level


def _refused(base: Verdict, word: SmimeWord, status: Status, reason: Reason, detail: str = "") -> Verdict:
    return replace(base, word=word, status=status, reason=reason, detail=detail)


_SIGNER_VERDICTS = {
    SignerStatus.DIGEST_MISMATCH: (SmimeWord.FAIL, Status.INVALID, Reason.DIGEST),
    SignerStatus.SIGNATURE_INVALID: (SmimeWord.FAIL, Status.INVALID, Reason.SIGNATURE),
    SignerStatus.NO_CERTIFICATE: (SmimeWord.NEUTRAL, Status.UNCHECKED, Reason.NO_CERTIFICATE),
    SignerStatus.MALFORMED: (SmimeWord.FAIL, Status.INVALID, Reason.SYNTAX),
    SignerStatus.WEAK_ALGORITHM: (SmimeWord.POLICY, Status.UNTRUSTED, Reason.WEAK),
    SignerStatus.UNSUPPORTED_ALGORITHM: (SmimeWord.NEUTRAL, Status.UNCHECKED, Reason.ALGORITHM),
    SignerStatus.CERTIFICATE_MISMATCH: (SmimeWord.FAIL, Status.INVALID, Reason.CERTIFICATE),
}

_PATH_VERDICTS = {
    PathStatus.UNTRUSTED: (SmimeWord.POLICY, Status.UNTRUSTED, Reason.NO_PATH),
    PathStatus.EXPIRED: (SmimeWord.FAIL, Status.INVALID, Reason.EXPIRED),
    PathStatus.NOT_YET_VALID: (SmimeWord.FAIL, Status.INVALID, Reason.NOT_YET_VALID),
    PathStatus.REVOKED: (SmimeWord.FAIL, Status.INVALID, Reason.REVOKED),
    PathStatus.BAD_PURPOSE: (SmimeWord.FAIL, Status.INVALID, Reason.PURPOSE),
    PathStatus.WEAK: (SmimeWord.POLICY, Status.UNTRUSTED, Reason.WEAK),
    PathStatus.CONSTRAINT: (SmimeWord.FAIL, Status.INVALID, Reason.CONSTRAINT),
    PathStatus.MALFORMED: (SmimeWord.NEUTRAL, Status.INVALID, Reason.SYNTAX),
    PathStatus.LIMIT: (SmimeWord.POLICY, Status.UNCHECKED, Reason.LIMIT),
}

_AUTHOR_REASONS = {
    AuthorFault.MISSING: Reason.AUTHOR_MISSING,
    AuthorFault.SEVERAL_FIELDS: Reason.AUTHOR_SEVERAL,
    AuthorFault.SEVERAL_ADDRESSES: Reason.AUTHOR_SEVERAL,
    AuthorFault.GROUP: Reason.AUTHOR_GROUP,
    AuthorFault.MALFORMED: Reason.AUTHOR_MALFORMED,
    AuthorFault.DECEPTIVE_NAME: Reason.AUTHOR_NAME,
}
