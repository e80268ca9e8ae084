"""Between the rows of the database and the values of the plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import Row

from mailsigil.keys.register import Reason
from mailsigil.keys.source import key_id_of
from mailsigil.keys.subject import SubjectRequest
from mailsigil.lifecycle.actions import CONTAINS, Held
from mailsigil.lifecycle.tables import Status, certificates
from mailsigil.pki.level import asserted_levels, claimed_level
from mailsigil.pki.names import CertificateNames
from mailsigil.pki.policies import Level

READ: Final = tuple(
    certificates.c[name]
    for name in (
        "id", "source", "address", "status", "level", "given_name", "surname", "organisation", "title",
        "serial", "key_id", "valid_from", "valid_until", "node", "revoke_at", "reason", "created_at", "told",
    )
)  # fmt: skip
"""The columns that the comparison reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What stands in a certificate."""

    key_id: str
    serial: str
    issuer: str
    certified: Level
    valid_from: datetime
    valid_until: datetime
    der: bytes = field(repr=False)

    @property
    def columns(self) -> dict[str, Any]:
        """As the columns of the table."""
        return {
            "key_id": self.key_id,
            "serial": self.serial,
            "issuer": self.issuer,
            "certified": self.certified.value,
            "valid_from": self.valid_from,
            "valid_until": self.valid_until,
        }


def facts_of(der: bytes) -> Facts:
    """Read a certificate (DER) that was checked before."""
    certificate = x509.load_der_x509_certificate(der)
    return Facts(
        key_id=key_id_of(der),
        serial=f"{certificate.serial_number:x}",
        issuer=certificate.issuer.rfc4514_string()[:2000],
        certified=claimed_level(asserted_levels(certificate)).level,
        valid_from=certificate.not_valid_before_utc,
        valid_until=certificate.not_valid_after_utc,
        der=certificate.public_bytes(Encoding.DER),
    )


def public_key_in(der: bytes) -> bytes:
    """Give the public key (DER) of a certificate (DER)."""
    key = x509.load_der_x509_certificate(der).public_key()
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def request_in(der: bytes, address: str) -> SubjectRequest:
    """What must have been asked for to get such a certificate."""
    certificate = x509.load_der_x509_certificate(der)
    names = CertificateNames.from_certificate(certificate)
    level = claimed_level(asserted_levels(certificate)).level
    personal = level in (Level.V2, Level.V4)
    subject = certificate.subject

    def first(oid: x509.ObjectIdentifier) -> str:
        found = subject.get_attributes_for_oid(oid)
        return str(found[0].value) if found else ""

    return SubjectRequest(
        address=address,
        level=level,
        given_name=first(x509.NameOID.GIVEN_NAME) if personal else "",
        surname=first(x509.NameOID.SURNAME) if personal else "",
        organisation=names.organisation if level in (Level.V3, Level.V4) else "",
        title=names.title if personal else "",
    )


def request_behind(der: bytes, address: str, candidates: Sequence[SubjectRequest]) -> SubjectRequest:
    """Give what was asked for to get a certificate: of several, the one that it says to the letter.

    Authorities may certify less than they are asked for: else the first that it says no more than. Where it
    fits none, what it says itself.
    """
    said = request_in(der, address)
    subject = x509.load_der_x509_certificate(der).subject
    names = {
        name: {str(each.value) for each in subject.get_attributes_for_oid(oid)}
        for name, oid in _NAMES.items()
    }

    def fits(asked: SubjectRequest) -> bool:
        named = all(found <= {getattr(asked, name)} for name, found in names.items())
        return named and said.level in CONTAINS[asked.level]

    return said if said in candidates else next(filter(fits, candidates), said)


_NAMES: Final = {
    "given_name": x509.NameOID.GIVEN_NAME,
    "surname": x509.NameOID.SURNAME,
    "organisation": x509.NameOID.ORGANIZATION_NAME,
    "title": x509.NameOID.TITLE,
}


def held_of(row: Row[Any] | Mapping[str, Any], **local: Any) -> Held:
    """Read a row with the columns of :data:`READ`."""
    values = row._mapping if isinstance(row, Row) else row
    address = values["address"]
    return Held(
        id=values["id"],
        source=values["source"],
        address=address,
        status=Status(values["status"]),
        request=SubjectRequest(
            address=address,
            level=Level(values["level"]),
            given_name=values["given_name"],
            surname=values["surname"],
            organisation=values["organisation"],
            title=values["title"],
        ),
        valid_from=values["valid_from"],
        valid_until=values["valid_until"],
        asked_at=values["created_at"],
        node=values["node"],
        key_id=values["key_id"],
        serial=values["serial"],
        reason=values["reason"],
        revoke_at=values["revoke_at"],
        told=Reason(values["told"]) if values["told"] else None,
        **local,
    )


def request_columns(request: SubjectRequest) -> dict[str, str]:
    """What is asked for, as the columns of the table."""
    return {
        "level": request.level.value,
        "given_name": request.given_name,
        "surname": request.surname,
        "organisation": request.organisation,
        "title": request.title,
    }
