"""Who signed this message? One function of numbered steps, to be held against the RFCs.

RFC 8551 (S/MIME messages), RFC 8550 (certificate handling), RFC 5652 (CMS), RFC 8601 and RFC 7281
(the words). Each step either goes on or ends with a verdict; a doubt never ends with an identity.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from mailsigil.cms.parse import CmsLimitError, CmsLimits, SignedData
from mailsigil.cms.verify import SignerCheck, SignerStatus, check_signer, digests_needed, signature_checks
from mailsigil.holder import describe, identity_of, mailboxes, organisation_alone, signs_for_domain
from mailsigil.message.address import Address
from mailsigil.message.author import AuthorFault, parse_author
from mailsigil.message.field_lines import header_fault
from mailsigil.message.fields import Field
from mailsigil.message.mime import MimeLimitError, MimeLimits, Part, parse_mime
from mailsigil.message.spool import Spool
from mailsigil.pki.anchors import AnchorSet, RevocationMode, domains_allow
from mailsigil.pki.evidence import RevocationStatus
from mailsigil.pki.names import CertificateNames
from mailsigil.pki.parsed import UnreadableCertificate, parse_certificate
from mailsigil.pki.path import PathStatus, PathValidator, PathVerdict
from mailsigil.pki.revocation import Carried, Revocation
from mailsigil.pki.standing import Standing, best_standing
from mailsigil.shown import contradiction, elsewhere, misleading, notes
from mailsigil.signature import Ended, Signature, ended, find_signature
from mailsigil.verdict import Reason, SmimeWord, Status, Verdict

CLOCK_SKEW = timedelta(minutes=5)
"""How far a signer's clock may be ahead of ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationParts:
    """What verification is handed: path validator, revocation, bounds, clock, a place for big bodies."""

    validator: PathValidator
    revocation: Revocation
    mime_limits: MimeLimits
    cms_limits: CmsLimits
    seconds: float = 30.0
    """How long one message may take."""
    signature_checks: int = 100
    """Signatures that are verified for all signers of a message together."""
    content_bytes: int = 0
    """Octets of signed content that are looked at; 0 for no bound but the message's."""
    clock: Callable[[], float] = time.monotonic
    """Seconds that run on, for ``seconds``."""
    new_spool: Callable[[], Spool] = Spool


def verify(
    fields: Sequence[Field],
    body: Spool,
    parts: VerificationParts,
    *,
    at: datetime,
    with_identity: bool = True,
    damage: str = "",
) -> Verdict:
    """Gives the verdict about one message at a time (aware; normally that of receipt).

    ``with_identity=False`` judges signature and certificate path alone: no author is compared and
    no identity is given. ``damage`` is what whoever cut the message into header and body found wrong
    there (``Message.damage``): a signed message with any is refused.
    """
    try:
        return _steps(fields, body, parts, at, with_identity, damage)
    except Ended as end:
        return end.verdict
    except (MimeLimitError, CmsLimitError) as error:
        return ended(Reason.LIMIT, str(error)).verdict


def _steps(
    fields: Sequence[Field],
    body: Spool,
    parts: VerificationParts,
    at: datetime,
    with_identity: bool,
    damage: str,
) -> Verdict:
    # 1. Structure: a signature counts only if it covers everything a client shows (RFC 8551 3.5).
    in_time = _Deadline(parts)
    root = parse_mime(fields, body, limits=parts.mime_limits)
    with parts.new_spool() as store, parts.new_spool() as copy:
        signature = find_signature(fields, body, root, store, parts.cms_limits)
        if fault := damage or header_fault(fields):
            raise ended(Reason.HEADER, fault)
        data = signature.data
        if not data.signers:
            raise ended(Reason.NO_SIGNER)
        if signature_checks(data) > parts.signature_checks:
            raise ended(Reason.LIMIT, "signature checks")
        # 2. Content digests, signed attributes, signature of each signer (RFC 5652 5.4 to 5.6).
        content = in_time.watch(signature.content(), parts.content_bytes)
        digests, first = _digests(content, digests_needed(data), None if signature.detached else copy)
        checks = [_check(data, number, digests, first, in_time) for number in range(len(data.signers))]
        entity = _entity(signature, copy, parts.mime_limits)
    # 3. Exactly one signer: several names would be no one's (RFC 5652 5.1).
    certificate = _one_signer(checks)
    if pointer := elsewhere(entity):
        raise ended(Reason.ELSEWHERE, pointer)

    # 4. From here on the signer is known, so every verdict names the certificate.
    signer = data.signers[0]
    names, serial, issuer = _described(certificate)
    base = Verdict(
        word=SmimeWord.PASS,
        status=Status.TRUSTED,
        signers=names.addresses,
        serial=serial,
        issuer=issuer,
        signed=signer.signing_time,
    )
    if signer.signing_time is not None and signer.signing_time > at + CLOCK_SKEW:
        return _refused(base, Reason.FUTURE)

    # 5. Certificate path to an anchor of ours, purpose and strength (RFC 5280 6, RFC 8550 4).
    path = parts.validator.validate(certificate, data.certificates, at=at)
    if path.status is not PathStatus.TRUSTED or path.anchor_set is None:
        return _refused(base, _PATH_REASONS[path.status], path.reason)

    # 6. Nobody on the path was revoked, as far as the anchor's entry asks (RFC 5280 6.3, RFC 6960).
    in_time.check()
    standing = _standing(path, certificate, data, parts, at)
    base, path = _unless_revoked(base, standing), standing.path
    if base.status is not Status.TRUSTED or path.anchor_set is None:
        return base

    if not with_identity:
        return base
    # 7. to 9. The author is the one whom the certificate names.
    holder = _holder(fields, entity, names, path.anchor_set)
    if isinstance(holder, _Doubt):
        return _refused(base, holder.reason, holder.detail)
    # 10. Level and names, as far as the anchor may assert them; a domain's are those of its organisation.
    identity = identity_of(certificate, path, names, holder.mailbox)
    shown = organisation_alone(identity) if holder.whole_domain else identity
    if shown is None:
        detail = f"{holder.mailbox} is certified as {identity.level.value}, which is no organisation"
        return _refused(base, Reason.ADDRESS, detail)
    # 11. What takes no identity away, and is worth to be told.
    found = notes(fields, holder.author, signed=base.signed, at=at)
    return replace(base, identity=shown, notes=found)


