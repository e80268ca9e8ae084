"""Objects on a PKCS#11 token: found, made, and signed with. Each function raises PKCS11Error."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from collections.abc import Iterator
from typing import Any, Final

import pkcs11
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from pkcs11 import Attribute, KeyType, Mechanism, MechanismFlag, ObjectClass

from mailsigil.cms.algorithms import Family, Scheme
from mailsigil.keys.profile import KeyKind

MAX_OBJECTS: Final = 100_000
_DIGEST_INFO: Final = {
    # RFC 8017 9.2, note 1: the DER before the digest. Tokens know CKM_RSA_PKCS; few know one with a hash.
    "sha256": bytes.fromhex("3031300d060960864801650304020105000420"),
    "sha384": bytes.fromhex("3041300d060960864801650304020205000430"),
    "sha512": bytes.fromhex("3051300d060960864801650304020305000440"),
}
_PSS: Final = {
    "sha256": (Mechanism.SHA256, pkcs11.MGF.SHA256, 32),
    "sha384": (Mechanism.SHA384, pkcs11.MGF.SHA384, 48),
    "sha512": (Mechanism.SHA512, pkcs11.MGF.SHA512, 64),
}
_MECHANISMS: Final = {
    Family.RSA_PKCS1: Mechanism.RSA_PKCS,
    Family.RSA_PSS: Mechanism.RSA_PKCS_PSS,
    Family.ECDSA: Mechanism.ECDSA,
    Family.ED25519: Mechanism.EDDSA,
}
# The curves' object identifiers, DER (RFC 5480 2.1.1.1, RFC 8410 3).
_CURVES: Final = {
    KeyKind.P256: (ec.SECP256R1(), bytes.fromhex("06082a8648ce3d030107")),
    KeyKind.P384: (ec.SECP384R1(), bytes.fromhex("06052b81040022")),
}
_EDWARDS25519: Final = bytes.fromhex("06032b6570")


def schemes_of(token: Any) -> frozenset[Scheme]:
    """The schemes that a token has a mechanism for."""
    offered = token.slot.get_mechanisms()
    return frozenset(scheme for scheme in Scheme if _MECHANISMS[scheme.family] in offered)


def objects(session: Any, template: dict[Any, Any]) -> list[Any]:
    """Finds objects."""
    # A search that is not read to its end stays open, and the next one fails (PKCS#11 v2.40, 5.7).
    return list(session.get_objects(template))[:MAX_OBJECTS]


def private_key(session: Any, spki: bytes, certificate: bytes = b"") -> Any | None:
    """Finds the private key of a public one: RSA by its modulus, others by the identifier of the public key.

    Where there is no public key on the token, the identifier of the ``certificate`` (DER) will do.
    """
    public = load_der_public_key(spki)
    if isinstance(public, rsa.RSAPublicKey):
        modulus = public.public_numbers().n
        wanted = {
            Attribute.CLASS: ObjectClass.PRIVATE_KEY,
            Attribute.MODULUS: modulus.to_bytes((modulus.bit_length() + 7) // 8, "big"),
        }
        return next(iter(objects(session, wanted)), None)
    kind = KeyType.EC_EDWARDS if isinstance(public, ed25519.Ed25519PublicKey) else KeyType.EC
    for identifier in _identifiers(session, public, certificate):
        named = {
            Attribute.CLASS: ObjectClass.PRIVATE_KEY,
            Attribute.KEY_TYPE: kind,
            Attribute.ID: identifier,
        }
        for found in objects(session, named):
            return found
    return None


def sign(key: Any, spki: bytes, scheme: Scheme, data: bytes) -> bytes:
    """Signs data with a private key on the token; raises ValueError for a scheme of another kind of key."""
    mechanism = _MECHANISMS[scheme.family]
    if scheme is Scheme.ED25519:
        # RFC 8032 5.1: Ed25519 takes the data itself.
        return bytes(key.sign(data, mechanism=mechanism))
    digest = hashlib.new(scheme.digest, data).digest()
    if scheme.family is Family.RSA_PKCS1:
        return bytes(key.sign(_DIGEST_INFO[scheme.digest] + digest, mechanism=mechanism))
    if scheme.family is Family.RSA_PSS:
        return bytes(key.sign(digest, mechanism=mechanism, mechanism_param=_PSS[scheme.digest]))
    public = load_der_public_key(spki)
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise ValueError("the certificate's key is no elliptic curve")
    # FIPS 186-5 6.4.1: of a digest that is longer than the curve, the first bits count.
    raw = key.sign(digest[: (public.curve.key_size + 7) // 8], mechanism=mechanism)
    half = len(raw) // 2
    return encode_dss_signature(int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big"))


def generate(session: Any, kind: KeyKind, label: str) -> bytes:
    """Makes a key pair that stays on the token; gives the public key (SubjectPublicKeyInfo, DER)."""
    how: dict[str, Any] = {
        "store": True,
        "id": secrets.token_bytes(16),
        "label": label,
        "capabilities": MechanismFlag.SIGN | MechanismFlag.VERIFY,
        "private_template": {Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False},
    }
    if kind in _CURVES:
        curve, parameters = _CURVES[kind]
        domain = session.create_domain_parameters(KeyType.EC, {Attribute.EC_PARAMS: parameters}, local=True)
        made, _ = domain.generate_keypair(**how)
        point = _point(made, 1 + 2 * ((curve.key_size + 7) // 8))
        return _spki(ec.EllipticCurvePublicKey.from_encoded_point(curve, point))
    if kind is KeyKind.ED25519:
        domain = session.create_domain_parameters(
            KeyType.EC_EDWARDS, {Attribute.EC_PARAMS: _EDWARDS25519}, local=True
        )
        made, _ = domain.generate_keypair(mechanism=Mechanism.EC_EDWARDS_KEY_PAIR_GEN, **how)
        return _spki(ed25519.Ed25519PublicKey.from_public_bytes(_point(made, 32)))
    made, _ = session.generate_keypair(KeyType.RSA, int(kind.removeprefix("rsa")), **how)
    exponent, modulus = (
        int.from_bytes(made[name], "big") for name in (Attribute.PUBLIC_EXPONENT, Attribute.MODULUS)
    )
    return _spki(rsa.RSAPublicNumbers(exponent, modulus).public_key())


def _point(public: Any, size: int) -> bytes:
    """The octets of a public point: some tokens wrap them in an OCTET STRING, some do not."""
    return bytes(public[Attribute.EC_POINT])[-size:]


def _spki(key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _identifiers(session: Any, public: object, certificate: bytes) -> Iterator[bytes]:
    """The CKA_IDs under which a private key may lie: its public key's, its certificate's."""
    if isinstance(public, ec.EllipticCurvePublicKey):
        point = public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    elif isinstance(public, ed25519.Ed25519PublicKey):
        point = public.public_bytes_raw()
    else:
        return
    # PKCS#11 v2.40, 2.3.3: an OCTET STRING around the point; some tokens leave the wrapping out.
    length = bytes([len(point)]) if len(point) < 128 else b"\x81" + bytes([len(point)])
    for form in (b"\x04" + length + point, point):
        for item in objects(session, {Attribute.CLASS: ObjectClass.PUBLIC_KEY, Attribute.EC_POINT: form}):
            yield item[Attribute.ID]
    if certificate:
        for item in objects(session, {Attribute.CLASS: ObjectClass.CERTIFICATE}):
            with contextlib.suppress(KeyError):
                if item[Attribute.VALUE] == certificate:
                    yield item[Attribute.ID]
