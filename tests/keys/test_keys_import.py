"""Existing keys brought into a folder."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from keys.employees import ALICE, NOW, Employee, employee
from mailsigil.keys import import_keys
from mailsigil.keys.errors import KeyFileError
from mailsigil.keys.folder import KeyFolder
from mailsigil.keys.import_keys import Imported, Planned, bundles, carry_out, plan_import

LATER = NOW + dt.timedelta(days=1000)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.mkdir(mode=0o700)
    return path


def bring(folder: Path, *paths: Path, **how: object) -> Imported:
    (bundle,) = bundles(paths)
    defaults: dict[str, object] = {"domains": frozenset(), "passphrase": None, "replace": False, "now": NOW}
    planned = plan_import(bundle, folder, **{**defaults, **how})  # type: ignore[arg-type]
    carry_out([planned])
    return planned.imported


def files(tmp_path: Path, who: Employee, form: str) -> list[Path]:
    contents = {
        "one": {"a.pem": who.key_pem() + who.chain_pem()},
        "two": {"a.key": who.key_pem(), "a.crt": who.chain_pem()},
        "p12": {"a.p12": who.pkcs12(b"open sesame"), "a.pass": b"open sesame\n"},
        "plain p12": {"a.p12": who.pkcs12(None)},
    }[form]
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    return [tmp_path / name for name in contents if not name.endswith(".pass")]


@pytest.mark.parametrize("form", ["one", "two", "p12", "plain p12"])
def test_what_is_imported_is_found_by_the_agent(tmp_path: Path, folder: Path, form: str) -> None:
    done = bring(folder, *files(tmp_path, employee(), form))
    assert done.addresses == (ALICE,)
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    found = KeyFolder(folder)
    found.reload()
    assert len(found.find(ALICE)) == 1
    assert found.findings(NOW) == ()


def test_nothing_is_overwritten_unless_that_is_meant(tmp_path: Path, folder: Path) -> None:
    first, second = employee(), employee()
    done = bring(folder, *files(tmp_path, first, "one"))
    before = done.path.read_bytes()
    for form in ("one", "plain p12"):
        with pytest.raises(KeyFileError, match="--replace"):
            bring(folder, *files(tmp_path, second, form))
    assert done.path.read_bytes() == before
    bring(folder, *files(tmp_path, second, "plain p12"), replace=True)
    assert [path.name for path in folder.iterdir()] == [f"{ALICE}.p12"]


@pytest.mark.parametrize(
    ("who", "how", "sentence"),
    [
        pytest.param(employee(), {"now": LATER}, "expired on", id="expired"),
        pytest.param(employee(), {"domains": frozenset({"x.example"})}, "in no domain", id="domain"),
        pytest.param(employee(addresses=()), {}, "names no mail address", id="no address"),
        pytest.param(employee(may_sign=False), {}, "does not allow signatures", id="usage"),
    ],
)
def test_what_is_not_imported(
    tmp_path: Path, folder: Path, who: Employee, how: dict[str, object], sentence: str
) -> None:
    with pytest.raises(KeyFileError, match=sentence):
        bring(folder, *files(tmp_path, who, "one"), **how)
    assert list(folder.iterdir()) == []


def test_files_of_two_people(tmp_path: Path, folder: Path) -> None:
    first, second = employee(), employee()
    (tmp_path / "a.key").write_bytes(first.key_pem())
    (tmp_path / "a.crt").write_bytes(second.chain_pem())
    with pytest.raises(KeyFileError, match="belongs to none"):
        bring(folder, tmp_path / "a.key", tmp_path / "a.crt")


def test_a_wrong_passphrase(tmp_path: Path, folder: Path) -> None:
    paths = files(tmp_path, employee(), "p12")
    with pytest.raises(KeyFileError, match="passphrase"):
        bring(folder, *paths, passphrase=b"wrong")
    assert list(folder.iterdir()) == []


def test_files_that_share_a_name_belong_together() -> None:
    paths = [Path(name) for name in ("b.key", "a.p12", "b.crt", "a.pem")]
    assert [[path.name for path in each.files] for each in bundles(paths)] == [
        ["b.key", "b.crt"],
        ["a.p12"],
        ["a.pem"],
    ]


def planned(tmp_path: Path, folder: Path, name: str, who: Employee, **how: object) -> Planned:
    path = tmp_path / name
    path.write_bytes(who.key_pem() + who.chain_pem())
    (bundle,) = bundles([path])
    defaults: dict[str, object] = {"domains": frozenset(), "passphrase": None, "replace": True, "now": NOW}
    return plan_import(bundle, folder, **{**defaults, **how})  # type: ignore[arg-type]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_when_writing_fails_the_folder_is_as_it_was(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "first").mkdir()
    bring(folder, *files(tmp_path / "first", employee(), "p12"))
    before = contents(folder)
    bob = employee(addresses=("bob@bank.example",))
    plans = [
        planned(tmp_path, folder, "alice.pem", employee()),
        planned(tmp_path, folder, "bob.pem", bob),
    ]
    write = import_keys.write_private

    def full(path: Path, content: bytes, *, replace: bool = False) -> None:
        if path.name.startswith("bob@"):
            raise OSError(28, "No space left on device")
        write(path, content, replace=replace)

    monkeypatch.setattr(import_keys, "write_private", full)
    with pytest.raises(KeyFileError, match=r"nothing was imported: No space left.*room on the disk"):
        carry_out(plans)
    assert contents(folder) == before


def test_two_keys_of_one_person_at_once(tmp_path: Path, folder: Path) -> None:
    plans = [planned(tmp_path, folder, name, employee()) for name in ("a.pem", "b.pem")]
    with pytest.raises(KeyFileError, match=f"two of the keys are for {ALICE}"):
        carry_out(plans)
    assert contents(folder) == {}
