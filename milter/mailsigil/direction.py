"""Which way a message travels: decided once, by one total match."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address

from mailsigil.plan import Envelope

Network = IPv4Network | IPv6Network


class Direction(Enum):
    """Outbound mail is ours to sign; everything else is inbound and is verified."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectionRules:
    """What makes a message outbound, as OpenDKIM's users know it."""

    inbound_daemons: frozenset[str] = frozenset()
    """Values of ``{daemon_name}`` that are inbound whatever else is true."""
    outbound_daemons: frozenset[str] = frozenset()
    """Values of ``{daemon_name}`` that take submissions."""
    trusted_networks: tuple[Network, ...] = ()
    """Clients whose mail is our own. Postfix shows local submission as 127.0.0.1."""


def direction_of(envelope: Envelope, rules: DirectionRules) -> Direction:
    """Tells the direction; a client address that cannot be read is no reason to trust it."""
    if envelope.daemon_name in rules.inbound_daemons:
        return Direction.INBOUND
    if envelope.login or envelope.daemon_name in rules.outbound_daemons:
        return Direction.OUTBOUND
    if is_within(envelope.client_address, rules.trusted_networks):
        return Direction.OUTBOUND
    return Direction.INBOUND


def is_within(address: str, networks: tuple[Network, ...]) -> bool:
    """Tells whether an IP address in text form lies in one of the networks."""
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return any(ip in network for network in networks if network.version == ip.version)
