"""What should be, and what is to be done about it: tables, without a database."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailsigil.directory.api import Listed, OwnAddress, Person
from mailsigil.keys.subject import SubjectRequest
from mailsigil.lifecycle.actions import Action, Held, Kind, Note, Rules
from mailsigil.lifecycle.desired import Desired, SourceRules, Standing, desired, person_names
from mailsigil.lifecycle.plan import decide, make_plan
from mailsigil.lifecycle.safety import safety_stop
from mailsigil.lifecycle.seat_plan import renewal_time
from mailsigil.lifecycle.tables import OVER, Status
from mailsigil.pki.policies import Level
from mailsigil.policy.entitlement import IdentityFacts, Organisation, Validation
from mailsigil.policy.model import IdentityLevel, PolicyEntry, SigningMode

NOW = datetime(2026, 11, 22, tzinfo=UTC)
DAY = timedelta(days=1)
ALICE = "alice@bank.example"
RULES = Rules(node="mx1", renew_before={"ca": 30 * DAY}, jitter=7 * DAY)
SHARING = replace(RULES, shares_keys=True)

V4 = SubjectRequest(
    address=ALICE, level=Level.V4, given_name="Alice", surname="Example", organisation="Bank", title="Clerk"
)
V2 = replace(V4, level=Level.V2, organisation="")
V3 = SubjectRequest(address=ALICE, level=Level.V3, organisation="Bank")
V1 = SubjectRequest(address=ALICE)


def _wish(request: SubjectRequest = V4, **more: Any) -> Desired:
    return Desired(
        **{"source": "ca", "standing": Standing.WANTED, "request": request, "person": "uid=alice", **more}
    )


def _held(status: Status = Status.ISSUED, request: SubjectRequest = V4, **more: Any) -> Held:
    values: dict[str, Any] = {
        "id": 1,
        "source": "ca",
        "address": ALICE,
        "status": status,
        "request": request,
        "valid_from": NOW - 100 * DAY,
        "valid_until": NOW + 265 * DAY,
        "asked_at": NOW - 100 * DAY,
        "node": "mx1",
        "key_id": "k1",
        "file_key": "k1",
    }
    return Held(**{**values, **more})


_OPEN = {"valid_from": None, "valid_until": None, "key_id": "", "asked_at": NOW - DAY}
REQUESTED = _held(Status.REQUESTED, id=9, **_OPEN)
GONE = _wish(standing=Standing.GONE, why="the account is disabled")
LAPSED = _wish(V2, lapsed="the validation of Bank lapsed")
FOUND = _held(id=0, key_id="k2", file_key="k2", valid_from=NOW - DAY)


def _told(steps: list[Action | Note]) -> list[str]:
    return [
        f"{step.kind}{f' {step.held.id}' if step.held and step.kind not in ('renew', 'reissue') else ''}"
        if isinstance(step, Action)
        else "note"
        for step in steps
    ]


@pytest.mark.parametrize(
    ("wish", "held", "steps"),
    [
        pytest.param(_wish(), [], ["issue"], id="new"),
        pytest.param(_wish(standing=Standing.ON_REQUEST), [], [], id="an alias waits for its first mail"),
        pytest.param(_wish(standing=Standing.KEPT), [], [], id="never signed"),
        pytest.param(_wish(standing=Standing.KEPT), [_held()], ["note"], id="never signed any more"),
        pytest.param(_wish(standing=Standing.DISPUTED), [], ["note"], id="two people, nothing there"),
        pytest.param(_wish(standing=Standing.DISPUTED), [_held()], ["note"], id="two people, stays"),
        pytest.param(_wish(), [_held()], [], id="as it should be"),
        pytest.param(_wish(), [_held(valid_until=NOW + 20 * DAY)], ["renew"], id="near its end"),
        pytest.param(
            _wish(standing=Standing.ON_REQUEST),
            [_held(valid_until=NOW + 20 * DAY)],
            ["renew"],
            id="an alias that has one keeps having one",
        ),
        pytest.param(_wish(), [_held(valid_until=NOW)], ["expire 1", "issue"], id="ran out"),
        pytest.param(_wish(replace(V4, title="Boss")), [_held()], ["reissue"], id="title"),
        pytest.param(_wish(V2), [_held()], ["reissue"], id="less, and nothing lapsed"),
        pytest.param(_wish(), [_held(request=V1)], ["reissue"], id="more"),
        pytest.param(None, [_held()], ["revoke 1"], id="left"),
        pytest.param(GONE, [_held()], ["revoke 1"], id="disabled"),
        pytest.param(None, [REQUESTED], ["revoke 9"], id="left before it came"),
        pytest.param(
            None,
            [_held(), _held(Status.HELD, id=2), _held(Status.SUPERSEDED, id=3)],
            ["revoke 1", "revoke 3", "revoke 2"],
            id="left, with everything",
        ),
        pytest.param(LAPSED, [_held()], ["hold 1", "issue"], id="lapse"),
        pytest.param(LAPSED, [_held(request=V3)], ["hold 1", "issue"], id="lapse of V3"),
        pytest.param(LAPSED, [_held(request=V2)], [], id="lapse touches no V2"),
        pytest.param(LAPSED, [_held(Status.HELD), _held(id=2, request=V2)], [], id="lapse goes on"),
        pytest.param(LAPSED, [_held(), REQUESTED], ["hold 1", "resume 9"], id="lapse, half done"),
        pytest.param(_wish(), [_held(Status.HELD), _held(id=2, request=V2)], ["release 1"], id="back"),
        pytest.param(_wish(), [_held(Status.HELD)], ["release 1"], id="back, with nothing in its place"),
        pytest.param(
            _wish(replace(V4, title="Boss")),
            [_held(Status.HELD), _held(id=2, request=V2)],
            ["revoke 1", "reissue"],
            id="back as somebody else",
        ),
        pytest.param(_wish(), [_held(Status.HELD, valid_until=NOW)], ["expire 1", "issue"], id="held on"),
        pytest.param(_wish(), [REQUESTED], ["resume 9"], id="left open"),
        pytest.param(_wish(), [_held(valid_until=NOW + DAY), REQUESTED], ["resume 9"], id="half renewed"),
        pytest.param(
            _wish(),
            [_held(Status.SUPERSEDED, revoke_at=NOW), _held(id=2)],
            ["revoke 1"],
            id="overlapped",
        ),
        pytest.param(
            _wish(), [_held(Status.SUPERSEDED, revoke_at=NOW + DAY), _held(id=2)], [], id="overlap goes on"
        ),
        pytest.param(_wish(), [_held(Status.SUPERSEDED), _held(id=2)], [], id="renewed runs out by itself"),
        pytest.param(_wish(), [_held(Status.SUPERSEDED)], ["issue"], id="only a replaced one is left"),
        pytest.param(_wish(), [FOUND], ["adopt 0"], id="found in the folder"),
        pytest.param(None, [FOUND], ["adopt 0", "revoke 0"], id="found, and nobody's"),
        pytest.param(_wish(), [_held(), FOUND], ["adopt 0"], id="found newer than what is known"),
        pytest.param(
            _wish(),
            [_held(node="mx2", file_key="k2"), replace(FOUND, valid_from=NOW - 200 * DAY)],
            ["adopt 0", "note"],
            id="found older",
        ),
        pytest.param(
            _wish(), [REQUESTED, replace(FOUND, valid_from=NOW)], ["resume 9"], id="the answer lies there"
        ),
        pytest.param(_wish(), [_held(file_key="")], ["reissue"], id="key lost here"),
        pytest.param(_wish(), [_held(file_key="", is_aside=True)], ["install 1"], id="key aside"),
        pytest.param(_wish(), [_held(file_key="", node="mx2")], ["note"], id="key on another machine"),
    ],
)
def test_what_is_done(wish: Desired | None, held: list[Held], steps: list[str]) -> None:
    assert _told(list(decide(wish, held, RULES, at=NOW))) == steps


@pytest.mark.parametrize(
    ("held", "steps"),
    [
        pytest.param(_held(file_key="", node="mx2", is_shared=True), ["install 1"], id="fetched"),
        pytest.param(_held(file_key="", is_shared=True), ["install 1"], id="fetched back"),
        pytest.param(_held(), ["share 1"], id="shared"),
        pytest.param(_held(is_shared=True), [], id="shared already"),
        pytest.param(_held(file_key="", node="mx2"), [], id="until the other one shares it"),
    ],
)
def test_keys_on_several_machines(held: Held, steps: list[str]) -> None:
    assert _told(list(decide(_wish(), [held], SHARING, at=NOW))) == steps


def test_reasons_say_what_changed() -> None:
    new = replace(V4, title="", surname="Married")
    (step,) = decide(_wish(new), [_held()], RULES, at=NOW)
    assert isinstance(step, Action)
    assert step.reason == "surname: Example → Married; title: Clerk → none"


def test_a_departure_may_be_a_suspension() -> None:
    rules = replace(RULES, on_departure="hold")
    assert _told(list(decide(None, [_held()], rules, at=NOW))) == ["hold 1"]
    assert _told(list(decide(None, [_held(Status.HELD)], rules, at=NOW))) == []
    assert _told(list(decide(_wish(), [_held(Status.HELD)], rules, at=NOW))) == ["release 1"]


@given(st.emails(), st.integers(1, 2000), st.integers(0, 400), st.integers(0, 400))
@settings(max_examples=60)
def test_renewal_lies_within_the_life(address: str, days: int, before: int, jitter: int) -> None:
    rules = Rules(node="x", renew_before={"ca": before * DAY}, jitter=jitter * DAY)
    held = _held(valid_from=NOW, valid_until=NOW + days * DAY)
    held = replace(held, address=address)
    due = renewal_time(held, rules)
    assert due is not None
    assert held.valid_from is not None
    assert held.valid_until is not None
    assert held.valid_from + days * DAY / 3 <= due <= held.valid_until
    assert renewal_time(held, rules) == due


_STATUSES = st.sampled_from([each for each in Status if each not in OVER])
_REQUESTS = st.sampled_from([V1, V2, V3, V4])


@given(
    st.lists(st.tuples(_STATUSES, _REQUESTS, st.integers(-50, 400)), max_size=5),
    st.one_of(st.none(), st.tuples(_REQUESTS, st.sampled_from(Standing), st.booleans())),
)
@settings(max_examples=200)
def test_a_plan_never_asks_twice_and_never_leaves_one_who_left(
    rows: list[tuple[Status, SubjectRequest, int]], wanted: tuple[SubjectRequest, Standing, bool] | None
) -> None:
    held = [
        _held(status, request, id=number, valid_until=NOW + days * DAY)
        for number, (status, request, days) in enumerate(rows, start=1)
    ]
    wish = None
    if wanted is not None:
        request, standing, lapsed = wanted
        wish = _wish(request, standing=standing, lapsed="lapsed" if lapsed else "")
    steps = [step for step in decide(wish, held, RULES, at=NOW) if isinstance(step, Action)]
    asking = [step for step in steps if step.kind in ("issue", "renew", "reissue", "resume", "release")]
    assert len(asking) <= 1
    touched = [step.held.id for step in steps if step.held and step.kind not in ("renew", "reissue")]
    assert len(touched) == len(set(touched))
    if wish is None or wish.standing is Standing.GONE:
        assert not asking
        signing = {each.id for each in held if each.status is Status.ISSUED}
        good = {each.id for each in held if each.valid_until and each.valid_until > NOW}
        first = min(signing & good, default=None)
        assert first is None or first in touched


# Everybody, side by side


def _person(uid: str, name: str, **more: Any) -> Listed:
    address = f"{uid}@bank.example"
    facts = IdentityFacts(
        source=more.pop("source", f"uid={uid}"),
        active=more.pop("active", True),
        validation=more.pop("validation", Validation(level=IdentityLevel.V4)),
        organisation=more.pop(
            "organisation",
            Organisation(name="Bank", source="o", domains=("bank.example",), validated_until=NOW + DAY),
        ),
    )
    policies = more.pop("policies", (PolicyEntry(source="p", signing=SigningMode.REQUIRED),))
    person = Person(name=name, addresses=(address,), logins=(), **more)
    return Listed(person=person, addresses=(OwnAddress(address=address, identity=facts, policies=policies),))


CA = SourceRules(name="ca", domains=frozenset({"bank.example"}))


def _only(listed: Listed, *more: Listed, source: SourceRules = CA) -> Desired:
    (wish,) = desired([listed, *more], [source], aliases=False, at=NOW)
    return wish


def _level(level: IdentityLevel) -> dict[str, Any]:
    return {"policies": (PolicyEntry(source="p", signing=SigningMode.REQUIRED, level=level),)}


LAPSED_BANK = Organisation(name="Bank", source="o", domains=("bank.example",), validated_until=NOW)


@pytest.mark.parametrize(
    ("listed", "request_"),
    [
        pytest.param(_person("alice", "Alice Example", title="Clerk"), V4, id="V4"),
        pytest.param(
            _person("alice", "x", given_name="Alice", surname="Example", title=" Clerk\t"),
            V4,
            id="own fields",
        ),
        pytest.param(
            _person("alice", "Alice Example", **_level(IdentityLevel.V3)), V3, id="policy wants no more"
        ),
        pytest.param(_person("alice", "Alice Example", **_level(IdentityLevel.V1)), V1, id="policy wants V1"),
        pytest.param(_person("alice", "Alice"), V3, id="half a name"),
        pytest.param(_person("alice", "A" * 65 + " Example"), V3, id="a name that is too long"),
        pytest.param(_person("alice", "Alice Example", validation=None), V1, id="not validated"),
        pytest.param(
            _person("alice", "Alice Example", title="Clerk", organisation=LAPSED_BANK), V2, id="lapsed"
        ),
        pytest.param(
            _person("alice", "Alice Example", title="Clerk" * 20), replace(V4, title=""), id="long title"
        ),
        pytest.param(
            _person("alice", "Alice Example", validation=None, organisation=None), V1, id="nothing recorded"
        ),
    ],
)
def test_what_a_person_should_have(listed: Listed, request_: SubjectRequest) -> None:
    wish = _only(listed)
    assert (wish.standing, wish.request) == (Standing.WANTED, request_)


def test_where_nothing_is_recorded_the_source_decides() -> None:
    source = replace(CA, level=Level.V3, organisation="Bank")
    assert _only(_person("alice", "A B", validation=None, organisation=None), source=source).request == V3


@pytest.mark.parametrize(
    ("listed", "standing", "why"),
    [
        (_person("alice", "A B", active=False), Standing.GONE, "disabled"),
        (
            _person("alice", "A B", policies=(PolicyEntry(source="p", signing=SigningMode.NEVER),)),
            Standing.KEPT,
            "policy never signs",
        ),
    ],
)
def test_who_gets_none(listed: Listed, standing: Standing, why: str) -> None:
    wish = _only(listed)
    assert wish.standing is standing
    assert why in wish.why


def test_two_people_of_one_address_get_none_and_are_named() -> None:
    wish = _only(_person("alice", "Alice A"), _person("alice", "Alice B", source="uid=other"))
    assert wish.standing is Standing.DISPUTED
    assert wish.person == "uid=alice and uid=other"


def test_a_disabled_twin_does_not_count() -> None:
    twin = _person("alice", "Alice B", source="uid=old", active=False)
    assert _only(twin, _person("alice", "Alice Example", title="Clerk")).request == V4


def test_the_certificate_of_a_whole_domain_is_nobodys_and_stays() -> None:
    source = replace(CA, domain_addresses=("domain-signing-authority@bank.example",))
    (wish,) = desired([], [source], aliases=False, at=NOW)
    held = replace(_held(request=wish.request), address=wish.address)
    assert list(decide(wish, [held], RULES, at=NOW)) == []


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({"name": "Alice Example"}, ("Alice", "Example")),
        ({"name": "Alice Maria Example"}, ("Alice Maria", "Example")),
        ({"name": "Alice van der Berg", "surname": "van der Berg"}, ("Alice", "van der Berg")),
        ({"name": "x", "given_name": "Alice", "surname": "Example"}, ("Alice", "Example")),
        ({"name": "Alice"}, ("", "Alice")),
        ({"name": ""}, ("", "")),
        ({"name": "Al\u202eice Example"}, ("Alice", "Example")),
    ],
)
def test_names(values: dict[str, str], names: tuple[str, str]) -> None:
    assert person_names(Person(addresses=(), logins=(), **values)) == names  # type: ignore[arg-type]


def test_both_sides_are_compared_in_one_pass_and_in_order() -> None:
    names = ["a", "B", "c-d", "c.d", "é", "z"]
    wishes = desired([_person(name, f"N {name}") for name in names], [CA], aliases=False, at=NOW)
    held = [
        replace(_held(), id=number, address=f"{name}@bank.example") for number, name in enumerate("bdz", 1)
    ]
    plan = make_plan(wishes, sorted(held, key=lambda each: each.address), RULES, at=NOW)
    told = [f"{step.kind} {step.address.partition('@')[0]}" for step in plan.actions]
    assert told == [
        "issue B",
        "issue a",
        "revoke b",
        "issue c-d",
        "issue c.d",
        "revoke d",
        "reissue z",
        "issue é",
    ]
    assert (plan.people, plan.live) == (6, 3)
    assert plan.counts()[Kind.ISSUE] == 5


def test_the_safety_stop_counts_what_people_lose() -> None:
    held = [replace(_held(), id=number, address=f"p{number:03}@b") for number in range(1, 101)]
    stays = [_wish(replace(V4, address="p100@b"))]
    plan = make_plan(stays, held, RULES, at=NOW)
    stop = safety_stop(plan, percent=5, at_least=3)
    assert stop is not None
    assert (stop.takes_away, stop.live, stop.allowed) == (99, 100, 5)
    assert safety_stop(plan, percent=5, at_least=3, allowed=99) is None
    assert safety_stop(plan, percent=100, at_least=0) is None
    few = make_plan(stays, [*held[:3], held[-1]], RULES, at=NOW)
    assert safety_stop(few, percent=5, at_least=3) is None
    assert safety_stop(few, percent=5, at_least=2) is not None
    nobody = make_plan([], held[:1], RULES, at=NOW)
    assert safety_stop(nobody, percent=100, at_least=3) is not None
    assert safety_stop(nobody, percent=100, at_least=3, allowed=1) is None
    lapsed = [replace(LAPSED, request=replace(V2, address=each.address)) for each in held]
    assert safety_stop(make_plan(lapsed, held, RULES, at=NOW), percent=0, at_least=0) is None
    revoking = replace(RULES, on_lapse="revoke")
    assert safety_stop(make_plan(lapsed, held, revoking, at=NOW), percent=0, at_least=0) is not None
