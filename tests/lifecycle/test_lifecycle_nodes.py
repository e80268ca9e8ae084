"""Several mail servers with one database: real processes, at the same time, one of them killed."""

from __future__ import annotations

import base64
import os
import secrets
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from lifecycle.town import DAY, Town
from mailsigil.config.lifecycle import LifecycleSettings
from mailsigil.lifecycle.database import connect
from processes import ENVIRONMENT

pytestmark = pytest.mark.integration

PEOPLE = 120

_NODE = """
import sys, time
from pathlib import Path
sys.path[:0] = {paths!r}
from lifecycle.town import Moody, Town
from mailsigil.config.lifecycle import LifecycleSettings
folder = Path({folder!r})
settings = LifecycleSettings.model_validate_json({settings!r})
town = Town(folder / {node!r}, settings, node={node!r}, ca=folder / "ca")
for each in range({people}):
    town.bank.hire(f"p{{each}}", f"Person Nr{{each}}")
asked = []
def mood(request):
    asked.append(request)
    if len(asked) == {hang}:
        (folder / "here").touch()
        time.sleep(60)
town.issuer = Moody(town, after=mood)
(folder / ({node!r} + ".ready")).touch()
while not (folder / "go").exists():
    time.sleep(0.005)
report = town.sync()
print(report.counts(), report.trouble)
"""


class Nodes:
    """The mail servers of one bank, each a process of its own."""

    def __init__(self, folder: Path, settings: LifecycleSettings) -> None:
        self.folder = folder
        self.settings = settings
        self.town("mx1")  # makes the authority

    def town(self, node: str, people: int = PEOPLE) -> Town:
        """A mail server in this process."""
        town = Town(self.folder / node, self.settings, node=node, ca=self.folder / "ca")
        for each in range(people):
            town.bank.hire(f"p{each}", f"Person Nr{each}")
        return town

    def start(self, node: str, *, hang: int = 0) -> subprocess.Popen[bytes]:
        """One run in a process, which hangs after so many certificates."""
        code = _NODE.format(
            paths=[str(Path(__file__).resolve().parent.parent)],
            folder=str(self.folder),
            node=node,
            settings=self.settings.model_dump_json(),
            people=PEOPLE,
            hang=hang,
        )
        return subprocess.Popen([sys.executable, "-c", code], env=ENVIRONMENT, stdout=subprocess.PIPE)

    def until(self, name: str) -> None:
        """Wait for a file."""
        deadline = time.monotonic() + 30
        while not (self.folder / name).exists():
            assert time.monotonic() < deadline, name
            time.sleep(0.01)


@pytest.fixture
def nodes(fresh_postgresql: Callable[[], LifecycleSettings], tmp_path: Path) -> Nodes:
    return Nodes(tmp_path, fresh_postgresql())


def _one_each(town: Town) -> None:
    signing = Counter(uid for uid, status, _ in town.rows() if status == "issued")
    assert len(signing) == PEOPLE
    assert set(signing.values()) == {1}


def test_two_at_once_issue_nothing_twice(nodes: Nodes) -> None:
    running = [nodes.start(node) for node in ("mx1", "mx2")]
    for node in ("mx1", "mx2"):
        nodes.until(f"{node}.ready")
    (nodes.folder / "go").touch()
    told = [one.communicate(timeout=60)[0].decode() for one in running]
    assert [one.returncode for one in running] == [0, 0], told
    town = nodes.town("mx1")
    assert town.issued() == PEOPLE, told
    _one_each(town)
    # Both had a hand in it, and each key lies on the machine that made it.
    shares = [len(nodes.town(node).signers()) for node in ("mx1", "mx2")]
    assert sum(shares) == PEOPLE
    assert min(shares) > 0


def test_one_that_is_killed_is_replaced_by_the_other(nodes: Nodes) -> None:
    (nodes.folder / "go").touch()
    child = nodes.start("mx1", hang=30)
    nodes.until("here")
    child.send_signal(signal.SIGKILL)
    child.wait()
    other = nodes.town("mx2")
    report = other.sync()
    # What the dead one holds is left alone for a while, and told.
    open_ = [one for one in report.results if one.outcome == "left open"]
    assert open_
    assert all("is at work on it; if it died, this is done after" in one.sentence for one in open_)
    other.now += timedelta(minutes=11)
    assert other.sync().is_whole
    _one_each(other)
    assert other.steps() == []
    # What the dead one was given is revoked, because its keys are on a machine that may be lost.
    good = other.issued() - len(other.revoked())
    assert good == PEOPLE
    # It comes back: its keys are of no use any more, and it signs with none of them.
    back = nodes.town("mx1")
    back.now = other.now + DAY
    back.sync()
    back.sync()
    good_here = {uid for uid, status, _ in back.rows() if status == "issued"}
    assert len(good_here) == PEOPLE
    assert not any(step.startswith(("issue", "reissue")) for step in back.steps())
    assert not set(back.signers()) & set(other.signers())


