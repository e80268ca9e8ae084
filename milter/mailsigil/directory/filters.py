"""LDAP filters. Every value from outside gets into a filter here, escaped, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

_PLAIN: Final = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@.-_=,:+ ")


def escape(value: str) -> str:
    """Write a value so that it means itself alone (RFC 4515 3): all but plain letters as ``\\xx`` octets."""
    octets = value.encode("utf-8", "surrogatepass")
    return "".join(chr(octet) if octet in _PLAIN else f"\\{octet:02x}" for octet in octets)


def equal(attribute: str, value: str) -> str:
    """An attribute has this value. The attribute is the administrator's, the value may be anybody's."""
    return f"({attribute}={escape(value)})"


def present(attribute: str) -> str:
    """An attribute is there."""
    return f"({attribute}=*)"


def any_of(filters: Iterable[str]) -> str:
    """One of the filters holds; of none, nothing does."""
    parts = list(dict.fromkeys(filters))
    return parts[0] if len(parts) == 1 else f"(|{''.join(parts)})"


def all_of(filters: Iterable[str]) -> str:
    """All filters hold."""
    parts = [part for part in filters if part]
    return parts[0] if len(parts) == 1 else f"(&{''.join(parts)})"
