"""The life of certificates, played through: hired, renamed, promoted, lapsed, back again, gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from lifecycle.town import DAY, NOW, Town
from mailsigil.config.lifecycle import LifecycleSettings
from mailsigil.lifecycle.errors import RunRefused


@pytest.fixture
def town(settings: LifecycleSettings, tmp_path: Path) -> Town:
    town = Town(tmp_path / "town", settings)
    town.bank.hire("alice", "Alice Example", title="Clerk")
    town.bank.hire("bob", "Bob Sample")
    return town


def test_everybody_gets_one_and_then_nothing_is_to_be_done(town: Town) -> None:
    assert town.steps() == ["issue alice", "issue bob"]
    report = town.sync()
    assert report.is_whole
    assert report.counts()["done"] == 2
    assert town.signers() == {"alice": "V4 Alice Example Clerk", "bob": "V4 Bob Sample"}
    assert town.steps() == []
    assert town.sync().results == []
    assert town.rows() == [("alice", "issued", "V4"), ("bob", "issued", "V4")]
    assert town.events("alice") == ["requested", "issued"]


def test_a_title_and_a_name_that_changed(town: Town) -> None:
    town.sync()
    town.bank.people["alice"]["title"] = "Manager"
    town.bank.people["bob"]["name"] = "Bob Married"
    (first, second) = town.plan().actions
    assert (first.reason, second.reason) == ("title: Clerk → Manager", "surname: Sample → Married")
    town.now += DAY
    town.sync()
    assert town.signers() == {"alice": "V4 Alice Example Manager", "bob": "V4 Bob Married"}
    assert town.rows("alice") == [("alice", "superseded", "V4"), ("alice", "issued", "V4")]
    assert town.revoked() == {}
    # The overlap is over: what was replaced is revoked, and nothing else happens.
    town.now += 8 * DAY
    assert town.steps() == ["revoke alice", "revoke bob"]
    town.sync()
    assert sorted(town.revoked().values()) == ["superseded", "superseded"]
    assert town.signers() == {"alice": "V4 Alice Example Manager", "bob": "V4 Bob Married"}
    assert town.steps() == []


def test_who_left_signs_no_more(town: Town) -> None:
    town.sync()
    del town.bank.people["bob"]
    town.bank.people["alice"]["disabled"] = True
    assert town.steps() == ["revoke alice", "revoke bob"]
    town.sync()
    assert town.signers() == {}
    assert list(town.revoked().values()) == ["affiliationChanged"] * 2
    assert {status for _, status, _ in town.rows()} == {"revoked"}
    # Who comes back gets a new one.
    town.bank.people["alice"]["disabled"] = False
    assert town.steps() == ["issue alice"]
    town.sync()
    assert town.signers() == {"alice": "V4 Alice Example Clerk"}


def test_who_left_may_come_back_where_departures_are_held(town: Town) -> None:
    town.lifecycle = town.lifecycle.model_copy(update={"on_departure": "hold"})
    town.sync()
    bob = town.bank.people.pop("bob")
    town.sync()
    assert town.signers() == {"alice": "V4 Alice Example Clerk"}
    assert list(town.revoked().values()) == ["certificateHold"]
    assert town.steps() == []
    town.bank.people["bob"] = bob
    assert town.steps() == ["release bob"]
    town.sync()
    assert town.signers()["bob"] == "V4 Bob Sample"
    assert town.revoked() == {}
    assert town.issued() == 2


def test_the_organisation_lapses_and_everybody_is_back_without_new_validation(town: Town) -> None:
    town.sync()
    town.bank.valid_until = "2026-11-01"
    assert town.steps() == ["hold alice", "issue alice", "hold bob", "issue bob"]
    town.sync(allowed=None)  # What can come back needs no person's word.
    assert town.signers() == {"alice": "V2 Alice Example Clerk", "bob": "V2 Bob Sample"}
    assert list(town.revoked().values()) == ["certificateHold"] * 2
    assert town.steps() == []
    town.bank.valid_until = "2038-01-01"
    assert town.steps() == ["release alice", "release bob"]
    town.sync()
    assert town.signers() == {"alice": "V4 Alice Example Clerk", "bob": "V4 Bob Sample"}
    assert town.revoked() == {}
    assert town.issued() == 4
    assert town.steps() == []


def test_the_organisation_lapses_and_certificates_are_revoked_by_policy(town: Town) -> None:
    town.lifecycle = town.lifecycle.model_copy(update={"on_lapse": "revoke"})
    town.sync()
    town.bank.valid_until = "2026-11-01"
    assert town.steps() == ["revoke alice", "issue alice", "revoke bob", "issue bob"]
    town.sync()
    assert town.signers() == {"alice": "V2 Alice Example Clerk", "bob": "V2 Bob Sample"}
    assert list(town.revoked().values()) == ["privilegeWithdrawn"] * 2
    town.bank.valid_until = "2038-01-01"
    assert town.steps() == ["reissue alice", "reissue bob"]
    town.sync()
    assert town.signers() == {"alice": "V4 Alice Example Clerk", "bob": "V4 Bob Sample"}


@pytest.mark.integration
def test_renewed_before_the_end_each_on_a_day_of_its_own(town: Town) -> None:
    for number in range(20):
        town.bank.hire(f"p{number}", f"Person Nr{number}")
    town.sync()
    town.lifecycle = town.lifecycle.model_copy(update={"clock_days": 1000.0})
    days: dict[str, int] = {}
    for day in range(320, 340):
        town.now = NOW + day * DAY
        for step in town.steps():
            days.setdefault(step, day)
    assert len(days) == 22
    assert all(one.startswith("renew ") for one in days)
    assert min(days.values()) >= 365 - 30 - 7 - 1
    assert max(days.values()) <= 365 - 30 + 1
    assert len(set(days.values())) > 3
    town.sync()
    assert town.steps() == []
    assert town.issued() == 44
    assert town.revoked() == {}  # What was renewed as it was still tells the truth, and runs out by itself.
    town.now = NOW + 366 * DAY
    assert {step.split()[0] for step in town.steps()} == {"expire"}
    town.sync()
    assert len(town.signers()) == 22


@pytest.mark.parametrize("keep", [True, False])
def test_a_renewal_brings_a_new_key_unless_the_old_one_is_kept(town: Town, keep: bool) -> None:
    from mailsigil.keys.files import address_file_name

    town.lifecycle = town.lifecycle.model_copy(update={"clock_days": 1000.0, "keep_keys": keep})
    town.sync()
    file = town.state / address_file_name("alice@bank.example")
    before = file.read_text().split("-----END PRIVATE KEY-----")
    town.now += 340 * DAY
    town.sync()
    after = file.read_text().split("-----END PRIVATE KEY-----")
    assert (before[0] == after[0]) is keep
    assert before[1] != after[1]
    assert set(town.signers()) == {"alice", "bob"}


def test_what_lies_in_the_folder_is_taken_in(town: Town) -> None:
    """Keys that were enrolled before there was a database."""
    town.sync()
    database = town.lifecycle
    fresh = Town(town.folder.parent / "other", database, ca=town.ca)
    fresh.lifecycle = LifecycleSettings(database=f"sqlite:///{town.folder}/new.db", node="mx1")
    fresh.bank, fresh.state = town.bank, town.state
    fresh.bank.people["alice"]["title"] = "Manager"
    assert fresh.steps() == ["adopt alice", "reissue alice", "adopt bob"]
    fresh.sync()
    assert fresh.rows() == [
        ("alice", "superseded", "V4"),
        ("bob", "issued", "V4"),
        ("alice", "issued", "V4"),
    ]
    assert fresh.steps() == []


def test_a_key_that_is_gone_is_made_anew(town: Town) -> None:
    town.sync()
    next(town.state.glob("bob*.pem")).unlink()
    (step,) = town.plan().actions
    assert (step.kind, step.reason) == ("reissue", "its key is no longer on this machine")
    town.sync()
    assert set(town.signers()) == {"alice", "bob"}


def test_a_validation_that_was_lowered_is_revoked_at_once(town: Town) -> None:
    town.sync()
    town.bank.people["alice"]["validated_level"] = "V1"
    town.sync()
    assert town.signers()["alice"] == "V1"
    assert list(town.revoked().values()) == ["privilegeWithdrawn"]
    assert town.steps() == []


def test_mail_that_is_never_signed_needs_no_certificate(town: Town) -> None:
    town.bank.people["bob"]["signing"] = "never"
    assert town.steps() == ["issue alice"]


def test_one_address_alone(town: Town) -> None:
    town.sync(only="bob@bank.example")
    assert set(town.signers()) == {"bob"}


@pytest.mark.parametrize("aliases", [True, False])
def test_further_addresses(town: Town, aliases: bool) -> None:
    town.lifecycle = town.lifecycle.model_copy(update={"aliases": aliases})
    town.bank.people["alice"]["aliases"] = ["a.example@bank.example"]
    assert ("issue a.example" in town.steps()) is aliases


# What a person is asked first


def test_too_many_departures_stop_a_run(town: Town) -> None:
    for number in range(30):
        town.bank.hire(f"p{number}", f"Person Nr{number}")
    town.sync()
    staff, town.bank.people = town.bank.people, {"alice": town.bank.people["alice"]}
    with pytest.raises(RunRefused, match=r"31 of 32 people away, and 5 are allowed.*--allow-revocations 31"):
        town.sync(allowed=None)
    with pytest.raises(RunRefused):
        town.sync(allowed=30)
    assert len(town.signers()) == 32
    # The directory was mended: as if nothing had been.
    town.bank.people = staff
    assert town.sync(allowed=None).results == []
    town.bank.people = {"alice": staff["alice"]}
    town.sync(allowed=31)
    assert set(town.signers()) == {"alice"}


def test_a_few_departures_in_a_small_house_need_no_word(town: Town) -> None:
    town.sync()
    del town.bank.people["bob"]
    town.sync(allowed=None)
    assert set(town.signers()) == {"alice"}


def test_a_directory_that_tells_of_nobody_is_never_believed(town: Town) -> None:
    town.sync()
    town.bank.people = {}
    with pytest.raises(RunRefused, match=r"2 of 2 people away, and 0 are allowed"):
        town.sync(allowed=None)
    assert len(town.signers()) == 2


@pytest.mark.parametrize(
    ("jump", "sentence"),
    [
        pytest.param(-DAY, "before the last run", id="back"),
        pytest.param(60 * DAY, "60 days after the last run", id="forward"),
    ],
)
def test_a_clock_that_jumped_stops_a_run(town: Town, jump: object, sentence: str) -> None:
    town.sync()
    town.now += jump  # type: ignore[operator]
    with pytest.raises(RunRefused, match=sentence):
        town.sync()
    assert len(town.signers()) == 2
    town.now = NOW + DAY
    assert town.sync().is_whole


def test_a_source_that_the_settings_no_longer_name_is_left_alone(town: Town) -> None:
    town.sync()
    settings = town.settings
    renamed = settings.source[0].model_copy(update={"name": "new"})
    house_settings = settings.model_copy(update={"source": (renamed,)})
    from mailsigil.directory.opening import open_directory
    from mailsigil.lifecycle.run import begin, open_house

    house = open_house(house_settings, open_directory(house_settings), now=lambda: town.now)
    with begin(house, who="test") as run:
        assert not any(step.kind == "revoke" for step in run.plan().actions)
        assert run.other_sources() == {"ca": 2}
    house.close()
