"""What goes to the service manager."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from mailsigil.process.notify import Notifier


@pytest.mark.parametrize(
    ("say", "expected"),
    [
        pytest.param(lambda n: n.ready("2 workers"), b"READY=1\nSTATUS=2 workers", id="ready"),
        pytest.param(lambda n: n.reloading(), b"RELOADING=1\nMONOTONIC_USEC=", id="reloading"),
        pytest.param(lambda n: n.stopping("bye"), b"STOPPING=1\nSTATUS=bye", id="stopping"),
    ],
)
def test_states(
    say: Callable[[Notifier], None], expected: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "n"))
        manager.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "n"))
        say(Notifier())
        assert manager.recv(4096).startswith(expected)


def test_without_a_manager_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    Notifier().ready("fine")


def test_a_manager_that_is_away_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "n"))
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "n"))
    Notifier().reloading()
