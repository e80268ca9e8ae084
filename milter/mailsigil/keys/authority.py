"""The embedded certification authority: a folder with a root, an issuing authority and a register.

::

    root.pem  root.key          the trust anchor, and what signs the issuing authority
    issuing.pem  issuing.key    what signs the certificates for mail
    index.jsonl                 the register: one JSON object a line, only ever appended to
    issuing.crl  root.crl       what was revoked (DER), written by :meth:`Authority.write_crls`

A line of the register has an ``event``: ``issued`` (serial, address, level, not_after), ``revoked``
(serial, at) or ``crl`` (number). Serials are lower-case hexadecimal, times are UTC in ISO 8601.

It suits small organisations, tests and trials. The private keys lie in the folder without a passphrase,
so whoever reads the folder is the authority.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from mailsigil.keys import files, profile
from mailsigil.keys.profile import Issuer, KeyKind, Subject, Validity
from mailsigil.keys.register import Register, RegisterError

BACKDATE: Final = timedelta(minutes=5)
"""How far validity reaches back, for receivers whose clocks are late."""
_ROOT, _ISSUING = "root", "issuing"


class AuthorityError(Exception):
    """The authority cannot do what it was asked for; the message tells what to mend."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate that was just issued, and the file with its key and its issuer."""

    path: Path
    certificate: x509.Certificate


def random_serial() -> int:
    """Draw 128 bits of serial number, never zero (RFC 5280 4.1.2.2; S/MIME BR 7.1 asks for 64)."""
    return secrets.randbits(128) | 1


class Authority:
    """An authority in its folder. Create it with :meth:`init` or :meth:`load`."""

    def __init__(self, directory: Path, *, root: Issuer, issuing: Issuer) -> None:
        self.directory = directory
        self._root = root
        self._issuing = issuing
        self._register = Register(directory / "index.jsonl")

    @property
    def root(self) -> x509.Certificate:
        """The trust anchor."""
        return self._root.certificate

    @property
    def issuing(self) -> x509.Certificate:
        """The intermediate that goes into every signed mail."""
        return self._issuing.certificate

    @classmethod
    def init(
        cls,
        directory: Path,
        *,
        organisation: str,
        name: str = "",
        key: KeyKind = KeyKind.P256,
        years: int = 20,
        now: datetime,
        serial: Callable[[], int] = random_serial,
    ) -> Authority:
        """Set up a new authority in a folder that holds none.

        ``name`` is what readers see as the issuer, ``<organisation> Mail CA`` where it is empty. The root
        lasts ``years``, the issuing authority half of them. Raises ``AuthorityError``, ``RequestError``.
        """
        shown = name or f"{organisation} Mail CA"
        root_name = profile.authority_name(organisation, f"{shown} Root")
        issuing_name = profile.authority_name(organisation, shown)
        if not 1 <= years <= 50:
            raise AuthorityError("a root lasts from 1 to 50 years; choose --years within that")
        _prepare_folder(directory)
        start = (now - BACKDATE).replace(microsecond=0)
        root_key, issuing_key = key.generate(), key.generate()
        root = Issuer(
            profile.root_certificate(
                key=root_key,
                name=root_name,
                serial=serial(),
                valid=Validity(start, start + timedelta(days=365.25 * years)),
            ),
            root_key,
        )
        certificate = profile.issuing_certificate(
            root,
            key=issuing_key,
            name=issuing_name,
            serial=serial(),
            valid=Validity(start, start + timedelta(days=365.25 * years / 2)),
        )
        for stem, issuer in ((_ROOT, root), (_ISSUING, Issuer(certificate, issuing_key))):
            _write(directory / f"{stem}.key", _key_pem(issuer.key))
            _write(directory / f"{stem}.pem", _certificate_pem(issuer.certificate))
        return cls(directory, root=root, issuing=Issuer(certificate, issuing_key))

    @classmethod
    def load(cls, directory: Path) -> Authority:
        """Open the authority in a folder. Raises ``AuthorityError``."""
        if not (directory / "root.pem").exists():
            raise AuthorityError(
                f"there is no authority in {directory}; create one with"
                f" mailsigil ca init --dir {directory} --organisation NAME"
            )
        return cls(directory, root=_load_issuer(directory, _ROOT), issuing=_load_issuer(directory, _ISSUING))

    def issue(
        self,
        subject: Subject,
        *,
        out: Path,
        key: KeyKind = KeyKind.P256,
        days: int = 365,
        replace: bool = False,
        now: datetime,
        serial: Callable[[], int] = random_serial,
    ) -> Issued:
        """Issue a certificate with a new key, into one file of the key folder ``out``.

        The file holds key, certificate and issuing authority, and appears at once with mode 0600; one that
        exists is only replaced with ``replace``. Raises ``AuthorityError``.
        """
        if not 1 <= days <= 1185:  # S/MIME BR 6.3.2: the longest of the three generations
            raise AuthorityError("a mail certificate lasts from 1 to 1185 days; choose --days within that")
        start = (now - BACKDATE).replace(microsecond=0)
        end = min(start + timedelta(days=days), self.issuing.not_valid_after_utc)
        if end <= now:
            raise AuthorityError("the issuing authority has expired; set up a new one with mailsigil ca init")
        path = out / files.address_file_name(subject.mailbox)
        if path.exists() and not replace:
            raise AuthorityError(f"{path} exists already; give --replace to put a new key in its place")
        private = key.generate()
        certificate = profile.leaf_certificate(
            self._issuing,
            key=private,
            subject=subject,
            serial=serial(),
            valid=Validity(max(start, self.issuing.not_valid_before_utc), end),
        )
        # Registered first: what may be out in the world must be revocable.
        self._record_issue(subject, certificate)
        content = _key_pem(private) + _certificate_pem(certificate) + _certificate_pem(self.issuing)
        _write(path, content, replace=replace, make_folder=True)
        return Issued(path, certificate)

    def write_crls(self, *, now: datetime, days: int = 7) -> tuple[Path, ...]:
        """Write a fresh revocation list for each of the two authorities, good for ``days``."""
        if not 1 <= days <= 400:
            raise AuthorityError("a revocation list lasts from 1 to 400 days; choose --days within that")
        try:
            number = self._register.next_crl_number(now)
            revoked = self._register.revoked()
        except RegisterError as error:
            raise AuthorityError(str(error)) from error
        paths = []
        for stem, issuer, entries in ((_ISSUING, self._issuing, revoked), (_ROOT, self._root, {})):
            path = self.directory / f"{stem}.crl"
            crl = _crl(issuer, entries, number, Validity(now, now + timedelta(days=days)))
            _write(path, crl, replace=True)
            paths.append(path)
        return tuple(paths)

    def _record_issue(self, subject: Subject, certificate: x509.Certificate) -> None:
        try:
            self._register.issued(
                serial=certificate.serial_number,
                address=subject.mailbox,
                level=subject.level.value,
                not_after=certificate.not_valid_after_utc,
            )
        except RegisterError as error:
            raise AuthorityError(str(error)) from error


