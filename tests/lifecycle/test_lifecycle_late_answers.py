"""An answer that was lost, and what is wanted by the time it is found: it is taken for what it says."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from lifecycle.town import DAY, Bank, Moody, Town
from mailsigil.config.lifecycle import LifecycleSettings
from mailsigil.keys.authority import Authority
from mailsigil.keys.errors import Pending, SourceUnavailable
from mailsigil.keys.folder import KeyFolder
from mailsigil.keys.subject import SubjectRequest
from mailsigil.lifecycle.carry_out import Carrier
from mailsigil.lifecycle.database import connect
from mailsigil.lifecycle.errors import DatabaseUnavailable

ALICE = "alice@bank.example"


@pytest.fixture
def town(tmp_path: Path) -> Town:
    return _town(tmp_path)


def _town(folder: Path, **more: object) -> Town:
    settings = LifecycleSettings(enabled=True, database=f"sqlite:///{folder}/db/l.db")
    town = Town(folder / "town", settings.model_copy(update=more))
    town.bank.hire("alice", "Alice Example", title="Clerk")
    return town


def _sharing(folder: Path, **more: object) -> tuple[Town, Town]:
    """Two mail servers."""
    secret = folder / "secret"
    secret.write_bytes(base64.b64encode(secrets.token_bytes(32)))
    secret.chmod(0o600)
    one = _town(folder, share_keys_with=str(secret), **more)
    other = Town(folder / "mx2", one.lifecycle, node="mx2", ca=one.ca)
    other.bank = one.bank
    return one, other


def _lost(_: SubjectRequest) -> None:
    raise SourceUnavailable("ca", "the connection was lost", "Try again", is_unanswered=True)


def _away(_: SubjectRequest) -> None:
    raise SourceUnavailable("ca", "it does not answer", "See to it")


def _married(bank: Bank) -> None:
    bank.people["alice"]["name"] = "Alice Married"


def _lowered(bank: Bank) -> None:
    bank.people["alice"]["validated_level"] = "V1"


def _lapsed(bank: Bank) -> None:
    bank.valid_until = "2026-11-01"


@pytest.mark.parametrize(
    ("change", "then", "signs"),
    [
        pytest.param(_married, ["reissue alice"], "V4 Alice Married Clerk", id="another name"),
        pytest.param(_lowered, ["reissue alice"], "V1", id="less"),
        pytest.param(_lapsed, ["hold alice", "issue alice"], "V2 Alice Example Clerk", id="a lapse"),
    ],
)
def test_a_late_answer_is_known_by_what_it_says(
    town: Town, change: Callable[[Bank], None], then: list[str], signs: str
) -> None:
    town.issuer = Moody(town, after=_lost)
    town.sync()
    town.issuer = None
    change(town.bank)
    (result,) = town.sync().results
    assert "it says what was wanted before, so it is replaced next" in result.sentence
    assert town.signers() == {"alice": "V4 Alice Example Clerk"}
    assert town.steps() == then
    town.sync()
    assert town.signers() == {"alice": signs}
    assert town.steps() == []


def test_a_late_answer_to_what_is_still_wanted_is_taken_as_it_is(town: Town) -> None:
    town.issuer = Moody(town, after=_lost)
    town.sync()
    town.issuer = None
    town.sync()
    assert town.steps() == []
    assert town.issued() == 1


def test_less_is_certified_at_once_though_the_first_try_failed(town: Town) -> None:
    town.sync()
    _lowered(town.bank)
    town.issuer = Moody(town, before=_away)
    town.sync()
    town.issuer = None
    town.sync()
    assert town.rows() == [("alice", "revoked", "V4"), ("alice", "issued", "V1")]
    assert list(town.revoked().values()) == ["privilegeWithdrawn"]


def test_what_came_for_somebody_who_left_signs_nothing(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(self: Carrier, mine: object) -> None:
        raise DatabaseUnavailable("the database is away", "Wait")

    with monkeypatch.context() as patch:
        patch.setattr(Carrier, "_end", dies)
        town.sync()
    assert "alice" in town.signers()
    del town.bank.people["alice"]
    report = town.sync()
    assert report.is_whole
    assert town.signers() == {}
    assert len(town.revoked()) == 1
    assert town.steps() == []


def test_what_another_server_had_asked_for_is_revoked_when_it_is_called_off(tmp_path: Path) -> None:
    town, other = _sharing(tmp_path)
    town.issuer = Moody(town, after=_lost)
    town.sync()
    del town.bank.people["alice"]
    other.now += timedelta(minutes=11)
    (result,) = other.sync().results
    assert result.sentence == "called off"
    assert Authority.load(town.ca).certificates_of(ALICE) == ()
    assert len(other.revoked()) == 1


@pytest.mark.parametrize("back", [timedelta(minutes=5), timedelta(hours=13)], ids=["minutes", "midnight"])
def test_an_answer_is_known_however_far_it_is_dated_back(
    town: Town, back: timedelta, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailsigil.keys.authority.BACKDATE", back)

    def dies(self: Carrier, mine: object) -> None:
        raise DatabaseUnavailable("the database is away", "Wait")

    with monkeypatch.context() as patch:
        patch.setattr(Carrier, "_end", dies)
        town.sync()
    assert town.steps() == ["resume alice"]
    town.sync()
    assert (town.issued(), town.rows()) == (1, [("alice", "issued", "V4")])


def _key(town: Town) -> bytes:
    folder = KeyFolder(town.state)
    folder.reload()
    (held,) = folder.held()
    key = x509.load_der_x509_certificate(held.credential.certificate).public_key()
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def test_a_stolen_key_that_waits_for_its_renewal_is_not_certified_again(tmp_path: Path) -> None:
    town = _town(tmp_path, keep_keys=True, clock_days=1000.0)
    town.sync()
    stolen = _key(town)
    town.now += 340 * DAY

    def pending(_: SubjectRequest) -> None:
        raise Pending("ca", retry_after=60)

    town.issuer = Moody(town, before=pending)
    town.sync()
    town.issuer = None
    assert town.revoke_by_hand().is_whole
    town.sync()
    assert _key(town) != stolen


def test_a_stolen_key_is_not_certified_again_by_another_server(tmp_path: Path) -> None:
    town, other = _sharing(tmp_path, keep_keys=True)
    town.sync()
    other.sync()
    stolen = _key(other)
    assert town.revoke_by_hand().is_whole
    other.sync()
    assert _key(other) != stolen


def test_a_key_is_kept_where_policy_says_so(tmp_path: Path) -> None:
    town = _town(tmp_path, keep_keys=True, clock_days=1000.0)
    town.sync()
    key = _key(town)
    town.now += 340 * DAY
    town.sync()
    assert (town.issued(), _key(town)) == (2, key)


def test_what_was_revoked_elsewhere_goes_though_its_successor_cannot_be_had(tmp_path: Path) -> None:
    town, other = _sharing(tmp_path)
    town.sync()
    other.sync()
    assert town.revoke_by_hand().is_whole
    other.issuer = Moody(other, before=_away)
    other.sync()
    assert other.signers() == {}


def test_no_key_of_a_revoked_certificate_is_kept(tmp_path: Path) -> None:
    town, other = _sharing(tmp_path, on_departure="hold")
    town.sync()
    other.sync()
    del town.bank.people["alice"]
    town.sync()
    other.sync()
    aside = [folder / ".held" for folder in (town.state, other.state)]
    assert [len(list(folder.iterdir())) for folder in aside] == [1, 1]
    town.lifecycle = town.lifecycle.model_copy(update={"on_departure": "revoke"})
    town.sync()
    other.sync()
    assert [list(folder.iterdir()) for folder in aside] == [[], []]
    with connect(town.lifecycle) as database, database.look() as connection:
        assert connection.exec_driver_sql("SELECT sealed FROM material").scalars().all() == [None]
