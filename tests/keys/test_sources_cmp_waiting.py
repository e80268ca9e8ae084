"""A CMP authority that takes its time: who asks after a request need not be who made it."""

from __future__ import annotations

import datetime as dt
import logging
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509

from keys.employees import ALICE
from keys.test_sources_cmp import Authority
from mailsigil.keys.errors import Pending, SourceRefused, SourceUnavailable
from mailsigil.keys.newkey import NewKey
from mailsigil.keys.profile import KeyKind
from mailsigil.keys.soft_key import soft_key
from mailsigil.keys.source import HeldKey
from mailsigil.keys.sources.cmp import CmpAuthority
from mailsigil.keys.subject import SubjectRequest
from servers.cmp import CmpServer, can_compile

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not can_compile(), reason="the CMP server is not built without gcc and libssl-dev"),
]
REQUEST = SubjectRequest(address=ALICE)
PAUSE = dt.timedelta(seconds=8)
"""A second more than the authority says."""


@dataclass
class Desk:
    """Whoever asks, each time anew, as after a restart."""

    authority: Authority
    state: Path
    ahead: dt.timedelta = dt.timedelta(0)
    new: NewKey = field(default_factory=lambda: NewKey.generate(REQUEST, KeyKind.P256))

    def now(self) -> dt.datetime:
        return dt.datetime.now(dt.UTC) + self.ahead

    def client(self, server: CmpServer) -> CmpAuthority:
        return self.authority.client(server, state=self.state, clock=self.now)

    def enrol(self, server: CmpServer, request: SubjectRequest = REQUEST) -> x509.Certificate:
        return x509.load_der_x509_certificate(self.client(server).enrol(request, self.new)[0])

    def wait(self, server: CmpServer) -> None:
        """Asks, and is told to wait; then the pause is over."""
        with pytest.raises(Pending):
            self.enrol(server)
        self.ahead += PAUSE

    def files(self) -> list[Path]:
        return list(self.state.iterdir())


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("cmp"))


@pytest.fixture
def desk(authority: Authority, tmp_path: Path) -> Desk:
    return Desk(authority, tmp_path)


@pytest.mark.parametrize("implicit", [True, False], ids=["implicit", "confirmed"])
def test_a_restart_goes_on_with_the_request(desk: Desk, implicit: bool) -> None:
    """RFC 9483 4.4: status waiting, then pollReq and pollRep in one transaction, then the certificate."""
    with desk.authority.server("wait", implicit=implicit) as server:
        with pytest.raises(Pending, match="ask again in 7 s") as caught:
            desk.enrol(server)
        assert caught.value.retry_after == 7
        (file,) = desk.files()
        assert file.stat().st_mode & 0o777 == 0o600
        desk.ahead += PAUSE
        desk.wait(server)
        assert desk.enrol(server).public_key() == desk.new.private_key().public_key()
    assert desk.files() == []
    confirmed = [] if implicit else ["cert_conf"]
    assert server.kinds() == ["p10cr", "poll_req", "poll_req", "poll_req", *confirmed]
    assert len({identifier for _, identifier in server.heard}) == 1


def test_nobody_asks_before_the_authority_wants_it(desk: Desk) -> None:
    """RFC 9810 5.3.22, checkAfter: also who never heard of it keeps to it."""
    with desk.authority.server("wait") as server:
        with pytest.raises(Pending):
            desk.enrol(server)
        heard = server.kinds()
        desk.ahead = dt.timedelta(seconds=3)
        with pytest.raises(Pending) as caught:
            desk.enrol(server)
        assert 3 < caught.value.retry_after < 4.1
        assert server.kinds() == heard
        # A clock that was put back keeps nobody from asking for longer than a day.
        desk.ahead = -dt.timedelta(days=1, seconds=30)
        with pytest.raises(Pending):
            desk.enrol(server)
        assert server.kinds() == [*heard, "poll_req"]


def test_a_renewal_that_takes_its_time(desk: Desk, tmp_path: Path) -> None:
    with desk.authority.server() as server:
        leaf = desk.enrol(server)
    held = HeldKey(soft_key(desk.new.private_key(), leaf, [], origin=tmp_path), tmp_path)
    successor = NewKey.generate(REQUEST, KeyKind.P256)
    with desk.authority.server("wait") as server:
        for _ in range(2):
            with pytest.raises(Pending):
                desk.client(server).renew(REQUEST, successor, current=held)
            desk.ahead += PAUSE
        assert desk.client(server).renew(REQUEST, successor, current=held)
    assert server.kinds() == ["kur", "poll_req", "poll_req", "poll_req"]
    assert desk.files() == []


