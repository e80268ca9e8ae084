"""An authority with all it publishes: certificates, revocation lists, OCSP responses, honest or not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from mailsigil.pki.fetch import FetchError, Request
from pki import pki_make as make
from pki.pki_make import NOW, Made

CRL_URL = "http://crl.bank.example/issuing.crl"
OCSP_URL = "http://ocsp.bank.example/"
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def crl_at(*urls: str) -> x509.CRLDistributionPoints:
    names = [x509.UniformResourceIdentifier(url) for url in urls]
    return x509.CRLDistributionPoints([x509.DistributionPoint(names, None, None, None)])


def ocsp_at(*urls: str) -> x509.AuthorityInformationAccess:
    return x509.AuthorityInformationAccess(
        [
            x509.AccessDescription(AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(url))
            for url in urls
        ]
    )


def crl(
    issuer: Made,
    *revoked: Made,
    this: datetime = NOW - HOUR,
    lasts: timedelta = 7 * DAY,
    since: datetime = NOW - DAY,
    entry: Sequence[x509.ExtensionType] = (),
    extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
    name: x509.Name | None = None,
) -> bytes:
    """A list in DER; ``entry`` are extensions of each entry."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(name or issuer.certificate.subject)
        .last_update(this)
        .next_update(this + lasts)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    for made in revoked:
        one = x509.RevokedCertificateBuilder().serial_number(made.certificate.serial_number)
        one = one.revocation_date(since)
        for value in entry:
            one = one.add_extension(value, critical=False)
        builder = builder.add_revoked_certificate(one.build())
    return builder.sign(issuer.key, hashes.SHA256()).public_bytes(Encoding.DER)


def answer(
    issuer: Made,
    about: Made,
    *,
    revoked: bool = False,
    unknown: bool = False,
    this: datetime = NOW - HOUR,
    lasts: timedelta | None = DAY,
    since: datetime = NOW - DAY,
    reason: x509.ReasonFlags | None = None,
    by: Made | None = None,
    named: Made | None = None,
) -> bytes:
    """An OCSP response in DER, signed by the issuer or ``by`` another one; ``named`` as its issuer."""
    signer = by or issuer
    status = ocsp.OCSPCertStatus.REVOKED if revoked else ocsp.OCSPCertStatus.GOOD
    builder = ocsp.OCSPResponseBuilder().add_response(
        cert=about.certificate,
        issuer=(named or issuer).certificate,
        algorithm=hashes.SHA1(),
        cert_status=ocsp.OCSPCertStatus.UNKNOWN if unknown else status,
        this_update=this,
        next_update=None if lasts is None else this + lasts,
        revocation_time=since if revoked else None,
        revocation_reason=reason,
    )
    builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, signer.certificate)
    if by is not None:
        builder = builder.certificates([by.certificate])
    return builder.sign(signer.key, hashes.SHA256()).public_bytes(Encoding.DER)


def responder(issuer: Made, *extensions: x509.ExtensionType, **options: Any) -> Made:
    """One whom the authority appointed to answer."""
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING])
    return make.make(make.name(cn="Responder"), issuer, *(extensions or (usage,)), **options)


class Network:
    """A :class:`Fetch` of documents by URL; what is callable is called, what is an error is raised."""

    def __init__(self) -> None:
        self.documents: dict[str, bytes | Exception | Callable[[], bytes]] = {}
        self.asked: list[str] = []

    def __call__(self, request: Request) -> bytes:
        self.asked.append(request.url)
        found = self.documents.get(request.url, FetchError("not here"))
        if isinstance(found, Exception):
            raise found
        return found if isinstance(found, bytes) else found()
