"""Does a signature of an authority or a responder hold? For revocation lists and OCSP responses."""

from __future__ import annotations

from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from mailsigil.pki.evidence import Unusable
from mailsigil.pki.parsed import weak_hash

Scheme = padding.PSS | padding.PKCS1v15 | ec.ECDSA | None
"""How it was signed: None where the key alone says it (EdDSA)."""

_MAX_SALT: Final = 512
_HASHES: Final[dict[str, hashes.HashAlgorithm]] = {
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}


def require_strong(digest: hashes.HashAlgorithm | None, what: str) -> None:
    """Raise ``Unusable`` where a signature stands on a hash algorithm that is not accepted."""
    if digest is not None and weak_hash(digest.name):
        raise Unusable(f"{what} was signed with {digest.name}")


def pss_scheme(parameters: Any, what: str) -> tuple[padding.PSS, hashes.HashAlgorithm]:
    """Read the parameters of RSASSA-PSS in asn1crypto's form (RFC 4055 3.1). Raises ``Unusable``."""
    digest = parameters["hash_algorithm"]["algorithm"].native
    mask = parameters["mask_gen_algorithm"]["parameters"]["algorithm"].native
    salt = parameters["salt_length"].native
    if digest not in _HASHES or mask not in _HASHES or not 0 <= salt <= _MAX_SALT:
        raise Unusable(f"{what} was signed with RSASSA-PSS over {digest} and {mask}, a salt of {salt} octets")
    return padding.PSS(padding.MGF1(_HASHES[mask]), salt), _HASHES[digest]


def signature_holds(
    key: CertificatePublicKeyTypes,
    signature: bytes,
    signed: bytes,
    *,
    scheme: Scheme,
    digest: hashes.HashAlgorithm | None,
) -> bool:
    """Tell whether a key made a signature. A key of another kind than the scheme's did not."""
    try:
        match key:
            case rsa.RSAPublicKey() if (
                isinstance(scheme, padding.PSS | padding.PKCS1v15) and digest is not None
            ):
                key.verify(signature, signed, scheme, digest)
            case ec.EllipticCurvePublicKey() if isinstance(scheme, ec.ECDSA):
                key.verify(signature, signed, scheme)
            case ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey() if scheme is None and digest is None:
                key.verify(signature, signed)
            case _:
                return False
    except (InvalidSignature, ValueError):
        return False
    return True


def signed_part(der: bytes) -> bytes:
    """Give what the signature of a list stands over: the first element of its DER, which was parsed before.

    Raises ``Unusable`` for a signature that is no number of octets: it could be written in several ways.
    """
    whole = memoryview(der)
    start, _ = _content(whole, 0)
    _, end = _content(whole, start)
    _, algorithm_end = _content(whole, end)
    signature, _ = _content(whole, algorithm_end)
    require_octets(whole[signature])
    return bytes(whole[start:end])


def require_octets(unused_bits: int) -> None:
    """Raise ``Unusable`` where a BIT STRING says that bits of its last octet do not count."""
    if unused_bits:
        raise Unusable("the signature does not end with an octet")


def _content(data: memoryview, position: int) -> tuple[int, int]:
    """Where the content of the element at a position begins and ends."""
    length, start = data[position + 1], position + 2
    if length & 0x80:
        count = length & 0x7F
        length, start = int.from_bytes(data[start : start + count]), start + count
    return start, start + length
