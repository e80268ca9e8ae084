"""Keys that take long to make, made once in a run: for tests that want one of a kind, whosever it is."""

from __future__ import annotations

from functools import cache

from cryptography.hazmat.primitives.asymmetric import dsa, rsa


@cache
def rsa_key(bits: int = 2048, exponent: int = 65537) -> rsa.RSAPrivateKey:
    """One RSA key of a size."""
    return rsa.generate_private_key(public_exponent=exponent, key_size=bits)


@cache
def dsa_key() -> dsa.DSAPrivateKey:
    """One DSA key, of 2048 bits."""
    return dsa.generate_private_key(2048)
