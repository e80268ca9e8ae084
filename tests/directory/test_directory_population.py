"""All people of a large directory: in pages, and told whole or not at all."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.ldap_house import slapd
from mailsigil.config.loading import load_settings
from mailsigil.demo.bank import FRAME, ORGANISATION, directory_lines
from mailsigil.demo.programs import DemoError
from mailsigil.demo.slapd import SUFFIX, Slapd
from mailsigil.directory.api import DirectoryUnavailable, Population
from mailsigil.directory.entry import Entry
from mailsigil.directory.opening import open_directory
from mailsigil.directory.servers import Search, SearchFailed, Servers, SessionBroken

PEOPLE = 1700


def _person(number: int) -> str:
    return (
        f"dn: uid=p{number},ou=people,{SUFFIX}\nobjectClass: inetOrgPerson\nuid: p{number}\n"
        f"cn: Person {number}\nsn: {number}\ngivenName: Person\ntitle: Clerk\nmail: p{number}@bank.example\n"
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    people = "\n".join(map(_person, range(PEOPLE)))
    try:
        with slapd(tmp_path_factory.mktemp("many"), [FRAME, ORGANISATION, people]) as running:
            yield running
    except DemoError as error:
        pytest.skip(str(error))


def _directory(server: Slapd, folder: Path) -> Population:
    (folder / "policy.toml").write_text("")
    config = folder / "mailsigil.toml"
    config.write_text(
        f'[policy]\nfile = "{folder}/policy.toml"\n[[directory]]\n{directory_lines(server, timeout=2)}'
    )
    return open_directory(load_settings(config))


@pytest.mark.integration
def test_more_people_than_a_page_has(server: Slapd, tmp_path: Path) -> None:
    names = {one.person.addresses[0]: one.person for one in _directory(server, tmp_path).people()}
    assert len(names) == PEOPLE
    one = names["p7@bank.example"]
    assert (one.given_name, one.surname, one.title) == ("Person", "7", "Clerk")


@pytest.mark.integration
def test_no_list_of_all_people_is_kept(server: Slapd, tmp_path: Path) -> None:
    people = _directory(server, tmp_path).people()
    next(people)
    tracemalloc.start()
    for _ in range(400):
        next(people)
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    for _ in people:
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak - before < 8_000_000


@pytest.mark.integration
def test_a_server_that_dies_in_the_middle_is_an_end_with_an_error(tmp_path: Path) -> None:
    people = "\n".join(map(_person, range(1200)))
    with slapd(tmp_path / "ldap", [FRAME, people]) as server:
        found = _directory(server, tmp_path).people()
        next(found)
        server.kill()
        with pytest.raises(DirectoryUnavailable):
            list(found)


class _Half:
    """A server that ends after a page, in one way or another."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def search(self, search: Search, *, seconds: float) -> tuple[Entry, ...]:
        raise self._error

    def pages(self, search: Search, *, seconds: float) -> Iterator[tuple[Entry, ...]]:
        yield (Entry("uid=a", {}),)
        raise self._error

    def close(self) -> None:
        pass


@pytest.mark.parametrize("error", [SessionBroken("gone"), SearchFailed("more than allowed")])
def test_no_other_server_goes_on_with_what_one_began(error: Exception) -> None:
    asked: list[str] = []

    def connect(url: str, seconds: float) -> _Half:
        asked.append(url)
        return _Half(error)

    servers = Servers(
        "x", ["a", "b"], connect=connect, clock=lambda: 0.0, timeout=1, failover_seconds=1, connections=1
    )
    pages = servers.pages(Search(base="b", filter="f", attributes=(), limit=10))
    assert len(next(pages)) == 1
    with pytest.raises(DirectoryUnavailable, match=str(error)):
        next(pages)
    assert asked == ["a"]


def test_a_server_that_does_not_answer_is_passed_over() -> None:
    def connect(url: str, seconds: float) -> _Half:
        if url == "a":
            raise SessionBroken("refused")
        return _Half(SearchFailed("the end"))

    servers = Servers(
        "x", ["a", "b"], connect=connect, clock=lambda: 0.0, timeout=1, failover_seconds=1, connections=1
    )
    assert len(next(servers.pages(Search(base="b", filter="f", attributes=(), limit=10)))) == 1
