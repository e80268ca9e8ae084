"""What a source answered, looked at before it is believed: every source's answers go through here.

The functions take bytes and give values, or raise SourceAnswer with the source's name, what is wrong with
the answer, and the mend. A wrong answer is never used and touches nobody but the one it was asked for.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    load_der_private_key,
    load_pem_private_key,
    pkcs12,
)

from mailsigil.keys.certificate_bags import pkcs7_certificates
from mailsigil.keys.errors import SourceAnswer
from mailsigil.keys.fitness import (
    Unfit,
    check_purpose,
    check_validity,
    issuers_of,
    public_key_of,
    signing_addresses,
    usable_schemes,
)
from mailsigil.keys.profile import PrivateKey

MAX_ANSWER: Final = 262_144
"""Octets of an answer that are read at all."""
MAX_CERTIFICATES: Final = 32
_PEM_CERTIFICATE: Final = re.compile(
    rb"-----BEGIN (?:TRUSTED |X509 )?CERTIFICATE-----[^-]{1,65536}-----END", re.DOTALL
)
_PEM_PKCS7: Final = re.compile(rb"-----BEGIN (?:PKCS7|CMS)-----([^-]{1,262144})-----END", re.DOTALL)
_ASK_ADMIN: Final = "Ask the administrator of that service"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What was asked for: against this an answer is held."""

    source: str
    address: str
    """In key form."""
    now: datetime
    spki: bytes = b""
    """The public key, DER, where it is known before the answer."""
    also: frozenset[str] = frozenset()
    """Further addresses that will do: the domain's, where its certificate signs for everybody."""
    encryption: bool = False
    """A certificate for encryption alone will do, too."""

    def wrong(self, sentence: str, mend: str = _ASK_ADMIN) -> SourceAnswer:
        """Makes the error for an answer to this question."""
        return SourceAnswer(self.source, f"{sentence} (asked for {self.address})", mend)


def read_certificates(source: str, body: bytes) -> tuple[x509.Certificate, ...]:
    """Reads certificates as services give them: PEM, DER, or PKCS#7 (certs-only) in DER, base64 or PEM.

    Raises SourceAnswer for everything else, and says what it looks like instead.
    """
    if len(body) > MAX_ANSWER:
        raise SourceAnswer(source, f"the answer is larger than {MAX_ANSWER} octets", _ASK_ADMIN)
    stripped = body.strip()
    _refuse_other_things(source, stripped)
    found: tuple[x509.Certificate, ...]
    try:
        if b"-----BEGIN" in stripped:
            found = _pem_certificates(stripped)
        else:
            found = _der_certificates(_unwrapped(stripped))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SourceAnswer(
            source,
            "the answer is no certificate and no complete PKCS#7: it is cut off or damaged",
            "Try again; if it stays so, look at that service's answer, or at a proxy between",
        ) from error
    if not found:
        raise SourceAnswer(source, "the answer holds no certificate", _ASK_ADMIN)
    if len(found) > MAX_CERTIFICATES:
        raise SourceAnswer(source, f"the answer holds more than {MAX_CERTIFICATES} certificates", _ASK_ADMIN)
    return found


def checked_chain(question: Question, certificates: Sequence[x509.Certificate]) -> tuple[bytes, ...]:
    """Gives the chain (DER, the certificate first, no root) when it is what was asked for.

    Raises SourceAnswer: another key, another person, expired, weak, or not for mail.
    """
    own = _own_certificate(question, certificates)
    # 1. It names the address.
    try:
        names = signing_addresses(own)
        if question.address not in names and not (names & question.also):
            raise question.wrong(
                f"the certificate is another person's: it names {', '.join(sorted(names)[:3])}",
                "Have the address put into the certificate, and see that no other request was answered",
            )
        # 2. Its key is strong enough, and one that signs mail.
        usable_schemes(own)
        # 3. It is for mail.
        _require_mail_purpose(question, own)
        check_purpose(own, encryption=question.encryption)
        # 4. It is valid now.
        check_validity(own, question.now)
    except Unfit as unfit:
        raise question.wrong(unfit.sentence, unfit.mend) from unfit
    return tuple(c.public_bytes(Encoding.DER) for c in (own, *issuers_of(own, certificates)))


