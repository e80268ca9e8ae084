"""What `mailsigil check` says of the lifecycle."""

from __future__ import annotations

import base64
import os
import pwd
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import insert, text

from lifecycle.town import DAY, NOW, Town
from mailsigil.cli.check import everything
from mailsigil.config.lifecycle import LifecycleSettings
from mailsigil.config.surroundings import Remark, Severity
from mailsigil.directory.api import DirectoryUnavailable, Listed, OwnAddress, Person, Population
from mailsigil.directory.opening import open_directory
from mailsigil.lifecycle import review as under_test
from mailsigil.lifecycle.database import Database, connect
from mailsigil.lifecycle.desired import SourceRules
from mailsigil.lifecycle.shortfall import said, shortfalls
from mailsigil.lifecycle.tables import claims
from mailsigil.lifecycle.upgrade import HEAD
from mailsigil.policy.entitlement import IdentityFacts, Organisation, Validation
from mailsigil.policy.model import IdentityLevel, PolicyEntry, SigningMode


def told(town: Town, directory: Population | None = None) -> list[Remark]:
    (town.folder / "policy.toml").write_text(town.bank.policy())
    settings = town.settings
    return list(under_test.review(settings, directory or open_directory(settings), now=town.now))


def sentences(town: Town) -> str:
    return " / ".join(one.sentence for one in told(town))


@pytest.fixture(autouse=True)
def clock_of_the_town(monkeypatch: pytest.MonkeyPatch) -> None:
    """The towns live at a time of their own; PostgreSQL's machine has it, too."""
    here = Database.clock
    monkeypatch.setattr(Database, "clock", lambda self: None if here(self) is None else NOW)


@pytest.fixture
def town(settings: LifecycleSettings, tmp_path: Path) -> Town:
    made = Town(tmp_path, settings)
    made.bank.hire("alice", "Alice Example")
    return made


def test_all_is_well_after_a_run(town: Town) -> None:
    town.sync()
    assert told(town) == []


def test_not_enabled_is_not_looked_at(town: Town) -> None:
    town.lifecycle = town.lifecycle.model_copy(update={"enabled": False, "database": "sqlite:////no/where"})
    assert told(town) == []


def test_before_the_first_run_nothing_is_made(tmp_path: Path) -> None:
    file = tmp_path / "db" / "l.db"
    town = Town(tmp_path, LifecycleSettings(enabled=True, database=f"sqlite:///{file}"))
    town.bank.hire("alice", "Alice Example")
    (remark,) = told(town)
    assert (remark.severity, remark.sentence) == (Severity.WARNING, f"there is no folder {file.parent} yet")
    assert not file.parent.exists()
    file.parent.mkdir(mode=0o700)
    assert told(town) == []
    assert not file.exists()


def test_a_database_of_another_step(town: Town) -> None:
    town.sync()
    for step, words, severity in (
        ("0001", f"is at step 0001; the next run brings it to {HEAD}", Severity.NOTE),
        ("9999", "was changed by a newer mailsigil", Severity.ERROR),
    ):
        with connect(town.lifecycle) as database, database.change() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = :step"), {"step": step})
        (remark,) = told(town)
        assert words in remark.sentence
        assert remark.severity is severity


def test_what_a_server_left_that_died(town: Town) -> None:
    town.sync()
    rows = [
        {"source": "ca", "address": f"p{number}@bank.example", "holder": "mx7.0123/sync/ab", "until": until}
        for number, until in enumerate((NOW - DAY, NOW - DAY, NOW + DAY))
    ]
    with connect(town.lifecycle) as database, database.change() as connection:
        connection.execute(insert(claims), rows)
    (remark,) = told(town)
    assert "mx7.0123 ended in the middle of its work on the certificates of 2 addresses" in remark.sentence


def test_two_servers_that_do_not_share_their_keys(town: Town, tmp_path: Path) -> None:
    town.sync()
    town.lifecycle = town.lifecycle.model_copy(update={"node": "mx2"})
    assert "several mail servers look after certificates (mx1, mx2)" in sentences(town)
    secret = tmp_path / "secret"
    town.lifecycle = town.lifecycle.model_copy(update={"share_keys_with": str(secret)})
    assert told(town) == []
    # One that was taken out of service is no second one.
    town.lifecycle = town.lifecycle.model_copy(update={"share_keys_with": ""})
    town.now += timedelta(days=8)
    assert "several" not in sentences(town)


