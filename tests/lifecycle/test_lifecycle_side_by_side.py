"""Several things at a time: open requests, other processes, words of a person that were not heard yet."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from lifecycle.town import DAY, Moody, Town
from mailsigil.config.lifecycle import LifecycleSettings
from mailsigil.directory.opening import open_directory
from mailsigil.keys.authority import Authority
from mailsigil.keys.errors import Pending, SourceRefused, SourceUnavailable
from mailsigil.keys.register import Reason
from mailsigil.keys.sources.embedded import EmbeddedIssuer
from mailsigil.keys.subject import SubjectRequest
from mailsigil.lifecycle.database import connect
from mailsigil.lifecycle.errors import DatabaseUnavailable, RunRefused
from mailsigil.lifecycle.ledger import Ledger
from mailsigil.lifecycle.provision import Provisioner
from mailsigil.lifecycle.rehearsal import refuse_behind, rehearse
from mailsigil.lifecycle.run import begin
from mailsigil.lifecycle.upgrade import upgrade

ALICE = "alice@bank.example"


def _town(folder: Path, *uids: str, **more: object) -> Town:
    settings = LifecycleSettings(enabled=True, database=f"sqlite:///{folder}/db/l.db")
    town = Town(folder / "town", settings.model_copy(update=more))
    for uid in uids or ("alice", "bob"):
        town.bank.hire(uid, f"{uid.title()} Example")
    return town


def _pending(_: SubjectRequest) -> None:
    raise Pending("ca", retry_after=60)


def _away(*_: object) -> None:
    raise SourceUnavailable("ca", "it does not answer", "See to it")


def _refused(*_: object) -> None:
    raise SourceRefused("ca", "no more for this customer", "Pay")


def _lost(_: SubjectRequest) -> None:
    raise SourceUnavailable("ca", "the connection was lost", "Try again", is_unanswered=True)


def _unheard(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person has the certificate revoked, and the authority is away."""
    with monkeypatch.context() as patch:
        patch.setattr(EmbeddedIssuer, "withdraw", _away)
        assert not town.revoke_by_hand(address=ALICE).is_whole


def test_a_revocation_is_published_whoever_publishes_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    town = _town(tmp_path)
    town.sync()
    del town.bank.people["alice"]
    town.bank.hire("carol", "Carol New")
    (town.folder / "policy.toml").write_text(town.bank.policy())
    first_mail = Provisioner(town.settings, open_directory, now=lambda: town.now)
    real = EmbeddedIssuer.withdraw

    def meanwhile(self: EmbeddedIssuer, certificate: bytes, reason: Reason) -> None:
        first_mail.provision("ca", "carol@bank.example")
        real(self, certificate, reason)

    monkeypatch.setattr(EmbeddedIssuer, "withdraw", meanwhile)
    house = town.open()
    try:
        with begin(house, who="timer") as run:
            assert run.carry_out(run.plan(only=ALICE), allowed=5).is_whole
    finally:
        house.close()
    assert len(town.revoked()) == 1


def test_a_stolen_key_is_not_certified_again_before_the_authority_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    town = _town(tmp_path, "alice", keep_keys=True, clock_days=1000.0)
    town.sync()
    spki = Authority.load(town.ca).certificates_of(ALICE)[0].public_key()
    town.now += 340 * DAY
    town.issuer = Moody(town, before=_away)
    town.sync()
    town.issuer = None
    _unheard(town, monkeypatch)
    town.sync()
    assert list(town.revoked().values()) == ["keyCompromise"]
    (good,) = Authority.load(town.ca).certificates_of(ALICE)
    assert good.public_key() != spki


def test_what_a_person_said_is_told_also_of_somebody_who_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    town = _town(tmp_path)
    town.sync()
    _unheard(town, monkeypatch)
    town.bank.people["alice"]["disabled"] = True
    town.sync()
    assert list(town.revoked().values()) == ["keyCompromise"]


def test_what_an_authority_never_takes_keeps_a_person_from_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    town = _town(tmp_path)
    town.sync()
    _unheard(town, monkeypatch)
    monkeypatch.setattr(EmbeddedIssuer, "withdraw", _refused)
    report = town.sync()
    assert report.counts()["failed"] == 1
    assert set(town.signers()) == {"alice", "bob"}


