"""The administrator's socket of the key agent."""

from __future__ import annotations

import datetime as dt
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keys.employees import ALICE, ISSUING, NOW, employee
from mailsigil.keys.admin import PAGE, AdminClient, AdminDesk
from mailsigil.keys.errors import KeyAgentRefused, KeyAgentUnavailable
from mailsigil.keys.folder import KeyFolder
from mailsigil.keys.protocol import MAX_FRAME
from mailsigil.keys.routes import DomainRoute
from mailsigil.keys.server import KeyAgentServer, listen
from mailsigil.keys.soft_key import SoftKey, soft_key
from mailsigil.keys.source import KeySource

WHO = employee()
KEY = soft_key(WHO.key, WHO.certificate, [ISSUING], origin=Path("/test"))


class Many(KeyFolder):
    """A folder that says it holds many keys."""

    def __init__(self, count: int) -> None:
        super().__init__("/nowhere")
        self._count = count

    def held(self) -> tuple[SoftKey, ...]:
        return (KEY,) * self._count

    def count(self) -> int:
        return self._count


def desk(sources: list[tuple[str, KeySource]], reload: Callable[[], None] = lambda: None) -> AdminDesk:
    named = [DomainRoute(source, name=name, domains=["bank.example"]) for name, source in sources]
    return AdminDesk(
        lambda: named, reload=reload, started=NOW, now=lambda: NOW + dt.timedelta(days=1), processes=2
    )


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., AdminClient]]:
    servers = []

    def start(answering: AdminDesk, *, allowed: tuple[int, ...] = (os.geteuid(),)) -> AdminClient:
        path = tmp_path / "admin.sock"
        server = KeyAgentServer(
            answering, listen(path, mode=0o600), allowed_uids=allowed, allowed_by="root and the agent"
        )
        threading.Thread(target=server.serve, daemon=True).start()
        servers.append(server)
        return AdminClient(path)

    yield start
    for server in servers:
        server.stop()


def test_lists_page_by_page(serve: Callable[..., AdminClient]) -> None:
    client = serve(desk([("keyd", Many(PAGE)), ("hsm", Many(3))]))
    keys = list(client.listed())
    assert [key.source for key in keys] == ["keyd"] * PAGE + ["hsm"] * 3
    assert keys[0].addresses == (ALICE,)
    assert keys[0].level == "V1"
    assert keys[0].key_id == KEY.credential.key_id


def test_a_page_fits_into_a_frame() -> None:
    names = tuple(f"{'x' * 60}{number}@{'.'.join(['bank' * 15] * 3)}.example" for number in range(20))
    who = employee(addresses=names)
    key = soft_key(who.key, who.certificate, [ISSUING], origin=Path("/test"))

    class Wide(Many):
        def held(self) -> tuple[SoftKey, ...]:
            return (key,) * PAGE

    payload = desk([("s" * 64, Wide(PAGE))]).answer(b'{"op":"list"}', peer_uid=0)
    assert len(payload) < MAX_FRAME


def test_status_and_reload(serve: Callable[..., AdminClient]) -> None:
    reloaded: list[bool] = []
    client = serve(desk([("keyd", Many(2))], reload=lambda: reloaded.append(True)))
    assert client.status() == {
        "processes": 2,
        "started": NOW.isoformat(),
        "sources": [{"name": "keyd", "keys": 2, "expired": 0}],
    }
    client.reload()
    assert reloaded == [True]


def test_another_user_is_turned_away(serve: Callable[..., AdminClient]) -> None:
    client = serve(desk([]), allowed=(os.geteuid() + 1,))
    with pytest.raises((KeyAgentRefused, KeyAgentUnavailable)):
        client.status()


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(KeyAgentUnavailable, match="see that mailsigil keyd runs"):
        AdminClient(tmp_path / "none").status()


@settings(max_examples=100, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=300),
        st.dictionaries(
            st.sampled_from(["op", "offset", "x"]),
            st.one_of(st.sampled_from(["list", "status", "reload"]), st.integers(), st.none(), st.text()),
        ).map(lambda value: json.dumps(value).encode()),
    )
)
def test_hostile_requests_get_an_answer(payload: bytes) -> None:
    answer = json.loads(desk([("keyd", Many(1))]).answer(payload, peer_uid=0))
    assert isinstance(answer, dict)
