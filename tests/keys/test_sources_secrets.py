"""Secrets of sources: files that nobody else reads, or systemd credentials."""

from __future__ import annotations

import os
import pwd
import shutil
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailsigil.config import credentials
from mailsigil.config.directories import DirectorySettings
from mailsigil.directory.ldap import password_reader
from mailsigil.keys.errors import SourceRefused
from mailsigil.keys.secret_files import SecretFile
from other_user import acting_as

ONLY_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")


def test_the_first_line_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "pin"
    file.write_text("4711\nsecond line\n")
    file.chmod(0o600)
    assert SecretFile("hsm", str(file)).read() == b"4711"


def test_a_credential_of_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hsm-pin").write_text("4711")
    (tmp_path / "hsm-pin").chmod(0o440)  # As systemd has them: the folder keeps others out.
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert SecretFile("hsm", "credential:hsm-pin").read() == b"4711"
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    with pytest.raises(SourceRefused, match="LoadCredential=hsm-pin:PATH"):
        SecretFile("hsm", "credential:hsm-pin").read()


class TestCredentialsOfTheRunningUnit:
    """A command from a shell has no $CREDENTIALS_DIRECTORY: it looks where systemd keeps the key agent's."""

    @pytest.fixture
    def unit(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder).chmod(0o755)
            unit = Path(folder) / "mailsigil-keyd.service"
            unit.mkdir(mode=0o700)
            (unit / "hsm-pin").write_text("4711")
            (unit / "hsm-pin").chmod(0o400)
            monkeypatch.setattr(credentials, "UNIT_FOLDER", unit)
            monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
            yield unit
            unit.chmod(0o700)

    def test_both_rooms_read_them(self, unit: Path) -> None:
        unit.chmod(0o500)
        assert SecretFile("hsm", "credential:hsm-pin").read() == b"4711"
        directory = DirectorySettings.model_construct(password_file="", password_credential="hsm-pin")
        assert password_reader(directory)() == "4711"

    def test_a_services_own_come_first(
        self, unit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
        with pytest.raises(SourceRefused, match=f"{tmp_path}/hsm-pin: the file cannot be opened"):
            SecretFile("hsm", "credential:hsm-pin").read()

    @pytest.mark.parametrize("name", ["other", "hsm-pin"])
    def test_what_is_not_there_is_mended_by_the_unit(self, unit: Path, name: str) -> None:
        if name == "hsm-pin":
            shutil.rmtree(unit)  # The unit is stopped.
            unit.parent.rmdir()
        told = f'there is no systemd credential "{name}".*LoadCredential={name}:PATH, and run this as root'
        with pytest.raises(SourceRefused, match=told):
            SecretFile("hsm", f"credential:{name}").read()
        unit.mkdir(parents=True, exist_ok=True)

    @pytest.mark.parametrize(("mode", "above"), [(0o705, 0o755), (0o720, 0o755), (0o500, 0o777)])
    def test_a_folder_that_others_may_use_is_refused(self, unit: Path, mode: int, above: int) -> None:
        unit.chmod(mode)
        unit.parent.chmod(above)
        with pytest.raises(SourceRefused, match=r"is open to others|others than root may exchange"):
            SecretFile("hsm", "credential:hsm-pin").read()

    def test_a_link_is_refused(self, unit: Path, tmp_path: Path) -> None:
        (unit / "link").symlink_to(unit / "hsm-pin")
        with pytest.raises(SourceRefused, match="is no file of systemd"):
            SecretFile("hsm", "credential:link").read()

    @ONLY_ROOT
    def test_a_folder_of_somebody_else_above_it_is_refused(self, unit: Path) -> None:
        os.chown(unit.parent, pwd.getpwnam("daemon").pw_uid, -1)
        with pytest.raises(SourceRefused, match="others than root may exchange"):
            SecretFile("hsm", "credential:hsm-pin").read()

    @ONLY_ROOT
    @pytest.mark.parametrize("how", ["owned", "access-list"])
    def test_the_key_agents_user_reads_them_and_others_are_told(self, unit: Path, how: str) -> None:
        for path, mode in ((unit / "hsm-pin", 4), (unit, 5)):
            path.chmod(mode << 6)
            if how == "owned":  # As systemd does on ramfs.
                os.chown(path, pwd.getpwnam("nobody").pw_uid, -1)
            else:
                grant(path, mode, pwd.getpwnam("nobody").pw_uid)
        with acting_as("nobody"):
            assert SecretFile("hsm", "credential:hsm-pin").read() == b"4711"
        with acting_as("daemon"), pytest.raises(SourceRefused, match="Run this as root or as the key agent"):
            SecretFile("hsm", "credential:hsm-pin").read()


def grant(path: Path, rights: int, uid: int) -> None:
    """Lets a user read, as systemd does on tmpfs: an access list of the owner, this user and its mask."""
    nobody = 0xFFFFFFFF
    entries = [(1, rights, nobody), (2, rights, uid), (4, 0, nobody), (16, rights, nobody), (32, 0, nobody)]
    value = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(path, "system.posix_acl_access", value)
    except OSError as error:
        pytest.skip(f"no access lists here: {error.strerror}")


@pytest.mark.parametrize(
    ("content", "mode", "words"),
    [("4711", 0o644, "chmod 600"), ("", 0o600, "empty"), (None, 0, "cannot be opened")],
    ids=["world-readable", "empty", "absent"],
)
def test_a_file_that_is_not_fit_is_told(tmp_path: Path, content: str | None, mode: int, words: str) -> None:
    file = tmp_path / "pin"
    if content is not None:
        file.write_text(content)
        file.chmod(mode)
    with pytest.raises(SourceRefused, match=words) as caught:
        SecretFile("hsm", str(file)).read()
    assert "4711" not in str(caught.value)


def test_a_change_of_the_file_shows(tmp_path: Path) -> None:
    file = tmp_path / "pin"
    secret = SecretFile("hsm", str(file))
    marks = {secret.mark()}
    for pin in ("1", "22"):
        file.write_text(pin)
        marks.add(secret.mark())
    assert len(marks) == 3
