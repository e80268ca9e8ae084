"""Each setting falls through on its own, and says where it came from."""

from __future__ import annotations

import pytest

from mailsigil.policy.certificates import CertificateRule, first_rule
from mailsigil.policy.model import (
    BUILT_IN,
    SETTING_NAMES,
    Form,
    Misordered,
    PolicyEntry,
    Scope,
    Setting,
    SigningMode,
    Unauthorised,
)
from mailsigil.policy.resolve import resolve

PERSON = PolicyEntry(source="person", scope=Scope.PERSON, form=Form.OPAQUE)
DOMAIN = PolicyEntry(
    source="domain",
    scope=Scope.DOMAIN,
    signing=SigningMode.REQUIRED,
    exempt_recipients=("*@lists.example",),
)
DEFAULT = PolicyEntry(
    source="default", signing=SigningMode.NEVER, form=Form.CLEAR, unauthorised=Unauthorised.REFUSE
)


def test_each_setting_falls_through_on_its_own() -> None:
    policy = resolve([PERSON, DOMAIN, DEFAULT])
    assert policy.form == Setting(Form.OPAQUE, "person")
    assert policy.signing == Setting(SigningMode.REQUIRED, "domain")
    assert policy.exempt_recipients == Setting(("*@lists.example",), "domain")
    assert policy.unauthorised == Setting(Unauthorised.REFUSE, "default")
    assert policy.misordered_dkim == Setting(Misordered.STRIP, "built-in default")


def test_without_entries_nothing_is_signed() -> None:
    policy = resolve([])
    assert policy.signing.value is SigningMode.NEVER
    assert {getattr(policy, name).source for name in SETTING_NAMES} == {"built-in default"}


def test_scope_decides_and_not_the_order() -> None:
    assert resolve([DEFAULT, DOMAIN]) == resolve([DOMAIN, DEFAULT])
    assert resolve([DEFAULT, DOMAIN]).signing.value is SigningMode.REQUIRED


def test_an_empty_list_exempts_nobody_and_does_not_fall_through() -> None:
    own = PolicyEntry(source="person", scope=Scope.PERSON, exempt_recipients=())
    assert resolve([own, DOMAIN]).exempt_recipients == Setting((), "person")


@pytest.mark.parametrize("name", SETTING_NAMES)
def test_the_built_in_default_leaves_nothing_open(name: str) -> None:
    assert getattr(BUILT_IN, name) is not None


def test_signing_modes_stand_strictest_first() -> None:
    assert list(SigningMode) == [SigningMode.REQUIRED, SigningMode.PREFERRED, SigningMode.NEVER]


COLLEAGUES = CertificateRule(recipients=("*@bank.example",), source="corporate")
OTHERS = CertificateRule(recipients=("*",), source="public")


def test_the_order_of_rules_is_a_disagreement() -> None:
    one = PolicyEntry(source="a", certificates=(COLLEAGUES, OTHERS))
    other = PolicyEntry(source="b", certificates=(OTHERS, COLLEAGUES))
    policy = resolve([other, one])
    assert policy.certificates == Setting((COLLEAGUES, OTHERS), "a")
    assert [conflict.setting for conflict in policy.conflicts] == ["certificates"]


def test_where_entries_disagree_no_domain_signs() -> None:
    yes, no = PolicyEntry(source="a", domain_signature=True), PolicyEntry(source="b", domain_signature=False)
    policy = resolve([yes, no])
    assert policy.domain_signature.value is False
    assert resolve([yes]).domain_signature.value is True


@pytest.mark.parametrize(
    ("recipients", "rule"),
    [
        pytest.param(["Bob@Bank.example"], COLLEAGUES, id="letter case does not count"),
        pytest.param(["bob@bank.example", "x@y.example"], OTHERS, id="all of them"),
        pytest.param(["bob@sub.bank.example"], OTHERS, id="a domain is not those below it"),
        pytest.param([], OTHERS, id="nobody fits no list"),
        pytest.param([""], OTHERS, id="an address that is none"),
    ],
)
def test_first_rule(recipients: list[str], rule: CertificateRule) -> None:
    assert first_rule((COLLEAGUES, OTHERS), recipients) == rule
    assert first_rule((COLLEAGUES,), recipients) == (rule if rule is COLLEAGUES else None)
