"""Every bad file in ``tests/cases/config`` and ``tests/cases/policy``, with the exact sentences it gets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mailsigil.config.errors import ConfigError
from mailsigil.config.loading import load_settings
from mailsigil.directory.file import FileDirectory

CASES = Path(__file__).resolve().parent.parent / "cases"
LOADERS: dict[str, Callable[[Path], object]] = {"config": load_settings, "policy": FileDirectory.load}


def _cases() -> list[Path]:
    return sorted(path for room in LOADERS for path in (CASES / room).glob("*.toml"))


@pytest.mark.parametrize("path", _cases(), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_bad_file_gets_its_sentences(path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        LOADERS[path.parent.name](path)
    told = [str(finding).replace(str(path), path.name) for finding in caught.value.findings]
    assert told == path.with_suffix(".expected").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("path", _cases(), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_case_explains_itself(path: Path) -> None:
    assert path.read_text(encoding="utf-8").startswith("# ")


def test_every_expectation_has_its_file() -> None:
    expected = {path.with_suffix(".toml") for room in LOADERS for path in (CASES / room).glob("*.expected")}
    assert expected == set(_cases())
