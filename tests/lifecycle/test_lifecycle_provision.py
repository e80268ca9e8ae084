"""The first mail of somebody without a certificate, and the key agent's timer."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from lifecycle.town import DAY, Moody, Town
from mailsigil.cli.certificates import revoke_certificates
from mailsigil.config.lifecycle import LifecycleSettings
from mailsigil.config.settings import Settings
from mailsigil.directory.api import DirectoryUnavailable, Population
from mailsigil.directory.opening import open_directory
from mailsigil.keys.authority import Authority
from mailsigil.keys.client import KeyAgentClient
from mailsigil.keys.errors import (
    KeyAgentRefused,
    KeyAgentUnavailable,
    Pending,
    SourceRefused,
    SourceUnavailable,
)
from mailsigil.keys.subject import SubjectRequest
from mailsigil.lifecycle import provision as provision_module
from mailsigil.lifecycle.provision import Provisioner
from mailsigil.lifecycle.timer import Timer
from mailsigil.service import utc_now
from processes import start


@pytest.fixture
def town(settings: LifecycleSettings, tmp_path: Path) -> Town:
    town = Town(tmp_path / "town", settings)
    town.bank.hire("alice", "Alice Example", title="Clerk", aliases=["a.example@bank.example"])
    town.bank.hire("bob", "Bob Sample", disabled=True)
    town.bank.hire("carl", "Carl Never", signing="never")
    town.open().close()
    return town


def _provisioner(town: Town, monkeypatch: pytest.MonkeyPatch | None = None) -> Provisioner:
    if monkeypatch is not None:
        # The town's authority, with its moods.
        monkeypatch.setattr(provision_module, "open_house", lambda *_, **__: town.open())
    return Provisioner(town.settings, open_directory, now=lambda: town.now)


def test_somebody_gets_what_a_run_would_give(town: Town) -> None:
    _provisioner(town).provision("ca", "alice@bank.example")
    assert town.signers() == {"alice": "V4 Alice Example Clerk"}
    assert town.events("alice") == ["requested", "issued"]
    assert town.steps() == []


def test_an_alias_gets_one_with_its_first_mail_and_keeps_having_one(town: Town) -> None:
    _provisioner(town).provision("ca", "a.example@bank.example")
    assert town.signers() == {"a.example": "V4 Alice Example Clerk"}
    town.bank.people["alice"]["title"] = "Manager"
    assert sorted(town.steps()) == ["issue alice", "reissue a.example"]


@pytest.mark.parametrize(
    ("uid", "sentence"),
    [
        ("eve", "nobody in the directory has the address"),
        ("bob", "the account is disabled"),
        ("carl", "policy never signs"),
    ],
)
def test_who_gets_none(town: Town, uid: str, sentence: str) -> None:
    with pytest.raises(SourceRefused, match=sentence):
        _provisioner(town).provision("ca", f"{uid}@bank.example")
    assert town.signers() == {}
    assert town.rows() == []


def test_many_first_mails_at_a_time_bring_one_certificate(town: Town) -> None:
    provisioners = [_provisioner(town) for _ in range(4)]
    errors: list[Exception] = []

    def mail(provisioner: Provisioner) -> None:
        try:
            provisioner.provision("ca", "alice@bank.example")
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=mail, args=(one,)) for one in provisioners]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert town.issued() == 1


@pytest.mark.parametrize(
    "error",
    [SourceRefused("ca", "no", "x"), Pending("ca", retry_after=5), SourceUnavailable("ca", "away", "x")],
    ids=lambda error: type(error).__name__,
)
def test_what_the_authority_says_is_told(
    town: Town, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def say(request: SubjectRequest) -> None:
        raise error

    town.issuer = Moody(town, before=say)
    with pytest.raises(type(error)):
        _provisioner(town, monkeypatch).provision("ca", "alice@bank.example")
    town.issuer = None
    _provisioner(town).provision("ca", "alice@bank.example")
    assert town.signers() == {"alice": "V4 Alice Example Clerk"}
    assert town.issued() == 1


def test_a_directory_or_database_that_is_away_is_the_sources_trouble(town: Town, tmp_path: Path) -> None:
    def away(settings: Settings) -> Population:
        raise DirectoryUnavailable("ldap is away")

    one = Provisioner(town.settings, away, now=lambda: town.now)
    with pytest.raises(SourceUnavailable, match="ldap is away"):
        one.provision("ca", "alice@bank.example")
    town.lifecycle = town.lifecycle.model_copy(
        update={"database": f"sqlite:///{tmp_path}", "password_file": ""}
    )
    with pytest.raises(SourceUnavailable, match="cannot be opened"):
        _provisioner(town).provision("ca", "alice@bank.example")


def test_who_left_gets_nothing_from_a_policy_file_of_before(town: Town) -> None:
    one = _provisioner(town)
    one.provision("ca", "alice@bank.example")
    town.bank.hire("dora", "Dora Muster")
    town.open().close()
    one.provision("ca", "dora@bank.example")
    del town.bank.people["alice"]
    town.sync()
    with pytest.raises(SourceRefused, match="nobody in the directory has the address"):
        one.provision("ca", "alice@bank.example")
    assert "alice" not in town.signers()
    (town.folder / "policy.toml").write_text("[default]\nsigning = 'sometimes'\n")
    with pytest.raises(SourceUnavailable, match="sometimes"):
        one.provision("ca", "dora@bank.example")


def test_new_settings_count_after_a_reload(town: Town, tmp_path: Path) -> None:
    one = _provisioner(town)
    one.provision("ca", "alice@bank.example")
    town.state = tmp_path / "elsewhere"
    one.take(town.settings)
    one.provision("ca", "alice@bank.example")
    assert town.signers() == {"alice": "V4 Alice Example Clerk"}


def test_the_first_mail_after_the_end_of_a_certificate(town: Town) -> None:
    town.lifecycle = town.lifecycle.model_copy(update={"clock_days": 1000.0})
    town.sync()
    town.now += 400 * DAY
    _provisioner(town).provision("ca", "alice@bank.example")
    assert [status for _, status, _ in town.rows("alice")] == ["expired", "issued"]


# The timer


def _timer(town: Town) -> Timer:
    return Timer(
        town.settings,
        open_directory,
        now=lambda: town.now,
        chance=lambda: 0.5,
        again=lambda handed: town.settings,
    )


def test_the_timer_does_what_a_run_does(town: Town, caplog: pytest.LogCaptureFixture) -> None:
    if not town.lifecycle.database.startswith("sqlite"):
        pytest.skip("the clock of PostgreSQL is not the town's")
    caplog.set_level(logging.INFO)
    report = _timer(town).run()
    assert report is not None
    assert town.signers() == {"alice": "V4 Alice Example Clerk"}
    assert "issue alice@bank.example: done: V4" in caplog.text


def test_the_timer_refuses_what_a_person_should_see(town: Town, caplog: pytest.LogCaptureFixture) -> None:
    if not town.lifecycle.database.startswith("sqlite"):
        pytest.skip("the clock of PostgreSQL is not the town's")
    for each in range(20):
        town.bank.hire(f"p{each}", f"Person Nr{each}")
    town.sync()
    town.bank.people = {"alice": town.bank.people["alice"]}
    town.open().close()
    assert _timer(town).run() is None
    assert "--allow-revocations 20" in caplog.text
    assert len(town.signers()) == 21
    caplog.clear()
    town.now += 100 * DAY
    assert _timer(town).run() is None
    assert "may have jumped" in caplog.text


# The whole agent


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[tuple[Town, KeyAgentClient, Path]]:
    settings = LifecycleSettings(database=f"sqlite:///{tmp_path}/db/l.db")
    Authority.init(tmp_path / "ca", organisation="Example Bank", now=utc_now())
    town = Town(tmp_path, settings)
    town.bank.hire("alice", "Alice Example", title="Clerk")
    town.bank.hire("bob", "Bob Sample")
    (tmp_path / "policy.toml").write_text(town.bank.policy())
    (tmp_path / "keys").mkdir(mode=0o700)
    config = tmp_path / "mailsigil.toml"
    config.write_text(
        f"""
