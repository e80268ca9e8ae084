"""How CMP messages are protected: by a shared secret, or by a signature (RFC 4210 5.1.3)."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

from asn1crypto import core
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from mailsigil.cms.algorithms import Scheme, verify_with
from mailsigil.keys.errors import SourceAnswer
from mailsigil.keys.secret_files import SecretFile
from mailsigil.keys.sources import cmp_asn1 as asn1

MAX_ITERATIONS: Final = 100_000
"""Rounds that an answer may ask of us (RFC 4211 4.4 wants a hundred at least)."""
_ROUNDS: Final = 1000
_DIGESTS: Final = {
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
    "1.3.14.3.2.26": "sha1",
}
_MACS: Final = {
    "1.2.840.113549.2.9": "sha256",
    "1.2.840.113549.2.10": "sha384",
    "1.2.840.113549.2.11": "sha512",
    # HMAC-SHA1 is still sound as a MAC, and what RFC 4210 names as mandatory.
    "1.3.6.1.5.5.8.1.2": "sha1",
    "1.2.840.113549.2.7": "sha1",
}
SIGNATURES: Final = {
    Scheme.RSA_PKCS1_SHA256: "1.2.840.113549.1.1.11",
    Scheme.RSA_PKCS1_SHA384: "1.2.840.113549.1.1.12",
    Scheme.RSA_PKCS1_SHA512: "1.2.840.113549.1.1.13",
    Scheme.ECDSA_SHA256: "1.2.840.10045.4.3.2",
    Scheme.ECDSA_SHA384: "1.2.840.10045.4.3.3",
    Scheme.ECDSA_SHA512: "1.2.840.10045.4.3.4",
    Scheme.ED25519: "1.3.101.112",
}
_SCHEMES: Final = {oid: scheme for scheme, oid in SIGNATURES.items()}
_PATH: Final = 5
"""Certificates between the one that signs answers and a trusted one."""


class Protector(Protocol):
    """Protects our messages."""

    @property
    def sender(self) -> x509.Name:
        """Who we say we are."""
        ...

    @property
    def key_id(self) -> bytes:
        """What the server finds us by (senderKID)."""
        ...

    @property
    def extra_certificates(self) -> Sequence[bytes]:
        """Certificates to send along, DER, our own first."""
        ...

    def algorithm(self) -> asn1.AlgorithmIdentifier:
        """The algorithm for one message."""
        ...

    def protect(self, algorithm: asn1.AlgorithmIdentifier, data: bytes) -> bytes:
        """Gives the protection of header and body."""
        ...


@dataclass(frozen=True, slots=True)
class SharedSecret:
    """Protects by a reference value and a secret that the authority gave out."""

    reference: str
    secret: SecretFile

    @property
    def sender(self) -> x509.Name:
        """Empty: the reference says it (RFC 4210 5.1.1)."""
        return x509.Name([])

    @property
    def key_id(self) -> bytes:
        """The reference value."""
        return self.reference.encode()

    @property
    def extra_certificates(self) -> Sequence[bytes]:
        """None."""
        return ()

    def algorithm(self) -> asn1.AlgorithmIdentifier:
        """A password-based MAC with a fresh salt."""
        parameters = asn1.PbmParameter(
            {
                "salt": secrets.token_bytes(16),
                "owf": {"algorithm": "2.16.840.1.101.3.4.2.1"},
                "iterations": _ROUNDS,
                "mac": {"algorithm": "1.2.840.113549.2.9"},
            }
        )
        return asn1.AlgorithmIdentifier({"algorithm": asn1.PBM, "parameters": core.Any(parameters)})

    def protect(self, algorithm: asn1.AlgorithmIdentifier, data: bytes) -> bytes:
        """The MAC over header and body. Raises ValueError for parameters that are not usable."""
        parameters = algorithm["parameters"].parse(asn1.PbmParameter)
        owf = _DIGESTS.get(parameters["owf"]["algorithm"].dotted)
        mac = _MACS.get(parameters["mac"]["algorithm"].dotted)
        rounds = parameters["iterations"].native
        if owf is None or mac is None or not 1 <= rounds <= MAX_ITERATIONS:
            raise ValueError("the MAC uses an algorithm or a number of rounds that is not accepted")
        key = self.secret.read() + parameters["salt"].native
        for _ in range(rounds):
            key = hashlib.new(owf, key).digest()
        return hmac.new(key, data, mac).digest()


@dataclass(frozen=True, slots=True)
class SignatureProtector:
    """Protects by a certificate's key; ``signer`` signs with ``scheme``."""

    chain: tuple[bytes, ...]
    scheme: Scheme
    signer: Callable[[bytes], bytes]

    @property
    def sender(self) -> x509.Name:
        """The certificate's subject (RFC 9483 3.1)."""
        return x509.load_der_x509_certificate(self.chain[0]).subject

    @property
    def key_id(self) -> bytes:
        """The certificate's subject key identifier; empty where it has none."""
        certificate = x509.load_der_x509_certificate(self.chain[0])
        try:
            return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
        except x509.ExtensionNotFound:
            return b""

    @property
    def extra_certificates(self) -> Sequence[bytes]:
        """The certificate and its issuers (RFC 9483 3.3)."""
        return self.chain

    def algorithm(self) -> asn1.AlgorithmIdentifier:
        """The scheme's identifier."""
        return signature_algorithm(self.scheme)

    def protect(self, algorithm: asn1.AlgorithmIdentifier, data: bytes) -> bytes:
        """The signature over header and body."""
        return self.signer(data)


