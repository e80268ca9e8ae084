"""The milter's listening socket: its address, its place in the file system, its descriptor.

libmilter opens the socket and keeps the descriptor to itself; this file finds it. A unix socket is
opened under a temporary name and moved to its real one when mode and group are right. Nobody can connect
too early, and libmilter, which on some ways out removes the socket it opened, only knows the old name.
"""

from __future__ import annotations

import contextlib
import grp
import os
import re
import socket
import stat
from dataclasses import dataclass
from pathlib import Path

_MAX_UNIX_PATH = 107
"""``sun_path`` has 108 octets on Linux, one of them for the final NUL."""
_SUFFIX = ".new"
_PROBE_SECONDS = 2.0
_INET = re.compile(r"inet6?:(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[^:\[\]@]+)):(?P<port>\d{1,5})\Z")


class ListenError(Exception):
    """The socket cannot be opened; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """``unix:/path``."""

    path: Path

    @property
    def spec(self) -> str:
        """libmilter's spelling, with the temporary name."""
        return f"unix:{self.temporary}"

    @property
    def temporary(self) -> Path:
        """Where the socket is until it is ready."""
        return self.path.with_name(self.path.name + _SUFFIX)


@dataclass(frozen=True, slots=True)
class InetAddress:
    """``inet:HOST:PORT``, an IPv6 address in brackets."""

    host: str
    port: int

    @property
    def spec(self) -> str:
        """libmilter's spelling."""
        return f"{'inet6' if ':' in self.host else 'inet'}:{self.port}@{self.host}"


def parse_address(text: str) -> UnixAddress | InetAddress:
    """Read ``unix:/path`` or ``inet:HOST:PORT``. Raises :class:`ListenError`."""
    if text.startswith("unix:"):
        path = Path(text.removeprefix("unix:"))
        if not path.is_absolute():
            raise ListenError(f'socket "{text}": the path must begin with a slash')
        if len(os.fsencode(path)) + len(_SUFFIX) > _MAX_UNIX_PATH:
            raise ListenError(f'socket "{text}": the path is too long, {_MAX_UNIX_PATH - 4} octets at most')
        return UnixAddress(path)
    match = _INET.match(text)
    if match and 0 < int(match["port"]) < 65536:
        return InetAddress(match["six"] or match["host"], int(match["port"]))
    raise ListenError(f'socket "{text}": write "unix:/path/of/socket" or "inet:HOST:PORT"')


def clear_the_way(address: UnixAddress) -> None:
    """Remove a socket file that a dead process left behind.

    Raises :class:`ListenError` when the folder is missing, the path is something else than a socket, or
    a living process answers on it.
    """
    folder = address.path.parent
    if not folder.is_dir():
        raise ListenError(f"the folder {folder} for the socket does not exist: create it")
    for path in (address.path, address.temporary):
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:
            continue
        if not stat.S_ISSOCK(mode):
            raise ListenError(f"{path} is in the way and is no socket: move it away")
        if _answers(path):
            raise ListenError(f"another process already listens on {path}: stop it, or choose another socket")
        path.unlink(missing_ok=True)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_SECONDS)
        try:
            probe.connect(os.fspath(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except TimeoutError:
            return True
        except OSError as error:
            raise ListenError(f"cannot find out whether {path} is in use: {error.strerror}") from error
    return True


def publish(address: UnixAddress, *, mode: int, group: str, owner: int = -1) -> None:
    """Give the socket its mode, group and real name. Raises :class:`ListenError`."""
    try:
        number = grp.getgrnam(group).gr_gid if group else -1
        # Held by a descriptor: as root, whatever has the name by then would be changed, and the folder may be
        # somebody else's.
        descriptor = os.open(address.temporary, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                raise ListenError(f"somebody put something else in the place of {address.temporary}")
            held = f"/proc/self/fd/{descriptor}"
            os.chown(held, owner, number)
            os.chmod(held, mode)
        finally:
            os.close(descriptor)
        address.temporary.rename(address.path)
    except KeyError:
        raise ListenError(f'there is no group "{group}" on this machine for the socket') from None
    except OSError as error:
        raise ListenError(f"cannot prepare the socket {address.path}: {error.strerror}") from error


def identity(address: UnixAddress | InetAddress) -> tuple[int, int] | None:
    """What tells this socket file from one that another process puts in its place."""
    if isinstance(address, InetAddress):
        return None
    try:
        status = address.path.lstat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def withdraw(address: UnixAddress | InetAddress, ours: tuple[int, int] | None) -> None:
    """Remove the socket file if it is still the one that :func:`identity` saw, and if we may."""
    if isinstance(address, UnixAddress) and ours is not None and identity(address) == ours:
        with contextlib.suppress(OSError):
            address.path.unlink()


def descriptors() -> set[int]:
    """The open descriptors of this process."""
    # The list also holds the one that was open for reading it.
    return {fd for fd in map(int, os.listdir("/proc/self/fd")) if _is_open(fd)}


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def find_listening(candidates: set[int]) -> int:
    """The one listening socket among ``candidates``. Raises :class:`ListenError` if there is not one."""
    found = [fd for fd in candidates if _is_listening(fd)]
    if len(found) != 1:
        raise ListenError(f"libmilter opened {len(found)} listening sockets where one was expected")
    return found[0]


def _duplicate(fd: int) -> socket.socket | None:
    """A second handle on a socket, or None when ``fd`` is gone or something else."""
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            return None
        return socket.socket(fileno=os.dup(fd))
    except OSError:
        return None


def _is_listening(fd: int) -> bool:
    handle = _duplicate(fd)
    if handle is None:
        return False
    with handle:
        return bool(handle.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def tune(fd: int) -> object:
    """Prepare a listening socket for several processes; the name it is bound to.

    Accepting must not block: several workers wake up for one connection, and one that waited in
    ``accept`` could not be told to stop taking connections.
    """
    handle = _duplicate(fd)
    if handle is None:
        raise ListenError("libmilter's listening socket is gone")
    with handle:
        handle.setblocking(False)
        if handle.family != socket.AF_UNIX:
            # Inherited by every accepted connection: no 40 ms stalls between Nagle and delayed ACKs.
            handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return handle.getsockname()


def divert(fd: int) -> None:
    """Put a socket that nobody can reach in the place of the listening one, in this process only."""
    original = _duplicate(fd)
    family = socket.AF_UNIX if original is None else original.family
    if original is not None:
        original.close()
    with socket.socket(family, socket.SOCK_STREAM) as dummy:
        if family == socket.AF_UNIX:
            dummy.bind("")  # an abstract name that the kernel chooses
        else:
            dummy.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        dummy.listen(0)
        dummy.setblocking(False)
        os.dup2(dummy.fileno(), fd, inheritable=False)


def connections(name: object) -> int:
    """How many connections accepted on the socket bound to ``name`` this process holds open."""
    count = 0
    for fd in descriptors():
        handle = _duplicate(fd)
        if handle is None:
            continue
        with handle, contextlib.suppress(OSError):
            if handle.getsockname() == name and not handle.getsockopt(
                socket.SOL_SOCKET, socket.SO_ACCEPTCONN
            ):
                count += 1
    return count
