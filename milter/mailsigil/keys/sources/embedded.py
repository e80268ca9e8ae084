"""The embedded authority as a source: it certifies in this process what the key agent makes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key

from mailsigil.keys.answers import Question, checked_chain
from mailsigil.keys.authority import BACKDATE, Authority, AuthorityError
from mailsigil.keys.errors import SourceAnswer, SourceRefused
from mailsigil.keys.newkey import CertifiableKey
from mailsigil.keys.profile import RequestError, Subject
from mailsigil.keys.register import Reason
from mailsigil.keys.source import HeldKey
from mailsigil.keys.subject import SubjectRequest

_T = TypeVar("_T")


class EmbeddedIssuer:
    """An Issuer (source.py) on the authority in a folder. ``now`` gives the time, aware, in UTC.

    The folder is opened with the first request, so that its troubles are this source's alone.
    """

    def __init__(self, name: str, folder: Path, *, now: Callable[[], datetime]) -> None:
        self._name = name
        self._folder = folder
        self._now = now
        self._lock = threading.Lock()
        self._opened: Authority | None = None

    @property
    def name(self) -> str:
        """The source's name in the configuration."""
        return self._name

    def enrol(self, request: SubjectRequest, new: CertifiableKey) -> tuple[bytes, ...]:
        """Certifies a new key at the level that is asked for. Raises SourceRefused, SourceAnswer."""
        return self._asked(lambda: self._certify(request, new))

    def renew(self, request: SubjectRequest, new: CertifiableKey, *, current: HeldKey) -> tuple[bytes, ...]:
        """Certifies the successor of a key, unless that was revoked. Raises SourceRefused, SourceAnswer."""
        held = x509.load_der_x509_certificate(current.chain[0])

        def certify() -> tuple[bytes, ...]:
            entry = self._authority().entry_of(held)
            if entry is not None and entry.revocation is not None:
                raise SourceRefused(
                    self._name,
                    f"the certificate of {request.address} was revoked on {entry.revocation.at:%Y-%m-%d}",
                    "Remove its file from the state folder; where it is meant, a new one is enrolled then",
                )
            return self._certify(request, new)

        return self._asked(certify)

    def revoke(self, certificate: bytes) -> None:
        """Revokes a certificate (DER) that this authority issued. Raises SourceRefused."""
        self._asked(lambda: self._revoke(x509.load_der_x509_certificate(certificate)))

    def withdraw(self, certificate: bytes, reason: Reason) -> None:
        """Revokes or suspends a certificate (DER); :meth:`publish` makes it known. Raises SourceRefused."""
        serial = self._own_serial(certificate)
        self._asked(lambda: self._authority().withdraw(serial, reason=reason, now=self._now()))

    def release(self, certificate: bytes) -> None:
        """Lets a suspended certificate (DER) be good again. Raises SourceRefused."""
        serial = self._own_serial(certificate)
        self._asked(lambda: self._authority().release(serial, now=self._now()))

    def publish(self) -> None:
        """Writes fresh revocation lists. Raises SourceRefused."""
        self._asked(lambda: self._authority().write_crls(now=self._now()))

    def recall(self, request: SubjectRequest, new: CertifiableKey) -> tuple[bytes, ...] | None:
        """Gives the certificate that was issued for a key and never arrived. Raises SourceRefused."""

        def find() -> tuple[bytes, ...] | None:
            authority, now = self._authority(), self._now()
            question = Question(source=self._name, address=request.address, now=now, spki=new.spki)
            for certificate in authority.certificates_for(new.spki):
                if certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
                    return checked_chain(question, (certificate, authority.issuing))
            return None

        return self._asked(find)

    def issued_since(self, request: SubjectRequest, since: datetime) -> tuple[bytes, ...]:
        """Gives the good certificates (DER) issued for an address from a time on. Raises SourceRefused."""
        found = self._asked(lambda: self._authority().certificates_of(request.address))
        return tuple(
            one.public_bytes(Encoding.DER) for one in found if one.not_valid_before_utc >= since - BACKDATE
        )

    def _own_serial(self, der: bytes) -> int:
        certificate = x509.load_der_x509_certificate(der)
        if self._asked(lambda: self._authority().adopt(certificate)) is None:
            raise SourceRefused(
                self._name,
                f"the certificate {certificate.serial_number:x} was not issued by this authority",
                "Have it revoked by the one that issued it",
            )
        return certificate.serial_number

    def _certify(self, request: SubjectRequest, new: CertifiableKey) -> tuple[bytes, ...]:
        authority = self._authority()
        subject = Subject(
            level=request.level,
            address=request.address,
            given_name=request.given_name,
            surname=request.surname,
            organisation=request.organisation,
            title=request.title,
        )
        key = load_der_public_key(new.spki)
        if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey):
            raise SourceAnswer(
                self._name, "this kind of key signs no mail", "Use RSA, P-256, P-384 or Ed25519"
            )
        now = self._now()
        certificate = authority.certify(subject, key=key, days=authority.settings.est.days, now=now)
        question = Question(source=self._name, address=request.address, now=now, spki=new.spki)
        return checked_chain(question, (certificate, authority.issuing))

    def _revoke(self, certificate: x509.Certificate) -> None:
        authority = self._authority()
        self._own_serial(certificate.public_bytes(Encoding.DER))
        authority.revoke(certificate.serial_number, reason=Reason.CESSATION_OF_OPERATION, now=self._now())

    def _authority(self) -> Authority:
        with self._lock:
            if self._opened is None:
                self._opened = Authority.load(self._folder)
            return self._opened

    def _asked(self, action: Callable[[], _T]) -> _T:
        try:
            return action()
        except RequestError as error:
            raise SourceRefused(self._name, _clause(error), error.mend) from error
        except AuthorityError as error:
            mend = error.mend or f"See to the authority in {self._folder}, as the key agent's user"
            raise SourceRefused(self._name, error.sentence, mend) from error


def _clause(error: Exception) -> str:
    return str(error).rstrip(".")