def signature_algorithm(scheme: Scheme) -> asn1.AlgorithmIdentifier:
    """Gives the identifier of a signature scheme; raises ValueError for one unknown to CMP."""
    oid = SIGNATURES.get(scheme)
    if oid is None:
        raise ValueError(f"{scheme.value} does not protect CMP messages here")
    # RFC 4055 5: RSA has NULL as its parameters; RFC 5758 3.2 and RFC 8410 3: the others have none.
    fields: dict[str, Any] = {"algorithm": oid}
    if "rsa" in scheme.value:
        fields["parameters"] = core.Any(core.Null())
    return asn1.AlgorithmIdentifier(fields)


def check_protection(
    source: str,
    message: asn1.Message,
    data: bytes,
    *,
    secret: SharedSecret | None,
    trusted: Sequence[x509.Certificate],
    now: datetime,
) -> None:
    """Returns when an answer is protected by the shared secret, or signed by whom we trust.

    ``data`` is header and body as they were sent. Raises SourceAnswer.
    """
    algorithm, protection = message["header"]["protection_alg"], message["protection"]
    if isinstance(algorithm, core.Void) or isinstance(protection, core.Void):
        raise _wrong(source, "the answer is not protected, so anybody could have written it")
    oid, octets = algorithm["algorithm"].dotted, bytes(protection.native)
    if oid == asn1.PBM:
        try:
            good = secret is not None and hmac.compare_digest(secret.protect(algorithm, data), octets)
        except (ValueError, TypeError) as error:
            raise _wrong(source, f"the answer's MAC cannot be checked: {error}") from error
        if not good:
            raise _wrong(source, "the answer is not protected with our shared secret", "Correct secret_file")
        return
    scheme = _SCHEMES.get(oid)
    if scheme is None:
        raise _wrong(source, f"the answer is protected with an algorithm that is not accepted ({oid})")
    for signer in _signers(message, trusted, now):
        try:
            verify_with(signer.public_key(), scheme, octets, data)
        except (InvalidSignature, ValueError, UnsupportedAlgorithm):
            continue
        return
    raise _wrong(
        source,
        "the answer is not signed by whom we trust",
        "Put the certificate that signs its answers, or its authority's, into the file of trusted",
    )


def _signers(
    message: asn1.Message, trusted: Sequence[x509.Certificate], now: datetime
) -> list[x509.Certificate]:
    """The certificates that may sign answers: trusted ones, and those with a path to a trusted one."""
    extra = message["extra_certs"]
    beside: list[x509.Certificate] = []
    for each in [] if isinstance(extra, core.Void) else list(extra)[:16]:
        try:
            beside.append(x509.load_der_x509_certificate(each.dump()))
        except ValueError:
            continue
    known = list(trusted)
    for _ in range(_PATH):
        step = [
            one
            for one in beside
            if one not in known and any(_may_issue(each) and _issued(one, each) for each in known)
        ]
        if not step:
            break
        known.extend(step)
    return [each for each in known if each.not_valid_before_utc <= now <= each.not_valid_after_utc]


def _may_issue(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError, x509.DuplicateExtension):
        return False


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _wrong(source: str, sentence: str, mend: str = "Look at that service's log") -> SourceAnswer:
    return SourceAnswer(source, sentence, mend)
