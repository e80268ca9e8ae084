"""What one process of the key agent was asked for, all of them know when the source dies."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keys.employees import ALICE
from keys.test_sources_agent import Clock, Service, key_for
from mailsigil.demo.programs import wait_until
from mailsigil.keys import known_addresses
from mailsigil.keys.errors import SourceUnavailable
from mailsigil.keys.guard import Breaker, Guard
from mailsigil.keys.known_addresses import KnownAddresses
from mailsigil.keys.remote import RemoteKeys

PEOPLE = [f"p{number}@bank.example" for number in range(20)]


def process(service: Service, clock: Clock, file: Path) -> RemoteKeys:
    """What one process of the agent has of a source."""
    guard = Guard("hsm", timeout=5, breaker=Breaker(failures=3, pause=0))
    return RemoteKeys(
        service,
        guard,
        key_seconds=60,
        stale_seconds=600,
        clock=clock,
        addresses=KnownAddresses(file),
        wall=lambda: 1_000_000.0 + clock(),
    )


def settle(*processes: RemoteKeys) -> None:
    """Refreshes until everybody knows what all know, as the agent does every few seconds."""

    def known() -> bool:
        for each in processes:
            each.refresh()
        return len({each.count() for each in processes}) == 1 and not any(p._to_warm for p in processes)

    wait_until(known, what="the processes to tell each other")


def test_when_the_source_dies_each_process_signs_for_everybody(tmp_path: Path) -> None:
    clock, service = Clock(), Service()
    for address in PEOPLE:
        service.keys[address] = (key_for(address),)
    one, two = (process(service, clock, tmp_path / "known") for _ in range(2))
    for number, address in enumerate(PEOPLE):
        assert (one, two)[number % 2].find(address)
    settle(one, two)
    service.error = SourceUnavailable("hsm", "it is dead", "Wait")
    clock.seconds += 120  # What they know is no longer fresh.
    for address in PEOPLE:
        assert one.find(address)
        assert two.find(address)
    # A third one that is started now cannot know more than the dead source tells.
    with pytest.raises(SourceUnavailable):
        process(service, clock, tmp_path / "known").find(PEOPLE[0])


def test_a_restart_knows_them_before_they_write(tmp_path: Path) -> None:
    clock, service = Clock(), Service()
    service.keys[ALICE] = (key_for(),)
    process(service, clock, tmp_path / "known").find(ALICE)
    again = process(service, clock, tmp_path / "known")
    again.refresh()
    wait_until(lambda: again.count() == 1, what="the look-up")
    # After its time nobody asks for it any more.
    clock.seconds += 700
    late = process(service, clock, tmp_path / "known")
    late.refresh()
    assert late._to_warm == {}


def test_they_do_not_ask_for_each_other_without_an_end(tmp_path: Path) -> None:
    clock, service = Clock(), Service()
    service.keys[ALICE] = (key_for(),)
    one, two = (process(service, clock, tmp_path / "known") for _ in range(2))
    one.find(ALICE)
    settle(one, two)
    asked = len(service.asked)
    for _ in range(20):
        clock.seconds += 1
        settle(one, two)
        one.find(ALICE)
        two.find(ALICE)
    assert len(service.asked) == asked == 2


def test_whom_the_source_does_not_know_is_not_written_down(tmp_path: Path) -> None:
    one = process(Service(), Clock(), tmp_path / "known")
    assert one.find(ALICE) == ()
    assert not (tmp_path / "known").exists()


def test_a_source_that_is_away_is_asked_when_it_is_back(tmp_path: Path) -> None:
    clock, service = Clock(), Service()
    service.keys[ALICE] = (key_for(),)
    process(service, clock, tmp_path / "known").find(ALICE)
    service.error = SourceUnavailable("hsm", "it is away", "Wait")
    two = process(service, clock, tmp_path / "known")
    two.refresh()
    wait_until(lambda: not two._warming.locked(), what="the failure")
    assert two.count() == 0
    service.error = None
    settle(two)
    wait_until(lambda: two.refresh() is None and two.count() == 1, what="the look-up")


def test_the_file_holds_addresses_alone_and_is_ours(tmp_path: Path) -> None:
    file = tmp_path / "known"
    KnownAddresses(file).note(ALICE, 12.3)
    assert file.read_text() == f"12 {ALICE}\n"
    assert file.stat().st_mode & 0o777 == 0o600


def _write(file: Path, start: int) -> None:
    known = KnownAddresses(file)
    for number in range(start, start + 300):
        known.note(f"p{number}@bank.example", 5.0)


def test_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write, args=(tmp_path / "known", 300 * n)) for n in range(3)]
    for each in writers:
        each.start()
    for each in writers:
        each.join(30)
    assert len(KnownAddresses(tmp_path / "known").news()) == 900


def test_a_large_file_is_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_addresses, "MAX_BYTES", 200)
    known = KnownAddresses(tmp_path / "known")
    for number in range(20):
        known.note(f"p{number}@bank.example", float(number))
    known.tidy(before=15.0)
    assert KnownAddresses(tmp_path / "known").news() == {
        f"p{n}@bank.example": float(n) for n in range(15, 20)
    }
    known.note(ALICE, 30.0)
    assert known.news()[ALICE] == 30.0


def test_a_folder_that_is_not_there_is_no_trouble(tmp_path: Path) -> None:
    known = KnownAddresses(tmp_path / "no" / "known")
    known.note(ALICE, 1.0)
    known.tidy(0.0)
    assert known.news() == {}


@given(st.binary(max_size=300))
def test_whatever_stands_in_it_is_addresses_or_nothing(data: bytes) -> None:
    for address, at in known_addresses._addresses(data).items():
        assert "@" in address
        assert at >= 0


@pytest.mark.parametrize(
    "address", ["a b@bank.example", "a\n9 eve@bank.example", "x" * 500 + "@bank.example"]
)
def test_an_address_cannot_write_another_line(address: str, tmp_path: Path) -> None:
    known = KnownAddresses(tmp_path / "known")
    known.note(address, 1.0)
    assert known.news() == {}
