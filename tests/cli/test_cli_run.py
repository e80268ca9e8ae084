"""``mailsigil run``, ``keyd`` and ``milter`` as processes: they start, pass signals on, and end together."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from bank import ALICE, mail
from mailsigil.cli.main import COMMANDS, command
from mailsigil.demo.organisation import Organisation, found
from mailsigil.demo.programs import accepts, free_port
from mailsigil.service import utc_now
from processes import mailsigil, start

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="the configuration allows root alone to ask for signatures"),
]


class Running:
    """A command with its organisation. Ended by its process id."""

    def __init__(self, organisation: Organisation, name: str) -> None:
        self.organisation = organisation
        self.log = organisation.folder / f"{name}.log"
        self.process = start(name, "--config", organisation.config, log=self.log)

    def wait_for(self, condition: Callable[[], object], what: str, seconds: float = 20) -> None:
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                pytest.fail(f"waited in vain for {what}; log:\n{self.log.read_text()}")
            time.sleep(0.02)

    def serves(self) -> bool:
        sockets = (self.organisation.milter_socket, self.organisation.folder / "keyd.sock")
        return all(accepts(str(socket)) for socket in sockets)

    def parts(self) -> list[int]:
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


@pytest.fixture
def organisation(tmp_path: Path) -> Organisation:
    made = found(tmp_path / "o", now=utc_now(), dns_port=free_port(), settings={"milter": "workers = 1\n"})
    made.config.write_text(made.config.read_text().replace('socket_group = "postfix"\n', ""))
    return made


@pytest.fixture
def running(organisation: Organisation) -> Iterator[Running]:
    service = Running(organisation, "run")
    try:
        service.wait_for(service.serves, "both sockets")
        yield service
    finally:
        service.close()


def test_both_serve_and_a_mail_is_signed_with_their_help(running: Running) -> None:
    done = mailsigil("sign", "--config", running.organisation.config, "--sender", ALICE, stdin=mail())
    assert (done.returncode, done.stderr) == (0, b"")
    checked = mailsigil("verify", "--trust", running.organisation.anchor, stdin=done.stdout)
    assert checked.stdout.startswith(b"pass: V4 Alice Example")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_one_signal_ends_both_with_status_0(running: Running, number: signal.Signals) -> None:
    parts = running.parts()
    assert len(parts) == 2
    running.process.send_signal(number)
    assert running.process.wait(20) == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in parts)
    assert not running.organisation.milter_socket.exists()


def test_a_reload_while_the_parts_start_ends_none_of_them(organisation: Organisation) -> None:
    service = Running(organisation, "run")
    try:
        service.wait_for(lambda: len(service.parts()) == 2, "two parts")
        for part in service.parts():
            os.kill(part, signal.SIGHUP)
        service.wait_for(service.serves, "both sockets")
    finally:
        service.close()
    assert service.process.returncode == 0


def test_sighup_reaches_both(running: Running) -> None:
    def reloaded() -> bool:
        # A part whose socket is open may still be starting, and takes no notice then.
        running.process.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        return len(set(re.findall(r"\[(\d+)\]: INFO reloading \d+ workers", running.log.read_text()))) == 2

    running.wait_for(reloaded, "two reloads")
    assert running.serves()


@pytest.mark.parametrize("which", [0, 1], ids=["keyd", "milter"])
def test_if_one_dies_the_other_ends_and_the_status_tells(running: Running, which: int) -> None:
    """A service manager then starts both again."""
    os.kill(running.parts()[which], signal.SIGKILL)
    assert running.process.wait(20) != 0
    assert not running.serves()


@pytest.mark.parametrize("name", ["run", "keyd", "milter"])
def test_a_wrong_configuration_is_status_2(name: str, organisation: Organisation) -> None:
    organisation.config.write_text("[milter]\nsokcet = 1\n")
    done = mailsigil(name, "--config", organisation.config)
    assert done.returncode == 2
    assert f"{organisation.config}:2" in done.stderr.decode()
    assert b"Traceback" not in done.stderr


def test_a_wrong_policy_ends_the_milter_with_status_2(organisation: Organisation) -> None:
    organisation.policy.write_text("[default]\nsigning = 'sometimes'\n")
    done = mailsigil("milter", "--config", organisation.config)
    assert done.returncode == 2
    assert "policy.toml:2" in done.stderr.decode()


def test_a_missing_anchor_ends_the_milter_with_status_2(organisation: Organisation) -> None:
    organisation.anchor.unlink()
    done = mailsigil("milter", "--config", organisation.config)
    assert done.returncode == 2
    assert str(organisation.anchor) in done.stderr.decode()
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_to_be_had(name: str) -> None:
    done = CliRunner().invoke(command, [name, "--help"])
    assert done.exit_code == 0
    assert done.output.startswith("Usage: ")
    assert "--help" in done.output