def test_a_file_that_others_read_or_own(tmp_path: Path) -> None:
    file = tmp_path / "db" / "l.db"
    town = Town(tmp_path, LifecycleSettings(enabled=True, database=f"sqlite:///{file}"))
    town.bank.hire("alice", "Alice Example")
    town.sync()
    file.chmod(0o644)
    (remark,) = told(town)
    assert (remark.severity, remark.sentence) == (Severity.ERROR, f"{file} is open to other users")
    assert remark.mend == f"chmod 600 {file}"
    file.chmod(0o600)
    if os.geteuid() == 0:
        os.chown(file, 12345, 12345)
        keyd = town.settings.keyd.model_copy(update={"user": "root"})
        settings = town.settings.model_copy(update={"keyd": keyd})
        (remark,) = under_test.review(settings, None, now=NOW)
        assert "does not belong to root" in remark.sentence


@pytest.mark.parametrize("kind", ["folder", "settings", "pipe", "empty"])
def test_a_path_that_leads_to_something_else(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "db"
    match kind:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case _:
            path.write_text("[lifecycle]\nenabled = true\n" if kind == "settings" else "")
    path.chmod(0o755)
    town = Town(tmp_path, LifecycleSettings(enabled=True, database=f"sqlite:///{path}"))
    town.bank.hire("alice", "Alice Example")
    (remark,) = told(town)
    assert remark.severity is Severity.ERROR
    says = {
        "folder": f"{path} is a folder, and no database",
        "settings": f"{path} is another kind of file, and no database",
        "pipe": f"{path} is no file",
        "empty": f"{path} is open to other users",  # One that is just being made.
    }
    assert remark.sentence == says[kind]
    assert ("chmod" in remark.mend) == (kind == "empty")


def test_a_password_that_nobody_asks_for(tmp_path: Path) -> None:
    found = checked(tmp_path, 'password_file = "/etc/mailsigil/password"\n')
    (remark,) = [one for one in found if "password" in one.subject]
    assert remark.severity is Severity.WARNING
    assert "SQLite is a file of this machine" in remark.sentence


def test_servers_of_a_directory_that_are_away_are_told_once(tmp_path: Path) -> None:
    directory = (
        '[[directory]]\nname = "dead"\nprofile = "openldap"\nservers = ["ldap://127.0.0.1:1"]\n'
        'encryption = "none"\n'
        'people_base = "dc=bank,dc=example"\ndomains = ["bank.example"]\n'
    )
    found = [one for one in checked(tmp_path, directory) if one.severity is Severity.ERROR]
    mine = [one for one in found if one.subject.startswith(("directory", "lifecycle"))]
    assert [one.subject for one in mine] == ['directory "dead": ldap://127.0.0.1:1']


@pytest.mark.integration
def test_a_database_that_is_away(fresh_postgresql: object, tmp_path: Path) -> None:
    away = LifecycleSettings(enabled=True, database="postgresql://mailsigil@127.0.0.1:1/mailsigil")
    town = Town(tmp_path, away)
    town.bank.hire("alice", "Alice Example")
    (remark,) = told(town)
    assert remark.severity is Severity.ERROR
    assert "mailsigil on 127.0.0.1:1" in remark.sentence


def test_clocks_that_differ(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    town.sync()
    monkeypatch.setattr(Database, "clock", lambda self: NOW - timedelta(minutes=10))
    (remark,) = told(town)
    assert "clock says 2026-11-22 12:00:00 UTC, and the database's 2026-11-22 11:50:00 UTC" in remark.sentence


class Mute:
    """A directory that answers single questions, and lists nobody."""

    def people(self) -> Iterator[Listed]:
        raise DirectoryUnavailable("the search is limited to 10 entries")
        yield


def test_a_directory_that_lists_nobody(town: Town) -> None:
    town.sync()
    mute: Population = Mute()  # type: ignore[assignment]
    (remark,) = told(town, mute)
    assert "does not list its people" in remark.sentence
    town.bank.people.clear()
    assert "lists nobody" in sentences(town)


def test_names_that_no_certificate_takes(town: Town) -> None:
    for number in range(7):
        town.bank.hire(f"p{number}", "Cher")
    town.bank.hire("long", f"Lancelot {'x' * 65}")
    # Who is meant to say less is nobody to be told of, nor whose mail is never signed.
    town.bank.hire("third", "Cher", validated_level="V3")
    town.bank.hire("never", "Cher", signing="never")
    (remark,) = [one for one in told(town) if "say less" in one.sentence]
    assert remark.severity is Severity.WARNING
    assert remark.sentence == (
        "8 people's certificates say less than the directory does: V4 needs a given name and a surname of at"
        " most 64 letters: p0@bank.example, p1@bank.example, p2@bank.example, p3@bank.example,"
        " p4@bank.example, and 3 more"
    )


def test_a_title_that_no_certificate_takes() -> None:
    """The policy file refuses such a title; LDAP has them."""
    facts = IdentityFacts(
        source="cn=alice",
        validation=Validation(level=IdentityLevel.V4),
        organisation=Organisation(
            name="Example Bank", source="o=bank", domains=("bank.example",), validated_until=NOW + DAY
        ),
    )
    signs = PolicyEntry(source="test", signing=SigningMode.REQUIRED)
    own = OwnAddress(address="alice@bank.example", identity=facts, policies=(signs,))
    rules = SourceRules(name="ca", domains=frozenset({"bank.example"}))
    late = "the title is left out: it may have at most 64 letters"
    for title, found in ((" ", []), ("Clerk", []), ("t" * 65, [late])):
        person = Person(name="Alice Example", addresses=(own.address,), logins=(), title=title)
        assert shortfalls(person, own, rules, at=NOW) == found
    assert said(person, own, rules, at=NOW) == f"V4: Alice Example, Example Bank; {late}"


def test_an_organisation_that_no_certificate_takes(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = town.bank.policy().replace("Example Bank", "B" * 65)
    monkeypatch.setattr(town.bank, "policy", lambda: policy)
    (remark,) = [one for one in told(town) if "say less" in one.sentence]
    assert "V4 needs an organisation's name of at most 64 letters; V3 needs" in remark.sentence


SECRET = base64.b64encode(bytes(32)).decode() + "\n"
NO_SERVER = "postgresql://mailsigil@127.0.0.1:1/mailsigil"
OTHERS = ("nobody", "daemon")


@pytest.mark.parametrize(
    ("content", "mode", "sentence", "mend"),
    [
        (SECRET, 0o600, "", ""),
        (SECRET[:20], 0o600, "does not hold 32 octets in base64", "openssl rand -base64 32"),
        ("no base64 at all!", 0o600, "does not hold 32 octets in base64", "openssl rand -base64 32"),
        (SECRET, 0o644, "others than its owner may use this secret file (mode 0644)", "chmod 600"),
        ("", 0o600, "empty", ""),
        (None, 0, "cannot be opened: No such file or directory", "it: openssl"),
    ],
)
def test_the_secret_for_shared_keys(
    tmp_path: Path, content: str | None, mode: int, sentence: str, mend: str
) -> None:
    secret = tmp_path / "shared-keys"
    if content is not None:
        secret.write_text(content)
        secret.chmod(mode)
    more = f'share_keys_with = "{secret}"\n'
    found = [one for one in checked(tmp_path, more, NO_SERVER) if "share_keys" in one.subject]
    if not sentence:
        assert found == []
        return
    (remark,) = found
    assert remark.severity is Severity.ERROR
    assert sentence in remark.sentence
    assert mend in remark.mend
    assert "emove it" not in remark.mend


def test_the_secret_that_systemd_did_not_hand_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    found = checked(tmp_path, 'share_keys_with = "credential:shared-keys"\n', NO_SERVER)
    (remark,) = [one for one in found if "share_keys" in one.subject]
    assert 'there is no systemd credential "shared-keys"' in remark.sentence
    assert remark.severity is Severity.ERROR


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
def test_the_secret_is_read_as_the_agents_user() -> None:
    ours, others = map(pwd.getpwnam, OTHERS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o711)  # Not pytest's folder: the agent's user has to come here.
        secret = folder / "shared-keys"
        secret.write_text(SECRET)
        secret.chmod(0o600)
        for owner, sentence in ((ours, ""), (others, "cannot be opened"), (None, "cannot be opened")):
            os.chown(secret, owner.pw_uid if owner else 0, -1)
            more = f'share_keys_with = "{secret}"\n[keyd]\nuser = "{ours.pw_name}"\n'
            found = [one.sentence for one in checked(folder, more, NO_SERVER) if "share_keys" in one.subject]
            assert (sentence in found[0]) if sentence else not found, found
        assert os.geteuid() == 0


def checked(folder: Path, more: str = "", database: str = "") -> list[Remark]:
    """What the command finds, with this in [lifecycle]."""
    database = database or f"sqlite:///{folder}/l.db"
    (folder / "policy.toml").write_text('[default]\nsigning = "required"\n')
    (folder / "mailsigil.toml").write_text(
        f'[policy]\nfile = "{folder}/policy.toml"\n'
        '[[source]]\nname = "ca"\nkind = "embedded"\ndomains = ["bank.example"]\n'
        f'[source.embedded]\nfolder = "{folder}/ca"\n'
        f'[lifecycle]\nenabled = true\ndatabase = "{database}"\n{more}'
    )
    return list(everything(folder / "mailsigil.toml", now=NOW))


def test_check_asks(tmp_path: Path) -> None:
    found = " / ".join(one.sentence for one in checked(tmp_path))
    assert "the directory lists nobody" in found