def test_what_was_revoked_for_good_elsewhere_gets_a_successor(tmp_path: Path) -> None:
    town = _town(tmp_path, on_departure="hold")
    town.sync()
    alice = town.bank.people.pop("alice")
    town.sync()
    (serial,) = town.revoked()
    Authority.load(town.ca).revoke(serial, reason=Reason.KEY_COMPROMISE, now=town.now)
    town.bank.people["alice"] = alice
    assert not town.sync().is_whole
    assert town.sync().is_whole
    assert set(town.signers()) == {"alice", "bob"}


@pytest.mark.parametrize("waiting", [0, 6])
def test_a_lapse_stops_at_once_also_while_requests_are_open(tmp_path: Path, waiting: int) -> None:
    town = _town(tmp_path, *(f"p{number}" for number in range(12)))
    town.sync()
    town.issuer = Moody(town, before=_pending)
    for number in range(waiting):
        town.bank.people[f"p{number}"]["title"] = "Boss"
    town.sync()
    town.issuer = None
    town.bank.valid_until = "2026-11-01"
    town.sync(allowed=None)
    assert {told.partition(" ")[0] for told in town.signers().values()} == {"V2"}


def test_what_a_person_allowed_once_is_not_asked_about_while_it_waits(tmp_path: Path) -> None:
    town = _town(tmp_path, *(f"p{number}" for number in range(10)))
    town.sync()
    for number in range(6):
        town.bank.people[f"p{number}"]["validated_level"] = "V1"
    town.issuer = Moody(town, before=_pending)
    with pytest.raises(RunRefused):
        town.sync(allowed=None)
    town.sync(allowed=6)
    town.now += timedelta(hours=1)
    town.sync(allowed=None)
    assert {status for _, status, level in town.rows() if level == "V1"} == {"requested"}


@pytest.mark.parametrize("level", ["V1", "V2"])
def test_a_late_answer_that_says_less_is_replaced(tmp_path: Path, level: str) -> None:
    town = _town(tmp_path, "alice")
    town.bank.people["alice"]["validated_level"] = level
    town.issuer = Moody(town, after=_lost)
    town.sync()
    town.issuer = None
    town.bank.people["alice"]["validated_level"] = "V4"
    town.sync()
    town.sync()
    assert town.signers() == {"alice": "V4 Alice Example"}


def test_what_a_run_took_counts_though_it_died(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    town = _town(tmp_path, *(f"p{number:02}" for number in range(20)))
    town.sync()

    def dies(*_: object, **__: object) -> None:
        raise DatabaseUnavailable("the database is away", "Wait")

    for number in range(5):
        del town.bank.people[f"p{number:02}"]
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "end_run", dies)
        town.sync(allowed=None)
    del town.bank.people["p05"]
    with pytest.raises(RunRefused, match="after 5 within a day"):
        town.sync(allowed=None)


def test_one_who_left_is_looked_after_alone(tmp_path: Path) -> None:
    town = _town(tmp_path)
    town.sync()
    del town.bank.people["alice"]
    town.sync(allowed=None, only=ALICE)
    assert set(town.signers()) == {"bob"}


def _leave(town: Town) -> None:
    """Asked for, and called off before there was an answer, again and again."""
    town.issuer = Moody(town, before=_pending)
    for _ in range(3):
        town.sync()
        town.bank.people["bob"]["disabled"] = True
        town.sync()
        del town.bank.people["bob"]["disabled"]
    (town.folder / "policy.toml").write_text(town.bank.policy())
    town.issuer = None


def _say_no(town: Town) -> None:
    town.issuer = Moody(town, before=_refused)
    for _ in range(4):
        town.sync()
    town.bank.people["bob"]["title"] = "Clerk"
    town.sync()
    town.issuer = None


@pytest.mark.parametrize("before", [_leave, _say_no], ids=["called off", "refused for something else"])
def test_nobody_waits_for_what_was_not_refused(tmp_path: Path, before: Callable[[Town], None]) -> None:
    town = _town(tmp_path, "bob")
    before(town)
    house = town.open()
    try:
        with begin(house, who="timer") as run:
            plan = run.plan(patient=True)
    finally:
        house.close()
    assert [action.address for action in plan.actions] == ["bob@bank.example"]


@pytest.mark.integration
def test_tables_that_others_use_are_not_changed_for_a_rehearsal(
    fresh_postgresql: Callable[[], LifecycleSettings],
) -> None:
    settings = fresh_postgresql()
    with connect(settings) as database:
        upgrade(database, to="0002")
    with rehearse(settings) as rehearsal, pytest.raises(RunRefused, match="is at step 0002"):
        refuse_behind(rehearsal)
    with connect(settings) as database:
        upgrade(database)
    with rehearse(settings) as rehearsal:
        refuse_behind(rehearsal)
