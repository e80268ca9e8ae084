"""A reload: workers take what the supervisor has found good, whatever becomes of the files meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailsigil.cli.live import Live
from mailsigil.config.errors import ConfigError
from mailsigil.config.reading import ReadText
from mailsigil.config.settings import Settings
from mailsigil.directory.opening import open_directory
from mailsigil.policy.resolve import resolve

REQUIRED = '[[domain]]\nname = "bank.example"\nsigning = "required"\n'


class House:
    """Files, and the signing mode that they come to."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "mailsigil.toml"
        self.policy = folder / "policy.toml"
        self.config.write_text(f'[policy]\nfile = "{self.policy}"\n')
        self.policy.write_text(REQUIRED)
        self.live = Live(self.config, _signing)


def _signing(settings: Settings, read: ReadText) -> str:
    entries = open_directory(settings, read=read).policies("alice@bank.example")
    return resolve(entries).signing.value.value


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_a_worker_inherits_and_then_follows(house: House) -> None:
    assert house.live.make(b"") == "required"
    house.policy.write_text(REQUIRED.replace("required", "preferred"))
    assert house.live.make(house.live.reload()) == "preferred"
    # One that is started after that inherits it.
    assert house.live.make(b"") == "preferred"


@pytest.mark.parametrize("file", ["config", "policy"])
def test_a_file_that_is_just_being_written_is_read_by_no_worker(house: House, file: str) -> None:
    handed = house.live.reload()
    # An editor, or whoever writes in place, begins with nothing: a policy that signs nothing.
    getattr(house, file).write_text("")
    assert house.live.make(handed) == "required"


def test_what_is_no_good_is_handed_to_nobody(house: House) -> None:
    house.policy.write_text("[default]\nsigning = 'sometimes'\n")
    with pytest.raises(ConfigError, match="sometimes"):
        house.live.reload()
    assert house.live.make(b"") == "required"
