"""``mailsigil ca`` revoke, list, password; ``mailsigil keys`` against a running agent."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mailsigil.ca.passwords import Passwords
from mailsigil.cli import ca, keys
from mailsigil.demo.programs import Daemon
from servers.ca_serve import SAME_CODE


def run_ca(*arguments: str | Path, **more: str) -> Result:
    return CliRunner().invoke(ca.command, [str(each) for each in arguments], **more)  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "ca"
    assert run_ca("init", "--dir", path, "--organisation", "Example Bank").exit_code == 0
    issue = ("issue", "--dir", path, "--level", "V1", "--address", "alice@bank.example")
    assert run_ca(*issue, "--out", tmp_path / "keys").exit_code == 0
    return path


def listed(folder: Path, *more: str) -> list[dict[str, str]]:
    done = run_ca("list", "--dir", folder, "--json", *more)
    assert done.exit_code == 0, done.output
    rows: list[dict[str, str]] = json.loads(done.output)
    return rows


def test_list_and_revoke(folder: Path) -> None:
    (row,) = listed(folder)
    assert (row["address"], row["level"], row["state"]) == ("alice@bank.example", "V1", "good")
    assert listed(folder, "--address", "bob@bank.example") == []
    done = run_ca("revoke", "--dir", folder, row["serial"].upper(), "--reason", "affiliationChanged")
    assert done.exit_code == 0, done.output
    assert "V1 of alice@bank.example" in done.output
    (row,) = listed(folder)
    assert (row["state"], row["reason"]) == ("revoked", "affiliationChanged")
    assert "revoked (affiliationChanged)" in run_ca("list", "--dir", folder).output
    assert (folder / "issuing.crl").exists()
    for serial, sentence in (
        (row["serial"], "revoked already"),
        ("12", "no certificate"),
        ("xyz", "hexadecimal"),
    ):
        done = run_ca("revoke", "--dir", folder, serial)
        assert (done.exit_code, sentence in done.output) == (2, True), done.output


def test_password(folder: Path) -> None:
    assert run_ca("password", "--dir", folder, "alice", input="correct-horse-battery\n").exit_code == 0
    assert Passwords(folder / "passwords").accept("alice", b"correct-horse-battery")
    done = run_ca("password", "--dir", folder, "alice", input="short\n")
    assert (done.exit_code, "12 to 1024" in done.output) == (2, True)


def test_serve_tells_what_to_mend(folder: Path) -> None:
    (folder / "ca.toml").write_text('[est]\nlisten = "192.0.2.1:1"\n')
    done = run_ca("serve", "--dir", folder)
    assert (done.exit_code, "cannot listen on 192.0.2.1:1" in done.output) == (2, True)


@pytest.fixture
def config(folder: Path, tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "mailsigil.toml"
    (tmp_path / "more").mkdir(mode=0o700)
    path.write_text(
        f'[keyd]\nsocket = "{tmp_path}/k.sock"\nfolder = "{tmp_path}/keys"\nallowed_users = ["nobody"]\n'
        f'processes = 2\n[[source]]\nname = "more"\nkind = "folder"\ndomains = ["bank.example"]\n'
        f'[source.folder]\npath = "{tmp_path}/more"\n'
    )
    agent = Daemon(
        [sys.executable, "-m", "mailsigil", "keyd", "--config", path],
        log=tmp_path / "keyd.log",
        env=SAME_CODE,
    )
    agent.wait_until((tmp_path / "keyd-admin.sock").exists)
    yield path
    agent.stop()
    assert not (tmp_path / "keyd-admin.sock").exists()


def run_keys(config: Path, *arguments: str | Path) -> Result:
    return CliRunner().invoke(keys.command, [*map(str, arguments), "--config", str(config)])


@pytest.mark.integration
def test_keys_of_a_running_agent(config: Path, folder: Path, tmp_path: Path) -> None:
    assert (tmp_path / "keyd-admin.sock").stat().st_mode & 0o777 == 0o600
    done = run_keys(config, "list", "--json")
    assert done.exit_code == 0, done.output
    (key,) = json.loads(done.output)
    assert (key["addresses"], key["source"], key["level"]) == (["alice@bank.example"], "keyd", "V1")
    run_ca(
        *("issue", "--dir", folder, "--level", "V1", "--address", "bob@bank.example"),
        *("--out", tmp_path / "elsewhere"),
    )
    done = run_keys(config, "import", tmp_path / "elsewhere/bob@bank.example.pem", "--source", "more")
    assert done.exit_code == 0, done.output
    assert (
        run_keys(config, "import", tmp_path / "elsewhere/bob@bank.example.pem", "--source", "more").exit_code
        == 1
    )
    assert run_keys(config, "import", config, "--source", "none").exit_code == 2
    carol = ("issue", "--dir", folder, "--level", "V1", "--address", "carol@bank.example")
    run_ca(*carol, "--out", tmp_path / "elsewhere")
    good = tmp_path / "elsewhere/carol@bank.example.pem"
    done = run_keys(config, "import", good, config, "--source", "more")
    assert (done.exit_code, "Nothing was imported." in done.output) == (1, True)
    assert "carol@bank.example" not in run_keys(config, "list").output
    assert not list(tmp_path.rglob("more*/carol*"))
    assert run_keys(config, "reload").exit_code == 0
    deadline = time.monotonic() + 15
    while "bob@bank.example" not in run_keys(config, "list").output:
        assert time.monotonic() < deadline, (tmp_path / "keyd.log").read_text()
        time.sleep(0.2)
    status = json.loads(run_keys(config, "status", "--json").output)
    assert status["processes"] == 2
    assert [source["name"] for source in status["sources"]] == ["keyd", "more"]


def test_no_agent(tmp_path: Path) -> None:
    path = tmp_path / "mailsigil.toml"
    path.write_text(f'[keyd]\nsocket = "{tmp_path}/k.sock"\n')
    done = run_keys(path, "list")
    assert (done.exit_code, "see that mailsigil keyd runs" in done.output) == (2, True)


@pytest.mark.integration
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_the_agents_own_user_may_ask(tmp_path: Path) -> None:
    home = Path(tempfile.mkdtemp(prefix="mailsigil-"))  # pytest's own folders are closed to others.
    try:
        home.chmod(0o755)
        keys_folder = home / "keys"
        keys_folder.mkdir(mode=0o755)
        config = home / "mailsigil.toml"
        config.write_text(
            f'[keyd]\nsocket = "{home}/k.sock"\nfolder = "{keys_folder}"\nuser = "nobody"\n'
            'allowed_users = ["nobody"]\n'
        )
        program = [sys.executable, "-m", "mailsigil", "keyd", "--config", config]
        agent = Daemon(program, log=tmp_path / "keyd.log", env=SAME_CODE)
        try:
            place, nobody = home / "keyd-admin.sock", pwd.getpwnam("nobody").pw_uid
            agent.wait_until(lambda: place.exists() and place.stat().st_uid == nobody)
            assert place.stat().st_mode & 0o777 == 0o600
            assert run_keys(config, "status").exit_code == 0
        finally:
            agent.stop()
    finally:
        shutil.rmtree(home)
