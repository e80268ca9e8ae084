"""Which way a message travels."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from mailsigil.direction import Direction, DirectionRules, direction_of
from mailsigil.plan import Envelope

RULES = DirectionRules(
    inbound_daemons=frozenset({"mx"}),
    outbound_daemons=frozenset({"submission"}),
    trusted_networks=(ip_network("192.0.2.0/24"), ip_network("2001:db8::/32"), ip_network("127.0.0.0/8")),
)
IN, OUT = Direction.INBOUND, Direction.OUTBOUND


@pytest.mark.parametrize(
    ("envelope", "direction"),
    [
        pytest.param(Envelope(), IN, id="nothing-known"),
        pytest.param(Envelope(client_address="198.51.100.1"), IN, id="the-world"),
        pytest.param(Envelope(client_address="198.51.100.1", login="alice"), OUT, id="login"),
        pytest.param(Envelope(client_address="192.0.2.7"), OUT, id="trusted-network"),
        pytest.param(Envelope(client_address="2001:db8::7"), OUT, id="trusted-network-ipv6"),
        pytest.param(Envelope(client_address="::ffff:192.0.2.7"), OUT, id="ipv4-seen-by-an-ipv6-listener"),
        pytest.param(Envelope(client_address="127.0.0.1"), OUT, id="local-submission"),
        pytest.param(Envelope(client_address="192.0.3.7"), IN, id="next-network"),
        pytest.param(Envelope(client_address="192.0.2.7.evil.example"), IN, id="no-address"),
        pytest.param(Envelope(client_address="unknown"), IN, id="unknown"),
        pytest.param(
            Envelope(client_address="198.51.100.1", daemon_name="submission"), OUT, id="submission-listener"
        ),
        pytest.param(
            Envelope(client_address="192.0.2.7", daemon_name="mx"), IN, id="inbound-listener-in-own-network"
        ),
        pytest.param(
            Envelope(client_address="192.0.2.7", daemon_name="mx", login="alice"),
            IN,
            id="inbound-listener-with-login",
        ),
        pytest.param(Envelope(client_address="198.51.100.1", daemon_name="other"), IN, id="another-listener"),
    ],
)
def test_direction(envelope: Envelope, direction: Direction) -> None:
    assert direction_of(envelope, RULES) is direction


def test_without_rules_only_a_login_is_outbound() -> None:
    rules = DirectionRules()
    assert direction_of(Envelope(client_address="127.0.0.1"), rules) is IN
    assert direction_of(Envelope(login="alice"), rules) is OUT
