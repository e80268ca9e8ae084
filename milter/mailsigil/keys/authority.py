"""The embedded certification authority: a folder with a root, an issuing authority and a register.

::

    root.pem  root.key          the trust anchor, and what signs the issuing authority
    issuing.pem  issuing.key    what signs the certificates for mail
    index.jsonl                 the register: one JSON object a line, only ever appended to
    issuing.crl  root.crl       what was revoked (DER), written by :meth:`Authority.write_crls`
    ca.toml                     settings, where there are any (config/authority.py)

A line of the register has an ``event``: ``issued`` (serial, address, level, not_after; issuer where it is the
root, else key, a digest of the public key, and certificate, DER in base64), ``revoked`` (serial, at, reason),
``released`` (serial, at; it was suspended before) or ``crl`` (number). Serials are lower-case hexadecimal,
times are UTC in ISO 8601. A line that a crash or a full disk cut off is skipped, wherever it stands.

It suits small organisations, tests and trials. The private keys lie in the folder without a passphrase,
so whoever reads the folder is the authority.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from mailsigil.config.authority import AuthoritySettings
from mailsigil.keys import files, profile
from mailsigil.keys.authority_files import (
    AuthorityError,
    certificate_pem,
    is_there,
    key_pem,
    load_issuer,
    load_settings,
    prepare_folder,
    write,
)
from mailsigil.keys.profile import Issuer, KeyKind, Publication, PublicKey, Subject, Validity
from mailsigil.keys.register import ISSUING, ROOT, Entry, Reason, Register
from mailsigil.keys.revocation_list import revocation_list
from mailsigil.pki.level import asserted_levels
from mailsigil.pki.names import certificate_addresses

__all__ = ["Authority", "AuthorityError", "Issued", "random_serial"]

BACKDATE: Final = timedelta(minutes=5)
"""How far validity reaches back, for receivers whose clocks are late."""
SERVER_LEVEL: Final = "TLS"
"""What the register says in place of a level about the certificate of the authority's own server."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate that was just issued, and the file with its key and its issuer."""

    path: Path
    certificate: x509.Certificate


def random_serial() -> int:
    """Draw 128 bits of serial number, never zero (RFC 5280 4.1.2.2; S/MIME BR 7.1 asks for 64)."""
    return secrets.randbits(128) | 1


