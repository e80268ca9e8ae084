"""The service as a whole: reload, drain, recycling, dead workers, the socket."""

from __future__ import annotations

import os
import signal
import socket
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from wire.conftest import Service
from wire.milter_client import HDR_LEADSPC, HostError, MilterClient
from wire.report import report_of

pytestmark = pytest.mark.integration

Start = Callable[..., Service]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def generation(client: MilterClient) -> str:
    return report_of(client.message([], b"x")).generation


def test_reload_changes_the_handler_inside_an_open_session(start_service: Start) -> None:
    service = start_service(workers=2)
    service.wait_for(lambda: len(service.workers()) == 2, "two workers")
    pids = service.workers()
    # A host that waits for each answer, so that the message has begun for sure before the reload.
    with service.client(steps=HDR_LEADSPC) as client:
        client.connect()
        assert generation(client) == "one"
        client.envelope(b"a@b", b"c@d")
        service.write(generation="two")
        service.reload()
        with service.client() as other:
            other.connect()
            service.wait_for(lambda: generation(other) == "two", "the reload")
        assert report_of(client.end()).generation == "one"
        service.wait_for(lambda: generation(client) == "two", "the reload in this worker")
    assert service.workers() == pids


def test_reload_with_broken_settings_keeps_the_old_ones(start_service: Start) -> None:
    service = start_service()
    with service.client() as client:
        client.connect()
        service.write(broken=True, generation="two")
        service.reload()
        service.wait_for(lambda: "settings are broken" in service.log(), "the complaint")
        assert generation(client) == "one"
        service.write(broken=False)
        service.reload()
        service.wait_for(lambda: generation(client) == "two", "the reload")


def test_drain_lets_a_message_finish_and_takes_no_new_connection(start_service: Start) -> None:
    service = start_service(workers=2)
    with service.client() as client:
        client.connect()
        client.envelope(b"a@b", b"c@d")
        service.terminate()
        service.wait_for(lambda: len(service.workers()) == 1, "the idle worker to leave")
        # Others are told at once instead of waiting in a queue that nobody serves.
        with pytest.raises(OSError, match="No such file"):
            service.client()
        time.sleep(0.5)
        client.body(b"text")
        assert report_of(client.end()).body_size == 4
        # Also the next mail of a session that is still open.
        assert report_of(client.message([], b"more")).body_size == 4
    assert service.process.wait(timeout=3) == 0
    assert not Path(str(service.address)).exists()


def test_drain_ends_with_its_time(start_service: Start) -> None:
    service = start_service(drain_seconds=0.5)
    with service.client() as client:
        client.connect()
        started = time.monotonic()
        service.terminate()
        assert service.process.wait(timeout=5) == 0
        assert 0.4 < time.monotonic() - started < 3
        with pytest.raises((HostError, OSError)):
            client.message([], b"x")


def test_second_term_ends_at_once(start_service: Start) -> None:
    service = start_service(drain_seconds=60)
    with service.client() as client:
        client.connect()
        service.terminate()
        service.wait_for(lambda: "stopping" in service.log(), "the stop")
        service.terminate()
        assert service.process.wait(timeout=5) == 0


def test_killed_worker_is_replaced(start_service: Start) -> None:
    service = start_service(workers=2)
    service.wait_for(lambda: len(service.workers()) == 2, "two workers")
    victim, other = service.workers()
    os.kill(victim, signal.SIGKILL)
    service.wait_for(lambda: len(set(service.workers()) - {victim}) == 2, "a new worker")
    assert other in service.workers()
    with service.client() as client:
        client.connect()
        assert generation(client) == "one"


def test_worker_that_dies_in_a_message_takes_no_other_connection_along(start_service: Start) -> None:
    service = start_service(workers=1)
    with service.client() as client:
        client.connect()
        with pytest.raises((HostError, OSError)):
            client.message([(b"X-Do", b" exit")], b"x")
    with service.client() as client:
        client.connect()
        assert generation(client) == "one"
    assert "ended by status 9" in service.log()


