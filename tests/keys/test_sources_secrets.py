"""Secrets of sources: files that nobody else reads, or systemd credentials."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailsigil.keys.errors import SourceRefused
from mailsigil.keys.secret_files import SecretFile


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
