"""``mailsigil sync`` as an administrator runs it."""

from __future__ import annotations

import json
import os
import pwd
import tempfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from lifecycle.town import Bank
from mailsigil.cli.sync import command
from mailsigil.keys.authority import Authority
from mailsigil.service import utc_now
from processes import mailsigil


class Site:
    """A configuration in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bank = Bank()
        Authority.init(folder / "ca", organisation="Example Bank", now=utc_now())
        self.write()

    def write(self, more: str = "", keyd: str = "") -> None:
        """Write policy and configuration."""
        folder = self.folder
        (folder / "policy.toml").write_text(self.bank.policy())
        (folder / "mailsigil.toml").write_text(
            f'[policy]\nfile = "{folder}/policy.toml"\n[keyd]\nfolder = "{folder}/keys"\n{keyd}'
            f'[lifecycle]\nenabled = true\ndatabase = "sqlite:///{folder}/db/l.db"\n{more}'
            '[[source]]\nname = "ca"\nkind = "embedded"\ndomains = ["bank.example"]\n'
            f'[source.embedded]\nfolder = "{folder}/ca"\n[source.enrolment]\nstate = "{folder}/state"\n'
        )

    def sync(self, *arguments: str) -> tuple[int, str]:
        """Run it in this process; gives exit status and everything it said."""
        done = CliRunner().invoke(command, ["--config", str(self.folder / "mailsigil.toml"), *arguments])
        return done.exit_code, done.output

    def process(self, *arguments: str) -> tuple[int, str]:
        """Run it as a process of its own."""
        done = mailsigil("sync", "--config", self.folder / "mailsigil.toml", *arguments)
        return done.returncode, (done.stdout + done.stderr).decode()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    # What is for a whole process stays out of this one.
    monkeypatch.setattr("mailsigil.cli.sync.guard_memory", lambda: None)
    monkeypatch.setattr("mailsigil.cli.sync.become", lambda user: None)
    site = Site(tmp_path)
    site.bank.hire("alice", "Alice Example", title="Clerk")
    site.bank.hire("bob", "Bob Sample")
    site.write()
    return site


def _tree(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


def test_shown_done_and_done_again(site: Site) -> None:
    before = _tree(site.folder)
    status, told = site.sync("--dry-run")
    assert status == 0
    assert "alice@bank.example" in told
    assert "2 should have a certificate, 0 are there; 2 issue" in told
    assert _tree(site.folder) == before
    status, told = site.sync()
    assert (status, "2 done" in told) == (0, True), told
    status, told = site.sync()
    assert (status, "nothing is to be done" in told) == (0, True), told
    # A look at what a change of the house would bring changes nothing either.
    del site.bank.people["bob"]
    site.write()
    before = _tree(site.folder)
    status, told = site.sync("--dry-run")
    assert (status, "1 revoke" in told) == (0, True), told
    assert _tree(site.folder) == before


def test_without_the_lifecycle_there_is_nothing_to_sync(site: Site) -> None:
    config = site.folder / "mailsigil.toml"
    config.write_text(config.read_text().replace("enabled = true", "enabled = false"))
    status, told = site.sync()
    assert (status, "[lifecycle] is not enabled" in told) == (2, True)
    assert not (site.folder / "db").exists()


def test_an_interrupted_run_says_what_follows(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("mailsigil.lifecycle.carry_out.wait", interrupted)
        status, told = site.sync()
    assert (status, "the next run goes on where this one ended" in told) == (130, True)
    status, told = site.sync()
    assert status == 0, told
    assert len(list((site.folder / "state").glob("*.pem"))) == 2


def test_for_programs(site: Site) -> None:
    status, told = site.sync("--json", "--only", "Alice@Bank.example")
    values = json.loads(told)
    assert status == 0
    assert values["plan"]["counts"] == {"issue": 1}
    (result,) = values["report"]["results"]
    assert (result["address"], result["outcome"], result["level"]) == ("alice@bank.example", "done", "V4")


def test_a_person_is_asked_before_many_lose_theirs(site: Site) -> None:
    for each in range(10):
        site.bank.hire(f"p{each}", f"Person Nr{each}")
    site.write()
    assert site.sync()[0] == 0
    site.bank.people = {}
    site.write()
    status, told = site.sync()
    assert status == 1
    assert "nothing was done (see --allow-revocations)" in told
    status, told = site.sync("--dry-run", "--json")
    assert (status, "12 of 12" in json.loads(told)["stop"]) == (1, True)
    assert site.sync("--allow-revocations", "12")[0] == 0
    assert not list((site.folder / "state").glob("*.pem"))


def test_long_plans_are_cut_and_counted(site: Site) -> None:
    for each in range(60):
        site.bank.hire(f"p{each}", f"Person Nr{each}")
    site.write()
    _, told = site.sync("--dry-run")
    assert "… and 22 more (all with --json)" in told


def test_a_step_that_fails_is_told_and_the_status_is_1(site: Site) -> None:
    (site.folder / "ca" / "issuing.key").unlink()
    status, told = site.sync()
    assert status == 1
    assert "2 failed" in told
    assert "issuing" in told


@pytest.mark.parametrize(
    ("arguments", "more", "sentence"),
    [
        (["--only", "nonsense"], "", "is no mail address"),
        ([], "per_second = 0\n", "per_second"),
        ([], 'password_file = "secret"\n', "secrets do not stand in this file"),
    ],
)
def test_wrong_use(site: Site, arguments: list[str], more: str, sentence: str) -> None:
    site.write(more)
    status, told = site.sync(*arguments)
    assert status == 2
    assert "Traceback" not in told
    assert sentence in told


def test_a_database_that_cannot_be_used(site: Site) -> None:
    (site.folder / "db").write_text("a file where a folder should be")
    status, told = site.process()
    assert status == 2
    assert "cannot be opened" in told
    assert "Traceback" not in told


@pytest.mark.integration
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change its user")
def test_root_becomes_the_agents_user(site: Site) -> None:
    site.write(keyd='user = "nobody"\n')
    status, told = site.process()
    # Nobody may write here, and root did not do it in its place.
    assert status == 2
    assert "cannot" in told
    assert not (site.folder / "db").exists()
    account = pwd.getpwnam("nobody")
    for path in [site.folder, *site.folder.rglob("*")]:
        os.chown(path, account.pw_uid, -1)
    for parent in site.folder.parents:
        if parent == Path(tempfile.gettempdir()):
            break
        parent.chmod(0o711)
    status, told = site.process()
    assert status == 0, told
    assert (site.folder / "db" / "l.db").stat().st_uid == account.pw_uid
    assert {file.stat().st_uid for file in (site.folder / "state").glob("*.pem")} == {account.pw_uid}
