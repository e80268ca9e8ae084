"""A CMP authority where a person approves: each run asks after the request that the first one made."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from keys.test_sources_cmp import Authority as CmpFiles
from lifecycle.one_source import Site, one_source
from mailsigil.config.sources import CmpSource
from mailsigil.keys.errors import Pending
from mailsigil.keys.sources.build import build_source
from mailsigil.lifecycle.turnover import Outcome
from servers.cmp import CmpServer, can_compile

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not can_compile(), reason="the CMP server is not built without gcc and libssl-dev"),
]
ALICE = "alice@bank.example"
PAUSE = dt.timedelta(seconds=8)
"""A second more than the authority says."""


class Bank:
    """A bank of one, and its authority."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        (folder / "cmp").mkdir()
        self.files, self._stack = CmpFiles(folder / "cmp"), stack
        self.site: Site = one_source(folder, {}, cmp=self._source("http://127.0.0.1:9/"))
        del self.site.bank.people["bob"]

    def server(self, mode: str) -> CmpServer:
        """The authority, from now on."""
        server = self._stack.enter_context(self.files.server(mode))
        self.site.source = self.site.source.model_copy(update={"cmp": self._source(server.url)})
        return server

    def _source(self, url: str) -> CmpSource:
        return CmpSource(
            url=url,
            trusted=str(self.files.folder / "ca.pem"),
            reference="mailsigil",
            secret_file=str(self.files.secret),
        )

    def sync(self, outcome: Outcome) -> None:
        """One run of `mailsigil sync`, which knows nothing of the one before; then the pause is over."""
        (result,) = self.site.sync().results
        assert result.outcome is outcome, result.sentence
        self.site.ahead += PAUSE

    def hidden(self) -> list[str]:
        """What waits in the state folder."""
        return [
            path.name for path in self.site.state.iterdir() if path.suffix in (".waiting", ".transaction")
        ]


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[Bank]:
    with ExitStack() as stack:
        yield Bank(tmp_path, stack)


def test_each_run_goes_on_with_the_request_of_the_first(bank: Bank) -> None:
    server = bank.server("wait")
    bank.sync(Outcome.PENDING)
    bank.site.ahead -= PAUSE
    bank.sync(Outcome.PENDING)  # Too early: nobody is asked.
    assert server.kinds() == ["p10cr", "poll_req"]
    bank.sync(Outcome.PENDING)
    bank.sync(Outcome.DONE)
    assert server.kinds() == ["p10cr", "poll_req", "poll_req", "poll_req"]
    assert len({identifier for _, identifier in server.heard}) == 1
    assert bank.site.statuses("alice") == ["issued"]
    assert bank.site.signs_with("alice") is not None
    assert bank.hidden() == []


def test_a_renewal_waits_as_a_renewal(bank: Bank) -> None:
    """The current key vouches for each poll, as it did for the request (RFC 9483 4.1.3)."""
    bank.server("issue")
    bank.sync(Outcome.DONE)
    first = bank.site.signs_with("alice")
    assert first is not None
    bank.site.ahead = first.not_valid_after_utc - dt.datetime.now(dt.UTC) - dt.timedelta(days=2)
    server = bank.server("wait")
    bank.sync(Outcome.PENDING)
    bank.sync(Outcome.PENDING)
    assert bank.site.signs_with("alice") == first
    bank.sync(Outcome.DONE)
    assert server.kinds() == ["kur", "poll_req", "poll_req", "poll_req"]
    assert server.protections == {"signature"}
    assert bank.site.statuses("alice") == ["superseded", "issued"]


def test_a_no_ends_it_and_the_next_run_asks_anew(bank: Bank) -> None:
    bank.server("wait-reject")
    bank.sync(Outcome.PENDING)
    bank.sync(Outcome.PENDING)
    bank.sync(Outcome.FAILED)
    assert bank.site.statuses("alice") == ["failed"]
    assert bank.hidden() == []
    server = bank.server("issue")
    bank.sync(Outcome.DONE)
    assert server.kinds() == ["p10cr"]


def test_who_leaves_meanwhile_leaves_nothing(bank: Bank) -> None:
    server = bank.server("wait")
    bank.sync(Outcome.PENDING)
    assert len(bank.hidden()) == 2
    del bank.site.bank.people["alice"]
    bank.sync(Outcome.DONE)
    assert bank.hidden() == []
    assert server.kinds() == ["p10cr", "poll_req"]


def test_who_is_promoted_meanwhile_is_asked_for_anew(bank: Bank) -> None:
    server = bank.server("wait")
    bank.sync(Outcome.PENDING)
    bank.site.bank.people["alice"]["title"] = "Manager"
    bank.sync(Outcome.DONE)
    assert server.kinds() == ["p10cr", "poll_req", "p10cr"]
    assert bank.hidden() == []


def test_the_key_agent_by_itself_goes_on_after_a_restart(bank: Bank) -> None:
    """Without the lifecycle: each mail meets an agent that was just started."""
    server = bank.server("wait")
    for _ in range(2):
        keys = build_source(bank.site.source, now=bank.site.now)
        with pytest.raises(Pending):
            keys.find(ALICE)
        keys.close()
        bank.site.ahead += PAUSE
    keys = build_source(bank.site.source, now=bank.site.now)
    assert keys.find(ALICE)
    keys.close()
    assert server.kinds() == ["p10cr", "poll_req", "poll_req", "poll_req"]
    assert len({identifier for _, identifier in server.heard}) == 1
    assert bank.hidden() == []
