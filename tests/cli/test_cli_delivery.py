"""The command ``mailsigil delivery``: what it refuses to start with."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from mailsigil.cli.delivery import command


def _told(tmp_path: Path, text: str) -> tuple[int, str]:
    config = tmp_path / "mailsigil.toml"
    config.write_text(text)
    done = CliRunner().invoke(command, ["--config", str(config)])
    return done.exit_code, done.output


def test_nobodys_mail(tmp_path: Path) -> None:
    code, told = _told(tmp_path, "")
    assert code == 2
    assert "nobody's mail is to be decrypted" in told
    assert str(tmp_path / "mailsigil.toml") in told


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('users = ["Bob@bank.example"]', "no mail address in lower case"),
        ('unauthenticated = "never"', "unauthenticated"),
        (
            'domains = ["bank.example"]\nsocket = "/no/such/folder/s"\nallowed_users = ["root"]',
            "cannot listen",
        ),
        ('domains = ["bank.example"]\nallowed_users = ["no-such-user"]', "no user"),
    ],
    ids=["address", "choice", "socket", "user"],
)
def test_settings_that_cannot_be(text: str, sentence: str, tmp_path: Path) -> None:
    code, told = _told(tmp_path, f"[delivery]\n{text}\n")
    assert code == 2
    assert sentence in told
    assert "Traceback" not in told