def _standing(
    path: PathVerdict, certificate: bytes, data: SignedData, parts: VerificationParts, at: datetime
) -> Standing:
    def paths() -> Iterator[PathVerdict]:
        yield path
        yield from parts.validator.others(certificate, data.certificates, at=at, but=path)

    carried = Carried(data.crls, data.ocsp_responses)
    return best_standing(paths(), parts.revocation, carried=carried, at=at, clock=parts.clock)


def _unless_revoked(base: Verdict, standing: Standing) -> Verdict:
    found = standing.revocation
    if found.status is RevocationStatus.REVOKED:
        return _refused(base, Reason.REVOKED, found.reason)
    if found.status is RevocationStatus.GOOD:
        return base
    if standing.mode is RevocationMode.PREFER:
        return replace(base, detail=f"revocation is not known: {found.reason}")
    # RFC 8601 2.7: a later try may help where somebody was asked, and cannot where nobody publishes.
    refused = _refused(base, Reason.REVOCATION_UNKNOWN, found.reason)
    return refused if found.status is RevocationStatus.UNKNOWN else replace(refused, word=SmimeWord.POLICY)


@dataclass(frozen=True, slots=True)
class _Doubt:
    """Why a signature that holds is no identity."""

    reason: Reason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class _Holder:
    """Whose certificate it is that speaks for the author."""

    author: Address
    mailbox: Address
    """The certified one."""
    whole_domain: bool = False


def _holder(
    fields: Sequence[Field], entity: Part, names: CertificateNames, anchor_set: AnchorSet
) -> _Holder | _Doubt:
    # 7. One author, shown as who he is (RFC 5322 3.6.2).
    author = parse_author(fields)
    if isinstance(author, AuthorFault):
        return _Doubt(_AUTHOR_REASONS[author])
    # 8. The author's address is one of the certificate's (RFC 8550 3), within the anchor's domains; or the
    # certificate is that of the author's domain, where the anchor's entry lets it be (RFC 3183 3.1).
    holder = _Holder(author.address, author.address)
    if not any(mailbox.same_mailbox(author.address) for mailbox in mailboxes(names.addresses)):
        domain = signs_for_domain(author.address, names) if anchor_set.domain_signatures else None
        if domain is None:
            return _Doubt(Reason.ADDRESS, f"author {author.address}")
        holder = _Holder(author.address, domain, whole_domain=True)
    if not domains_allow(anchor_set, str(author.address)):
        return _Doubt(Reason.DOMAIN, anchor_set.name)
    # 9. No field that a reader sees contradicts the signed ones or the author (RFC 8551 3.1, RFC 9788).
    if key := contradiction(fields, entity):
        return _Doubt(Reason.HEADER_MISMATCH, key)
    if finding := misleading(fields, author.address):
        return _Doubt(*finding)
    return holder


class _Deadline:
    """How long one message may take, looked at between pieces of work."""

    def __init__(self, parts: VerificationParts) -> None:
        self._clock = parts.clock
        self._end = parts.clock() + parts.seconds

    def check(self) -> None:
        if self._clock() > self._end:
            raise ended(Reason.LIMIT, "time")

    def watch(self, content: Iterable[bytes], most: int) -> Iterator[bytes]:
        """The content again, as long as there is time for it and no more than ``most`` octets (0: any)."""
        size = 0
        for chunk in content:
            self.check()
            size += len(chunk)
            if 0 < most < size:
                raise ended(Reason.LIMIT, "signed content")
            yield chunk


