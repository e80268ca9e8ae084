"""The agent behind its socket, and the client before it: friends, enemies, and bad weather."""

from __future__ import annotations

import json
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from keys.employees import ALICE, NOW, Employee, employee, put_employee
from mailsigil.cms.algorithms import Scheme, verify_with
from mailsigil.keys import server
from mailsigil.keys.agent import KeyAgent
from mailsigil.keys.client import RETRY_DELAYS, KeyAgentClient, KeyAgentRefused, KeyAgentUnavailable, Refusal
from mailsigil.keys.errors import KeyAgentSetupError
from mailsigil.keys.folder import KeyFolder
from mailsigil.keys.protocol import MAX_FRAME, Credential, encode_found, frame
from mailsigil.keys.server import KeyAgentServer, ServerLimits, listen

QUICK = ServerLimits(connections=8, idle=5.0, frame=0.2, look=0.02)
Start = Callable[..., KeyAgentServer]


@contextmanager
def running(agent: KeyAgent, path: Path, **settings: object) -> Iterator[KeyAgentServer]:
    """A server in a thread."""
    with listen(path, mode=0o600) as listener:
        server = KeyAgentServer(
            agent,
            listener,
            **{"allowed_uids": {os.geteuid()}, "limits": QUICK, **settings},  # type: ignore[arg-type]
        )
        thread = threading.Thread(target=server.serve)
        thread.start()
        try:
            yield server
        finally:
            server.stop()
            thread.join(5)
            assert not thread.is_alive()


@pytest.fixture
def alice() -> Employee:
    return employee()


@pytest.fixture
def agent(tmp_path: Path, alice: Employee) -> KeyAgent:
    folder = tmp_path / "keys"
    folder.mkdir()
    put_employee(folder, "alice", alice)
    agent = KeyAgent([KeyFolder(folder)], now=lambda: NOW)
    agent.reload()
    return agent


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s"


def raw(path: Path) -> socket.socket:
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connected.settimeout(3)
    connected.connect(str(path))
    return connected


def read_all(connected: socket.socket) -> bytes:
    data = b""
    try:
        while chunk := connected.recv(65536):
            data += chunk
    except ConnectionResetError:
        pass
    return data


def sign(client: KeyAgentClient, data: bytes = b"data") -> bytes:
    (credential,) = client.find(ALICE)
    return client.sign(key_id=credential.key_id, address=ALICE, scheme=credential.schemes[0], data=data)


def test_find_and_sign_over_the_socket(agent: KeyAgent, path: Path, alice: Employee) -> None:
    client = KeyAgentClient(path)
    with running(agent, path):
        assert client.ping() == 1
        assert client.find("nobody@bank.example") == ()
        for data in (b"1", b"x" * 100_000):
            verify_with(alice.key.public_key(), Scheme.ECDSA_SHA256, sign(client, data), data)
        with pytest.raises(KeyAgentRefused) as caught:
            client.sign(key_id="none", address=ALICE, scheme="ecdsa-sha256", data=b"x")
        assert caught.value.reason is Refusal.UNKNOWN_KEY


def test_nobody_is_signed_for_with_the_key_of_a_lookalike(tmp_path: Path, path: Path) -> None:
    folder = tmp_path / "keys"
    folder.mkdir()
    put_employee(folder, "kim", employee(addresses=("kim@bank.example",)))
    source = KeyFolder(folder)
    source.reload()
    client = KeyAgentClient(path)
    with running(KeyAgent([source], now=lambda: NOW), path):
        (kim,) = client.find("kim@bank.example")
        assert client.find("\u212aim@bank.example") == ()  # the Kelvin sign, which str.lower() makes a k
        with pytest.raises(KeyAgentRefused):
            client.sign(key_id=kim.key_id, address="\u212aim@bank.example", scheme=kim.schemes[0], data=b"x")