def test_signals_at_a_worker_do_no_harm(start_service: Start) -> None:
    """Service managers and hasty admins signal whole groups; libmilter would drop open sessions."""
    service = start_service(workers=1)
    service.wait_for(service.workers, "a worker")
    (pid,) = service.workers()
    with service.client() as client:
        client.connect()
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            os.kill(pid, number)
            time.sleep(0.1)
            assert report_of(client.message([], b"x")).pid == pid
        service.wait_for(lambda: len(service.workers()) == 2, "the replacement")
        with service.client() as other:
            other.connect()
            assert report_of(other.message([], b"x")).pid != pid
    service.wait_for(lambda: not alive(pid), "the old worker to leave")
    assert "another takes its place" in service.log()


def test_workers_outlive_a_killed_supervisor_only_for_their_open_work(start_service: Start) -> None:
    service = start_service(workers=2)
    service.wait_for(lambda: len(service.workers()) == 2, "two workers")
    pids = service.workers()
    with service.client() as client:
        client.connect()
        mine = report_of(client.message([], b"x")).pid
        service.process.kill()
        service.process.wait()
        service.wait_for(lambda: sum(map(alive, pids)) == 1, "the idle worker to leave")
        assert report_of(client.message([], b"x")).pid == mine
    service.wait_for(lambda: not any(map(alive, pids)), "the last worker to leave")


def test_recycling_drops_no_connection(start_service: Start) -> None:
    service = start_service(workers=2, recycle_after=7)
    pids: set[int] = set()
    errors: list[str] = []

    def load(number: int) -> None:
        for turn in range(25):
            try:
                with service.client() as client:
                    client.connect()
                    pids.add(report_of(client.message([], b"%d %d" % (number, turn))).pid)
            except (HostError, OSError, AssertionError) as error:
                errors.append(f"{number}/{turn}: {error!r}")

    threads = [threading.Thread(target=load, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(pids) > 5
    assert "ended by" not in service.log()
    service.wait_for(lambda: len(service.workers()) == 2, "the retired to leave")


def test_retired_worker_waits_for_a_connection_that_has_not_spoken(start_service: Start) -> None:
    service = start_service(workers=1)
    service.wait_for(service.workers, "a worker")
    (pid,) = service.workers()
    client = service.client()
    time.sleep(0.3)
    os.kill(pid, signal.SIGTERM)
    service.wait_for(lambda: len(service.workers()) == 2, "the replacement")
    time.sleep(0.6)
    with client:
        client.connect()
        assert report_of(client.message([], b"x")).pid == pid
    service.wait_for(lambda: not alive(pid), "the old worker to leave")


def test_socket_has_its_mode_and_a_dead_one_is_cleared(start_service: Start, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "m.sock"))
    service = start_service(socket_mode=0o606)
    mode = Path(str(service.address)).stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o606
    assert not (tmp_path / "m.sock.new").exists()


def test_second_service_on_the_socket_is_refused_and_the_first_goes_on(
    start_service: Start, tmp_path: Path
) -> None:
    first = start_service()
    second = Service(tmp_path)
    try:
        assert second.process.wait(timeout=10) == 1
        assert "another process already listens" in second.log()
    finally:
        second.close()
    with first.client() as client:
        client.connect()
        assert generation(client) == "one"


def test_service_that_cannot_start_says_why_and_ends(tmp_path: Path) -> None:
    service = Service(tmp_path)
    service.write(broken=True)
    try:
        assert service.process.wait(timeout=20) == 1
        assert "settings are broken" in service.log()
        assert "giving up" in service.log()
    finally:
        service.close()


def test_service_manager_hears_of_start_reload_and_stop(
    start_service: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        service = start_service(workers=2)
        assert manager.recv(4096) == b"READY=1\nSTATUS=2 workers running"
        service.reload()
        assert manager.recv(4096).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        assert manager.recv(4096).startswith(b"READY=1\n")
        service.terminate()
        assert manager.recv(4096).startswith(b"STOPPING=1\n")
        assert service.process.wait(timeout=5) == 0
