"""The site of most tests: a bank whose people show every policy, and a chain that is in the wrong order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from integration.mailroom import Mailroom, site
from mailsigil.demo.organisation import DOMAIN, EMPLOYEES, PASSWORD, Employee
from mailsigil.demo.postfix import Listener, Postfix
from mailsigil.demo.programs import free_port
from mailsigil.demo.site import Site
from mailsigil.keys.profile import Subject
from mailsigil.pki.policies import Level

ALICE, CEO, PREFERRED, NEVER, OPAQUE, NOKEY = (
    f"{name}@{DOMAIN}" for name in ("alice", "ceo", "preferred", "never", "opaque", "nokey")
)
SERVICE = f"service@{DOMAIN}"
ALIAS = f"alice.example@{DOMAIN}"
PASS_CHAIN, REFUSE_CHAIN = f"chain-pass@{DOMAIN}", f"chain-refuse@{DOMAIN}"
STRANGER = f"stranger@{DOMAIN}"
"""One who may log in and is nobody in the directory."""

_MORE = (CEO, PREFERRED, NEVER, OPAQUE, SERVICE, PASS_CHAIN, REFUSE_CHAIN)

POLICY = f"""
[[domain]]
name = "{DOMAIN}"
signing = "required"
unauthorised = "refuse"
exempt_recipients = ["*@lists.example"]

[[person]]
address = "{ALICE}"
aliases = ["{ALIAS}"]
may_send_as = ["{SERVICE}"]

[[person]]
address = "{CEO}"

[[person]]
address = "{PREFERRED}"
signing = "preferred"
unauthorised = "pass"

[[person]]
address = "{NEVER}"
signing = "never"

[[person]]
address = "{OPAQUE}"
form = "opaque"

[[person]]
address = "{NOKEY}"

[[person]]
address = "{PASS_CHAIN}"
signing = "preferred"
misordered_dkim = "pass"

[[person]]
address = "{REFUSE_CHAIN}"
misordered_dkim = "refuse"

[[client]]
networks = ["127.0.0.1/32"]
may_send_as = ["{SERVICE}"]
""" + "".join(f'\n[[person]]\naddress = "{employee.address}"\n' for employee in EMPLOYEES[1:])


def _employee(address: str) -> Employee:
    return Employee(Subject(level=Level.V1, address=address), address.partition("@")[0])


PEOPLE = (*EMPLOYEES, *(_employee(address) for address in _MORE))


@dataclass(frozen=True)
class House:
    """The site, and a second Postfix that signs DKIM before S/MIME."""

    mailroom: Mailroom
    wrong_order_port: int

    @property
    def site(self) -> Site:
        return self.mailroom.site


@contextmanager
def open_house() -> Iterator[House]:
    """Starts everything, and ends it."""
    with site(employees=PEOPLE, logins=(NOKEY, STRANGER), policy=POLICY) as running:
        port = free_port()
        ours = f"unix:{running.organisation.milter_socket}"
        listener = Listener(port=port, name="submission", milters=(running.dkim.milter, ours), logins=True)
        users = {employee.address: PASSWORD for employee in PEOPLE}
        next_hop = f"127.0.0.1:{running.sink.port}"
        with Postfix(running.folder / "wrong-order", (listener,), next_hop=next_hop, users=users):
            yield House(Mailroom(running), port)
