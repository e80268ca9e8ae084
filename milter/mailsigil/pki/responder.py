"""What an answer of an appointed OCSP responder is worth, by what is known of its own revocation.

RFC 6960 4.2.2.2.1 knows three cases. The authority says that the responder is trusted for as long as its
certificate lives: nobody asks. It names a place where the revocation is published: that place is asked. It
says nothing, which leaves it to us: then what is at hand may speak against the responder, and where nothing
does, its answers count, because the authority gave nobody a way to doubt them.
"""

from __future__ import annotations

from dataclasses import replace

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from mailsigil.pki.evidence import Evidence, Link, RevocationStatus, Unusable


def weigh(evidence: Evidence, link: Link, found: RevocationStatus) -> Evidence:
    """Give the evidence about a certificate again if it counts, with what was found about its responder.

    Raises ``Unusable``. An answer that proves a revocation counts unless the responder is known to be
    revoked: silence of another server must not bring a revoked certificate back.
    """
    if found is RevocationStatus.REVOKED:
        raise Unusable("the OCSP responder that answers was itself revoked")
    if is_responder(link):
        # Two responders that vouch for each other, or one for itself, are vouched for by nobody.
        raise Unusable("an OCSP responder cannot vouch for an OCSP responder")
    if found is RevocationStatus.UNKNOWN and evidence.status is not RevocationStatus.REVOKED:
        raise Unusable("it is not known whether the OCSP responder that answers was itself revoked")
    return replace(evidence, responder=None)


def is_responder(link: Link) -> bool:
    """Tell whether a certificate is one that an authority gave to an OCSP responder."""
    try:
        usage = link.certificate.certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return ExtendedKeyUsageOID.OCSP_SIGNING in usage