def test_threads_share_a_client(agent: KeyAgent, path: Path, alice: Employee) -> None:
    client = KeyAgentClient(path)
    made: dict[bytes, bytes] = {}

    def work(worker: int) -> None:
        for turn in range(30):
            data = b"%d %d" % (worker, turn)
            made[data] = sign(client, data)

    with running(agent, path) as server:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert server.open_connections() <= 6
    assert len(made) == 180
    for data, signature in made.items():
        verify_with(alice.key.public_key(), Scheme.ECDSA_SHA256, signature, data)


def test_a_child_does_not_use_its_parents_connection(agent: KeyAgent, path: Path, alice: Employee) -> None:
    client = KeyAgentClient(path)
    with running(agent, path):
        client.ping()
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.write(writer, sign(client, b"child"))
            finally:
                os._exit(0)
        for _ in range(50):
            client.ping()
        os.waitpid(child, 0)
        verify_with(alice.key.public_key(), Scheme.ECDSA_SHA256, os.read(reader, 200), b"child")
        os.close(reader)
        os.close(writer)


def test_another_user_is_turned_away(agent: KeyAgent, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with running(agent, path, allowed_uids={os.geteuid() + 1}):
        for _ in range(5):
            with pytest.raises(KeyAgentRefused) as caught:
                KeyAgentClient(path).find(ALICE)
            assert caught.value.reason is Refusal.PEER
    assert caplog.messages == [
        f"key agent: refused connection peer_uid={os.geteuid()}: the user is not among keyd.allowed_users"
    ]


ENEMIES: dict[str, bytes] = {
    "oversized frame": (MAX_FRAME + 1).to_bytes(4, "big") + b"x" * 1000,
    "empty frame": bytes(4),
    "web browser": b"GET / HTTP/1.1\r\n\r\n",
    "garbage in a frame": frame(b"\xff" * 100),
    "deep nesting": frame(b"[" * MAX_FRAME),
    "unknown operation": frame(b'{"op":"export","key_id":"1"}'),
    "half a header": b"\0\0",
    "half a frame": frame(b'{"op":"ping"}')[:9],
    "many requests at once": frame(b'{"op":"ping"}') * 200,
}


@pytest.mark.parametrize("sent", ENEMIES.values(), ids=ENEMIES.keys())
def test_enemies_cost_only_their_own_connection(agent: KeyAgent, path: Path, sent: bytes) -> None:
    with running(agent, path) as server:
        with raw(path) as enemy:
            enemy.sendall(sent)
            enemy.shutdown(socket.SHUT_WR)
            for answer in read_all(enemy).split(b"\0\0\0")[1:]:
                assert {"refused", "keys"} & json.loads(answer[1:]).keys()
        assert KeyAgentClient(path).ping() == 1
        wait_for(lambda: server.open_connections() <= 1)


def test_who_sends_slowly_or_does_not_read_is_cut(agent: KeyAgent, path: Path) -> None:
    with running(agent, path) as server, raw(path) as slow, raw(path) as deaf:
        slow.sendall(b"\0")
        deaf.settimeout(0.5)
        with pytest.raises((TimeoutError, ConnectionError)):
            deaf.sendall(frame(b'{"op":"find","address":"%s"}' % ALICE.encode()) * 100_000)
        wait_for(lambda: server.open_connections() == 0)
        assert read_all(slow) == b""


def test_thousands_of_connections(agent: KeyAgent, path: Path) -> None:
    with running(agent, path) as server, ExitStack() as stack:
        for _ in range(400):
            stack.enter_context(raw(path))
        assert server.open_connections() <= QUICK.connections
        # Silent connections give way one by one; who asks is served in turn.
        stack.close()
        assert KeyAgentClient(path).ping() == 1


def test_silent_connections_give_way(agent: KeyAgent, path: Path) -> None:
    with running(agent, path), ExitStack() as stack:
        for _ in range(QUICK.connections):
            stack.enter_context(raw(path))
        begin = time.monotonic()
        assert KeyAgentClient(path).ping() == 1
        assert time.monotonic() - begin < 2


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 3
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def test_the_client_remembers_each_source_apart(agent: KeyAgent, path: Path) -> None:
    client = KeyAgentClient(path)
    with running(agent, path):
        assert len(client.find(ALICE)) == len(client.find(ALICE, source="keyd")) == 1
        assert client.find(ALICE, without="keyd") == ()
    # All three are remembered: nobody answers any more.
    assert len(client.find(ALICE)) == len(client.find(ALICE, source="KeyD")) == 1
    assert client.find(ALICE, without="keyd") == ()


def test_the_client_outlives_a_restart(agent: KeyAgent, path: Path, alice: Employee) -> None:
    client = KeyAgentClient(path)
    with running(agent, path):
        sign(client)
    with running(agent, path):
        verify_with(alice.key.public_key(), Scheme.ECDSA_SHA256, sign(client, b"again"), b"again")


def test_a_copy_of_the_socket_in_a_process_that_is_being_started_keeps_nothing_alive(path: Path) -> None:
    ended = listen(path, mode=0o600)
    copy = os.dup(ended.fileno())  # as any child has it from fork to exec
    ended.close()
    try:
        with pytest.raises(KeyAgentUnavailable, match="Connection refused"):
            KeyAgentClient(path, sleep=lambda seconds: None).ping()
        listen(path, mode=0o600).close()
    finally:
        os.close(copy)


def test_the_client_waits_for_an_agent_that_is_coming(agent: KeyAgent, path: Path) -> None:
    client = KeyAgentClient(path)
    answers: list[int] = []
    asker = threading.Thread(target=lambda: answers.append(client.ping()))
    asker.start()
    time.sleep(0.3)
    with running(agent, path):
        asker.join()
    assert answers == [1]


@pytest.mark.parametrize("stale", [False, True], ids=["no socket", "stale socket"])
def test_an_agent_that_is_down(path: Path, stale: bool) -> None:
    if stale:
        listen(path, mode=0o600).close()
    slept: list[float] = []
    client = KeyAgentClient(path, sleep=slept.append)
    with pytest.raises(KeyAgentUnavailable, match=r"cannot be reached: (No such file|Connection refused)"):
        client.find(ALICE)
    assert slept == list(RETRY_DELAYS)
    assert 0.8 < sum(RETRY_DELAYS) < 1.2


def test_an_agent_that_hangs(path: Path) -> None:
    client = KeyAgentClient(path, timeout=0.2)
    with listen(path, mode=0o600):
        begin = time.monotonic()
        with pytest.raises(KeyAgentUnavailable, match=r"did not answer within 0\.2 seconds"):
            client.ping()
        assert time.monotonic() - begin < 2


def test_an_agent_whose_queue_is_full(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener, ExitStack() as stack:
        listener.bind(str(path))
        listener.listen(0)
        stack.enter_context(raw(path))
        client = KeyAgentClient(path, timeout=0.3)
        begin = time.monotonic()
        with pytest.raises(KeyAgentUnavailable, match="cannot be reached"):
            client.ping()
        assert time.monotonic() - begin < 2


@contextmanager
def liar(path: Path, answer: bytes) -> Iterator[list[bytes]]:
    """An agent that gives the same answer to each first request, then closes."""
    heard: list[bytes] = []
    with listen(path, mode=0o600) as listener:

        def serve() -> None:
            while True:
                try:
                    connected, _ = listener.accept()
                except OSError:
                    return
                with connected:
                    heard.append(connected.recv(65536))
                    connected.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield heard
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize(
    ("answer", "asked"),
    [
        (b"", 2 + len(RETRY_DELAYS)),
        (b"\0", 2 + len(RETRY_DELAYS)),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", 1),
        (frame(b"[]"), 1),
        (frame(b'{"credentials":[{}]}'), 1),
        (frame(b'{"credentials":[{"key_id":"1","intermediates":[],"schemes":[7],"certificate":""}]}'), 1),
    ],
    ids=["closes", "breaks off", "web server", "no object", "empty credential", "odd scheme"],
)
def test_an_agent_that_talks_nonsense(path: Path, answer: bytes, asked: int) -> None:
    with liar(path, answer) as heard:
        with pytest.raises(KeyAgentUnavailable):
            KeyAgentClient(path, timeout=1, sleep=lambda _: None).find(ALICE)
        assert len(heard) == asked


def test_find_is_remembered_also_nothing(path: Path) -> None:
    now = 1000.0
    client = KeyAgentClient(path, cache_seconds=60, clock=lambda: now)
    credential = Credential(key_id="1", certificate=b"c", intermediates=(), schemes=("ed25519",))
    with liar(path, frame(encode_found((credential,)))) as heard:
        assert client.find(ALICE) == client.find("ALICE@bank.example") == (credential,)
        assert len(heard) == 1
        now += 61
        client.find(ALICE)
        assert len(heard) == 2
    path.unlink()
    with liar(path, frame(encode_found(()))) as heard:
        assert client.find("bob@bank.example") == client.find("bob@bank.example") == ()
        assert client.find(ALICE) == (credential,)
        assert len(heard) == 1


def test_a_refusal_forgets_what_was_found(agent: KeyAgent, path: Path, tmp_path: Path) -> None:
    client = KeyAgentClient(path)
    with running(agent, path):
        sign(client)
        newer = employee()
        put_employee(tmp_path / "keys", "alice", newer)
        agent.refresh()
        with pytest.raises(KeyAgentRefused):
            sign(client)
        verify_with(newer.key.public_key(), Scheme.ECDSA_SHA256, sign(client), b"data")


def test_the_socket_has_its_mode_from_the_start(path: Path) -> None:
    with listen(path, mode=0o666):
        assert stat.S_IMODE(path.stat().st_mode) == 0o666


@pytest.mark.parametrize("mode", [0o600, 0o666])
def test_the_mode_of_nothing_else_is_changed(
    mode: int, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent may begin as root, in a folder where somebody else exchanges files."""
    victim = tmp_path / "victim"
    victim.touch(mode=0o640)
    made: list[int] = []

    class Raced(server.Listener):
        def bind(self, address: str, /) -> None:  # type: ignore[override]
            super().bind(address)
            made.append(stat.S_IMODE(path.stat().st_mode))
            path.unlink()
            path.symlink_to(victim)

    monkeypatch.setattr(server, "Listener", Raced)
    listen(path, mode=mode).close()
    assert (made, stat.S_IMODE(victim.stat().st_mode)) == ([mode], 0o640)


def test_two_agents_on_one_socket(agent: KeyAgent, path: Path) -> None:
    with running(agent, path):
        with pytest.raises(KeyAgentSetupError, match="another key agent answers"):
            listen(path, mode=0o600)
        assert KeyAgentClient(path).ping() == 1


def test_places_where_no_socket_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    with pytest.raises(KeyAgentSetupError, match="is no socket"):
        listen(tmp_path / "file", mode=0o600)
    with pytest.raises(KeyAgentSetupError, match=r"cannot listen on .*No such file"):
        listen(tmp_path / "gone" / "s", mode=0o600)
    with pytest.raises(KeyAgentSetupError, match="cannot listen on"):
        listen(tmp_path / ("x" * 200), mode=0o600)


def test_stopping_finishes_what_has_begun(path: Path, tmp_path: Path, agent: KeyAgent) -> None:
    begun, go = threading.Event(), threading.Event()

    class Slow(KeyAgent):
        def answer(self, payload: bytes, *, peer_uid: int) -> bytes:
            begun.set()
            go.wait(3)
            return super().answer(payload, peer_uid=peer_uid)

    slow = Slow([], now=lambda: NOW)
    answers: list[int] = []
    with running(slow, path) as server:
        asker = threading.Thread(target=lambda: answers.append(KeyAgentClient(path).ping()))
        asker.start()
        begun.wait(3)
        server.stop()
        go.set()
        asker.join()
        assert answers == [0]
        wait_for(lambda: server.open_connections() == 0)
