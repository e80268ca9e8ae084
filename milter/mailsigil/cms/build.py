"""Writing S/MIME signatures: everything that does not change from mail to mail is encoded once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from cryptography import x509

from mailsigil.cms import der, oids
from mailsigil.cms.algorithms import DIGEST_SIZES, Family, Scheme, require_certificate_fit
from mailsigil.cms.values import certificate_identity

_VERSION_1: Final = der.integer(1)
_SIGNED_DATA: Final = der.oid(oids.SIGNED_DATA)
_DATA: Final = der.oid(oids.DATA)
# RFC 8551 2.5.2: what the owner of the certificate can decrypt. A gateway does not know their mail client, so
# only what every S/MIME client of this century reads is announced.
_CAPABILITIES: Final = der.sequence(
    *(der.sequence(der.oid(cipher)) for cipher in (oids.AES256_CBC, oids.AES128_CBC))
)


class SignatureBuilder:
    """Makes the signatures of one certificate with one scheme.

    The way of one message: `attributes(digest)`, have those bytes signed, then `detached` or `opaque`.
    Raises SchemeError when the certificate's key does not fit the scheme, CmsSyntaxError or ValueError when
    the certificate cannot be read. Safe to share between threads: nothing changes after construction.
    """

    __slots__ = (
        "_certificates",
        "_constant_attributes",
        "_digest_head",
        "_digest_size",
        "_signature_algorithm",
        "_signed_data_head",
        "_signer_head",
        "certificate",
        "scheme",
    )

    def __init__(
        self,
        certificate: bytes,
        intermediates: Sequence[bytes],
        scheme: Scheme,
        *,
        whole_domain: bool = False,
    ) -> None:
        """With ``whole_domain`` the signatures say that a domain signs, and not its sender (RFC 3183 2)."""
        require_certificate_fit(x509.load_der_x509_certificate(certificate), scheme)
        self.certificate = certificate
        self.scheme = scheme
        issuer, serial = certificate_identity(certificate)
        # RFC 5754 2: parameters of SHA-2 are left out
        digest = der.sequence(der.oid(oids.DIGEST_OIDS[scheme.digest]))
        signature = _signature_algorithm(scheme)
        self._signature_algorithm = signature
        self._digest_size = DIGEST_SIZES[scheme.digest]
        self._digest_head = der.oid(oids.MESSAGE_DIGEST)
        constant = _constant_attributes(certificate, issuer, serial, digest, signature)
        self._constant_attributes = (*constant, _DOMAIN_SIGNATURE) if whole_domain else constant
        # RFC 5652 5.3: version 1 goes with issuerAndSerialNumber
        self._signer_head = _VERSION_1 + der.sequence(issuer, der.integer(serial)) + digest
        # RFC 5652 5.1: version 1, as the content is id-data and nothing newer is inside
        self._signed_data_head = _VERSION_1 + der.set_of([digest])
        self._certificates = der.set_of({certificate, *intermediates}, tag=der.context(0))

    def attributes(self, content_digest: bytes, signing_time: datetime | None) -> bytes:
        """The DER SET OF signed attributes (RFC 5652 11, RFC 8551 2.5): these bytes are what is signed.

        `signing_time` is left out when None. Raises ValueError for a digest of another size than the scheme's
        and for a time without time zone.
        """
        if len(content_digest) != self._digest_size:
            raise ValueError(f"{self.scheme.value} needs a digest of {self._digest_size} octets")
        digest = der.sequence(self._digest_head, der.tlv(der.SET, der.octet_string(content_digest)))
        attributes = [*self._constant_attributes, digest]
        if signing_time is not None:
            attributes.append(_attribute(oids.SIGNING_TIME, der.time(signing_time)))
        return der.set_of(attributes)

    def detached(self, attributes: bytes, signature: bytes) -> bytes:
        """The ContentInfo for the second part of multipart/signed (RFC 8551 3.5.3)."""
        head, tail = self._assemble(attributes, signature, content_size=None)
        return head + tail

    def opaque(self, attributes: bytes, signature: bytes, content_size: int) -> tuple[bytes, bytes]:
        """What stands before and after the content in application/pkcs7-mime (RFC 8551 3.5.2).

        The content itself, of exactly `content_size` octets, goes between the two.
        """
        return self._assemble(attributes, signature, content_size=content_size)

    def _assemble(
        self, attributes: bytes, signature: bytes, *, content_size: int | None
    ) -> tuple[bytes, bytes]:
        if attributes[:1] != b"\x31":
            raise ValueError("the signed attributes are a SET OF, as attributes() made it")
        signer = der.sequence(
            self._signer_head,
            b"\xa0" + attributes[1:],  # RFC 5652 5.4: [0] IMPLICIT when sent, SET OF when signed
            self._signature_algorithm,
            der.octet_string(signature),
        )
        tail = self._certificates + der.tlv(der.SET, signer)
        content_head, content_total = _content_head(content_size)
        size = len(self._signed_data_head) + content_total + len(tail)
        inner = der.header(der.SEQUENCE, size)
        explicit = der.header(der.context(0), len(inner) + size)
        outer = der.header(der.SEQUENCE, len(_SIGNED_DATA) + len(explicit) + len(inner) + size)
        # RFC 5652 3 and 5.1: ContentInfo { id-signedData, [0] SignedData { version, digestAlgorithms, ... } }
        head = outer + _SIGNED_DATA + explicit + inner + self._signed_data_head + content_head
        return head, tail


def _content_head(size: int | None) -> tuple[bytes, int]:
    """EncapsulatedContentInfo up to the content, and its whole length with the content (RFC 5652 5.2)."""
    if size is None:
        head = der.sequence(_DATA)
        return head, len(head)
    if size < 0:
        raise ValueError("the size of the content is negative")
    octets = der.header(der.OCTET_STRING, size)
    explicit = der.header(der.context(0), len(octets) + size)
    inner = len(_DATA) + len(explicit) + len(octets) + size
    head = der.header(der.SEQUENCE, inner) + _DATA + explicit + octets
    return head, len(head) + size


def _attribute(oid: str, value: bytes) -> bytes:
    return der.sequence(der.oid(oid), der.tlv(der.SET, value))


_DOMAIN_SIGNATURE: Final = _attribute(oids.SIGNATURE_TYPE, der.sequence(der.oid(oids.DOMAIN_SIGNATURE)))


def _constant_attributes(
    certificate: bytes, issuer: bytes, serial: int, digest: bytes, signature: bytes
) -> tuple[bytes, ...]:
    # RFC 5035 4: SHA-256 is the default hash and is left out; issuerSerial names the issuer by directoryName
    directory_name = der.tlv(der.context(4), issuer)
    issuer_serial = der.sequence(der.sequence(directory_name), der.integer(serial))
    certificate_id = der.sequence(der.octet_string(hashlib.sha256(certificate).digest()), issuer_serial)
    # RFC 6211 2: digestAlgorithm, and signatureAlgorithm as [1] IMPLICIT
    protection = der.sequence(digest, bytes((der.context(1),)) + signature[1:])
    return (
        _attribute(oids.CONTENT_TYPE, _DATA),
        _attribute(oids.SMIME_CAPABILITIES, _CAPABILITIES),
        _attribute(oids.SIGNING_CERTIFICATE_V2, der.sequence(der.sequence(certificate_id))),
        _attribute(oids.ALGORITHM_PROTECTION, protection),
    )


def _signature_algorithm(scheme: Scheme) -> bytes:
    if scheme.family is Family.RSA_PKCS1:
        # RFC 3370 3.2 and RFC 5754 3.2: rsaEncryption with NULL is what every verifier takes
        return der.sequence(der.oid(oids.RSA_ENCRYPTION), der.NULL)
    if scheme.family is Family.ECDSA:
        return der.sequence(der.oid(oids.ECDSA_OIDS[scheme.digest]))  # RFC 5754 3.3: no parameters
    if scheme.family is Family.ED25519:
        return der.sequence(der.oid(oids.ED25519))  # RFC 8419 2.1: no parameters
    # RFC 4055 2.1: inside PSS parameters the hash has NULL parameters; RFC 4056 3: one hash for all
    digest = der.sequence(der.oid(oids.DIGEST_OIDS[scheme.digest]), der.NULL)
    parameters = der.sequence(
        der.tlv(der.context(0), digest),
        der.tlv(der.context(1), der.sequence(der.oid(oids.MGF1), digest)),
        der.tlv(der.context(2), der.integer(DIGEST_SIZES[scheme.digest])),
    )
    return der.sequence(der.oid(oids.RSASSA_PSS), parameters)
