"""Slips of administrators: nothing is taken from many people for good before a person was asked."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from lifecycle.town import DAY, Bank, Town
from mailsigil.config.lifecycle import LifecycleSettings
from mailsigil.config.settings import Settings
from mailsigil.keys.errors import SourceUnavailable
from mailsigil.keys.sources.embedded import EmbeddedIssuer
from mailsigil.lifecycle.errors import RunRefused
from mailsigil.lifecycle.run import begin, look


def _town(folder: Path, *, people: int = 40, level: str = "", **more: object) -> Town:
    settings = LifecycleSettings(enabled=True, database=f"sqlite:///{folder}/db/l.db")
    town = Town(folder / "town", settings.model_copy(update=more))
    for number in range(people):
        town.bank.hire(f"p{number:02}", f"Person Nr{number}")
        if not level:
            # Nobody validated them, so they have what everybody has.
            del town.bank.people[f"p{number:02}"]["validated_level"]
    return town


class _Misspelt(Bank):
    """The organisation's entry is there, and has another domain."""

    def policy(self) -> str:
        return super().policy().replace('domains = ["bank.example"]', 'domains = ["bnak.example"]')


def _levels(town: Town) -> set[str]:
    return set(town.signers().values())


@pytest.mark.integration
def test_an_organisation_that_is_no_longer_recorded_counts_as_lapsed(tmp_path: Path) -> None:
    town = _town(tmp_path)
    town.sync()
    assert _levels(town) == {"V3"}
    right, town.bank = town.bank, _Misspelt(town.bank.people)
    town.sync(allowed=None)
    assert _levels(town) == {"V1"}
    assert set(town.revoked().values()) == {"certificateHold"}
    # The entry is right again, and all are back.
    town.bank = right
    town.sync()
    assert _levels(town) == {"V3"}
    assert [status for _, status, level in town.rows() if level == "V3"] == ["issued"] * 40


def test_validations_that_are_no_longer_recorded_are_asked_about(tmp_path: Path) -> None:
    town = _town(tmp_path, level="V4")
    town.sync()
    for values in town.bank.people.values():
        del values["validated_level"]
    with pytest.raises(RunRefused, match="certificates of 40 of 40 people away, and 5 are allowed"):
        town.sync(allowed=None)
    assert town.revoked() == {}
    step = town.plan().actions[0]
    assert "level: V4 → V3" in step.reason
    assert "nobody validated this sender" in step.reason
    assert "the one before is revoked at once" in step.reason


def test_less_by_policy_has_the_time_of_every_replacement(tmp_path: Path) -> None:
    town = _town(tmp_path, people=10, level="V4")
    town.sync()
    for values in town.bank.people.values():
        values["level"] = "V3"
    town.sync(allowed=None)
    assert _levels(town) == {"V3"}
    assert town.revoked() == {}
    town.now += 8 * DAY
    town.sync(allowed=None)
    assert set(town.revoked().values()) == {"superseded"}


@pytest.mark.integration
def test_a_directory_that_loses_its_people_bit_by_bit_is_asked_about(tmp_path: Path) -> None:
    town = _town(tmp_path, people=60)
    town.sync()

    def five_leave() -> None:
        for uid in list(town.bank.people)[:5]:
            del town.bank.people[uid]
        town.now += timedelta(hours=1)

    five_leave()
    town.sync(allowed=None)
    five_leave()
    with pytest.raises(RunRefused, match="5 of 55 people away after 5 within a day, and 5 are allowed"):
        town.sync(allowed=None)
    # What a person allowed is not held against what comes later.
    town.sync(allowed=5)
    town.now += DAY
    five_leave()
    town.sync(allowed=None)
    assert len(town.signers()) == 45


def test_people_are_counted_and_not_their_certificates(tmp_path: Path) -> None:
    town = _town(tmp_path, people=8, level="V4")
    town.sync()
    for title in ("Clerk", "Manager"):
        for values in town.bank.people.values():
            values["title"] = title
        town.sync()
    for uid in ("p00", "p01"):
        del town.bank.people[uid]
    # Two people with six certificates.
    town.sync(allowed=None)
    assert len(town.revoked()) == 6


