"""``mailsigil keys`` over the whole organisation: list, show, export-public, revoke."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from cryptography import x509
from sqlalchemy import text

from cli.test_cli_sync import Site
from lifecycle.conftest import fresh_postgresql, postgresql
from mailsigil.cli.keys import command as keys
from mailsigil.cli.sync import command as sync
from mailsigil.config.lifecycle import LifecycleSettings
from mailsigil.keys.authority import Authority
from mailsigil.lifecycle.database import connect
from mailsigil.lifecycle.upgrade import HEAD, revision, upgrade
from processes import mailsigil

__all__ = ["fresh_postgresql", "postgresql"]


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not pytest's folder: the agent's user has to come here.
    with tempfile.TemporaryDirectory(prefix="mailsigil-keys-") as name:
        yield Path(name)


@pytest.fixture
def site(folder: Path) -> Site:
    site = Site(folder)
    site.bank.hire("alice", "Alice Example", title="Clerk")
    site.bank.hire("bob", "Bob Sample")
    site.bank.hire("carol", "Carol Third", validated_level="V3")
    site.write()
    _sync(site)
    return site


def _run(site: Site, command: click.Command, *arguments: str, stdin: bytes = b"") -> tuple[int, str, str]:
    """Run a command in this process, which is quicker by far."""
    umask = os.umask(0o022)
    try:
        done = CliRunner().invoke(
            command, [*arguments, "--config", str(site.folder / "mailsigil.toml")], input=stdin
        )
    finally:
        os.umask(umask)
    return done.exit_code, done.stdout, done.stderr


def _sync(site: Site) -> str:
    status, told, error = _run(site, sync)
    assert status == 0, told + error
    return told


def _keys(site: Site, name: str, *arguments: str, stdin: bytes = b"") -> tuple[int, str, str]:
    assert isinstance(keys, click.Group)
    return _run(site, keys.commands[name], *arguments, stdin=stdin)


def _listed(site: Site, *arguments: str) -> list[dict[str, object]]:
    status, told, error = _keys(site, "list", "--json", *arguments)
    assert status == 0, error
    found: list[dict[str, object]] = json.loads(told)
    return found


def test_everybody_at_a_glance(site: Site) -> None:
    found = _listed(site)
    assert [(one["address"], one["level"], one["status"]) for one in found] == [
        ("alice@bank.example", "V4", "issued"),
        ("bob@bank.example", "V4", "issued"),
        ("carol@bank.example", "V3", "issued"),
    ]
    assert found[0]["title"] == "Clerk"
    days = found[0]["days_left"]
    assert isinstance(days, int)
    assert days > 100
    status, told, _ = _keys(site, "list")
    assert status == 0
    assert sum("@bank.example" in line for line in told.splitlines()) == 3
    assert "3 sign: 1 V3, 2 V4" in told
    assert "By status: 3 issued" in told
    assert "Running out: 0 within 7 days, 0 within 30 days, 0 within 90 days" in told


def test_some_of_them(site: Site) -> None:
    assert [one["address"] for one in _listed(site, "--level", "V3")] == ["carol@bank.example"]
    assert [one["address"] for one in _listed(site, "--address", "Alice@Bank.example")] == [
        "alice@bank.example"
    ]
    assert len(_listed(site, "--within", "10000")) == 3
    assert _listed(site, "--within", "30") == []
    assert _listed(site, "--status", "revoked") == []


def test_numbers_for_programs(site: Site) -> None:
    status, told, _ = _keys(site, "list", "--summary", "--json")
    assert status == 0
    assert json.loads(told) == {
        "signing": 3,
        "by_level": {"V3": 1, "V4": 2},
        "by_status": {"issued": 3},
        "running_out": {"7": 0, "30": 0, "90": 0},
    }


def test_one_with_its_history(site: Site) -> None:
    site.bank.people["alice"]["title"] = "Director"
    site.write()
    _sync(site)
    status, told, _ = _keys(site, "show", "alice@bank.example", "--json")
    values = json.loads(told)
    assert status == 0
    assert [(one["status"], one["title"]) for one in values["certificates"]] == [
        ("issued", "Director"),
        ("superseded", "Clerk"),
    ]
    history = values["history"]
    assert [one["what"] for one in history] == ["requested", "issued", "requested", "superseded", "issued"]
    assert {one["who"] for one in history} == {"sync by root"} or os.geteuid() != 0
    assert "title: Clerk → Director" in history[-1]["why"]
    # By its serial number, as openssl writes it.
    serial = values["certificates"][1]["serial"]
    pairs = ":".join(
        serial.zfill(len(serial) + len(serial) % 2).upper()[i : i + 2] for i in range(0, len(serial), 2)
    )
    status, told, _ = _keys(site, "show", pairs)
    assert status == 0
    assert "alice@bank.example: superseded" in told
    assert "Director" in told.partition("What happened:")[2]
    assert f"subject       {values['certificates'][1]['subject']}" in told


def test_public_certificates(site: Site, tmp_path: Path) -> None:
    status, told, _ = _keys(site, "export-public", "alice@bank.example")
    assert status == 0
    assert "PRIVATE" not in told
    (certificate,) = x509.load_pem_x509_certificates(told.encode())
    assert "Alice Example" in certificate.subject.rfc4514_string()
    folder = tmp_path / "out"
    folder.mkdir()
    status, told, _ = _keys(site, "export-public", "--all", "--to", str(folder), "--json")
    assert status == 0
    assert sorted(path.name for path in folder.iterdir()) == [
        "alice@bank.example.pem",
        "bob@bank.example.pem",
        "carol@bank.example.pem",
    ]
    assert {entry["file"] for entry in json.loads(told)} == {str(path) for path in folder.iterdir()}
    for path in folder.iterdir():
        assert path.stat().st_mode & 0o777 == 0o644
        subprocess.run(["openssl", "x509", "-noout", "-in", path], check=True)
    status, told, error = _keys(site, "export-public", "nobody@bank.example", "bob@bank.example")
    assert (status, "nobody@bank.example has no certificate" in error) == (1, True)
    assert told.count("BEGIN CERTIFICATE") == 1


def test_revoked_by_hand(site: Site) -> None:
    (alice,) = _listed(site, "--address", "alice@bank.example")
    file = site.folder / "state" / "alice@bank.example.pem"
    assert file.exists()
    # A person is asked, and says no.
    status, _, error = _keys(site, "revoke", "alice@bank.example", "--reason", "keyCompromise", stdin=b"n\n")
    assert (status, "Revoke for good?" in error) == (1, True)
    assert file.exists()
    arguments = ("--reason", "KEYCOMPROMISE", "--comment", "laptop lost", "--yes")
    status, told, error = _keys(site, "revoke", "alice@bank.example", *arguments)
    assert (status, told) == (0, f"alice@bank.example, serial {alice['serial']}: revoked\n"), error
    assert not file.exists()
    crl = x509.load_der_x509_crl((site.folder / "ca" / "issuing.crl").read_bytes())
    (entry,) = crl
    assert f"{entry.serial_number:x}" == alice["serial"]
    assert entry.extensions.get_extension_for_class(x509.CRLReason).value.reason.value == "keyCompromise"
    _, told, _ = _keys(site, "show", str(alice["serial"]), "--json")
    last = json.loads(told)["history"][-1]
    assert last["what"] == "revoked"
    assert last["why"] == "revoked by hand (keyCompromise): laptop lost"
    assert last["who"].endswith(", by hand")
    # She is still an employee: the next sync gives her another, with another key.
    assert "1 done" in _sync(site)
    (new,) = _listed(site, "--address", "alice@bank.example")
    assert new["key_id"] != alice["key_id"]
    status, _, error = _keys(site, "revoke", str(alice["serial"]), "--reason", "unspecified", "--yes")
    assert (status, "those known are revoked" in error) == (2, True)


def test_revoked_by_serial_alone(site: Site) -> None:
    site.bank.people["alice"]["title"] = "Director"
    site.write()
    _sync(site)
    old = _listed(site, "--status", "superseded")[0]
    status, told, _ = _keys(site, "revoke", str(old["serial"]), "--reason", "superseded", "--yes", "--json")
    assert status == 0
    (result,) = json.loads(told)["results"]
    assert (result["serial"], result["sentence"]) == (old["serial"], "revoked")
    # The other one signs on.
    assert (site.folder / "state" / "alice@bank.example.pem").exists()
    assert len(_listed(site, "--status", "issued")) == 3


def test_an_authority_that_cannot_be_asked(site: Site) -> None:
    (site.folder / "ca" / "issuing.key").rename(site.folder / "away.key")
    status, told, _ = _keys(site, "revoke", "bob@bank.example", "--reason", "unspecified", "--yes")
    assert status == 1
    assert "issuing" in told
    (site.folder / "away.key").rename(site.folder / "ca" / "issuing.key")
    status, _, _ = _keys(site, "revoke", "bob@bank.example", "--reason", "unspecified", "--yes")
    assert status == 0
    register = Authority.load(site.folder / "ca").register
    assert sum(entry.revocation is not None for entry in register.entries()) == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["show", "nobody@bank.example"], "knows no certificate of nobody@bank.example"),
        (["list", "--address", "nonsense"], "nonsense is no mail address"),
        (["list", "--status", "odd"], "Invalid value"),
        (["list", "--at-hand", "--summary"], "need [lifecycle]"),
        (["export-public"], "give addresses, or --all"),
        (["export-public", "--all", "--to", "/nowhere"], "does not exist"),
        (["revoke", "alice@bank.example"], "Missing option '--reason'"),
        (["revoke", "alice@bank.example", "--reason", "certificateHold"], "Invalid value"),
        (["revoke", "eve@bank.example", "--reason", "unspecified", "--yes"], "knows no certificate of eve"),
        (
            ["revoke", "bob@bank.example", "--reason", "unspecified", "--yes", "--comment", "a\nb"],
            "one line",
        ),
    ],
    ids=" ".join,
)
def test_wrong_use(site: Site, arguments: list[str], sentence: str) -> None:
    status, _, error = _keys(site, *arguments)
    assert status == 2
    assert sentence in error
    assert "Traceback" not in error


READING = (
    ["list"],
    ["list", "--summary", "--json"],
    ["show", "bob@bank.example"],
    ["export-public", "--all"],
)
REVOKE = ["revoke", "bob@bank.example", "--reason", "unspecified", "--yes"]


def test_a_database_that_is_not_there_is_not_made(site: Site) -> None:
    path = site.folder / "mailsigil.toml"
    path.write_text(path.read_text().replace("/db/l.db", "/typo/l.db"))
    before = sorted(site.folder.rglob("*"))
    for arguments in (*READING, REVOKE):
        status, told, error = _keys(site, *arguments)
        assert (status, told) == (2, "")
        assert (
            f"there is no database at {site.folder}/typo/l.db yet: the first `mailsigil sync` makes" in error
        )
    # Nor is anything written into an empty file.
    (site.folder / "typo").mkdir()
    (site.folder / "typo" / "l.db").touch(mode=0o600)
    assert [_keys(site, *arguments)[0] for arguments in READING] == [2] * len(READING)
    assert (site.folder / "typo" / "l.db").read_bytes() == b""
    (site.folder / "typo" / "l.db").unlink()
    (site.folder / "typo").rmdir()
    assert sorted(site.folder.rglob("*")) == before


def test_looking_does_not_bring_a_database_up_to_date(site: Site) -> None:
    shutil.rmtree(site.folder / "db")
    database = connect(LifecycleSettings(database=f"sqlite:///{site.folder}/db/l.db"))
    with database:
        upgrade(database, to="0001")
    for arguments in READING:
        status, _, error = _keys(site, *arguments)
        assert (status, "is at step 0001, and this mailsigil needs" in error) == (2, True), error
        assert "run `mailsigil sync`" in error
    with database:
        assert revision(database) == "0001"
    # Who changes something there needs all of it.
    status, _, error = _keys(site, *REVOKE)
    assert (status, "knows no certificate of bob" in error) == (2, True)
    with database, database.change() as connection:
        assert revision(database) == HEAD
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    status, _, error = _keys(site, "list")
    assert (status, "was changed by a newer mailsigil" in error) == (2, True)


@pytest.mark.integration
def test_tables_that_are_not_there_are_not_made(
    site: Site, fresh_postgresql: Callable[[], LifecycleSettings]
) -> None:
    settings = fresh_postgresql()
    path = site.folder / "mailsigil.toml"
    mine = f'database = "sqlite:///{site.folder}/db/l.db"\n'
    theirs = f'database = "{settings.database}"\npassword_file = "{settings.password_file}"\n'
    path.write_text(path.read_text().replace(mine, theirs))
    for arguments in READING:
        status, _, error = _keys(site, *arguments)
        assert (status, "there is no database at " in error) == (2, True), error
    with connect(settings) as database:
        assert revision(database) == ""


def test_without_lifecycle_commands_say_what_they_need(site: Site) -> None:
    path = site.folder / "mailsigil.toml"
    path.write_text(path.read_text().replace("enabled = true", "enabled = false"))
    for arguments in (
        ["export-public", "--all"],
        ["revoke", "bob@bank.example", "--reason", "unspecified", "--yes"],
    ):
        status, _, error = _keys(site, *arguments)
        assert (status, "[lifecycle]" in error) == (2, True)
    for arguments in (["list"], ["show", "bob@bank.example"]):
        status, _, error = _keys(site, *arguments)
        assert (status, "the key agent does not answer" in error) == (2, True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
@pytest.mark.integration
def test_root_reads_as_the_agents_user_and_writes_as_itself(site: Site, tmp_path: Path) -> None:
    account = pwd.getpwnam("nobody")
    site.write(keyd='user = "nobody"\n')
    for path in [site.folder, *site.folder.rglob("*")]:
        os.chown(path, account.pw_uid, -1)
    config = ("--config", str(site.folder / "mailsigil.toml"))
    done = mailsigil("keys", "export-public", "--all", "--to", str(tmp_path), *config)
    assert (done.returncode, done.stdout.decode()) == (0, f"3 certificates in {tmp_path}\n"), done.stderr
    assert {path.stat().st_uid for path in tmp_path.iterdir()} == {0}
    assert len(list(tmp_path.iterdir())) == 3
    assert {path.stat().st_uid for path in (site.folder / "db").iterdir()} == {account.pw_uid}
    done = mailsigil("keys", "revoke", "bob@bank.example", "--reason", "unspecified", "--yes", *config)
    assert done.returncode == 0, done.stderr
    assert {path.stat().st_uid for path in (site.folder / "ca").rglob("*")} == {account.pw_uid}
