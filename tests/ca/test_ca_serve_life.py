"""``mailsigil ca serve`` as a process: reload, its user, what it tells the service manager, approval."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from mailsigil.cli.ca import command as ca_command
from mailsigil.cli.km import command as km_command
from mailsigil.keys.errors import Pending, SourceRefused
from mailsigil.keys.newkey import NewKey
from mailsigil.keys.profile import KeyKind
from mailsigil.keys.secret_files import SecretFile
from mailsigil.keys.sources.est import BasicLogin, EstAuthority
from mailsigil.keys.sources.http import HttpClient, TlsFiles
from mailsigil.keys.subject import SubjectRequest
from mailsigil.service import utc_now
from servers.ca_serve import PASSWORD, SAME_CODE, CaServe

pytestmark = pytest.mark.integration
NOBODY = 65534
SHOP = '[[enrol]]\nuser = "keyd"\naddresses = ["*@shop.example"]\n'
WAIT = '[[enrol]]\nuser = "keyd"\naddresses = ["*@wait.example"]\napproval = "required"\n'


@pytest.fixture
def server(tmp_path: Path) -> Iterator[CaServe]:
    with CaServe(tmp_path / "house") as running:
        yield running


def client(server: CaServe, home: Path) -> EstAuthority:
    file = home / "password"
    file.write_text(PASSWORD)
    file.chmod(0o600)
    tls = TlsFiles(ca_file=str(server.root))
    return EstAuthority(
        HttpClient("ca", server.url, tls=tls, timeout=10),
        tls=tls,
        login=BasicLogin("keyd", SecretFile("ca", str(file))),
        kind=KeyKind.P256,
        now=utc_now,
    )


def enrol(server: CaServe, home: Path, address: str) -> tuple[bytes, ...]:
    request = SubjectRequest(address=address)
    return client(server, home).enrol(request, NewKey.generate(request, KeyKind.P256))


def until(condition: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


def reload(server: CaServe, words: str) -> None:
    before = server.log.read_text().count(words)
    os.kill(server.pid, signal.SIGHUP)
    until(lambda: server.log.read_text().count(words) > before, server.log)


def test_rules_change_with_a_reload_and_a_slip_changes_nothing(server: CaServe, tmp_path: Path) -> None:
    with pytest.raises(SourceRefused, match="403"):
        enrol(server, tmp_path, "bob@shop.example")
    server.settings(rules=SHOP)
    reload(server, "ca reloaded its settings, 3 rules")
    assert enrol(server, tmp_path, "bob@shop.example")
    server.settings(rules="[[enrol]]\nuser = 5\n")
    reload(server, "reload refused, the old settings stay")
    assert '"user" in [[enrol]]' in server.log.read_text()
    assert enrol(server, tmp_path, "bob@shop.example")
    (server.folder / "issuing.key").rename(server.folder / "away")
    server.settings(rules=SHOP)
    reload(server, "reload refused, the old settings stay")
    assert enrol(server, tmp_path, "bob@shop.example")


def test_what_needs_a_restart_is_told(server: CaServe) -> None:
    server.est_port += 1
    server.settings()
    server.est_port -= 1
    reload(server, "ca listens where it did")


def test_a_request_waits_until_it_is_approved(server: CaServe, tmp_path: Path) -> None:
    server.settings("retry_seconds = 1", rules=WAIT)
    reload(server, "ca reloaded its settings")
    asked = client(server, tmp_path)
    folder = ["--dir", str(server.folder)]
    listed = CliRunner().invoke(ca_command, ["pending", "list", *folder])
    assert listed.output == "no request waits for a decision\n"
    request = SubjectRequest(address="dora@wait.example")
    new = NewKey.generate(request, KeyKind.P256)
    with pytest.raises(Pending) as caught:
        asked.enrol(request, new)
    assert caught.value.retry_after == 1
    listed = CliRunner().invoke(ca_command, ["pending", "list", *folder, "--json"])
    (row,) = json.loads(listed.output)
    CliRunner().invoke(ca_command, ["pending", "approve", *folder, row["identifier"]])
    assert asked.enrol(request, new)


def test_the_conformance_test_waits_for_approval(server: CaServe, tmp_path: Path) -> None:
    server.settings("retry_seconds = 1", rules=WAIT)
    reload(server, "ca reloaded its settings")
    client(server, tmp_path)
    config = tmp_path / "m.toml"
    config.write_text(
        '[[source]]\nname = "own"\nkind = "est"\ndomains = ["wait.example"]\n'
        f'[source.est]\nurl = "{server.url}"\n'
        f'ca_file = "{server.root}"\nusername = "keyd"\npassword_file = "{tmp_path}/password"\n'
    )
    arguments = ["test", "own", "--config", str(config), "--json"]
    done = CliRunner().invoke(km_command, arguments)
    assert (done.exit_code, json.loads(done.output)["conclusion"]) == (1, "pending")
    # Somebody approves while it waits.
    with subprocess.Popen(
        [sys.executable, "-m", "mailsigil", "km", *arguments, "--wait", "30"],
        stdout=subprocess.PIPE,
        env={**os.environ, **SAME_CODE},
    ) as waiting:
        queue = server.folder / "pending"
        first = set(queue.glob("*.json"))
        until(lambda: bool(set(queue.glob("*.json")) - first), server.log)
        (new,) = set(queue.glob("*.json")) - first
        CliRunner().invoke(ca_command, ["pending", "approve", "--dir", str(server.folder), new.stem])
        report = json.loads(waiting.communicate(timeout=60)[0])
    assert report["conclusion"] == "passed", report


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_it_gives_up_root(tmp_path: Path) -> None:
    home = Path(tempfile.mkdtemp(prefix="mailsigil-ca-"))  # pytest's own folders are closed to others.
    try:
        home.chmod(0o755)
        made = CaServe(home / "house", user="nobody")
        (home / "house").chmod(0o755)
        for path in (made.folder, *made.folder.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
        with made as server:
            status = Path(f"/proc/{server.pid}/status").read_text()
            uids = next(line for line in status.splitlines() if line.startswith("Uid:")).split()[1:]
            assert uids == [str(NOBODY)] * 4
            assert enrol(server, tmp_path, "alice@bank.example")
            assert {path.stat().st_uid for path in server.folder.iterdir()} == {NOBODY}
            reload(server, "ca reloaded its settings")
    finally:
        shutil.rmtree(home)


def test_the_service_manager_is_told(tmp_path: Path) -> None:
    address = tmp_path / "notify"
    made = CaServe(tmp_path / "house")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(address))
        manager.settimeout(20)
        process = subprocess.Popen(
            [sys.executable, "-m", "mailsigil", "ca", "serve", "--dir", made.folder],
            env={**os.environ, **SAME_CODE, "NOTIFY_SOCKET": str(address)},
            stderr=subprocess.DEVNULL,
        )
        try:
            assert manager.recv(4096).startswith(b"READY=1")
            process.send_signal(signal.SIGHUP)
            assert manager.recv(4096).startswith(b"RELOADING=1")
            assert manager.recv(4096).startswith(b"READY=1")
        finally:
            process.terminate()
            assert process.wait(20) == 0
        assert manager.recv(4096).startswith(b"STOPPING=1")
