"""The whole organisation at a glance, on both kinds of database; and revocation by hand beside a run."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import insert, select, update

from lifecycle.town import DAY, Moody, Town
from mailsigil.config.lifecycle import LifecycleSettings
from mailsigil.keys.errors import SourceRefused
from mailsigil.keys.register import Reason
from mailsigil.keys.subject import SubjectRequest
from mailsigil.lifecycle.by_hand import REVOCABLE, revoke
from mailsigil.lifecycle.database import connect
from mailsigil.lifecycle.errors import RunRefused
from mailsigil.lifecycle.overview import Known, Overview, Summary
from mailsigil.lifecycle.tables import Status, certificates, events


@pytest.fixture
def town(tmp_path: Path, settings: LifecycleSettings) -> Town:
    town = Town(tmp_path, settings)
    for uid, level in (("alice", "V4"), ("bob", "V4"), ("carol", "V3")):
        town.bank.hire(uid, f"{uid.title()} Example", validated_level=level)
    town.sync()
    return town


def _found(town: Town, word: str) -> list[Known]:
    with connect(town.lifecycle) as database:
        return Overview(database, now=town.now).found(word)


def _summary(town: Town) -> Summary:
    with connect(town.lifecycle) as database:
        return Overview(database, now=town.now).summary()


def test_in_numbers(town: Town) -> None:
    assert _summary(town) == Summary(
        by_level={"V3": 1, "V4": 2}, by_status={"issued": 3}, running_out={7: 0, 30: 0, 90: 0}
    )
    town.bank.people["alice"]["title"] = "Director"
    del town.bank.people["bob"]
    town.sync()
    town.now += 300 * DAY
    assert _summary(town) == Summary(
        by_level={"V3": 1, "V4": 1},
        by_status={"issued": 2, "superseded": 1, "revoked": 1},
        running_out={7: 0, 30: 0, 90: 2},
    )


def test_chosen(town: Town) -> None:
    with connect(town.lifecycle) as database:
        overview = Overview(database, now=town.now)
        assert [one.held.address for one in overview.certificates(level="V3")] == ["carol@bank.example"]
        assert len(list(overview.certificates(within_days=400))) == 3
        assert list(overview.certificates(within_days=30)) == []
        assert [one.held.address for one in overview.certificates(limit=1)] == ["alice@bank.example"]
        public = {one.held.address: der for one, der in overview.all_public()}
        (alice,) = overview.certificates(address="alice@bank.example", statuses=[Status.ISSUED])
        assert overview.public(alice) == public["alice@bank.example"]
        assert alice.days_left(town.now) in (364, 365)
    assert _found(town, alice.held.key_id) == _found(town, alice.held.serial) == [alice]
    assert _found(town, "") == _found(town, "%") == []


def test_history_of_one_alone(town: Town) -> None:
    (alice,) = _found(town, "alice@bank.example")
    town.now += DAY
    town.bank.people["alice"]["title"] = "Director"
    town.sync()
    with connect(town.lifecycle) as database:
        overview = Overview(database, now=town.now)
        assert [one.what for one in overview.history([alice])] == ["requested", "issued", "superseded"]
        both = overview.history(overview.found("alice@bank.example"))
    assert [one.what for one in both] == ["requested", "issued", "requested", "superseded", "issued"]
    assert both[-1].at - both[0].at == timedelta(days=1)


def test_what_signs_is_not_crowded_out_by_refusals(town: Town) -> None:
    (alice,) = _found(town, "alice@bank.example")
    with connect(town.lifecycle) as database:
        with database.change() as connection:
            row = dict(
                connection.execute(select(certificates).where(certificates.c.id == alice.held.id))
                .one()
                ._mapping
            )
            del row["id"]
            refused = {**row, "status": "failed", "serial": "", "key_id": ""}
            connection.execute(insert(certificates), [refused] * 120)
            connection.execute(
                insert(certificates), [{**row, "status": "superseded"}, {**row, "status": "revoked"}]
            )
        overview = Overview(database, now=town.now)
        found = overview.found("alice@bank.example")
        assert [one.held.status for one in found[:4]] == ["issued", "superseded", "revoked", "failed"]
        assert len(found) == 100
        assert found[3].held.id > found[4].held.id
        revocable = overview.found("alice@bank.example", REVOCABLE)
        assert [one.held.status for one in revocable] == ["issued", "superseded"]


def test_a_failure_is_told_once(town: Town) -> None:
    def refuse(request: SubjectRequest) -> None:
        raise SourceRefused("ca", "such a name is not certified", "Choose another")

    town.bank.hire("dave", "Dave Example")
    town.bank.people["alice"]["title"] = "Director"
    town.issuer = Moody(town, before=refuse)
    assert not town.sync().is_whole
    assert town.events("dave") == ["requested", "failed", "failed"]
    with connect(town.lifecycle) as database:
        overview = Overview(database, now=town.now)
        history = overview.history(overview.found("dave@bank.example"))
    assert [one.what for one in history] == ["requested", "failed"]
    assert "such a name is not certified" in history[1].why
    # Beside a certificate that is to be replaced, the request has a number of its own.
    with connect(town.lifecycle) as database:
        overview = Overview(database, now=town.now)
        history = overview.history(overview.found("alice@bank.example"))
    assert [one.what for one in history] == ["requested", "issued", "requested", "failed"]


def test_a_number_that_is_given_out_again_brings_nobody_else_s_history(town: Town) -> None:
    (bob,), (carol,) = _found(town, "bob@bank.example"), _found(town, "carol@bank.example")
    with connect(town.lifecycle) as database:
        with database.change() as connection:
            connection.execute(
                update(events)
                .where(events.c.certificate_id == bob.held.id)
                .values(certificate_id=carol.held.id)
            )
        overview = Overview(database, now=town.now)
        assert {one.address for one in overview.history([carol])} == {"carol@bank.example"}
        assert overview.history([]) == []


def test_while_a_run_works_on_somebody_it_is_left_open(town: Town) -> None:
    told: list[str] = []

    def meanwhile(request: SubjectRequest) -> None:
        (known,) = [one for one in _found(town, request.address) if one.held.status is Status.ISSUED]
        told.extend(result.outcome.value for result in town.revoke_by_hand(known).results)

    town.bank.people["alice"]["title"] = "Director"
    town.issuer = Moody(town, before=meanwhile)
    assert town.sync().is_whole
    assert told == ["left open"]
    town.issuer = None
    known = [one for one in _found(town, "alice@bank.example") if one.held.status is Status.ISSUED]
    assert [result.sentence for result in town.revoke_by_hand(*known).results] == ["revoked"]
    assert list(town.revoked().values()) == ["keyCompromise"]
    assert "alice" not in town.signers()
    assert town.steps() == ["issue alice"]


def test_of_a_source_that_is_gone(town: Town) -> None:
    (alice,) = _found(town, "alice@bank.example")
    with connect(town.lifecycle) as database, pytest.raises(RunRefused, match="is of a source"):
        revoke(
            town.settings.model_copy(update={"source": ()}),
            database,
            [alice.held],
            reason=Reason.UNSPECIFIED,
            why="",
            who="test",
            now=lambda: town.now,
        )
