"""The key agent as real processes: several at once, reload, death, restart, another user."""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from keys.employees import ALICE, Employee, employee, put_employee
from mailsigil.cms.algorithms import Scheme, verify_with
from mailsigil.keys.client import KeyAgentClient, KeyAgentRefused, KeyAgentUnavailable, Refusal
from mailsigil.keys.keyd import run_agent
from mailsigil.process.privileges import PrivilegeError

pytestmark = pytest.mark.integration

NOBODY = 65534
SOURCE = Path(__file__).resolve().parents[2] / "milter"
PROGRAM = """
import json, logging, sys
from mailsigil.keys.keyd import run_agent
logging.basicConfig(level="INFO", format="%(name)s %(message)s")
sys.exit(run_agent(**json.loads(sys.argv[1])))
"""
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def fresh(**profile: object) -> Employee:
    """An employee whose certificate is valid today."""
    return employee(begin=dt.datetime.now(dt.UTC) - dt.timedelta(hours=1), **profile)


class Service:
    """A key agent in processes of its own."""

    def __init__(self, home: Path) -> None:
        self.socket, self.folder, self.log = home / "s", home / "keys", home / "log"
        self.folder.mkdir()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, **settings: object) -> None:
        asked = {"socket_path": str(self.socket), "folder": str(self.folder), "allowed_users": ["0"]}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, json.dumps(asked | settings)],
                env={**os.environ, "PYTHONPATH": str(SOURCE)},
                stderr=log,
            )
        wait_for(lambda: self.client().ping() >= 0)

    def client(self) -> KeyAgentClient:
        return KeyAgentClient(self.socket, cache_seconds=0)

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self) -> int:
        assert self.process is not None
        self.signal(signal.SIGTERM)
        status = self.process.wait(15)
        self.process = None
        return status

    def children(self) -> set[int]:
        assert self.process is not None
        pid = self.process.pid
        return {int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def wait_for(condition: Callable[[], bool], seconds: float = 8) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except KeyAgentUnavailable:
            pass
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture
def service() -> Iterator[Service]:
    # Not pytest's own folder, which other users cannot enter.
    with tempfile.TemporaryDirectory(prefix="keyd-") as home:
        Path(home).chmod(0o755)
        made = Service(Path(home))
        yield made
        if made.process is not None:
            made.stop()


def sign(client: KeyAgentClient, data: bytes) -> bytes:
    credential = client.find(ALICE)[0]
    return client.sign(key_id=credential.key_id, address=ALICE, scheme=credential.schemes[0], data=data)


def test_processes_share_the_work_and_replace_their_dead(service: Service) -> None:
    alice = fresh()
    put_employee(service.folder, "alice", alice)
    service.start(processes=2)
    before = service.children()
    assert len(before) == 2
    clients = [service.client() for _ in range(4)]
    for client in clients:
        verify_with(alice.key.public_key(), Scheme.ECDSA_SHA256, sign(client, b"one"), b"one")
    if os.geteuid() == 0:  # The agent hides from others of its own user.
        serving = {pid for pid in before if _connections(pid) > 0}
        assert serving == before

    dead = before.pop()
    os.kill(dead, signal.SIGKILL)
    for client in clients:
        verify_with(alice.key.public_key(), Scheme.ECDSA_SHA256, sign(client, b"two"), b"two")
    wait_for(lambda: len(service.children() - {dead}) == 2)
    assert service.stop() == 0
    assert not service.socket.exists()
    assert f"address={ALICE} peer_uid={os.geteuid()} scheme=ecdsa-sha256" in service.log.read_text()


def _connections(pid: int) -> int:
    links = [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.exists()]
    return sum(link.startswith("socket:") for link in links) - 2  # The listener and the supervisor's line.


def test_hangup_reads_the_folder_anew(service: Service) -> None:
    service.start(processes=2, refresh_seconds=3600)
    assert service.client().find(ALICE) == ()
    put_employee(service.folder, "alice", fresh())
    service.signal(signal.SIGHUP)
    wait_for(lambda: all(service.client().find(ALICE) for _ in range(6)))


def test_changes_are_seen_without_being_told(service: Service) -> None:
    service.start(refresh_seconds=0.1)
    put_employee(service.folder, "alice", fresh())
    wait_for(lambda: len(service.client().find(ALICE)) == 1)
    put_employee(service.folder, "bad", fresh()).chmod(0o644)
    wait_for(lambda: "others than its owner may use this secret file" in service.log.read_text())
    (service.folder / "alice.pem").unlink()
    wait_for(lambda: service.client().find(ALICE) == ())


def test_a_restart_under_load_loses_nothing(service: Service) -> None:
    alice = fresh()
    put_employee(service.folder, "alice", alice)
    service.start()
    stop = threading.Event()
    made: list[int] = []
    lost: list[Exception] = []

    def work() -> None:
        # More patience than by default, for a machine that is busy with other tests.
        client = KeyAgentClient(service.socket, timeout=15, sleep=lambda seconds: time.sleep(8 * seconds))
        count = 0
        while not stop.is_set():
            try:
                sign(client, b"x")
                count += 1
            except (KeyAgentUnavailable, KeyAgentRefused) as error:
                lost.append(error)
        made.append(count)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    # The new agent listens as soon as the old one has left: its start is what the workers wait for.
    assert service.stop() == 0
    service.start()
    time.sleep(0.3)
    stop.set()
    for thread in threads:
        thread.join()
    assert lost == []
    assert min(made) > 20


def as_user(uid: int, action: Callable[[], str]) -> str:
    """Runs something in a child of another user and gives what it said."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            os.write(writer, action().encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader, "rb") as said:
        return said.read().decode()


@only_root
@pytest.mark.parametrize(
    ("allowed", "expected"), [(["65534"], "keys: 1"), (["1"], "peer")], ids=["allowed", "another"]
)
def test_the_callers_user_decides(service: Service, allowed: list[str], expected: str) -> None:
    put_employee(service.folder, "alice", fresh())
    service.start(allowed_users=allowed)

    def ask() -> str:
        try:
            return f"keys: {service.client().ping()}"
        except KeyAgentRefused as refused:
            return refused.reason.value

    assert as_user(NOBODY, ask) == expected
    assert service.client().ping() == 1


@only_root
def test_the_agent_gives_up_root_and_hides_its_memory(service: Service) -> None:
    os.chown(put_employee(service.folder, "alice", fresh()), NOBODY, NOBODY)
    service.start(user="nobody")
    assert service.process is not None
    for pid in (service.process.pid, *service.children()):
        status = Path(f"/proc/{pid}/status").read_text()
        assert "Uid:\t65534\t65534\t65534\t65534" in status
        # proc(5): what is not dumpable belongs to root, so its own user cannot look in.
        assert Path(f"/proc/{pid}/environ").stat().st_uid == 0
        (core,) = [
            line
            for line in Path(f"/proc/{pid}/limits").read_text().splitlines()
            if line.startswith("Max core")
        ]
        assert core.split()[4:6] == ["0", "0"]
    assert service.client().ping() == 1


def test_a_user_who_does_not_exist(service: Service) -> None:
    with pytest.raises(PrivilegeError, match='no user "nobody-here"'):
        run_agent(socket_path=service.socket, folder=service.folder, allowed_users=["nobody-here"])
    assert not service.socket.exists()


def test_refusal_words_are_stable() -> None:
    # They go over the wire between versions of agent and client while a host is upgraded.
    assert {refusal.value for refusal in Refusal} == {
        "malformed",
        "unknown-key",
        "address",
        "not-valid",
        "scheme",
        "source",
        "peer",
        "decryption",
        "failed",
    }