def _prepare_folder(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        entries = {entry.name for entry in directory.iterdir()}
        taken = sorted(entries & {"root.pem", "root.key", "issuing.pem", "issuing.key", "index.jsonl"})
        if taken:
            raise AuthorityError(
                f"{directory} holds an authority already ({taken[0]}); choose another folder"
            )
        if not entries:
            directory.chmod(0o700)
        elif directory.stat().st_mode & 0o077:
            raise AuthorityError(f"{directory} is open to other users; run chmod 700 {directory}")
    except OSError as error:
        raise AuthorityError(f"{directory} cannot be used: {error.strerror}") from error


def _write(path: Path, content: bytes, *, replace: bool = False, make_folder: bool = False) -> None:
    try:
        if make_folder:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.write_private(path, content, replace=replace)
    except FileExistsError as error:
        raise AuthorityError(f"{path} exists already and is left as it is") from error
    except OSError as error:
        raise AuthorityError(f"{path} cannot be written: {error.strerror}") from error


def _load_issuer(directory: Path, stem: str) -> Issuer:
    path = directory / f"{stem}.pem"
    key_path = directory / f"{stem}.key"
    try:
        if key_path.stat().st_mode & 0o077:
            raise AuthorityError(f"{key_path} is open to other users; run chmod 600 {key_path}")
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        key = serialization.load_pem_private_key(key_path.read_bytes(), password=None)
    except OSError as error:
        raise AuthorityError(f"{error.filename} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise AuthorityError(f"{path} or {key_path} is damaged; restore them from a backup") from error
    if not isinstance(key, (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey)):
        raise AuthorityError(f"{key_path} holds a kind of key that cannot sign certificates here")
    if key.public_key() != certificate.public_key():
        raise AuthorityError(f"{key_path} does not belong to {path}; restore both from one backup")
    return Issuer(certificate, key)


def _crl(issuer: Issuer, revoked: dict[int, datetime], number: int, valid: Validity) -> bytes:
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(valid.not_before.replace(microsecond=0))
        .next_update(valid.not_after.replace(microsecond=0))
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
                issuer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
            ),
            critical=False,
        )
    )
    for serial, moment in sorted(revoked.items()):
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(moment).build()
        )
    signed = builder.sign(issuer.key, profile.signature_hash(issuer.key))
    return signed.public_bytes(serialization.Encoding.DER)


def _key_pem(key: profile.PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _certificate_pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
