"""Text of configuration files: read once, and the same for all who read it again."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailsigil.config.errors import ConfigError
from mailsigil.config.reading import MAX_FILE, Kept, read_text, unpacked


def test_what_was_read_is_read_again_whatever_became_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text("signing = 'required'  # Grüße\n", encoding="utf-8")
    kept = Kept()
    text = kept(file)
    file.write_text("")
    assert kept(file) == text
    assert unpacked(kept.packed())(file) == text == "signing = 'required'  # Grüße\n"
    assert read_text(file) == ""


def test_what_was_not_read_is_not_read_later(tmp_path: Path) -> None:
    file = tmp_path / "late.toml"
    file.write_text("x = 1\n")
    with pytest.raises(ConfigError, match="was not read with the rest"):
        unpacked(Kept().packed())(file)


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        Kept()(tmp_path / "none.toml")


def test_what_is_too_large_is_refused_with_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "disk.img"
    with file.open("wb") as sparse:
        sparse.truncate(MAX_FILE + 1)
    with pytest.raises(ConfigError, match=f"{file}: is larger than {MAX_FILE} octets; name the right file"):
        read_text(file)
