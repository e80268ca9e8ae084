"""Looks at revocation lists in files as an administrator would: whose are they, and do they last?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from mailsigil.pki.anchor_review import AnchorRemark, Weight
from mailsigil.pki.anchors import AnchorSet, RevocationMode
from mailsigil.pki.crl import check_crl
from mailsigil.pki.evidence import CLOCK_SKEW, Unusable
from mailsigil.pki.library import read_list
from mailsigil.pki.names import UNREADABLE, clean_name
from mailsigil.pki.parsed import Parsed, UnreadableCertificate, parse_certificate

SOON = timedelta(days=1)


def review_lists(anchors: AnchorSet, files: Sequence[Path], *, now: datetime) -> Iterator[AnchorRemark]:
    """Give everything that is to be said about the lists of one set."""

    def remark(weight: Weight, file: Path, sentence: str) -> AnchorRemark:
        return AnchorRemark(weight, anchors.name, str(file), sentence)

    authorities = list(_parsed(anchors))
    for file in files:
        if anchors.revocation is RevocationMode.OFF:
            yield remark(Weight.NOTE, file, 'is not looked at, because this entry has revocation = "off"')
        try:
            data = read_list(file)
            crl = x509.load_der_x509_crl(data)
            issuer = clean_name(crl.issuer.rfc4514_string(), limit=200)
            begin, end = crl.last_update_utc, crl.next_update_utc
        except OSError as error:
            yield remark(Weight.PROBLEM, file, f"cannot be read: {error.strerror or error}")
            continue
        except (*UNREADABLE, x509.InvalidVersion) as error:
            yield remark(Weight.PROBLEM, file, f"cannot be read: it is no revocation list ({error})"[:300])
            continue
        yield from (remark(weight, file, sentence) for weight, sentence in _dates(begin, end, now))
        fault = _signature(data, crl, authorities)
        if fault:
            weight, sentence = fault
            yield remark(weight, file, f"{sentence}: {issuer}")


def _parsed(anchors: AnchorSet) -> Iterator[Parsed]:
    for certificate in anchors.certificates:
        try:
            yield parse_certificate(certificate.public_bytes(Encoding.DER))
        except UnreadableCertificate:
            continue  # a remark of its own


def _dates(begin: datetime, end: datetime | None, now: datetime) -> Iterator[tuple[Weight, str]]:
    if begin > now + CLOCK_SKEW:
        yield Weight.PROBLEM, f"is of {begin:%Y-%m-%d %H:%M} UTC, which is still to come; look at the clock"
    if end is None:
        yield Weight.NOTE, "does not say when the next one comes, so it counts for a day"
    elif end < now:
        yield Weight.PROBLEM, f"ran out on {end:%Y-%m-%d}; put the authority's next list there"
    elif end < now + SOON:
        yield Weight.NOTE, f"runs out on {end:%Y-%m-%d %H:%M} UTC; put the authority's next list there"


def _signature(
    data: bytes, crl: x509.CertificateRevocationList, authorities: Sequence[Parsed]
) -> tuple[Weight, str] | None:
    """Tell what is wrong with whose list it is; None where it is an anchor's own."""
    reasons = []
    for authority in authorities:
        if authority.certificate.subject != crl.issuer:
            continue
        try:
            check_crl(data, authority)
        except Unusable as error:
            reasons.append(str(error))
        else:
            return None
    if reasons:
        return Weight.PROBLEM, f"cannot be used, because {reasons[0]}"
    # That one's certificate comes with the mail, so nothing more can be said here.
    return Weight.NOTE, "is the list of an authority that is not an anchor of this entry"
