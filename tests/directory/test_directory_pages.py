"""A server that goes on and on is one that does not answer."""

from __future__ import annotations

import time
from typing import Any

import pytest

from mailsigil.directory import ldap
from mailsigil.directory.servers import Search, SessionBroken, SessionTimeout

SEARCH = Search(base="dc=bank,dc=example", filter="(mail=a)", attributes=("mail",), limit=20)


class Socket:
    """One that gives an octet after a while."""

    def settimeout(self, seconds: float) -> None:
        self.seconds = seconds

    def recv(self, _: int) -> bytes:
        time.sleep(min(self.seconds, 0.05))
        return b"x"


class Endless:
    """A connection to a server whose pages have no entries, and no end; each takes some reads."""

    response: tuple[object, ...] = ()

    def __init__(self, reads: int) -> None:
        self.socket: Any = Socket()
        self.result = {"result": 0, "controls": {ldap._PAGED: {"value": {"cookie": b"more"}}}}
        self.reads, self.asked = reads, 0

    def search(self, *_: object, **__: object) -> None:
        self.asked += 1
        for _number in range(self.reads):
            self.socket.recv(1)


@pytest.mark.parametrize("reads", [1, 1_000_000], ids=["page-after-page", "octet-after-octet"])
def test_a_search_ends_in_time(reads: int) -> None:
    session = ldap._Session(Endless(reads))
    started = time.monotonic()
    with pytest.raises(SessionTimeout):
        session.search(SEARCH, seconds=0.2)
    assert time.monotonic() - started < 2


def test_pages_without_entries_end() -> None:
    endless = Endless(0)
    with pytest.raises(SessionBroken, match="page after page"):
        list(ldap._Session(endless).pages(SEARCH, seconds=1))
    assert endless.asked <= ldap.MORE_PAGES + 1
