"""Where a certificate says that its revocation is published."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID

from mailsigil.pki.evidence import Link
from mailsigil.pki.fetch import FetchError, Request, check_url
from mailsigil.pki.names import UNREADABLE
from mailsigil.pki.ocsp import MAX_RESPONSE, ocsp_request

MAX_EACH: Final = 3
"""Places of each kind that are asked for one certificate."""


class Kind(Enum):
    """What is found at a place."""

    OCSP = "ocsp"
    CRL = "crl"


@dataclass(frozen=True, slots=True)
class Source:
    """One place."""

    kind: Kind
    request: Request

    @property
    def name(self) -> bytes:
        """What tells its document from others."""
        return self.request.url.encode() + b"\0" + self.request.body


def sources(link: Link, *, max_crl: int) -> tuple[Source, ...]:
    """Give the places that may be asked about a certificate, the quickest first: OCSP, then lists."""
    certificate = link.certificate.certificate
    try:
        ocsp_urls = list(dict.fromkeys(_ocsp_urls(certificate)))[:MAX_EACH]
        crl_urls = list(dict.fromkeys(_crl_urls(certificate)))[:MAX_EACH]
    except UNREADABLE:
        return ()
    body = ocsp_request(link) if ocsp_urls else b""
    return (
        *(
            Source(
                Kind.OCSP,
                Request(url=url, max_bytes=MAX_RESPONSE, body=body, content_type="application/ocsp-request"),
            )
            for url in ocsp_urls
        ),
        *(Source(Kind.CRL, Request(url=url, max_bytes=max_crl)) for url in crl_urls),
    )


def _ocsp_urls(certificate: x509.Certificate) -> Iterator[str]:
    try:
        access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except x509.ExtensionNotFound:
        return
    for description in access:
        if description.access_method == AuthorityInformationAccessOID.OCSP:
            yield from _fetchable(description.access_location)


def _crl_urls(certificate: x509.Certificate) -> Iterator[str]:
    try:
        points = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    except x509.ExtensionNotFound:
        return
    for point in points:
        # Points with an issuer or reasons of their own are those of indirect and partial lists.
        if point.crl_issuer is None and point.reasons is None:
            for name in point.full_name or ():
                yield from _fetchable(name)


def _fetchable(name: x509.GeneralName) -> Iterator[str]:
    if isinstance(name, x509.UniformResourceIdentifier):
        try:
            check_url(name.value)
        except FetchError:
            return
        yield name.value
