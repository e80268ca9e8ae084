"""Does the signature of one signer hold? (RFC 5652 5.4 to 5.6, RFC 8551 2.5.)

This says that the content was signed with the key of a certificate. Whether that certificate is trusted,
and whose it is, is the business of `mailsigil.pki`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from mailsigil.cms import oids
from mailsigil.cms.algorithms import (
    DIGEST_SIZES,
    WEAK_DIGESTS,
    Family,
    Scheme,
    SchemeError,
    require_certificate_fit,
    verify_fitting,
)
from mailsigil.cms.attributes import CertificateHash, parse_attributes
from mailsigil.cms.ber import CmsError, CmsSyntaxError
from mailsigil.cms.parse import SignedData
from mailsigil.cms.signer import SignerIdentifier, SignerInfo
from mailsigil.cms.values import certificate_identity


class SignerStatus(StrEnum):
    """How the check of one signer ended."""

    VALID = "valid"
    """The signature was made over this content with the key of the certificate."""
    DIGEST_MISMATCH = "digest-mismatch"
    """The content is not what was signed."""
    SIGNATURE_INVALID = "signature-invalid"
    """The signature was not made by this key over these attributes."""
    NO_CERTIFICATE = "no-certificate"
    """The signer's certificate did not come with the signature."""
    MALFORMED = "malformed"
    """The signer breaks a rule of the standard or contradicts itself."""
    WEAK_ALGORITHM = "weak-algorithm"
    """The digest or the key is too weak to prove anything."""
    UNSUPPORTED_ALGORITHM = "unsupported-algorithm"
    """We cannot check this kind of signature."""
    CERTIFICATE_MISMATCH = "certificate-mismatch"
    """A certificate fits by name but is not the one that the signer means."""


@dataclass(frozen=True, slots=True)
class SignerCheck:
    """The verdict about one signer: `certificate` (DER) when one was found, `reason` as a token."""

    status: SignerStatus
    certificate: bytes | None
    reason: str


