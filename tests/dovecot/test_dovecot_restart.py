"""The agent as systemd starts it: its sockets stay when it ends, so a login in between is served."""

from __future__ import annotations

import contextlib
import imaplib
import os
import smtplib
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mailsigil.demo.dovecot import Dovecot, wait_for_mail
from mailsigil.demo.programs import accepts, wait_until
from mailsigil.keys.server import listen
from mailsigil.keys.storage.key import StorageKeyKind, generate
from mailsigil.keys.storage.pins import PinFolder
from mailsigil.process.activation import inherited_sockets
from servers.dovecots import BOB, PASSWORD, ROOTS, deliver
from servers.kv import KvServer
from servers.storage_house import StorageHouse

MAIL = b"From: alice@bank.example\r\nSubject: hello\r\n\r\nThe vault is behind the picture.\r\n"
_HAND_OVER = """
import os, sys
first, second, *command = sys.argv[1:]
for number, descriptor in ((3, first), (4, second)):
    os.dup2(int(descriptor), number)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2", "LISTEN_FDNAMES": "postlogin:public-keys"}
os.execv(command[0], command)
"""


class Activated:
    """The agent as systemd starts it: its sockets are ours, and stay when it ends."""

    def __init__(self, house: StorageHouse) -> None:
        self._house = house
        self._listeners = [listen(house.postlogin, mode=0o600), listen(house.public_socket, mode=0o666)]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        handed = [str(listener.fileno() + 100) for listener in self._listeners]
        for listener in self._listeners:
            # Out of the way of the numbers 3 and 4.
            os.dup2(listener.fileno(), listener.fileno() + 100)
        agent = [sys.executable, "-m", "mailsigil", "keyd", "--config", str(self._house.config)]
        with self._house.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _HAND_OVER, *handed, *agent],
                pass_fds=[int(number) for number in handed],
                stderr=log,
            )
        for number in handed:
            os.close(int(number))

    def stop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        assert self.process.wait(30) == 0

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.stop()
        for listener in self._listeners:
            listener.close()


def _deliver_at_last(dovecot: Dovecot) -> None:
    """As Postfix does it: what was deferred, because an agent took too long to start, is tried again."""
    for _ in range(20):
        with contextlib.suppress(smtplib.SMTPRecipientsRefused):
            deliver(dovecot, MAIL)
            return


@pytest.mark.integration
@pytest.mark.parametrize("root", ROOTS)
def test_the_agent_is_restarted_in_the_middle_of_logins(root: Path | None, tmp_path: Path) -> None:
    version = Dovecot(tmp_path, {}, root=root).version
    with KvServer(tmp_path) as kv:
        house = StorageHouse(tmp_path, kv.storage(key_seconds=0.0), version=version)
        key = generate(StorageKeyKind.P256)
        PinFolder(house.public_keys).write(BOB, [key.public])
        kv.entries[BOB] = {"user": BOB, "private_key": key.private_pem.decode()}
        dovecot = house.dovecot(root, users={BOB: PASSWORD})
        # A slow machine may take its time for the start of the agent.
        dovecot.before = dovecot.before.replace("imap -t 5", "imap -t 50")
        agent = Activated(house)
        agent.start()
        try:
            wait_until(lambda: accepts(str(tmp_path / "keyd.sock")), what="the key agent")
            with dovecot:
                kv.delay = 1.0
                done: list[str] = []

                def log_in() -> None:
                    with imaplib.IMAP4("127.0.0.1", dovecot.imap_port, timeout=60) as client:
                        client.login(BOB, PASSWORD)
                        done.append(" ".join(map(str, client.select())))

                # One login waits for the key server when the agent is told to end: it is finished.
                first = threading.Thread(target=log_in)
                first.start()
                wait_until(lambda: bool(kv.asked), what="the login")
                agent.stop()
                first.join()
                assert done == ["OK [b'0']"], dovecot.log.read_text()
                # The next one comes while there is no agent, and is served by the new one.
                second = threading.Thread(target=log_in)
                second.start()
                deliveries = threading.Thread(target=_deliver_at_last, args=(dovecot,))
                deliveries.start()
                time.sleep(0.3)
                assert second.is_alive()
                agent.start()
                second.join()
                deliveries.join()
                assert [each[:2] for each in done] == ["OK", "OK"], dovecot.log.read_text()
                assert [path.read_bytes()[:7] for path in wait_for_mail(dovecot, BOB)] == [b"CRYPTED"]
        finally:
            agent.close()
    assert house.postlogin.exists()


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"LISTEN_PID": "1", "LISTEN_FDS": "2"},
        {"LISTEN_PID": "PID", "LISTEN_FDS": "x"},
        {"LISTEN_PID": "PID", "LISTEN_FDS": "0"},
    ],
    ids=["nothing", "for another process", "no number", "none"],
)
def test_without_systemd_nothing_is_taken(environment: dict[str, str]) -> None:
    environment = {name: value.replace("PID", str(os.getpid())) for name, value in environment.items()}
    assert inherited_sockets(environment) == {}
    assert environment == {}
