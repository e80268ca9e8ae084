"""packaging/prepare without a change to the machine: stand-ins for dpkg-query, apt-get, id and pip."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from conftest import ROOT

ALL_THERE = "echo installed"
NOT_POSTFIX = 'case "$*" in *postfix*) exit 1 ;; *) echo installed ;; esac'


@dataclass(frozen=True, slots=True)
class Machine:
    """A copy of the project on a machine whose programs are what a test says."""

    folder: Path

    def program(self, name: str, script: str) -> None:
        """Put a program before all others of its name."""
        place = self.folder / "bin" / name
        place.write_text(f"#!/bin/sh\n{script}\n")
        place.chmod(0o755)

    def prepared(self, kind: str) -> None:
        """As after an earlier run: ``kind`` is "" or "[test]"."""
        venv = self.folder / ".venv"
        (venv / "bin").mkdir(parents=True, exist_ok=True)
        (venv / "bin" / "mailsigil").touch(mode=0o755)
        state = (self.folder / "pyproject.toml").read_bytes()
        state += (self.folder / "packaging" / "prepare").read_bytes()
        (venv / f".prepared{kind}").write_text(f"{hashlib.sha256(state).hexdigest()}  -")
        (venv / ".tried-libest").touch()

    def prepare(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run it."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith("MAILSIGIL")}
        environment["PATH"] = f"{self.folder / 'bin'}{os.pathsep}{environment['PATH']}"
        command = [str(self.folder / "packaging" / "prepare"), *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    (tmp_path / "bin").mkdir()
    (tmp_path / "packaging").mkdir()
    shutil.copy(ROOT / "packaging" / "prepare", tmp_path / "packaging")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    made = Machine(tmp_path)
    made.program("dpkg-query", ALL_THERE)
    made.program("apt-get", "echo apt-get was called >&2; exit 99")
    return made


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        pytest.param(["walk"], 'prepare: the purpose is run, test, bench or deb, not "walk"\n', id="unknown"),
        pytest.param(["run", "test"], "prepare: one purpose at a time: run, test, bench or deb\n", id="two"),
    ],
)
def test_wrong_use(arguments: list[str], sentence: str, machine: Machine) -> None:
    done = machine.prepare(*arguments)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", sentence)


def test_who_is_not_root_is_told_what_to_install(machine: Machine) -> None:
    machine.program("dpkg-query", NOT_POSTFIX)
    machine.program("id", "echo 1000")
    done = machine.prepare("run")
    sentence = (
        "prepare: please install these Debian packages as root first: apt-get install --no-install-recommends"
    )
    assert (done.returncode, done.stderr) == (2, f"{sentence} postfix \n")


@pytest.mark.parametrize(
    ("purpose", "kind"), [("run", ""), ("run", "[test]"), ("test", "[test]"), ("bench", "[test]")]
)
def test_nothing_is_done_twice_and_that_quickly(purpose: str, kind: str, machine: Machine) -> None:
    machine.prepared(kind)
    before = os.times()
    done = machine.prepare(purpose)
    after = os.times()
    # Work of its processes, and not time: tests run beside this one.
    assert after.children_user + after.children_system - before.children_user - before.children_system < 1
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("there", [True, False], ids=["debian-13", "debian-12"])
def test_libest_is_unpacked_beside_where_it_can_be_had(there: bool, machine: Machine) -> None:
    machine.prepared("[test]")
    (machine.folder / ".venv" / ".tried-libest").unlink()
    machine.program("apt-get", "touch libest3_1.deb libest-utils_1.deb" if there else "exit 100")
    unpack = 'mkdir -p "$3/usr/bin"; touch "$3/usr/bin/estserver"; chmod 755 "$3/usr/bin/estserver"'
    machine.program("dpkg-deb", unpack)
    done = machine.prepare("test")
    assert done.returncode == 0
    assert (machine.folder / ".venv" / "libest" / "usr" / "bin" / "estserver").exists() == there
    assert ("libest cannot be had from this system's sources" in done.stderr) != there
    # Not again with each run.
    assert machine.prepare("test").stderr == ""


@pytest.mark.parametrize("change", ["pyproject.toml", "packaging/prepare"])
def test_a_change_of_what_is_needed_is_noticed(change: str, machine: Machine) -> None:
    machine.prepared("[test]")
    with (machine.folder / change).open("a") as file:
        file.write("\n# changed\n")
    (machine.folder / ".venv" / "pyvenv.cfg").touch()
    pip = machine.folder / ".venv" / "bin" / "python"
    pip.write_text('#!/bin/sh\ncase "$*" in *--version) exit 0 ;; esac\necho no such index; exit 1\n')
    pip.chmod(0o755)
    done = machine.prepare("test")
    assert done.returncode == 2
    assert "prepare: installing mailsigil and its Python packages" in done.stderr
    assert "no such index\nprepare: pip could not install the Python packages" in done.stderr


def test_a_folder_with_other_things_is_not_made_an_environment(machine: Machine) -> None:
    (machine.folder / ".venv").mkdir()
    (machine.folder / ".venv" / "letters").touch()
    done = machine.prepare("run")
    assert done.returncode == 2
    assert "holds something else than a virtual environment" in done.stderr
    assert (machine.folder / ".venv" / "letters").exists()


def test_a_python_that_is_too_old_or_bare(machine: Machine) -> None:
    script = machine.folder / "packaging" / "prepare"
    # Nothing stands in for /usr/bin/python3, so the search begins behind it.
    script.write_text(script.read_text().replace(" /usr/bin/python3 python3 ", " python3 "))
    for name in ("python3", "python3.11", "python3.12", "python3.13", "python3.14"):
        machine.program(name, "exit 1")
    done = machine.prepare("run")
    assert done.returncode == 2
    assert done.stderr.startswith("prepare: no Python of 3.11 or newer with its headers was found")


def test_no_other_system_is_touched(machine: Machine) -> None:
    machine.prepared("")
    script = machine.folder / "packaging" / "prepare"
    script.write_text(script.read_text().replace("command -v dpkg-query", "command -v no-such-program"))
    machine.prepared("")
    done = machine.prepare("run")
    assert done.returncode == 0
    assert done.stderr.startswith("prepare: this is no Debian system: make sure that the equivalents")


def test_continuous_integration_without_make(machine: Machine) -> None:
    shutil.copytree(ROOT / ".ci", machine.folder / ".ci")
    for name in ("bash", "dirname", "env"):
        found = shutil.which(name)
        assert found is not None
        (machine.folder / "bin" / name).symlink_to(found)
    machine.program("id", "echo 1000")
    done = subprocess.run(
        [str(machine.folder / ".ci" / "run")],
        env={"PATH": str(machine.folder / "bin")},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (
        2,
        ".ci/run: please install make as root first: apt-get install make\n",
    )


def test_scripts_have_no_mistakes_of_syntax() -> None:
    for script in ("packaging/prepare", ".ci/run"):
        subprocess.run(["bash", "-n", str(ROOT / script)], check=True, timeout=30)
