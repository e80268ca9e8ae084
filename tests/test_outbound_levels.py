"""What the directory vouches for today bounds what a signature may say, on the outbound way."""

from __future__ import annotations

import pytest

from bank import ALICE, mail, send
from mailsigil.plan import Event, Outcome

HEAD = """
[[domain]]
name = "bank.example"
signing = "{signing}"
{more}
"""
ORGANISATION = """
[[organisation]]
name = "Example Bank"
domains = ["bank.example"]
validated_until = {until}
"""
PERSON = """
[[person]]
address = "alice@bank.example"
logins = ["alice"]
{more}
"""
VALID, LAPSED = "2027-01-01", "2026-01-01"
V4 = 'validated_level = "V4"'


def _policy(*, signing: str = "required", until: str = VALID, person: str = V4, more: str = "") -> str:
    head = HEAD.format(signing=signing, more=more)
    return head + ORGANISATION.format(until=until) + PERSON.format(more=person)


@pytest.mark.parametrize(
    ("policy", "event", "outcome"),
    [
        pytest.param(_policy(), Event.SIGNED, Outcome.ACCEPT, id="both validated: V4"),
        pytest.param(_policy(until=LAPSED), Event.DEFERRED, Outcome.TEMPFAIL, id="the organisation lapsed"),
        pytest.param(_policy(person=""), Event.DEFERRED, Outcome.TEMPFAIL, id="nobody validated the person"),
        pytest.param(
            _policy(person=f"{V4}\nvalidated_until = 2026-11-21"),
            Event.DEFERRED,
            Outcome.TEMPFAIL,
            id="the person's validation lapsed",
        ),
        pytest.param(
            _policy(more='level = "V3"'), Event.DEFERRED, Outcome.TEMPFAIL, id="policy wants no more than V3"
        ),
        pytest.param(
            _policy(signing="preferred", until=LAPSED), Event.PASSED, Outcome.ACCEPT, id="preferred: unsigned"
        ),
        pytest.param(
            _policy(more='timestamp = "required"'),
            Event.DEFERRED,
            Outcome.TEMPFAIL,
            id="no authority",
        ),
        pytest.param(_policy(more='timestamp = "preferred"'), Event.SIGNED, Outcome.ACCEPT, id="or without"),
        pytest.param(
            _policy(person=f"{V4}\ndisabled = true"), Event.REFUSED, Outcome.REFUSE_SENDER, id="disabled"
        ),
        pytest.param(
            _policy(more="valid_until = 2026-11-21"), Event.PASSED, Outcome.ACCEPT, id="the policy is over"
        ),
    ],
)
def test_levels(policy: str, event: Event, outcome: Outcome) -> None:
    plan = send(mail(), policy=policy).plan
    assert (plan.event, plan.outcome) == (event, outcome), plan.reason


def test_a_disabled_author_is_not_signed_for_by_a_colleague() -> None:
    policy = _policy(person=f"{V4}\ndisabled = true") + (
        f'[[person]]\naddress = "bob@bank.example"\nlogins = ["bob"]\nmay_send_as = ["{ALICE}"]\n'
    )
    done = send(mail(), login="bob", mail_from="bob@bank.example", policy=policy)
    assert done.plan.event is Event.REFUSED
    assert "disabled" in done.plan.reason