class _Refusal(Exception):
    def __init__(self, status: SignerStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


MIN_RSA_BITS: Final = 2048
MAX_RSA_BITS: Final = 8192  # beyond, a verification costs an attacker nothing and us a lot
_UNREADABLE: Final = (ValueError, TypeError, x509.InvalidVersion)
_MAX_DISGUISE: Final = 65536  # no signer writes more octets of attributes
_REMEMBERED_CERTIFICATE: Final = 8192  # octets
_SCHEMES: Final = {(scheme.family, scheme.digest): scheme for scheme in Scheme}
_CERTIFICATE_HASHES: Final = frozenset({"sha1", "sha256", "sha384", "sha512"})


def digests_needed(signed_data: SignedData) -> set[str]:
    """The digests of the content (as `hashlib` names them) that `check_signer` will ask for."""
    return {name for signer in signed_data.signers if (name := signer.digest_algorithm) in DIGEST_SIZES}


def signature_checks(signed_data: SignedData) -> int:
    """How many signatures `check_signer` may have to verify for all signers together.

    A sender can repeat one name on every certificate, and each of them is tried with both spellings of the
    attributes: ten signers with thirty certificates are six hundred checks.
    """
    return sum(
        (1 if signer.attributes is None or signer.attributes.as_sent == signer.attributes.sorted_der else 2)
        * sum(_is_meant(signer.sid, one) for one in dict.fromkeys(signed_data.certificates))
        for signer in signed_data.signers
    )


def check_signer(
    signer: SignerInfo,
    signed_data: SignedData,
    digests: Mapping[str, bytes],
    *,
    extra_certificates: Sequence[bytes] = (),
) -> SignerCheck:
    """Checks one signer against the digests of the content (all that `digests_needed` names).

    `extra_certificates` are looked through after those in the signature, for signers that send none.
    Hostile input never raises.
    """
    certificate: bytes | None = None
    try:
        # 1. RFC 5652 5.3: the certificate is the one that sid names
        candidates = _find_certificates(signer.sid, (*signed_data.certificates, *extra_certificates))
        certificate = candidates[0]
        # 2. RFC 8551 2.1, 2.2: digest and signature algorithm are known, strong, and agree with each other
        scheme = _choose_scheme(signer, signed_data)
        # 3. RFC 5652 5.3, 11 and RFC 6211: the attributes keep their rules and do not contradict the rest
        _check_attributes(signer, signed_data)
        # 4. RFC 5035 5: the certificate is the one whose hash was signed
        candidates = _keep_named(signer.certificate_hashes, candidates)
        certificate = candidates[0]
        # 5. RFC 5652 5.6: the content is what was signed
        _check_digest(signer, digests)
        # 6. RFC 5652 5.6: the signature holds
        certificate = _check_signature(signer, scheme, candidates, digests)
    except _Refusal as refusal:
        return SignerCheck(refusal.status, certificate, refusal.reason)
    return SignerCheck(SignerStatus.VALID, certificate, "")


def _find_certificates(sid: SignerIdentifier, certificates: Sequence[bytes]) -> list[bytes]:
    """All that the signer may mean, each once: nothing stops a sender from using one name for several."""
    found = [certificate for certificate in dict.fromkeys(certificates) if _is_meant(sid, certificate)]
    if not found:
        raise _Refusal(SignerStatus.NO_CERTIFICATE, "no-certificate")
    return found


def _is_meant(sid: SignerIdentifier, certificate: bytes) -> bool:
    if not sid.subject_key_id:
        try:
            identity = certificate_identity if _usual(certificate) else certificate_identity.__wrapped__
            return identity(certificate) == (sid.issuer, sid.serial)
        except CmsError:
            return False
    key_id = _key_id if _usual(certificate) else _key_id.__wrapped__
    return key_id(certificate) == sid.subject_key_id


def _usual(certificate: bytes) -> bool:
    """Whether what a certificate says is remembered: nobody may fill the memory with huge ones."""
    return len(certificate) <= _REMEMBERED_CERTIFICATE


@lru_cache(maxsize=1024)
def _key_id(certificate: bytes) -> bytes | None:
    try:
        extensions = x509.load_der_x509_certificate(certificate).extensions
        return extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except (*_UNREADABLE, x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return None


def _choose_scheme(signer: SignerInfo, signed_data: SignedData) -> Scheme:
    algorithm = signer.signature_algorithm
    digest = signer.digest_algorithm
    for name in (digest, algorithm.digest):
        if name in WEAK_DIGESTS:
            raise _Refusal(SignerStatus.WEAK_ALGORITHM, f"weak-{name}")
    if digest not in DIGEST_SIZES:
        raise _Refusal(SignerStatus.UNSUPPORTED_ALGORITHM, "unknown-digest-algorithm")
    if algorithm.family is None:
        raise _Refusal(SignerStatus.UNSUPPORTED_ALGORITHM, "unknown-signature-algorithm")
    # RFC 5652 5.1 leaves it open; OpenSSL and others that read in one pass refuse this, so nobody sends it
    if signer.digest_identifier.oid not in signed_data.digest_algorithms:
        raise _Refusal(SignerStatus.MALFORMED, "digest-not-announced")
    # RFC 5652 5.4 with RFC 5754 3, RFC 4056 3, RFC 8419 3.1: one digest in both fields
    if algorithm.digest not in ("", digest):
        raise _Refusal(SignerStatus.MALFORMED, "algorithms-contradict")
    if algorithm.family is Family.ED25519:
        return Scheme.ED25519
    return _SCHEMES[algorithm.family, digest]


def _check_attributes(signer: SignerInfo, signed_data: SignedData) -> None:
    if signer.misplaced:
        raise _Refusal(SignerStatus.MALFORMED, signer.misplaced)
    attributes = signer.attributes
    if attributes is None:
        # RFC 5652 5.3: only id-data may be signed without attributes
        if signed_data.content_type != oids.DATA:
            raise _Refusal(SignerStatus.MALFORMED, "signed-attributes-missing")
        if signer.signature_algorithm.family is Family.ED25519:
            # RFC 8419 3.1: then it stands over the whole content, and we only keep digests
            raise _Refusal(SignerStatus.UNSUPPORTED_ALGORITHM, "ed25519-without-attributes")
        _check_no_disguise(signed_data)
        return
    if attributes.fault:
        raise _Refusal(SignerStatus.MALFORMED, attributes.fault)
    if attributes.content_type != signed_data.content_type:  # RFC 5652 11.1
        raise _Refusal(SignerStatus.MALFORMED, "content-type-contradicts")
    fields = (signer.digest_identifier, signer.signature_algorithm.identifier)
    if attributes.protection not in (None, fields):  # RFC 6211 3
        raise _Refusal(SignerStatus.MALFORMED, "algorithm-protection-contradicts")


def _check_no_disguise(signed_data: SignedData) -> None:
    """Refuses somebody's signed attributes that are sent as content.

    A signature over attributes fits a SignedData without attributes, too, if its content is their DER. A
    caller with a detached signature sees the content and we do not: mail never begins like that.
    """
    content = signed_data.content
    if content is None or content.size > _MAX_DISGUISE:
        return
    octets = b"".join(content.chunks())
    if octets[:1] != b"\x31":
        return
    try:
        parse_attributes(b"\xa0" + octets[1:], limit=_MAX_DISGUISE)
    except CmsSyntaxError:
        return
    raise _Refusal(SignerStatus.MALFORMED, "content-is-attributes")


def _keep_named(hashes: Sequence[CertificateHash], candidates: list[bytes]) -> list[bytes]:
    for expected in hashes:
        if expected.algorithm not in _CERTIFICATE_HASHES:
            raise _Refusal(SignerStatus.UNSUPPORTED_ALGORITHM, "unknown-certificate-hash")
        # SHA-1 is no protection here (RFC 2634 5.4.1 knew no other), but a contradiction is one all the same
        candidates = [
            certificate
            for certificate in candidates
            if (_hash if _usual(certificate) else _hash.__wrapped__)(expected.algorithm, certificate)
            == expected.digest
        ]
        if not candidates:
            raise _Refusal(SignerStatus.CERTIFICATE_MISMATCH, "signing-certificate-contradicts")
    return candidates


@lru_cache(maxsize=1024)
def _hash(algorithm: str, certificate: bytes) -> bytes:
    return hashlib.new(algorithm, certificate, usedforsecurity=False).digest()


def _check_digest(signer: SignerInfo, digests: Mapping[str, bytes]) -> None:
    if signer.attributes is not None and signer.message_digest != digests[signer.digest_algorithm]:
        raise _Refusal(SignerStatus.DIGEST_MISMATCH, "content-changed")


def _check_signature(
    signer: SignerInfo, scheme: Scheme, candidates: Sequence[bytes], digests: Mapping[str, bytes]
) -> bytes:
    """Gives the certificate whose key made the signature; the first one's refusal when none did."""
    first: _Refusal | None = None
    for certificate in candidates:
        try:
            load = _load_key if _usual(certificate) else _load_key.__wrapped__
            _check_with_key(signer, scheme, load(certificate, scheme), digests)
        except _Refusal as refusal:
            first = first or refusal
        else:
            return certificate
    raise first or _Refusal(SignerStatus.NO_CERTIFICATE, "no-certificate")


@lru_cache(maxsize=1024)
def _load_key(certificate: bytes, scheme: Scheme) -> CertificatePublicKeyTypes:
    try:
        loaded = x509.load_der_x509_certificate(certificate)
        key = loaded.public_key()
        require_certificate_fit(loaded, scheme)
    except SchemeError:
        raise _Refusal(SignerStatus.CERTIFICATE_MISMATCH, "key-type-contradicts") from None
    except UnsupportedAlgorithm:
        raise _Refusal(SignerStatus.UNSUPPORTED_ALGORITHM, "unknown-key-type") from None
    except _UNREADABLE:
        raise _Refusal(SignerStatus.MALFORMED, "certificate-malformed") from None
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < MIN_RSA_BITS:  # RFC 8551 4.3
            raise _Refusal(SignerStatus.WEAK_ALGORITHM, "rsa-key-too-short")
        if key.key_size > MAX_RSA_BITS:
            raise _Refusal(SignerStatus.UNSUPPORTED_ALGORITHM, "rsa-key-too-long")
    return key


def _check_with_key(
    signer: SignerInfo, scheme: Scheme, key: CertificatePublicKeyTypes, digests: Mapping[str, bytes]
) -> None:
    salt_length = signer.signature_algorithm.salt_length
    attributes = signer.attributes
    prehashed = attributes is None
    # RFC 5652 5.4: the signature stands over the DER of the attributes. Some senders do not sort the SET OF:
    # a few of them signed what they sent, others its DER form. Both spell the same attributes, so both count.
    if attributes is None:
        spellings = [digests[signer.digest_algorithm]]
    else:
        spellings = list(dict.fromkeys((attributes.as_sent, attributes.sorted_der)))
    for data in spellings:
        try:
            verify_fitting(key, scheme, signer.signature, data, salt_length=salt_length, prehashed=prehashed)
        except (InvalidSignature, ValueError):
            continue
        return
    raise _Refusal(SignerStatus.SIGNATURE_INVALID, "signature-invalid")