def test_what_began_as_a_renewal_goes_on_after_the_old_certificate_ran_out(
    desk: Desk, tmp_path: Path
) -> None:
    """Then nobody has the current key at hand, and the request is for a first certificate."""
    with desk.authority.server() as server:
        leaf = desk.enrol(server)
    held = HeldKey(soft_key(desk.new.private_key(), leaf, [], origin=tmp_path), tmp_path)
    desk.new = NewKey.generate(REQUEST, KeyKind.P256)
    with desk.authority.server("wait") as server:
        with pytest.raises(Pending):
            desk.client(server).renew(REQUEST, desk.new, current=held)
        desk.ahead += PAUSE
        desk.wait(server)
        assert desk.enrol(server)
    assert server.kinds() == ["kur", "poll_req", "poll_req", "poll_req"]


def test_a_no_after_a_while_is_a_no(desk: Desk) -> None:
    with desk.authority.server("wait-reject") as server:
        desk.wait(server)
        desk.wait(server)
        with pytest.raises(SourceRefused, match="notAuthorized, this person is not known here"):
            desk.enrol(server)
        assert desk.files() == []
    assert server.kinds() == ["p10cr", "poll_req", "poll_req", "poll_req"]


def test_a_transaction_that_the_authority_forgot_is_over(desk: Desk) -> None:
    with desk.authority.server("wait") as server:
        desk.wait(server)
    with desk.authority.server("wait") as server:
        with pytest.raises(SourceRefused):
            desk.enrol(server)
        assert desk.files() == []
        desk.wait(server)
    assert server.kinds() == ["poll_req", "p10cr", "poll_req"]


@pytest.mark.parametrize("first", [True, False], ids=["the first", "a later one"])
def test_a_poll_whose_answer_is_lost_is_made_again(desk: Desk, first: bool) -> None:
    with desk.authority.server("wait") as server:
        if not first:
            desk.wait(server)
        server.loses = "poll_req"
        with pytest.raises(SourceUnavailable) as caught:
            desk.enrol(server)
        assert not caught.value.is_unanswered  # Nobody is sent to look for a certificate.
        server.loses = ""
        if first:
            desk.wait(server)
        assert desk.enrol(server)
    assert server.kinds() == ["p10cr", "poll_req", "poll_req", "poll_req"]
    assert len({identifier for _, identifier in server.heard}) == 1


def test_an_authority_that_knows_no_lost_answers_is_asked_anew(desk: Desk) -> None:
    """libcrypto's own server insists on the nonce of the answer that got lost, and ends the transaction."""
    with desk.authority.server("wait-strict") as server:
        desk.wait(server)
        server.loses = "poll_req"
        with pytest.raises(SourceUnavailable):
            desk.enrol(server)
        server.loses = ""
        with pytest.raises(SourceRefused, match="recipnonce unmatched"):
            desk.enrol(server)
        assert desk.files() == []


def test_what_is_not_the_authority_ends_nothing(desk: Desk, tmp_path: Path) -> None:
    """A proxy before an authority that is away, and a secret that was taken away: it waits on."""
    with desk.authority.server("wait") as server:
        desk.wait(server)
        server.is_away = True
        with pytest.raises(SourceUnavailable, match="HTML instead of CMP"):
            desk.enrol(server)
        server.is_away = False
        client = desk.authority.client(
            server, state=desk.state, clock=desk.now, secret=tmp_path.parent / "gone"
        )
        with pytest.raises(SourceUnavailable, match="gone"):
            client.enrol(REQUEST, desk.new)
        desk.wait(server)
        assert desk.enrol(server)
    assert server.kinds().count("p10cr") == 1


@pytest.mark.parametrize("what", ["key", "names", "age", "content"])
def test_another_request_is_another_transaction(
    desk: Desk, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    request = REQUEST
    with desk.authority.server("wait") as server:
        desk.wait(server)
        match what:
            case "key":
                desk.new = NewKey.generate(REQUEST, KeyKind.P256)
            case "names":
                request = SubjectRequest(address=ALICE, title="Manager")
            case "age":
                desk.ahead = dt.timedelta(days=30, seconds=-60)
                desk.wait(server)
                server.loses = "p10cr"  # The server's certificates last no longer, so none is to come.
                desk.ahead = dt.timedelta(days=30, seconds=10)
            case _:
                desk.files()[0].write_text("{}")
        server.heard.clear()
        expected = pytest.raises(SourceUnavailable) if what == "age" else nullcontext()
        with caplog.at_level(logging.WARNING), expected:
            desk.enrol(server, request)
    assert server.kinds() == ["p10cr"]
    assert f"{ALICE} is asked for anew" in caplog.text
    assert desk.files() == []
