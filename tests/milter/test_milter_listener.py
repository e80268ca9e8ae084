"""The socket: its address, its file, and how a worker lets go of it."""

from __future__ import annotations

import os
import select
import socket
import stat
from pathlib import Path

import pytest

from mailsigil.milter.listener import (
    InetAddress,
    ListenError,
    UnixAddress,
    clear_the_way,
    connections,
    descriptors,
    divert,
    find_listening,
    identity,
    parse_address,
    publish,
    tune,
    withdraw,
)


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        pytest.param("unix:/run/m.sock", "unix:/run/m.sock.new", id="unix"),
        pytest.param("inet:127.0.0.1:8891", "inet:8891@127.0.0.1", id="IPv4"),
        pytest.param("inet:localhost:8891", "inet:8891@localhost", id="name"),
        pytest.param("inet:[::1]:8891", "inet6:8891@::1", id="IPv6"),
        pytest.param("inet6:[::1]:8891", "inet6:8891@::1", id="IPv6, spelled out"),
    ],
)
def test_addresses(text: str, spec: str) -> None:
    assert parse_address(text).spec == spec


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        pytest.param("/run/m.sock", 'write "unix:', id="no kind"),
        pytest.param("unix:run/m.sock", "begin with a slash", id="relative path"),
        pytest.param("unix:/" + "x" * 104, "too long", id="long path"),
        pytest.param("inet:8891", 'write "unix:', id="no host"),
        pytest.param("inet:8891@127.0.0.1", 'write "unix:', id="libmilter's spelling"),
        pytest.param("inet:127.0.0.1:0", 'write "unix:', id="port 0"),
        pytest.param("inet:127.0.0.1:65536", 'write "unix:', id="large port"),
        pytest.param("inet:::1:8891", 'write "unix:', id="IPv6 without brackets"),
        pytest.param("inet:127.0.0.1:8891\n", 'write "unix:', id="line break"),
    ],
)
def test_bad_addresses_are_refused_with_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(ListenError, match=sentence):
        parse_address(text)


@pytest.fixture
def address(tmp_path: Path) -> UnixAddress:
    return UnixAddress(tmp_path / "m.sock")


def bound(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    return listener


def test_dead_sockets_are_cleared(address: UnixAddress) -> None:
    bound(address.path).close()
    bound(address.temporary).close()
    clear_the_way(address)
    assert not address.path.exists()
    assert not address.temporary.exists()
    clear_the_way(address)


def test_living_socket_stays(address: UnixAddress) -> None:
    with bound(address.path) as listener:
        listener.listen()
        with pytest.raises(ListenError, match="another process already listens"):
            clear_the_way(address)
    assert address.path.exists()


def test_file_in_the_way_stays(address: UnixAddress) -> None:
    address.path.write_text("precious")
    with pytest.raises(ListenError, match="no socket"):
        clear_the_way(address)
    assert address.path.read_text() == "precious"


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ListenError, match="does not exist: create it"):
        clear_the_way(UnixAddress(tmp_path / "absent" / "m.sock"))


def test_published_socket_has_mode_and_name(address: UnixAddress) -> None:
    with bound(address.temporary):
        publish(address, mode=0o640, group="", owner=os.getuid())
    assert stat.S_IMODE(address.path.stat().st_mode) == 0o640
    assert not address.temporary.exists()


@pytest.mark.parametrize("kind", ["link", "file"])
def test_nothing_else_gets_the_mode_of_the_socket(kind: str, address: UnixAddress, tmp_path: Path) -> None:
    """The milter may begin as root, in a folder where somebody else exchanges files."""
    victim = tmp_path / "victim"
    victim.touch(mode=0o600)
    if kind == "link":
        address.temporary.symlink_to(victim)
    else:
        address.temporary.hardlink_to(victim)
    with pytest.raises(ListenError):
        publish(address, mode=0o660, group="", owner=os.getuid())
    assert stat.S_IMODE(victim.stat().st_mode) == 0o600


def test_unknown_group_is_named(address: UnixAddress) -> None:
    with bound(address.temporary), pytest.raises(ListenError, match='no group "no-such-group"'):
        publish(address, mode=0o660, group="no-such-group")


def test_withdrawing_spares_a_successor(address: UnixAddress) -> None:
    bound(address.path).close()
    ours = identity(address)
    address.path.rename(address.path.with_name("old"))
    bound(address.path).close()
    withdraw(address, ours)
    assert address.path.exists()
    withdraw(address, identity(address))
    assert not address.path.exists()
    withdraw(address, ours)
    withdraw(InetAddress("127.0.0.1", 8891), identity(InetAddress("127.0.0.1", 8891)))


def test_listening_socket_is_found_among_descriptors() -> None:
    before = descriptors()
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as other:
        found = descriptors() - before
        assert {listener.fileno(), other.fileno()} <= found
        assert find_listening(found) == listener.fileno()
    with pytest.raises(ListenError, match="0 listening sockets"):
        find_listening(set())


@pytest.mark.parametrize("family", ["unix", "inet"])
def test_diverted_socket_gets_no_new_connection_and_keeps_the_old(family: str, tmp_path: Path) -> None:
    """As two workers do: the original in one stands for the other worker's copy."""
    if family == "unix":
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / "m.sock"))
        listener.listen()
    else:
        listener = socket.create_server(("127.0.0.1", 0))
    name = listener.getsockname()
    ours = os.dup(listener.fileno())
    bound_to = tune(ours)
    assert bound_to == name
    with listener, socket.socket(fileno=ours) as worker:
        with socket.socket(listener.family) as first:
            first.connect(name)
            accepted, _ = worker.accept()
            assert connections(name) == 1
            divert(ours)
            with socket.socket(listener.family) as second:
                second.connect(name)
                assert select.select([worker], [], [], 0.05)[0] == []
                with pytest.raises(BlockingIOError):
                    worker.accept()
                assert select.select([listener], [], [], 1)[0] == [listener]
            first.send(b"x")
            assert accepted.recv(1) == b"x"
            accepted.close()
        assert connections(name) == 0


def test_tcp_connections_inherit_no_delay() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        tune(listener.fileno())
        with socket.create_connection(listener.getsockname()):
            select.select([listener], [], [], 1)
            accepted, _ = listener.accept()
            with accepted:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