class Authority:
    """An authority in its folder, made by :meth:`init` or :meth:`load`. Safe to share between threads."""

    def __init__(
        self,
        directory: Path,
        *,
        root: Issuer,
        issuing: Issuer,
        settings: AuthoritySettings | None = None,
    ) -> None:
        self.directory = directory
        self.settings = settings = settings or AuthoritySettings()
        self.issuers = {ISSUING: issuing, ROOT: root}
        """The two authorities at work, by the names of their files."""
        self.register = Register(directory / "index.jsonl")
        self._publication = Publication(settings.publish.url)

    @property
    def root(self) -> x509.Certificate:
        """The trust anchor."""
        return self.issuers[ROOT].certificate

    @property
    def issuing(self) -> x509.Certificate:
        """The intermediate that goes into every signed mail."""
        return self.issuers[ISSUING].certificate

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
        prepare_folder(directory)
        settings = load_settings(directory)
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
            key=issuing_key.public_key(),
            name=issuing_name,
            serial=serial(),
            valid=Validity(start, start + timedelta(days=365.25 * years / 2)),
            publication=Publication(settings.publish.url),
        )
        for stem, issuer in ((ROOT, root), (ISSUING, Issuer(certificate, issuing_key))):
            write(directory / f"{stem}.key", key_pem(issuer.key))
            write(directory / f"{stem}.pem", certificate_pem(issuer.certificate))
        return cls(directory, root=root, issuing=Issuer(certificate, issuing_key), settings=settings)

    @classmethod
    def load(cls, directory: Path) -> Authority:
        """Open the authority in a folder. Raises ``AuthorityError``."""
        if not is_there(directory / "root.pem"):
            raise AuthorityError(
                f"there is no authority in {directory}; create one with"
                f" mailsigil ca init --dir {directory} --organisation NAME"
            )
        return cls(
            directory,
            root=load_issuer(directory, ROOT),
            issuing=load_issuer(directory, ISSUING),
            settings=load_settings(directory),
        )

    def certify(
        self,
        subject: Subject,
        *,
        key: PublicKey,
        days: int = 365,
        now: datetime,
        serial: Callable[[], int] = random_serial,
    ) -> x509.Certificate:
        """Issue a certificate for a key that somebody else holds. Raises ``AuthorityError``."""
        certificate = profile.leaf_certificate(
            self.issuers[ISSUING],
            key=key,
            subject=subject,
            serial=serial(),
            valid=self._validity(days, now),
            publication=self._publication,
        )
        # Registered before anybody has it: what may be out in the world must be revocable.
        self._note(certificate, subject.mailbox, subject.level.value, ISSUING, keep=True)
        return certificate

    def certificates_for(self, spki: bytes) -> tuple[x509.Certificate, ...]:
        """Give the good certificates for a public key (DER), the latest first. Raises ``AuthorityError``."""
        return self._good(lambda: self.register.find(spki))

    def certificates_of(self, address: str) -> tuple[x509.Certificate, ...]:
        """Give the good certificates for an address, the latest first. Raises ``AuthorityError``."""
        return self._good(lambda: self.register.find_address(address))

    def _good(self, find: Callable[[], tuple[x509.Certificate, ...]]) -> tuple[x509.Certificate, ...]:
        return tuple(
            one
            for one in find()
            if (entry := self.register.entry(one.serial_number)) is not None and entry.revocation is None
        )

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
        self._validity(days, now)
        path = out / files.address_file_name(subject.mailbox)
        if path.exists() and not replace:
            raise AuthorityError(f"{path} exists already; give --replace to put a new key in its place")
        private = key.generate()
        certificate = self.certify(subject, key=private.public_key(), days=days, now=now, serial=serial)
        content = key_pem(private) + certificate_pem(certificate) + certificate_pem(self.issuing)
        write(path, content, replace=replace, make_folder=True)
        return Issued(path, certificate)

    def issue_server(
        self, names: Sequence[x509.GeneralName], *, shown: str, path: Path, days: int = 397, now: datetime
    ) -> x509.Certificate:
        """Issue a TLS server certificate with a new key into a file, in place of one that is there.

        ``shown`` is what the register says for whom. Raises ``AuthorityError``.
        """
        private = KeyKind.P256.generate()
        start = (now - BACKDATE).replace(microsecond=0)
        certificate = profile.server_certificate(
            self.issuers[ROOT],
            key=private.public_key(),
            names=names,
            serial=random_serial(),
            valid=Validity(start, min(start + timedelta(days=days), self.root.not_valid_after_utc)),
            publication=self._publication,
        )
        self._note(certificate, shown, SERVER_LEVEL, ROOT)
        write(path, key_pem(private) + certificate_pem(certificate), replace=True)
        return certificate

    def revoke(self, serial: int, *, reason: Reason = Reason.UNSPECIFIED, now: datetime) -> Entry:
        """Revoke a certificate for good, and write fresh lists. Raises ``AuthorityError``."""
        entry = self._entry(serial)
        if entry.revocation is not None and entry.revocation.reason is not Reason.CERTIFICATE_HOLD:
            at = entry.revocation.at
            raise AuthorityError(f"the certificate {serial:x} is revoked already, since {at:%Y-%m-%d %H:%M}")
        self.register.revoke(serial=serial, at=now, reason=reason)
        self.write_crls(now=now)
        return entry

    def withdraw(self, serial: int, *, reason: Reason, now: datetime) -> None:
        """Revoke or suspend a certificate; :meth:`write_crls` makes it known, once for many.

        What is so already stays as it is: whoever was interrupted may say it again.
        """
        old = self._entry(serial).revocation
        if old is None or (old.reason is Reason.CERTIFICATE_HOLD and reason is not old.reason):
            self.register.revoke(serial=serial, at=now, reason=reason)

    def release(self, serial: int, *, now: datetime) -> None:
        """Let a suspended certificate be good again; :meth:`write_crls` makes it known.

        Raises ``AuthorityError`` for one that was revoked for good.
        """
        old = self._entry(serial).revocation
        if old is None:
            return
        if old.reason is not Reason.CERTIFICATE_HOLD:
            raise AuthorityError(f"the certificate {serial:x} is revoked for good")
        self.register.release(serial=serial, at=now)

    def entry_of(self, certificate: x509.Certificate) -> Entry | None:
        """Give the record of a certificate that this authority issued; None for every other one."""
        if not self._signed(certificate):
            return None
        entry = self.register.entry(certificate.serial_number)
        return entry if entry is not None and entry.issuer == ISSUING else None

    def adopt(self, certificate: x509.Certificate) -> Entry | None:
        """Give the record as :meth:`entry_of`, and make it where the register lost it.

        What this authority signed is out in the world, so it has to be revocable whatever became of its line.
        """
        if self.entry_of(certificate) is None and self._signed(certificate):
            addresses = certificate_addresses(certificate)
            levels = asserted_levels(certificate)
            level = levels[0].level.value if levels else ""
            self._note(certificate, addresses[0] if addresses else "", level, ISSUING, keep=True)
        return self.entry_of(certificate)

    def _signed(self, certificate: x509.Certificate) -> bool:
        try:
            certificate.verify_directly_issued_by(self.issuing)
        except (ValueError, TypeError, InvalidSignature):
            return False
        return True

    def write_crls(self, *, now: datetime, days: int | None = None) -> tuple[Path, ...]:
        """Write a fresh revocation list for each of the two authorities, good for ``days``."""
        days = self.settings.publish.crl_days if days is None else days
        if not 1 <= days <= 400:
            raise AuthorityError("a revocation list lasts from 1 to 400 days; choose --days within that")
        number = self.register.next_crl_number(now)
        revoked = self.register.revoked()
        of_root = {entry.serial for entry in self.register.entries() if entry.issuer == ROOT}
        paths = []
        for stem, issuer in self.issuers.items():
            path = self.directory / f"{stem}.crl"
            entries = {
                serial: each for serial, each in revoked.items() if (serial in of_root) == (stem == ROOT)
            }
            valid = Validity(now, now + timedelta(days=days))
            write(path, revocation_list(issuer, entries, number=number, valid=valid), replace=True)
            paths.append(path)
        return tuple(paths)

    def _entry(self, serial: int) -> Entry:
        entry = self.register.entry(serial)
        if entry is None:
            raise AuthorityError(
                f"no certificate with the serial {serial:x} is in the register; see mailsigil ca list, or"
                " give the certificate with --certificate"
            )
        return entry

    def _validity(self, days: int, now: datetime) -> Validity:
        if not 1 <= days <= 1185:  # S/MIME BR 6.3.2: the longest of the three generations
            raise AuthorityError("a mail certificate lasts from 1 to 1185 days; choose --days within that")
        start = (now - BACKDATE).replace(microsecond=0)
        end = min(start + timedelta(days=days), self.issuing.not_valid_after_utc)
        if end <= now:
            raise AuthorityError("the issuing authority has expired; set up a new one with mailsigil ca init")
        return Validity(max(start, self.issuing.not_valid_before_utc), end)

    def _note(
        self, certificate: x509.Certificate, address: str, level: str, issuer: str, *, keep: bool = False
    ) -> None:
        self.register.issued(
            serial=certificate.serial_number,
            address=address,
            level=level,
            not_after=certificate.not_valid_after_utc,
            issuer=issuer,
            certificate=certificate if keep else None,
        )