@pytest.mark.parametrize("on_lapse", ["hold", "revoke"])
def test_what_was_replaced_lapses_as_well(tmp_path: Path, on_lapse: str) -> None:
    town = _town(tmp_path, people=1, level="V4", clock_days=1000.0, on_lapse=on_lapse)
    town.sync()
    town.now += 340 * DAY
    town.sync()
    town.bank.valid_until = "2027-10-01"
    town.sync()
    reason = "certificateHold" if on_lapse == "hold" else "privilegeWithdrawn"
    assert list(town.revoked().values()) == [reason, reason]
    town.bank.valid_until = "2038-01-01"
    town.sync()
    if on_lapse == "hold":
        # The later one signs, and the earlier one runs out by itself, as before.
        assert [row[1:] for row in town.rows()][:2] == [("superseded", "V4"), ("issued", "V4")]
        assert town.revoked() == {}
    assert _levels(town) == {"V4 Person Nr0"}
    assert town.steps() == []


def test_mail_that_is_never_signed_lapses_as_well(tmp_path: Path) -> None:
    town = _town(tmp_path, people=1, level="V4", on_lapse="revoke")
    town.sync()
    town.bank.people["p00"]["signing"] = "never"
    town.bank.valid_until = "2026-11-01"
    town.sync()
    assert (town.signers(), list(town.revoked().values())) == ({}, ["privilegeWithdrawn"])


def test_a_domain_that_the_source_does_not_name_any_more_is_no_departure(tmp_path: Path) -> None:
    town = _town(tmp_path, people=3)
    town.sync()

    class Slip(Town):
        @property
        def settings(self) -> Settings:
            real = super().settings
            source = real.source[0].model_copy(update={"domains": ("bnak.example",)})
            return real.model_copy(update={"source": (source,)})

    slip = Slip(town.folder, town.lifecycle)
    slip.bank.people = town.bank.people
    plan = slip.plan()
    assert plan.actions == []
    assert [(note.address, note.sentence) for note in plan.notes] == [
        (
            "*@bank.example",
            '3 people get nothing: no [[source]] that certifies has this domain in "domains"',
        ),
        (
            "*@bank.example",
            '3 certificates stay as they are: "domains" of the source has not this domain',
        ),
    ]


def test_an_address_that_nobody_has_is_told(tmp_path: Path) -> None:
    town = _town(tmp_path, people=2)
    house = town.open()
    try:
        plan = look(house).plan(only="nobody@bank.example")
        other = look(house).plan(only="p01@bank.example")
    finally:
        house.close()
    (note,) = plan.notes
    assert note.sentence.startswith("nobody for whom a source certifies has this address")
    assert (plan.people, plan.live) == (0, 0)
    assert (other.people, len(other.actions), other.notes) == (1, 1, [])


def test_a_clock_that_was_ahead_is_no_measure_for_ever(tmp_path: Path) -> None:
    town = _town(tmp_path, people=1, level="V4")
    town.now += 30 * DAY
    town.sync()
    town.now -= 30 * DAY
    with pytest.raises(RunRefused, match="which is before the last run"):
        town.sync()
    house = town.open()
    try:
        with begin(house, who="sync --accept-clock") as run:
            report = run.carry_out(run.plan())
    finally:
        house.close()
    # What was made in the future is good for nobody today.
    assert [result.action.reason for result in report.results] == ["it is not good before 2026-12-22 11:55"]
    town.now += timedelta(hours=1)
    town.sync()
    assert town.steps() == []


def test_a_revocation_that_the_authority_could_not_take_is_said_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    town = _town(tmp_path, people=1, level="V4")
    town.sync()
    with monkeypatch.context() as patch:
        patch.setattr(EmbeddedIssuer, "withdraw", _away)
        report = town.revoke_by_hand()
    assert not report.is_whole
    assert town.signers() == {}
    report = town.sync()
    assert report.is_whole
    assert list(town.revoked().values()) == ["keyCompromise"]
    assert _levels(town) == {"V4 Person Nr0"}


def _away(*_: object) -> None:
    raise SourceUnavailable("ca", "it does not answer", "See to it")
