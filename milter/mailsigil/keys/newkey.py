"""A private key that has no certificate yet: just made here, just received, or made on a token or service."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Final, Protocol

from asn1crypto import core, csr, keys
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_public_key,
)
from cryptography.x509.oid import NameOID

from mailsigil.cms.algorithms import Scheme, default_scheme, sign_with
from mailsigil.keys.profile import KeyKind, PrivateKey, mail_name
from mailsigil.keys.subject import SubjectRequest

_SIGNATURES: Final = {
    Scheme.RSA_PKCS1_SHA256: "sha256_rsa",
    Scheme.RSA_PKCS1_SHA384: "sha384_rsa",
    Scheme.RSA_PKCS1_SHA512: "sha512_rsa",
    Scheme.ECDSA_SHA256: "sha256_ecdsa",
    Scheme.ECDSA_SHA384: "sha384_ecdsa",
    Scheme.ECDSA_SHA512: "sha512_ecdsa",
    Scheme.ED25519: "ed25519",
}


class CertifiableKey(Protocol):
    """What an issuer needs of a key, wherever that lies."""

    @property
    def request(self) -> SubjectRequest:
        """For whom it is."""
        ...

    @property
    def spki(self) -> bytes:
        """The public key as SubjectPublicKeyInfo, DER."""
        ...

    @property
    def scheme(self) -> Scheme:
        """How the key signs when nobody asks for another way."""
        ...

    @property
    def csr(self) -> bytes:
        """A PKCS#10 request, DER, with the names as subject and the address beside it."""
        ...

    def csr_like(self, old: x509.Certificate) -> bytes:
        """A request that repeats subject and alternative name of an older certificate, DER."""
        ...

    def csr_with(self, *, password: str, like: x509.Certificate | None = None) -> bytes:
        """A request with a challengePassword (RFC 2985 5.4.1), DER; ``like`` as for ``csr_like``."""
        ...

    def sign(self, data: bytes) -> bytes:
        """Signs with ``scheme``: shows an issuer that the key is ours."""
        ...


class _Requesting:
    """Requests (PKCS#10, RFC 2986), signed by whatever holds the key."""

    request: SubjectRequest

    @cached_property
    def spki(self) -> bytes:
        """The public key as SubjectPublicKeyInfo, DER."""
        raise NotImplementedError

    @cached_property
    def scheme(self) -> Scheme:
        """How the key signs when nobody asks for another way."""
        return default_scheme(load_der_public_key(self.spki))

    def sign(self, data: bytes) -> bytes:
        """Signs with ``scheme``: shows an issuer that the key is ours."""
        raise NotImplementedError

    @cached_property
    def csr(self) -> bytes:
        """A PKCS#10 request (RFC 2986), DER, with the names as subject and the address beside it."""
        return self._request(None)

    def csr_like(self, old: x509.Certificate) -> bytes:
        """A request that repeats subject and alternative name of an older certificate, DER."""
        return self._request(old)

    def csr_with(self, *, password: str, like: x509.Certificate | None = None) -> bytes:
        """A request with a challengePassword (RFC 2985 5.4.1), DER; ``like`` as for ``csr_like``."""
        text = asn1_x509.DirectoryString(name="printable_string", value=core.PrintableString(password))
        return self._request(like, [{"type": "challenge_password", "values": [text]}])

    def _request(self, old: x509.Certificate | None, more: Sequence[dict[str, Any]] = ()) -> bytes:
        subject, names = _wanted(self.request) if old is None else _repeated(old)
        attributes = [{"type": "extension_request", "values": [[names]]}] if names is not None else []
        info = csr.CertificationRequestInfo(
            {
                "version": "v1",
                "subject": asn1_x509.Name.load(subject.public_bytes()),
                "subject_pk_info": keys.PublicKeyInfo.load(self.spki),
                "attributes": [*attributes, *more],
            }
        )
        signed = csr.CertificationRequest(
            {
                "certification_request_info": info,
                "signature_algorithm": _algorithm(self.scheme),
                "signature": self.sign(info.dump()),
            }
        )
        encoded: bytes = signed.dump()
        return encoded


class NewKey(_Requesting):
    """A private key in memory. It leaves it on one way: into the state folder."""

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


class PlacedKey(_Requesting):
    """A private key on a token or in a service, which signs there. ``signer`` raises SourceError."""

    def __init__(
        self, request: SubjectRequest, spki: bytes, signer: Callable[[Scheme, bytes], bytes]
    ) -> None:
        self.request = request
        self._spki = spki
        self._signer = signer

    @cached_property
    def spki(self) -> bytes:
        """The public key as SubjectPublicKeyInfo, DER."""
        return self._spki

    def sign(self, data: bytes) -> bytes:
        """Signs with ``scheme``: shows an issuer that the key is ours. Raises SourceError."""
        return self._signer(self.scheme, data)


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


def _algorithm(scheme: Scheme) -> dict[str, Any]:
    # RFC 4055 5: RSA has NULL as its parameters; RFC 5758 3.2 and RFC 8410 3: the others have none.
    parameters = {"parameters": core.Null()} if "rsa" in scheme.value else {}
    return {"algorithm": _SIGNATURES[scheme], **parameters}


def _wanted(request: SubjectRequest) -> tuple[x509.Name, dict[str, Any]]:
    names = x509.SubjectAlternativeName([mail_name(request.address)])
    return subject_name(request), _extension(names, critical=False)


def _repeated(old: x509.Certificate) -> tuple[x509.Name, dict[str, Any] | None]:
    for extension in old.extensions:
        if isinstance(extension.value, x509.SubjectAlternativeName):
            return old.subject, _extension(extension.value, critical=extension.critical)
    return old.subject, None


def _extension(names: x509.SubjectAlternativeName, *, critical: bool) -> dict[str, Any]:
    return {
        "extn_id": "subject_alt_name",
        "critical": critical,
        "extn_value": core.ParsableOctetString(names.public_bytes()),
    }
