"""packaging/deb where something is missing: sentences that tell what, and nothing left behind."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from conftest import ROOT

# Has everything, makes any environment, and no network.
PYTHON = """\
case "$*" in
*"-m venv "*) for last; do :; done; mkdir -p "$last/bin"; cp "$0" "$last/bin/pip" ;;
*wheel*) echo "Failed to establish a new connection"; exit 1 ;;
*project*) echo 0.1.0 ;;
esac"""
BASICS = ("bash", "cat", "cp", "dirname", "env", "find", "git", "id", "mkdir", "mktemp", "rm", "stat", "tail")


@dataclass(frozen=True, slots=True)
class Machine:
    """A copy of the project on a machine that has what a test gives it."""

    folder: Path

    def program(self, name: str, script: str = "") -> None:
        """There is a program of this name."""
        place = self.folder / "bin" / name
        place.write_text(f"#!/bin/sh\n{script}\n")
        place.chmod(0o755)

    def build(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run it."""
        environment = {"PATH": str(self.folder / "bin"), "TMPDIR": str(self.folder / "tmp")}
        command = [str(self.folder / "packaging" / "deb"), *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    for name in ("bin", "tmp", "packaging"):
        (tmp_path / name).mkdir()
    for name in BASICS:
        found = shutil.which(name)
        assert found is not None
        (tmp_path / "bin" / name).symlink_to(found)
    for name in ("CHANGELOG.md", "LICENSE", "README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("milter", "policies"):
        (tmp_path / name).mkdir()
    script = (ROOT / "packaging" / "deb").read_text()
    # Whether this machine has headers is not the question.
    script = script.replace("python=/usr/bin/python3", f"python={tmp_path}/bin/python3")
    script = script.replace("/usr/include", f"{tmp_path}/include")
    (tmp_path / "packaging" / "deb").write_text(script)
    (tmp_path / "packaging" / "deb").chmod(0o755)
    made = Machine(tmp_path)
    for header in ("libmilter/mfapi.h", "systemd/sd-journal.h"):
        place = tmp_path / "include" / header
        place.parent.mkdir(parents=True)
        place.touch()
    for name in ("dpkg-deb", "dpkg-query", "dpkg-shlibdeps", "gcc", "pkg-config"):
        made.program(name)
    made.program("dpkg", "echo amd64")
    made.program("python3", PYTHON)
    return made


def _complaint(done: subprocess.CompletedProcess[str]) -> str:
    assert (done.returncode, done.stdout) == (2, "")
    return done.stderr


@pytest.mark.parametrize("arguments", [["1", "2"], ["newer"], ["1-2"]])
def test_a_revision_that_is_none(arguments: list[str], machine: Machine) -> None:
    sentence = "deb: one revision at most, which begins with a digit: packaging/deb 2\n"
    assert _complaint(machine.build(*arguments)) == sentence


def test_another_system(machine: Machine) -> None:
    (machine.folder / "bin" / "dpkg-deb").unlink()
    assert _complaint(machine.build()).startswith("deb: this is no Debian system")


def test_what_is_missing_is_named_as_packages(machine: Machine) -> None:
    (machine.folder / "bin" / "gcc").unlink()
    (machine.folder / "bin" / "dpkg-shlibdeps").unlink()
    shutil.rmtree(machine.folder / "include" / "libmilter")
    machine.program("python3", "exit 1")
    sentence = (
        "deb: please install these Debian packages as root first: apt-get install --no-install-recommends"
        " gcc libc6-dev dpkg-dev libmilter-dev python3-venv python3-dev\n"
    )
    assert _complaint(machine.build()) == sentence


def test_a_python_that_is_too_old(machine: Machine) -> None:
    machine.program("python3", 'case "$*" in *version_info*) exit 1 ;; esac')
    assert _complaint(machine.build()).endswith("can be built on Debian 12 or newer\n")


def test_a_folder_that_cannot_be_made(machine: Machine) -> None:
    (machine.folder / "dist").touch()
    assert f"deb: {machine.folder}/dist cannot be written by " in _complaint(machine.build())


def test_no_room_for_temporary_files(machine: Machine) -> None:
    (machine.folder / "tmp").rmdir()
    sentence = f"deb: no folder can be made in {machine.folder}/tmp: set TMPDIR"
    assert _complaint(machine.build()).startswith(sentence)


def test_no_network(machine: Machine) -> None:
    complaint = _complaint(machine.build())
    assert (
        "Failed to establish a new connection\ndeb: pip could not get or build the Python packages"
        in complaint
    )
    assert list((machine.folder / "tmp").iterdir()) == []
    assert list((machine.folder / "dist").iterdir()) == []


def test_the_package_of_before_stays_where_there_is_no_new_one(machine: Machine) -> None:
    (machine.folder / "dist").mkdir()
    (machine.folder / "dist" / "mailsigil_0.0.9-1_amd64.deb").touch()
    _complaint(machine.build())
    assert os.listdir(machine.folder / "dist") == ["mailsigil_0.0.9-1_amd64.deb"]


@pytest.mark.parametrize("name", ["preinst", "postinst", "prerm", "postrm"])
def test_scripts_have_no_mistakes_of_syntax(name: str) -> None:
    subprocess.run(["bash", "-n", str(ROOT / "packaging" / "deb")], check=True, timeout=30)
    subprocess.run(["sh", "-n", str(ROOT / "packaging" / "debian" / name)], check=True, timeout=30)