def _share(nodes: Nodes, *, secret: bytes | None = None) -> None:
    file = nodes.folder / "secret"
    if secret is None:
        secret = base64.b64encode(secrets.token_bytes(32))
    file.write_bytes(secret + b"\n")
    file.chmod(0o600)
    nodes.settings = nodes.settings.model_copy(update={"share_keys_with": str(file)})


def test_without_a_shared_secret_the_plan_tells_where_the_key_is(nodes: Nodes) -> None:
    nodes.town("mx1", 2).sync()
    plan = nodes.town("mx2", 2).plan()
    assert plan.actions == []
    assert {note.sentence for note in plan.notes} == {"its key lies on mx1 alone (see share_keys_with)"}


def test_keys_come_to_the_other_servers_and_go_with_their_certificates(nodes: Nodes) -> None:
    _share(nodes)
    first, second = nodes.town("mx1", 3), nodes.town("mx2", 3)
    first.sync()
    assert second.steps() == ["install p0", "install p1", "install p2"]
    second.sync()
    assert second.signers() == first.signers()
    assert len(second.signers()) == 3
    assert second.steps() == first.steps() == []
    # The second server renames one, and the first gets the new key.
    for town in (first, second):
        town.bank.people["p1"]["name"] = "Person Married"
    second.sync()
    assert first.steps() == ["install p1"]
    first.sync()
    assert first.signers() == second.signers()
    # One leaves: revoked by the first, and the second stops signing.
    for town in (first, second):
        del town.bank.people["p2"]
    first.sync()
    assert second.steps() == ["discard p2"]
    second.sync()
    assert set(second.signers()) == {"p0", "p1"}
    # The organisation lapses and comes back: the key is set aside, and back, on both.
    for town in (first, second):
        town.bank.valid_until = "2026-11-01"
    first.sync()
    second.sync()
    assert (
        set(first.signers().values())
        == set(second.signers().values())
        == {"V2 Person Nr0", "V2 Person Married"}
    )
    for town in (first, second):
        town.bank.valid_until = "2038-01-01"
    second.sync()
    first.sync()
    assert (
        set(first.signers().values())
        == set(second.signers().values())
        == {"V4 Person Nr0", "V4 Person Married"}
    )
    assert first.steps() == second.steps() == []


def test_sharing_that_is_switched_on_later(nodes: Nodes) -> None:
    nodes.town("mx1", 2).sync()
    _share(nodes)
    first, second = nodes.town("mx1", 2), nodes.town("mx2", 2)
    assert second.steps() == []
    assert first.steps() == ["share p0", "share p1"]
    first.sync()
    second.sync()
    assert len(second.signers()) == 2


def test_no_private_key_stands_readable_in_the_database(nodes: Nodes) -> None:
    _share(nodes)
    town = nodes.town("mx1", 1)
    town.sync()
    with connect(town.lifecycle) as database, database.look() as connection:
        sealed = bytes(connection.execute(text("SELECT sealed FROM material")).scalar_one())
    (file,) = town.state.glob("*.pem")
    assert file.read_bytes()[:40] not in sealed
    assert b"PRIVATE" not in sealed
    assert len(sealed) > 500


def test_another_secret_is_told_and_harms_nothing(nodes: Nodes) -> None:
    _share(nodes)
    nodes.town("mx1", 1).sync()
    _share(nodes)
    second = nodes.town("mx2", 1)
    report = second.sync()
    assert report.counts()["failed"] == 1
    assert "cannot be decrypted" in report.results[0].sentence
    assert second.signers() == {}
    assert os.listdir(second.state) != []


def test_clocks_that_differ_stop_a_run(nodes: Nodes) -> None:
    from mailsigil.directory.opening import open_directory
    from mailsigil.lifecycle.errors import RunRefused
    from mailsigil.lifecycle.run import begin, open_house

    town = nodes.town("mx1", 1)
    town.open().close()
    house = open_house(town.settings, open_directory(town.settings), now=lambda: town.now - 900 * DAY)
    with begin(house, who="test") as run, pytest.raises(RunRefused, match="and the database's"):
        run.check_clock()
    house.close()
