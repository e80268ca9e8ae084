"""``mailsigil storage``: what fails beside it ends in a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mailsigil.cli.storage import command

USER = "bob@bank.example"


class Site:
    """Storage keys in a folder."""

    def __init__(self, folder: Path) -> None:
        self.public, self.private, self.config = folder / "public", folder / "private", folder / "m.toml"
        self.public.mkdir(mode=0o700)
        self.private.mkdir(mode=0o700)
        self.config.write_text(
            f'[dovecot]\npublic_keys = "{self.public}"\n'
            '[[storage]]\nname = "s"\nkind = "folder"\ndomains = ["bank.example"]\n'
            f'[storage.folder]\npath = "{self.private}"\n'
        )

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(command, [*arguments, "--config", str(self.config)])


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def _refused(result: Result, sentence: str) -> None:
    assert (result.exit_code, sentence in result.output) == (2, True), result.output
    assert result.output.startswith("Error: ")


@pytest.mark.parametrize("name", ["create", "rotate", "list"])
def test_without_the_folder_of_public_keys(site: Site, name: str) -> None:
    site.public.rmdir()
    _refused(site.run(name, USER), f"{site.public}: the folder of public keys is not there")
    assert list(site.private.iterdir()) == []


def test_nothing_to_take_over(site: Site) -> None:
    _refused(site.run("pin", USER), USER)


def test_a_folder_that_takes_no_key(site: Site) -> None:
    site.private.rmdir()
    site.private.write_text("no folder")
    _refused(site.run("create", USER), str(site.private))
    assert list(site.public.iterdir()) == []


def test_made_listed_and_replaced(site: Site) -> None:
    assert site.run("create", USER).exit_code == 0
    _refused(site.run("create", USER), "has a storage key already")
    assert site.run("rotate", USER).exit_code == 0
    result = site.run("list", "--fetch")
    assert (result.exit_code, len(result.output.splitlines())) == (0, 2)
