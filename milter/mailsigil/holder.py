"""What a certificate says about its holder, remembered: the same few people write again and again."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from typing import Final

from mailsigil.message.address import Address, AddressError
from mailsigil.pki.anchors import AnchorSet
from mailsigil.pki.lenient import load_certificate
from mailsigil.pki.level import identity_level
from mailsigil.pki.names import CertificateNames
from mailsigil.pki.path import PathVerdict
from mailsigil.pki.policies import Level
from mailsigil.verdict import Identity

DOMAIN_MAILBOX: Final = "domain-signing-authority"
"""Local part of the address that the certificate of a whole domain names (RFC 3183 3.1)."""


_REMEMBERED: Final = 8192
"""Octets of a certificate that is remembered: nobody may fill the memory with huge ones."""


def describe(certificate: bytes) -> tuple[CertificateNames, str, str]:
    """Names, serial number in hexadecimal, and issuer as an RFC 4514 string."""
    return (_described if len(certificate) <= _REMEMBERED else _described.__wrapped__)(certificate)


@lru_cache(maxsize=4096)
def _described(certificate: bytes) -> tuple[CertificateNames, str, str]:
    parsed = load_certificate(certificate)
    return (
        CertificateNames.from_certificate(parsed),
        f"{parsed.serial_number:x}",
        parsed.issuer.rfc4514_string(),
    )


@lru_cache(maxsize=4096)
def mailboxes(addresses: tuple[str, ...]) -> tuple[Address, ...]:
    """The addresses of a certificate, without what is none."""
    found: list[Address] = []
    for address in addresses:
        with suppress(AddressError):
            found.append(Address.parse(address))
    return tuple(found)


def identity_of(certificate: bytes, path: PathVerdict, names: CertificateNames, address: Address) -> Identity:
    """What the certificate says of the author, as far as the anchor of its path may assert it."""
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


def signs_for_domain(author: Address, names: CertificateNames) -> Address | None:
    """The mailbox with which a certificate stands for the author's whole domain, where it has one.

    RFC 3183 allows domains above the author's, too; those are not taken, for nobody knows who shares them.
    """
    wanted = f"{DOMAIN_MAILBOX}@{author.domain}"
    return next((mailbox for mailbox in mailboxes(names.addresses) if mailbox.key == wanted), None)


def organisation_alone(identity: Identity) -> Identity | None:
    """What remains of an identity when the domain signed, and not a person: the organisation, as V3.

    None where the certificate says of no organisation who it is: whoever gets hold of one mailbox of a domain
    would speak for all of it.
    """
    if identity.level not in {Level.V3, Level.V4} or not identity.org:
        return None
    return replace(identity, level=Level.V3, name="", title="")


def _level(certificate: bytes, path: PathVerdict) -> Level:
    if path.anchor_set is None:
        return Level.V1
    return _level_under(certificate, _Same(path.anchor_set), path.policies)


class _Same:
    """Anchors as a key of a cache: equal to themselves alone, so that a reload asks anew."""

    __slots__ = ("anchors",)

    def __init__(self, anchors: AnchorSet) -> None:
        self.anchors = anchors

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.anchors is self.anchors

    def __hash__(self) -> int:
        return id(self.anchors)


@lru_cache(maxsize=4096)
def _level_under(certificate: bytes, same: _Same, policies: frozenset[str]) -> Level:
    parsed = load_certificate(certificate)
    return identity_level(parsed, same.anchors, policies=policies).level