[policy]
file = {json.dumps(str(tmp_path / "policy.toml"))}
[keyd]
socket = "{tmp_path}/keyd.sock"
folder = "{tmp_path}/keys"
allowed_users = ["root"]
processes = 2
[lifecycle]
enabled = true
every_minutes = 0.005
database = "{settings.database}"
[[source]]
name = "ca"
kind = "embedded"
domains = ["bank.example"]
[source.embedded]
folder = "{town.ca}"
[source.enrolment]
state = "{town.state}"
"""
    )
    process = start("keyd", "--config", config, log=tmp_path / "log")
    client = KeyAgentClient(tmp_path / "keyd.sock", timeout=5)
    try:
        _until(lambda: _answers(client), tmp_path)
        yield town, client, tmp_path
    finally:
        process.terminate()
        assert process.wait(20) == 0


def _answers(client: KeyAgentClient) -> bool:
    try:
        client.find("nobody@elsewhere.example")
    except KeyAgentUnavailable:
        return False
    return True


def _until(condition: Callable[[], object], folder: Path, seconds: float = 45) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, (folder / "log").read_text()
        time.sleep(0.05)


@pytest.mark.integration
@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_the_agent_provisions_a_first_mail_and_looks_after_the_rest(
    agent: tuple[Town, KeyAgentClient, Path],
) -> None:
    town, client, folder = agent
    (found,) = client.find("alice@bank.example")
    assert found.key_id
    with pytest.raises(KeyAgentRefused, match="nobody in the directory"):
        client.find("eve@bank.example")
    # Bob never wrote a mail: the timer gives him one.
    _until(lambda: "bob" in town.signers(), folder)
    town.bank.people["bob"]["name"] = "Bob Married"
    (folder / "policy.toml").write_text(town.bank.policy())
    _until(lambda: town.signers().get("bob") == "V4 Bob Married", folder)
    del town.bank.people["alice"]
    (folder / "policy.toml").write_text(town.bank.policy())
    _until(lambda: "alice" not in town.signers(), folder)
    _until(lambda: list(town.revoked().values()) == ["affiliationChanged"], folder)


@pytest.mark.integration
@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_a_running_agent_hears_of_a_revocation_by_hand(agent: tuple[Town, KeyAgentClient, Path]) -> None:
    _, client, folder = agent
    (found,) = client.find("alice@bank.example")
    config = folder / "mailsigil.toml"
    arguments = ["alice@bank.example", "--reason", "keyCompromise", "--yes", "--config", str(config)]
    done = CliRunner().invoke(revoke_certificates, arguments)
    assert done.exit_code == 0, done.output
    _until(lambda: "reload asked for by peer_uid=" in (folder / "log").read_text(), folder, seconds=2)

    def refused() -> bool:
        try:
            client.sign(key_id=found.key_id, address="alice@bank.example", scheme=found.schemes[0], data=b"x")
        except KeyAgentRefused:
            return True
        return False

    _until(refused, folder, seconds=10)
