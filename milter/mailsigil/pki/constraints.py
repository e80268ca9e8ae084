"""Name constraints on mail addresses, for both kinds of addresses a certificate can hold.

The path validator knows constraints on rfc822Name only. An authority that is held to one domain must not
get around that by an SmtpUTF8Mailbox (RFC 9598 6), so the addresses are checked here once more.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from cryptography import x509
from cryptography.x509.oid import NameOID

from mailsigil.pki.names import certificate_addresses, normalise_address

_READ: Final = (
    *(x509.RFC822Name, x509.DNSName, x509.UniformResourceIdentifier),
    *(x509.DirectoryName, x509.IPAddress),
)


def violated_constraint(leaf: x509.Certificate, issuers: Iterable[x509.Certificate]) -> str:
    """Tell which address an issuer above the leaf was not allowed to certify; empty when there is none.

    ``issuers`` are all authorities of the path, the anchor included.
    """
    issuers = list(issuers)
    if _names_hosts(leaf):
        for issuer in issuers:
            if _bars_all_hosts(issuer):
                return f"{_name(issuer)} may not certify any host, and the certificate names one"
    addresses = _constrained_addresses(leaf)
    if not addresses:
        return ""
    for issuer in issuers:
        try:
            constraints = issuer.extensions.get_extension_for_class(x509.NameConstraints).value
        except x509.ExtensionNotFound:
            continue
        permitted = _mail_bases(constraints.permitted_subtrees)
        excluded = _mail_bases(constraints.excluded_subtrees)
        for address in addresses:
            # RFC 5280 4.2.1.10: one permitted subtree is enough, one excluded is too many.
            if permitted and not any(_within(address, base, exact=True) for base in permitted):
                return f"{address} lies outside of what {_name(issuer)} may certify"
            if any(_within(address, base, exact=False) for base in excluded):
                return f"{address} is excluded from what {_name(issuer)} may certify"
    return ""


def unread_constraint(issuers: Iterable[x509.Certificate]) -> str:
    """Tell which authority has a constraint on names that are not read here; empty when none has.

    RFC 5280 4.2.1.10: what cannot be processed has to be refused.
    """
    for issuer in issuers:
        try:
            constraints = issuer.extensions.get_extension_for_class(x509.NameConstraints).value
        except x509.ExtensionNotFound:
            continue
        for base in (*(constraints.permitted_subtrees or ()), *(constraints.excluded_subtrees or ())):
            if not isinstance(base, _READ):
                return f"{_name(issuer)} has a constraint on names of a kind that is not read here"
    return ""


def _names_hosts(leaf: x509.Certificate) -> bool:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    return any(isinstance(name, x509.DNSName) for name in names)


def _bars_all_hosts(issuer: x509.Certificate) -> bool:
    """Tell whether the empty host name is excluded, which is every host; the path validator misses it."""
    try:
        constraints = issuer.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return False
    return any(
        isinstance(tree, x509.DNSName) and not tree.value for tree in constraints.excluded_subtrees or ()
    )


def _constrained_addresses(leaf: x509.Certificate) -> tuple[str, ...]:
    """Give the addresses that the certificate is for, and those that its subject shows beside them."""
    shown = (
        normalise_address(attribute.value)
        for attribute in leaf.subject.get_attributes_for_oid(NameOID.EMAIL_ADDRESS)
        if isinstance(attribute.value, str)
    )
    return tuple(dict.fromkeys((*certificate_addresses(leaf), *(address for address in shown if address))))


def _mail_bases(subtrees: Iterable[x509.GeneralName] | None) -> list[str]:
    return [name.value for name in subtrees or () if isinstance(name, x509.RFC822Name)]


def _within(address: str, base: str, *, exact: bool) -> bool:
    """Tell whether an address lies in a subtree: ``user@host``, ``host`` or ``.domain``.

    With ``exact`` local parts are compared octet by octet, otherwise whatever their case.
    """
    local, _, domain = address.rpartition("@")
    base_local, at, base_domain = base.rpartition("@")
    base_domain = base_domain.lower().rstrip(".")
    if at:
        same = local == base_local if exact else local.casefold() == base_local.casefold()
        return same and domain == base_domain
    if base_domain.startswith("."):
        return domain.endswith(base_domain) and domain != base_domain
    if not base_domain:
        # An empty base matches every address; harmless where it permits nothing more than others do.
        return True
    return domain == base_domain


def _name(certificate: x509.Certificate) -> str:
    text: str = certificate.subject.rfc4514_string()
    return text[:120]
