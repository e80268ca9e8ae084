"""What a signature may say of a sender: the table of persons and organisations, and what lapses when."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from mailsigil.policy.entitlement import (
    IdentityFacts,
    Organisation,
    Validation,
    entitlement,
)
from mailsigil.policy.model import (
    Form,
    IdentityLevel,
    PolicyEntry,
    Scope,
    SigningMode,
    Unauthorised,
)
from mailsigil.policy.resolve import resolve

NOW = datetime(2026, 11, 22, tzinfo=UTC)
LATER, BEFORE = NOW + timedelta(days=1), NOW - timedelta(days=1)


def _bank(until: datetime | None) -> Organisation:
    return Organisation(name="Bank", source="o=bank", domains=("bank.example",), validated_until=until)


def _person(level: str, until: datetime | None = LATER) -> Validation:
    return Validation(level=IdentityLevel(level), until=until)


@pytest.mark.parametrize(
    ("person", "organisation", "levels"),
    [
        pytest.param(None, None, "V1 V2 V3 V4", id="nothing is recorded: the certificate decides"),
        pytest.param(_person("V4"), _bank(LATER), "V1 V2 V3 V4", id="both valid"),
        pytest.param(_person("V4", None), _bank(LATER), "V1 V2 V3 V4", id="person without an end"),
        pytest.param(_person("V4"), _bank(BEFORE), "V1 V2", id="organisation lapsed: no V3, no V4"),
        pytest.param(_person("V4"), _bank(NOW), "V1 V2", id="the very moment counts as lapsed"),
        pytest.param(_person("V4"), _bank(None), "V1 V2", id="organisation never validated"),
        pytest.param(_person("V4"), None, "V1 V2", id="no organisation entry"),
        pytest.param(_person("V4", BEFORE), _bank(LATER), "V1", id="person lapsed"),
        pytest.param(None, _bank(LATER), "V1", id="person never validated"),
        pytest.param(_person("V3"), _bank(LATER), "V1 V3", id="a mailbox of the organisation"),
        pytest.param(_person("V3"), _bank(BEFORE), "V1", id="and when that lapses"),
        pytest.param(_person("V2"), _bank(LATER), "V1 V2", id="a person in no function"),
        pytest.param(_person("V1"), _bank(LATER), "V1", id="a mailbox"),
    ],
)
def test_levels(person: Validation | None, organisation: Organisation | None, levels: str) -> None:
    facts = IdentityFacts(source="uid=a", validation=person, organisation=organisation)
    assert entitlement(facts, at=NOW).levels == set(levels.split())


_ALL_V3 = _bank(LATER)


@pytest.mark.parametrize(
    ("person", "organisation", "is_listed", "levels"),
    [
        pytest.param(None, _ALL_V3, True, "V1 V3", id="an employee whom nobody validated"),
        pytest.param(None, _ALL_V3, False, "V1", id="nobody in the directory"),
        pytest.param(
            None, replace(_ALL_V3, employees=IdentityLevel.V1), True, "V1", id="where V3 has to be given"
        ),
        pytest.param(
            None, replace(_ALL_V3, validated_until=BEFORE), True, "V1", id="the organisation lapsed"
        ),
        pytest.param(None, replace(_ALL_V3, validated_until=None), True, "V1", id="never validated"),
        pytest.param(_person("V4"), _ALL_V3, True, "V1 V2 V3 V4", id="validated"),
        pytest.param(_person("V4", BEFORE), _ALL_V3, True, "V1 V3", id="the person's validation lapsed"),
        pytest.param(_person("V1"), _ALL_V3, True, "V1", id="a record of one's own goes before"),
        pytest.param(
            None, replace(_ALL_V3, employees=IdentityLevel.V4), True, "V1", id="never a person's name"
        ),
    ],
)
def test_what_all_employees_may_say(
    person: Validation | None, organisation: Organisation, is_listed: bool, levels: str
) -> None:
    facts = IdentityFacts(source="-", validation=person, organisation=organisation, is_listed=is_listed)
    assert entitlement(facts, at=NOW).levels == set(levels.split())


def test_renewing_the_organisation_restores_its_people() -> None:
    person = _person("V4")
    lapsed = IdentityFacts(source="uid=a", validation=person, organisation=_bank(BEFORE))
    renewed = IdentityFacts(source="uid=a", validation=person, organisation=_bank(LATER))
    assert "V4" not in entitlement(lapsed, at=NOW).levels
    assert "V4" in entitlement(renewed, at=NOW).levels


@pytest.mark.parametrize(
    "facts",
    [
        IdentityFacts(source="uid=a", active=False, validation=_person("V4"), organisation=_bank(LATER)),
        IdentityFacts(source="uid=a", active=False),
        IdentityFacts(source="", trouble="two people", validation=_person("V4"), organisation=_bank(LATER)),
    ],
    ids=["disabled", "disabled without records", "not to be believed"],
)
def test_entitled_to_nothing(facts: IdentityFacts) -> None:
    assert entitlement(facts, at=NOW).levels == frozenset()
    assert entitlement(facts, at=NOW).reason


def test_where_validation_is_demanded_silence_is_no_validation() -> None:
    assert entitlement(IdentityFacts(source="-", must_be_validated=True), at=NOW).levels == {"V1"}


@pytest.mark.parametrize(
    ("wanted", "left"), [("V4", "V1 V2 V3 V4"), ("V3", "V1 V3"), ("V2", "V1 V2"), ("V1", "V1")]
)
def test_policy_may_want_less(wanted: str, left: str) -> None:
    facts = IdentityFacts(source="uid=a", validation=_person("V4"), organisation=_bank(LATER))
    assert entitlement(facts, at=NOW).capped(IdentityLevel(wanted)) == set(left.split())


# --- Groups by priority, time, conflicts ----------------------------------------------------------------


def _group(name: str, priority: int, **said: object) -> PolicyEntry:
    return PolicyEntry(source=name, scope=Scope.GROUP, priority=priority, **said)  # type: ignore[arg-type]


def test_the_greater_priority_decides_and_each_setting_falls_through() -> None:
    low = _group("low", 1, signing=SigningMode.REQUIRED, form=Form.CLEAR)
    high = _group("high", 9, form=Form.OPAQUE)
    for entries in ([low, high], [high, low]):
        policy = resolve(entries, at=NOW)
        assert (policy.form.value, policy.form.source) == (Form.OPAQUE, "high")
        assert (policy.signing.value, policy.signing.source) == (SigningMode.REQUIRED, "low")
        assert policy.conflicts == ()


def test_a_person_ranks_above_any_group() -> None:
    person = PolicyEntry(source="person", scope=Scope.PERSON, signing=SigningMode.NEVER)
    assert (
        resolve([_group("g", 999, signing=SigningMode.REQUIRED), person], at=NOW).signing.source == "person"
    )


@pytest.mark.parametrize("turned", [False, True], ids=["one order", "the other"])
def test_a_conflict_is_told_and_the_safe_value_holds(turned: bool) -> None:
    one = _group("one", 5, signing=SigningMode.NEVER, unauthorised=Unauthorised.REFUSE)
    two = _group("two", 5, signing=SigningMode.REQUIRED, unauthorised=Unauthorised.REFUSE)
    policy = resolve([two, one] if turned else [one, two], at=NOW)
    assert policy.signing.value is SigningMode.REQUIRED
    assert policy.signing.source == "one and two"
    assert [str(conflict) for conflict in policy.conflicts] == [
        'one and two disagree about "signing" at one priority'
    ]


def test_of_two_lists_of_exempt_recipients_the_common_ones_hold() -> None:
    one = _group("one", 5, exempt_recipients=("*@a.example", "*@b.example"))
    two = _group("two", 5, exempt_recipients=("*@b.example",))
    assert resolve([one, two], at=NOW).exempt_recipients.value == ("*@b.example",)


def test_a_directory_ranks_above_the_policy_file() -> None:
    file = PolicyEntry(source="file", scope=Scope.DOMAIN, layer=1, priority=99, signing=SigningMode.NEVER)
    directory = PolicyEntry(source="ldap", scope=Scope.DOMAIN, signing=SigningMode.REQUIRED)
    policy = resolve([file, directory], at=NOW)
    assert (policy.signing.source, policy.conflicts) == ("ldap", ())


def test_an_entry_that_is_over_is_not_there() -> None:
    over = _group("over", 9, signing=SigningMode.NEVER)
    rest = PolicyEntry(source="rest", signing=SigningMode.REQUIRED)
    for until, source in ((BEFORE, "rest"), (NOW, "rest"), (LATER, "over"), (None, "over")):
        entry = PolicyEntry(
            source=over.source, scope=over.scope, priority=9, signing=over.signing, valid_until=until
        )
        assert resolve([entry, rest], at=NOW).signing.source == source
