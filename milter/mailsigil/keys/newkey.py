"""A private key that was just made, or just received, and has no certificate yet."""

from __future__ import annotations

from functools import cached_property

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID

from mailsigil.cms.algorithms import Scheme, default_scheme, sign_with
from mailsigil.keys.profile import KeyKind, PrivateKey, mail_name, signature_hash
from mailsigil.keys.subject import SubjectRequest


class NewKey:
    """A private key and for whom it is. The key itself leaves it on one way: into the state folder."""

    def __init__(self, request: SubjectRequest, key: PrivateKey) -> None:
        self.request = request
        self.__key = key

    @classmethod
    def generate(cls, request: SubjectRequest, kind: KeyKind) -> NewKey:
        """Makes a key from the system's randomness."""
        return cls(request, kind.generate())

    @cached_property
    def spki(self) -> bytes:
        """The public key as SubjectPublicKeyInfo, DER."""
        return self.__key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    @cached_property
    def csr(self) -> bytes:
        """A PKCS#10 request (RFC 2986), DER, with the names as subject and the address beside it."""
        builder = x509.CertificateSigningRequestBuilder().subject_name(subject_name(self.request))
        address = x509.SubjectAlternativeName([mail_name(self.request.address)])
        builder = builder.add_extension(address, critical=False)
        signed = builder.sign(self.__key, signature_hash(self.__key))
        return signed.public_bytes(Encoding.DER)

    def csr_like(self, old: x509.Certificate) -> bytes:
        """A request that repeats subject and alternative name of an older certificate, DER."""
        builder = x509.CertificateSigningRequestBuilder().subject_name(old.subject)
        for extension in old.extensions:
            if extension.oid == x509.SubjectAlternativeName.oid:
                builder = builder.add_extension(extension.value, critical=extension.critical)
        return builder.sign(self.__key, signature_hash(self.__key)).public_bytes(Encoding.DER)

    @property
    def scheme(self) -> Scheme:
        """How the key signs when nobody asks for another way."""
        return default_scheme(self.__key.public_key())

    def sign(self, data: bytes) -> bytes:
        """Signs with ``scheme``: shows an issuer that the key is ours."""
        return sign_with(self.__key, self.scheme, data)

    def private_pem(self) -> bytes:
        """The key as PKCS#8 in PEM, for a file that only the key agent reads."""
        return self.__key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def private_key(self) -> PrivateKey:
        """The key, for :func:`mailsigil.keys.soft_key.soft_key` alone."""
        return self.__key

    def __repr__(self) -> str:
        return f"<NewKey for {self.request.address}>"

    def __reduce__(self) -> str:
        raise TypeError("a key is not to be copied out of its process")


def subject_name(request: SubjectRequest) -> x509.Name:
    """The subject that is asked for; an issuer takes of it what it vouches for."""
    parts = (
        (NameOID.ORGANIZATION_NAME, request.organisation),
        (NameOID.GIVEN_NAME, request.given_name),
        (NameOID.SURNAME, request.surname),
        (NameOID.TITLE, request.title),
        (NameOID.COMMON_NAME, request.common_name),
    )
    # RFC 5280 appendix A.1: 64 characters; an address may be longer, and stands beside anyway.
    return x509.Name([x509.NameAttribute(oid, text[:64]) for oid, text in parts if text])