def _digests(
    content: Iterable[bytes], names: Iterable[str], copy: Spool | None
) -> tuple[dict[str, bytes], bytes]:
    """The digests of the content, and its first octet; ``copy`` takes all of it."""
    running = {name: hashlib.new(name) for name in sorted(names)}
    first = b""
    for chunk in content:
        first = first or chunk[:1]
        for digest in running.values():
            digest.update(chunk)
        if copy is not None:
            copy.write(chunk)
    return {name: digest.digest() for name, digest in running.items()}, first


def _check(
    data: SignedData, number: int, digests: dict[str, bytes], first: bytes, in_time: _Deadline
) -> SignerCheck:
    in_time.check()
    signer = data.signers[number]
    if signer.attributes is None and first == _SET_OF:
        # RFC 5652 5.4: a signature over somebody's attributes fits these as content, too.
        return SignerCheck(SignerStatus.MALFORMED, None, "content-is-attributes")
    return check_signer(signer, data, digests)


_SET_OF = b"\x31"
_MESSAGE = (Field(b"Content-Type", b" message/rfc822"),)


def _entity(signature: Signature, copy: Spool, limits: MimeLimits) -> Part:
    """The MIME entity that was signed."""
    if signature.detached is not None:
        return signature.detached[1]
    root = parse_mime(_MESSAGE, copy, limits=limits)
    return root.children[0] if root.children else root


def _require_readable(check: SignerCheck) -> None:
    """Ends with what is wrong with the signer's certificate, where it is that which cannot be read."""
    if check.reason != "certificate-malformed" or check.certificate is None:
        return
    try:
        parse_certificate(check.certificate)
    except UnreadableCertificate as error:
        raise ended(Reason.CERTIFICATE_FORM, str(error)) from error
    raise ended(Reason.CERTIFICATE_FORM, "the certificate cannot be read")


def _one_signer(checks: Sequence[SignerCheck]) -> bytes:
    """The certificate of the one signer; each of several is verified, and those that hold are told."""
    holding = [
        check.certificate for check in checks if check.status is SignerStatus.VALID and check.certificate
    ]
    if not holding:
        _require_readable(checks[0])
        raise ended(_SIGNER_REASONS[checks[0].status], checks[0].reason)
    if len(checks) == 1:
        return holding[0]
    addresses = [address for certificate in holding for address in _described(certificate)[0].addresses]
    raise Ended(
        Verdict(
            word=Reason.SEVERAL_SIGNERS.word,
            status=Reason.SEVERAL_SIGNERS.status,
            reason=Reason.SEVERAL_SIGNERS,
            detail=f"{len(checks)} signers, {len(holding)} of whose signatures hold",
            signers=tuple(dict.fromkeys(addresses)),
        )
    )


def _described(certificate: bytes) -> tuple[CertificateNames, str, str]:
    try:
        return describe(certificate)
    except Exception as error:
        # The key could be read and something else cannot: parsers raise whatever comes up inside.
        raise ended(
            Reason.CERTIFICATE_FORM, f"the certificate cannot be read: {type(error).__name__}"
        ) from error


def _refused(base: Verdict, reason: Reason, detail: str = "") -> Verdict:
    return replace(base, word=reason.word, status=reason.status, reason=reason, detail=detail)


_SIGNER_REASONS = {
    SignerStatus.DIGEST_MISMATCH: Reason.DIGEST,
    SignerStatus.SIGNATURE_INVALID: Reason.SIGNATURE,
    SignerStatus.NO_CERTIFICATE: Reason.NO_CERTIFICATE,
    SignerStatus.MALFORMED: Reason.ATTRIBUTES,
    SignerStatus.WEAK_ALGORITHM: Reason.WEAK,
    SignerStatus.UNSUPPORTED_ALGORITHM: Reason.ALGORITHM,
    SignerStatus.CERTIFICATE_MISMATCH: Reason.CERTIFICATE,
}

_PATH_REASONS = {
    PathStatus.UNTRUSTED: Reason.NO_PATH,
    PathStatus.EXPIRED: Reason.EXPIRED,
    PathStatus.NOT_YET_VALID: Reason.NOT_YET_VALID,
    PathStatus.BAD_PURPOSE: Reason.PURPOSE,
    PathStatus.WEAK: Reason.WEAK,
    PathStatus.CONSTRAINT: Reason.CONSTRAINT,
    PathStatus.MALFORMED: Reason.CERTIFICATE_FORM,
    PathStatus.LIMIT: Reason.LIMIT,
}

_AUTHOR_REASONS = {
    AuthorFault.MISSING: Reason.AUTHOR_MISSING,
    AuthorFault.SEVERAL_FIELDS: Reason.AUTHOR_SEVERAL,
    AuthorFault.SEVERAL_ADDRESSES: Reason.AUTHOR_SEVERAL,
    AuthorFault.GROUP: Reason.AUTHOR_GROUP,
    AuthorFault.MALFORMED: Reason.AUTHOR_MALFORMED,
    AuthorFault.DECEPTIVE_NAME: Reason.AUTHOR_NAME,
}