def read_private_key(source: str, body: bytes, *, passphrase: bytes | None = None) -> PrivateKey:
    """Reads PKCS#8 (PEM, DER, or base64 of it). Raises SourceAnswer, which quotes nothing of the key."""
    stripped = body.strip()
    _refuse_other_things(source, stripped)
    try:
        if stripped.startswith(b"-----BEGIN"):
            key = load_pem_private_key(stripped, passphrase)
        else:
            key = load_der_private_key(_unwrapped(stripped), passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # Not chained: an error of the parser could quote what it read.
        raise SourceAnswer(
            source,
            "the private key cannot be read: it is cut off, encrypted with another passphrase, or no PKCS#8",
            "Store it as PKCS#8, and give the passphrase's file where it has one",
        ) from None
    return _signing_kind(source, key)


def read_pkcs12(
    source: str, body: bytes, *, passphrase: bytes | None
) -> tuple[PrivateKey, tuple[x509.Certificate, ...]]:
    """Reads a PKCS#12 (DER or base64 of it). Raises SourceAnswer."""
    try:
        bag = pkcs12.load_pkcs12(_unwrapped(body.strip()), passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise SourceAnswer(
            source,
            "the PKCS#12 cannot be opened: the passphrase is another one, or it is damaged",
            "Correct the passphrase's file",
        ) from None
    if bag.key is None:
        raise SourceAnswer(source, "the PKCS#12 holds no private key", "Store it anew together with its key")
    entries = (bag.cert, *bag.additional_certs)
    return _signing_kind(source, bag.key), tuple(e.certificate for e in entries if e is not None)


def _own_certificate(question: Question, certificates: Sequence[x509.Certificate]) -> x509.Certificate:
    if not certificates:
        raise question.wrong("the answer holds no certificate")
    if not question.spki:
        return certificates[0]
    for certificate in certificates:
        if public_key_of(certificate) == question.spki:
            return certificate
    raise question.wrong(
        "the certificate is for another key: none in the answer fits the private key",
        "See that the service answers the request that was sent, and that key and certificate lie together",
    )


def _require_mail_purpose(question: Question, certificate: x509.Certificate) -> None:
    # Without the extension a certificate is for everything (RFC 5280 4.2.1.12); from a service that issues
    # for mail this is a profile that was not finished, and S/MIME BR 7.1.2.3 f asks for it.
    try:
        certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    except x509.ExtensionNotFound as missing:
        raise question.wrong(
            "the certificate is without emailProtection: it has no extended key usage",
            "Have it issued with emailProtection",
        ) from missing
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return  # check_purpose says it


def _refuse_other_things(source: str, body: bytes) -> None:
    if not body:
        raise SourceAnswer(source, "the answer is empty", _ASK_ADMIN)
    start = body[:512].lstrip(b"\xef\xbb\xbf \r\n\t").lower()
    if start.startswith((b"<!doctype", b"<html", b"<head", b"<body", b"<?xml")):
        raise SourceAnswer(
            source,
            "the answer is HTML instead of a certificate: a web page stands at this address",
            "Correct the URL, and see that no proxy or login page is between",
        )
    if start.startswith((b"{", b"[")):
        raise SourceAnswer(source, "the answer is JSON instead of a certificate", "Correct the URL")


def _unwrapped(body: bytes) -> bytes:
    if body[:1] == b"\x30" and not re.fullmatch(rb"[A-Za-z0-9+/=\s]+", body):
        return body
    try:
        return base64.b64decode(b"".join(body.split()), validate=True)
    except binascii.Error as error:
        raise ValueError("neither DER nor base64") from error


def _pem_certificates(body: bytes) -> tuple[x509.Certificate, ...]:
    bag = _PEM_PKCS7.search(body)
    if bag is not None:
        return pkcs7_certificates(_unwrapped(bag[1].strip()))
    blocks = _PEM_CERTIFICATE.findall(body)
    if len(blocks) != len(re.findall(rb"-----BEGIN [A-Z0-9 ]*CERTIFICATE-----", body)):
        raise ValueError("a PEM block is cut off")
    return tuple(
        x509.load_der_x509_certificate(_unwrapped(block.split(b"-----")[2].strip()))
        for block in blocks[: MAX_CERTIFICATES + 1]
    )


def _der_certificates(der: bytes) -> tuple[x509.Certificate, ...]:
    try:
        return (x509.load_der_x509_certificate(der),)
    except ValueError:
        return pkcs7_certificates(der)


def _signing_kind(source: str, key: object) -> PrivateKey:
    if isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
        return key
    raise SourceAnswer(
        source, "the private key is of a kind that does not sign mail", "Use RSA, P-256, P-384 or Ed25519"
    )
