"""Disks that are full, files that nobody can read, authorities that refuse with odd words."""

from __future__ import annotations

import errno
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from lifecycle.town import Moody, Town
from mailsigil.config.lifecycle import LifecycleSettings
from mailsigil.keys import former_keys
from mailsigil.keys.errors import SourceAnswer, SourceRefused, SourceUnavailable
from mailsigil.keys.key_files import KeyFile
from mailsigil.keys.soft_key import SoftKey
from mailsigil.keys.sources.embedded import EmbeddedIssuer
from mailsigil.keys.subject import SubjectRequest
from mailsigil.lifecycle.key_files import KeyFiles
from mailsigil.lifecycle.run import begin


@pytest.fixture
def town(settings: LifecycleSettings, tmp_path: Path) -> Town:
    town = Town(tmp_path / "town", settings)
    for uid in ("alice", "bob", "carl"):
        town.bank.hire(uid, f"{uid.title()} Example")
    return town


def test_a_full_disk_keeps_no_key_where_it_signs(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    town.sync()
    del town.bank.people["bob"]

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(former_keys, "write_private", full)
    monkeypatch.setattr(Path, "hardlink_to", full)
    read = former_keys._keys

    def decrypting(file: KeyFile) -> tuple[SoftKey, ...]:
        """Others may have encrypted to it, so it would be kept."""
        keys = read(file)
        for key in keys:
            key.decrypts = True
        return keys

    monkeypatch.setattr(former_keys, "_keys", decrypting)
    report = town.sync()
    assert report.is_whole
    assert set(town.signers()) == {"alice", "carl"}
    assert len(town.revoked()) == 1


def test_a_file_that_goes_while_the_folder_is_read_is_no_missing_folder(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    town.sync()
    gone = town.state / "bob@bank.example.pem"
    real = os.scandir

    class Entries:
        def __init__(self, path: Any) -> None:
            self._real = real(path)

        def __enter__(self) -> Entries:
            return self

        def __exit__(self, *_: object) -> None:
            self._real.close()

        def __iter__(self) -> Any:
            for entry in self._real:
                if entry.name == gone.name:
                    gone.unlink()
                yield entry

    with monkeypatch.context() as patch:
        patch.setattr("mailsigil.lifecycle.key_files.os.scandir", Entries)
        (step,) = town.plan().actions
    assert step.address == "bob@bank.example"


def test_what_cannot_be_read_in_the_state_folder_is_in_nobodys_way(
    town: Town, caplog: pytest.LogCaptureFixture
) -> None:
    town.sync()
    (town.state / "old.pem").mkdir()
    del town.bank.people["bob"]
    assert town.sync().is_whole
    assert set(town.signers()) == {"alice", "carl"}
    assert "old.pem cannot be read: Is a directory" in caplog.text


def test_what_could_not_be_published_is_published_by_the_next_run(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    town.sync()
    del town.bank.people["bob"]

    def full(self: EmbeddedIssuer) -> None:
        raise SourceRefused("ca", "its list cannot be written: No space left on device", "Make room")

    with monkeypatch.context() as patch:
        patch.setattr(EmbeddedIssuer, "publish", full)
        report = town.sync()
        (trouble,) = report.trouble
        assert "is not published yet; the next run tries again" in trouble
        assert town.sync().trouble == [trouble]
    assert town.revoked() == {}
    assert town.sync().is_whole
    assert list(town.revoked().values()) == ["affiliationChanged"]


def test_odd_words_of_an_authority_stop_nobody(town: Town) -> None:
    def refuse(request: SubjectRequest) -> None:
        if request.address.startswith("bob"):
            raise SourceRefused("ca", "no\x00: \x1b[2Jit is\nTuesday\u202e" + "x" * 9000, "Wait")

    town.issuer = Moody(town, before=refuse)
    report = town.sync()
    assert report.counts()["done"] == 2
    (failed,) = (each for each in report.results if each.action.address.startswith("bob"))
    assert failed.sentence.isprintable()
    assert len(failed.sentence) < 3000
    assert set(town.signers()) == {"alice", "carl"}


@pytest.mark.integration
@pytest.mark.parametrize("kind", [SourceRefused, SourceAnswer], ids=["refused", "unfit"])
def test_an_authority_that_says_no_is_asked_less_and_less_by_itself(town: Town, kind: Any) -> None:
    asked = []

    def refuse(request: SubjectRequest) -> None:
        if request.address.startswith("bob"):
            asked.append(town.now)
            raise kind("ca", "bob is on a list", "Ask them")

    town.issuer = Moody(town, before=refuse)
    start = town.now
    for _ in range(18):
        _patient(town)
        town.now += timedelta(hours=1)
    hours = [(at - start) / timedelta(hours=1) for at in asked]
    assert hours == [0, 1, 2, 4, 8, 16]
    # A person who asks, and one who is asked for as somebody else, do not wait.
    town.sync()
    assert len(asked) == 7
    town.bank.people["bob"]["name"] = "Bob Married"
    _patient(town)
    assert len(asked) == 8
    town.issuer = None
    town.sync()
    assert set(town.signers()) == {"alice", "bob", "carl"}


def _patient(town: Town) -> None:
    """A run of the timer."""
    house = town.open()
    try:
        with begin(house, who="timer") as run:
            run.carry_out(run.plan(patient=True))
    finally:
        house.close()


def test_a_release_without_its_key_changes_nothing(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    town.lifecycle = town.lifecycle.model_copy(update={"on_departure": "hold"})
    town.sync()
    bob = town.bank.people.pop("bob")
    town.sync()
    town.bank.people["bob"] = bob

    def unreadable(self: KeyFiles, key_id: str) -> bytes | None:
        raise SourceUnavailable("ca", "the key cannot be read", "See to it")

    with monkeypatch.context() as patch:
        patch.setattr(KeyFiles, "set_aside_content", unreadable)
        town.sync()
    assert [status for _, status, _ in town.rows("bob")] == ["held"]
    assert list(town.revoked().values()) == ["certificateHold"]
    town.sync()
    assert town.signers()["bob"] == "V4 Bob Example"
