"""``mailsigil inspect``: what a certificate says about its holder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import IO

import click
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from mailsigil.cli.misuse import Misuse
from mailsigil.pki.lenient import load_certificate
from mailsigil.pki.level import asserted_levels, claimed_level, fit_level, identity_text, policy_oids
from mailsigil.pki.names import UNREADABLE, CertificateNames, clean_name
from mailsigil.pki.parsed import SHORT_NAMES, key_weakness
from mailsigil.pki.purpose import leaf_misuse

_MAX_INPUT = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """Everything that is shown."""

    level: str
    """What the certificate's policies claim. No issuer was asked whether it may."""
    generation: str | None
    names_fit: str
    """The highest level that the names in the certificate allow under this claim."""
    text: str
    """What a reader would be shown, if the issuer is trusted to assert the level."""
    name: str
    org: str
    title: str
    common_name: str
    addresses: tuple[str, ...]
    issuer: str
    subject: str
    serial: str
    not_before: str
    not_after: str
    key: str
    policies: tuple[str, ...]
    warnings: tuple[str, ...]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object instead of lines for people.")
@click.argument("cert", type=click.File("rb"))
def command(as_json: bool, cert: IO[bytes]) -> None:
    """Show the identity level, names and addresses in the certificate CERT.

    CERT is a file in PEM or DER, or - for standard input; of several certificates the first is shown.
    The level is what the certificate claims: whether its issuer may say so, `mailsigil verify` tells.
    Where the names do not fit the level, a warning says so, and "Shown as" is what is left of it.
    """
    certificate = _load(cert.read(_MAX_INPUT + 1), getattr(cert, "name", "standard input"))
    inspection = inspect_certificate(certificate, now=datetime.now(UTC))
    if as_json:
        click.echo(json.dumps(asdict(inspection), ensure_ascii=False, indent=2))
    else:
        _show(inspection)


def _load(data: bytes, name: str) -> x509.Certificate:
    try:
        if len(data) > _MAX_INPUT:
            raise ValueError("too large")
        if b"-----BEGIN" in data:
            certificate = x509.load_pem_x509_certificate(data)
        else:
            certificate = load_certificate(data)
        _ = (certificate.extensions, certificate.subject, certificate.issuer)
    except UNREADABLE as error:
        raise Misuse(f"{name} holds no readable certificate; give one in PEM or DER") from error
    return certificate


def inspect_certificate(certificate: x509.Certificate, *, now: datetime) -> Inspection:
    """Gather what a certificate says, with warnings about what a receiver would hold against it."""
    assertions = asserted_levels(certificate)
    claimed = claimed_level(assertions)
    fitting = fit_level(assertions, certificate)
    names = CertificateNames.from_certificate(certificate)
    return Inspection(
        level=claimed.level.value,
        generation=claimed.generation.value if claimed.generation else None,
        names_fit=fitting.level.value,
        text=identity_text(fitting.level, names),
        name=names.full_name,
        org=names.organisation,
        title=names.title,
        common_name=names.common_name,
        addresses=names.addresses,
        issuer=names.issuer,
        subject=clean_name(certificate.subject.rfc4514_string(SHORT_NAMES), limit=500),
        serial=f"{certificate.serial_number:x}",
        not_before=certificate.not_valid_before_utc.isoformat(),
        not_after=certificate.not_valid_after_utc.isoformat(),
        key=_key(certificate),
        policies=policy_oids(certificate),
        warnings=_warnings(certificate, names, fitting.reason, now),
    )


def _warnings(
    certificate: x509.Certificate, names: CertificateNames, reason: str, now: datetime
) -> tuple[str, ...]:
    weakness = key_weakness(certificate)
    return tuple(
        warning
        for warning in (
            reason,
            "" if names.addresses else "the certificate has no mail address",
            "the certificate has expired" if now > certificate.not_valid_after_utc else "",
            "the certificate is not valid yet" if now < certificate.not_valid_before_utc else "",
            leaf_misuse(certificate, public=False),
            f"the certificate is weak: {weakness}" if weakness else "",
        )
        if warning
    )


def _key(certificate: x509.Certificate) -> str:
    try:
        key = certificate.public_key()
    except (UnsupportedAlgorithm, ValueError):
        return "unknown"
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"EC {key.curve.name}"
    return type(key).__name__.lstrip("_").removesuffix("PublicKey")


def _show(inspection: Inspection) -> None:
    generation = f" ({inspection.generation})" if inspection.generation else ""
    rows = (
        ("Level", inspection.level + generation),
        ("Shown as", inspection.text),
        ("Name", inspection.name),
        ("Organisation", inspection.org),
        ("Title", inspection.title),
        ("Addresses", ", ".join(inspection.addresses)),
        ("Issuer", inspection.issuer),
        ("Subject", inspection.subject),
        ("Serial", inspection.serial),
        ("Valid", f"{inspection.not_before} to {inspection.not_after}"),
        ("Key", inspection.key),
        ("Policies", ", ".join(inspection.policies)),
    )
    for label, value in rows:
        if value:
            click.echo(f"{label + ':':<14}{value}")
    for warning in inspection.warnings:
        click.echo(f"{'Warning:':<14}{warning}")
