"""The agent in front of sources that stall, fail, come back, and enrol."""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from keys.employees import ALICE, ISSUING, NOW, certificate, employee
from mailsigil.keys import enrolment
from mailsigil.keys.agent import KeyAgent
from mailsigil.keys.enrolment import EnrolledKeys
from mailsigil.keys.errors import (
    KeyAgentRefused,
    Pending,
    Refusal,
    SourceAnswer,
    SourceError,
    SourceRefused,
    SourceUnavailable,
)
from mailsigil.keys.guard import Breaker, Guard
from mailsigil.keys.local import FixedKeys
from mailsigil.keys.newkey import NewKey
from mailsigil.keys.profile import KeyKind
from mailsigil.keys.protocol import decode_found, encode_found
from mailsigil.keys.remote import RemoteKeys
from mailsigil.keys.routes import DomainRoute, WhenSilent
from mailsigil.keys.soft_key import SoftKey, soft_key
from mailsigil.keys.source import HeldKey, SigningKey
from mailsigil.keys.subject import SubjectRequest

BOB = "bob@bank.example"


def key_for(*addresses: str, **profile: object) -> SoftKey:
    who = employee(addresses=addresses or (ALICE,), **profile)
    return soft_key(who.key, who.certificate, [ISSUING], origin=Path("/test"))


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds

    def now(self) -> dt.datetime:
        return NOW + dt.timedelta(seconds=self.seconds)


class Service:
    """A Lookup whose behaviour is set by the test."""

    def __init__(self) -> None:
        self.keys: dict[str, tuple[SigningKey, ...]] = {}
        self.error: SourceError | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.asked: list[str] = []

    def lookup(self, address: str) -> tuple[SigningKey, ...]:
        self.asked.append(address)
        self.gate.wait(10)
        if self.error is not None:
            raise self.error
        return self.keys.get(address, ())

    def reload(self) -> None:
        """Forgets nothing."""


AWAY = SourceUnavailable("svc", "it is away", "Start it")
WRONG = SourceAnswer("svc", "a wrong answer", "Mend it")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def service() -> Iterator[Service]:
    one = Service()
    yield one
    one.gate.set()


def remote(service: Service, clock: Clock, *, timeout: float = 0.2, calls: int = 8) -> RemoteKeys:
    breaker = Breaker(failures=3, pause=10, clock=clock)
    guard = Guard("svc", timeout=timeout, breaker=breaker, calls=calls)
    return RemoteKeys(service, guard, key_seconds=60, stale_seconds=600, clock=clock)


def test_what_is_known_is_not_asked_again(service: Service, clock: Clock) -> None:
    service.keys[ALICE] = (key_for(),)
    source = remote(service, clock)
    assert source.find(ALICE) == source.find(ALICE) == service.keys[ALICE]
    assert source.find(BOB) == source.find(BOB) == ()
    assert service.asked == [ALICE, BOB]
    clock.seconds = 61
    source.find(ALICE)
    assert service.asked == [ALICE, BOB, ALICE]


def traceback_of(find: Callable[[str], object], kind: type[SourceError]) -> int:
    """How many frames an error that is told brings along."""
    with pytest.raises(kind) as caught:
        find(ALICE)
    return len(caught.traceback)


def test_a_remembered_failure_does_not_grow_with_each_mail(
    service: Service, clock: Clock, tmp_path: Path
) -> None:
    service.error = WRONG
    source = remote(service, clock)
    authority = Authority(clock)
    authority.error = Pending("ca", retry_after=120)
    enrolled = enrolling(authority, clock, tmp_path / "state")
    for find, kind in ((source.find, SourceAnswer), (enrolled.find, Pending)):
        lengths = [traceback_of(find, kind) for _ in range(5)]
        assert len(set(lengths[1:])) == 1


def test_failures_are_remembered_for_a_bounded_number_of_addresses(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enrolment, "MAX_REMEMBERED", 2)
    authority = Authority(clock)
    authority.error = Pending("ca", retry_after=120)
    source = enrolling(authority, clock, tmp_path / "state")
    for address in (ALICE, BOB, "carol@bank.example", BOB, ALICE):
        with pytest.raises(Pending):
            source.find(address)
    assert len(authority.enrolled) == 4  # Bob is remembered; Alice made room.


@pytest.mark.parametrize("error", [AWAY, WRONG], ids=["away", "wrong"])
def test_the_last_known_key_serves_while_the_source_gives_none(
    service: Service, clock: Clock, error: SourceError
) -> None:
    service.keys[ALICE] = (key_for(),)
    source = remote(service, clock)
    source.find(ALICE)
    service.error = error
    clock.seconds = 300
    assert source.find(ALICE) == service.keys[ALICE]
    with pytest.raises(type(error)):
        source.find(BOB)
    # Not for ever: after key_seconds and stale_seconds it leaves memory.
    clock.seconds = 661
    source.refresh()
    assert source.count() == 0
    with pytest.raises(type(error)):
        source.find(ALICE)


def test_what_the_source_takes_back_is_gone(service: Service, clock: Clock) -> None:
    service.keys[ALICE] = (key_for(),)
    source = remote(service, clock)
    (key,) = source.find(ALICE)
    service.keys.clear()
    clock.seconds = 61
    assert source.find(ALICE) == ()
    assert source.get(key.credential.key_id) is None


def test_a_stalling_source_is_left_alone_after_three_failures(service: Service, clock: Clock) -> None:
    service.gate.clear()
    source = remote(service, clock, timeout=0.05)
    for _ in range(3):
        with pytest.raises(SourceUnavailable, match="no answer within"):
            source.find(ALICE)
    asked = len(service.asked)
    for _ in range(20):
        with pytest.raises(SourceUnavailable, match="left alone"):
            source.find(ALICE)
    assert len(service.asked) == asked
    # After the pause, one call tries it; when it answers, all go on.
    service.keys[ALICE] = (key_for(),)
    service.gate.set()
    clock.seconds = 11
    assert source.find(ALICE)
    assert source.find(BOB) == ()


def test_calls_that_wait_have_a_bound(service: Service, clock: Clock) -> None:
    service.gate.clear()
    guard = Guard("svc", timeout=0.05, breaker=Breaker(failures=100, pause=1), calls=2)
    for _ in range(2):
        with pytest.raises(SourceUnavailable, match="no answer"):
            guard.call(lambda: service.lookup(ALICE))
    with pytest.raises(SourceUnavailable, match="all 2 calls"):
        guard.call(lambda: service.lookup(ALICE))


def test_an_answer_that_comes_too_late_serves_the_next_one(service: Service, clock: Clock) -> None:
    service.keys[ALICE] = (key_for(),)
    service.gate.clear()
    source = remote(service, clock, timeout=0.05)
    with pytest.raises(SourceUnavailable):
        source.find(ALICE)
    service.gate.set()
    deadline = time.monotonic() + 2
    while not source.count() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert source.find(ALICE)
    assert service.asked == [ALICE]


def test_other_domains_never_wait(service: Service, clock: Clock) -> None:
    service.gate.clear()
    mine = key_for("carol@shop.example")
    agent = KeyAgent(
        [
            FixedKeys([mine]),
            DomainRoute(remote(service, clock), name="svc", domains=["bank.example"]),
        ],
        now=lambda: NOW,
    )
    assert agent.find("carol@shop.example")
    assert service.asked == []
    with pytest.raises(KeyAgentRefused) as caught:
        agent.find(ALICE)
    assert caught.value.reason is Refusal.SOURCE
    assert service.asked == [ALICE]


def two_sources(service: Service, clock: Clock, when_silent: WhenSilent) -> KeyAgent:
    """The folder, which has a key of Alice's, and a source for her domain."""
    route = DomainRoute(remote(service, clock), name="svc", domains=["bank.example"], when_silent=when_silent)
    return KeyAgent([FixedKeys([key_for(), key_for("carol@shop.example")]), route], now=lambda: NOW)


@pytest.mark.parametrize("error", [AWAY, WRONG], ids=["away", "wrong"])
def test_nobody_signs_in_place_of_a_silent_source(
    service: Service, clock: Clock, error: SourceError, caplog: pytest.LogCaptureFixture
) -> None:
    service.error = error
    agent = two_sources(service, clock, WhenSilent.WAIT)
    with pytest.raises(KeyAgentRefused, match='source "svc"') as caught:
        agent.find(ALICE)
    assert caught.value.reason is Refusal.SOURCE
    assert f'source "svc" is silent: mail of {ALICE} waits' in caplog.text
    # Who asks for another source by its name does not wait, and neither do other domains.
    assert len(agent.find(ALICE, source="keyd")) == 1
    assert len(agent.find("carol@shop.example")) == 1
    # A key that was chosen before is used, whoever is silent now.
    (credential,) = agent.find(ALICE, source="keyd")
    assert agent.sign(key_id=credential.key_id, address=ALICE, scheme="ecdsa-sha256", data=b"x", peer_uid=0)


def test_others_sign_for_a_silent_source_where_the_settings_say_so(
    service: Service, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    service.error = AWAY
    agent = two_sources(service, clock, WhenSilent.OTHERS)
    assert len(agent.find(ALICE)) == 1
    assert f'source "svc" is silent: {ALICE} gets the keys of others' in caplog.text
    with pytest.raises(KeyAgentRefused):
        agent.find(BOB)


def test_what_a_silent_source_told_before_goes_on(service: Service, clock: Clock) -> None:
    service.keys[ALICE] = (key_for(),)
    agent = two_sources(service, clock, WhenSilent.WAIT)
    assert len(agent.find(ALICE)) == 2
    service.error = AWAY
    clock.seconds = 300
    assert len(agent.find(ALICE)) == 2


def test_credentials_say_where_they_come_from() -> None:
    route = DomainRoute(FixedKeys([key_for()]), name="public CA", domains=["bank.example"])
    agent = KeyAgent([FixedKeys([key_for()]), route], now=lambda: NOW)
    assert [each.source for each in agent.find(ALICE)] == ["", "public CA"]
    assert decode_found(encode_found(agent.find(ALICE))) == agent.find(ALICE)


def test_a_key_is_found_in_a_process_that_was_not_asked_before(service: Service, clock: Clock) -> None:
    service.keys[ALICE] = (key_for(),)
    agent = KeyAgent([remote(service, clock)], now=lambda: NOW)
    key_id = service.keys[ALICE][0].credential.key_id
    assert agent.sign(key_id=key_id, address=ALICE, scheme="ecdsa-sha256", data=b"x", peer_uid=0)


class TestDomainCertificate:
    EVERYBODY = "domain-signing-authority@bank.example"

    def agent(self, mailbox: str) -> KeyAgent:
        route = DomainRoute(
            FixedKeys([key_for(self.EVERYBODY)]),
            name="gate",
            domains=["bank.example", "shop.example"],
            domain_mailbox=mailbox,
        )
        return KeyAgent([route], now=lambda: NOW)

    def test_it_signs_for_each_sender_of_its_domain(self) -> None:
        agent = self.agent("domain-signing-authority")
        (credential,) = agent.find(BOB)
        assert credential.domains == ("bank.example",)
        signature = agent.sign(
            key_id=credential.key_id, address=BOB, scheme="ecdsa-sha256", data=b"x", peer_uid=0
        )
        assert signature

    def test_one_of_several_domains_signs_for_each_of_them(self) -> None:
        shared = key_for(
            self.EVERYBODY, "domain-signing-authority@shop.example", "domain-signing-authority@x.de"
        )
        route = DomainRoute(
            FixedKeys([shared]),
            name="gate",
            domains=["shop.example", "bank.example", "other.example"],
            domain_mailbox="domain-signing-authority",
        )
        agent = KeyAgent([route], now=lambda: NOW)
        for address in (BOB, "carol@shop.example"):
            (credential,) = decode_found(encode_found(agent.find(address)))
            assert credential.domains == ("bank.example", "shop.example")
            assert agent.sign(
                key_id=credential.key_id, address=address, scheme="ecdsa-sha256", data=b"x", peer_uid=0
            )
        assert agent.find("eve@other.example") == ()
        for stranger in ("eve@other.example", "eve@x.de", "eve@sub.bank.example"):
            with pytest.raises(KeyAgentRefused):
                agent.sign(
                    key_id=shared.credential.key_id,
                    address=stranger,
                    scheme="ecdsa-sha256",
                    data=b"x",
                    peer_uid=0,
                )

    def test_it_does_not_sign_for_other_domains(self) -> None:
        agent = self.agent("domain-signing-authority")
        assert agent.find("carol@shop.example") == ()
        key_id = agent.find(BOB)[0].key_id
        with pytest.raises(KeyAgentRefused) as caught:
            agent.sign(
                key_id=key_id, address="carol@shop.example", scheme="ecdsa-sha256", data=b"x", peer_uid=0
            )
        assert caught.value.reason is Refusal.ADDRESS

    def test_without_the_setting_it_signs_for_itself_alone(self) -> None:
        assert self.agent("").find(BOB) == ()


class Authority:
    """An Issuer in this process, whose behaviour is set by the test."""

    name = "ca"

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.error: SourceError | None = None
        self.enrolled: list[bytes] = []
        self.renewed: list[bytes] = []

    def _issue(self, request: SubjectRequest, new: NewKey) -> tuple[bytes, ...]:
        if self.error is not None:
            raise self.error
        begin = self.clock.now() - dt.timedelta(hours=1)
        one = certificate(new.private_key(), addresses=(request.address,), begin=begin, days=90)
        return (one.public_bytes(Encoding.DER), ISSUING.public_bytes(Encoding.DER))

    def enrol(self, request: SubjectRequest, new: NewKey) -> tuple[bytes, ...]:
        self.enrolled.append(new.spki)
        return self._issue(request, new)

    def renew(self, request: SubjectRequest, new: NewKey, *, current: HeldKey) -> tuple[bytes, ...]:
        assert current.file.stat().st_mode & 0o777 == 0o600
        self.renewed.append(current.chain[0])
        return self._issue(request, new)

    def revoke(self, certificate: bytes) -> None:
        self.renewed.remove(certificate)


def enrolling(authority: Authority, clock: Clock, state: Path, **more: int) -> EnrolledKeys:
    return EnrolledKeys(
        authority,
        Guard("ca", timeout=5, breaker=Breaker(failures=3, pause=1)),
        state=state,
        kind=KeyKind.P256,
        now=clock.now,
        subject_of=lambda address: SubjectRequest(address=address),
        **more,
    )


class TestEnrolment:
    def test_a_restart_enrols_nobody_again(self, clock: Clock, tmp_path: Path) -> None:
        authority = Authority(clock)
        (key,) = enrolling(authority, clock, tmp_path / "state").find(ALICE)
        (file,) = (tmp_path / "state").glob("*.pem")
        assert file.stat().st_mode & 0o777 == 0o600
        again = enrolling(authority, clock, tmp_path / "state")
        again.reload()
        assert [each.credential for each in again.find(ALICE)] == [key.credential]
        assert len(authority.enrolled) == 1

    def test_what_is_at_hand_is_told_and_nothing_is_enrolled(self, clock: Clock, tmp_path: Path) -> None:
        authority = Authority(clock)
        source = enrolling(authority, clock, tmp_path / "state")
        agent = KeyAgent(
            [DomainRoute(source, name="ca", domains=["bank.example"], domain_mailbox="all")], now=clock.now
        )
        assert agent.find(ALICE, at_hand=True) == ()
        assert authority.enrolled == []
        found = agent.find(ALICE)
        assert agent.find(ALICE, at_hand=True) == found
        assert len(authority.enrolled) == 1

    def test_two_processes_enrol_once(self, clock: Clock, tmp_path: Path) -> None:
        authority = Authority(clock)
        sources = [enrolling(authority, clock, tmp_path / "state") for _ in range(4)]
        threads = [threading.Thread(target=source.find, args=(ALICE,)) for source in sources]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(authority.enrolled) == 1
        assert len({source.find(ALICE)[0].credential.key_id for source in sources}) == 1

    def test_who_waits_for_a_decision_asks_again_with_the_same_key(
        self, clock: Clock, tmp_path: Path
    ) -> None:
        authority = Authority(clock)
        authority.error = Pending("ca", retry_after=120)
        source = enrolling(authority, clock, tmp_path / "state")
        for _ in range(3):
            with pytest.raises(Pending):
                source.find(ALICE)
        assert len(authority.enrolled) == 1
        authority.error = None
        clock.seconds = 121
        assert source.find(ALICE)
        assert authority.enrolled[0] == authority.enrolled[1]
        assert not list((tmp_path / "state").glob("*.waiting"))

    def test_a_refusal_is_not_asked_for_with_each_mail(self, clock: Clock, tmp_path: Path) -> None:
        authority = Authority(clock)
        authority.error = SourceRefused("ca", "no", "Ask")
        source = enrolling(authority, clock, tmp_path / "state")
        for _ in range(5):
            with pytest.raises(SourceRefused):
                source.find(ALICE)
        assert len(authority.enrolled) == 1

    def test_renewal_comes_in_time_and_keeps_the_old_key_until_then(
        self, clock: Clock, tmp_path: Path
    ) -> None:
        authority = Authority(clock)
        source = enrolling(authority, clock, tmp_path / "state")
        (first,) = source.find(ALICE)
        clock.seconds = 65 * 86_400
        authority.error = AWAY
        source.refresh()
        self._until(lambda: len(authority.renewed) == 1)
        assert source.find(ALICE)[0] is first
        authority.error = None
        clock.seconds += 3700
        source.refresh()
        self._until(lambda: source.find(ALICE)[0].credential.key_id != first.credential.key_id)
        assert authority.renewed == [first.credential.certificate] * 2
        assert source.find(ALICE)[0].valid_until > first.valid_until

    def test_who_makes_addresses_up_gets_no_end_of_certificates(self, clock: Clock, tmp_path: Path) -> None:
        authority = Authority(clock)
        source = enrolling(authority, clock, tmp_path / "state", new_per_hour=3)
        made_up = [f"x{number}@bank.example" for number in range(6)]
        for address in made_up[:3]:
            assert source.find(address)
        for address in made_up[3:]:
            with pytest.raises(SourceRefused, match="new ones of this hour"):
                source.find(address)
        assert len(authority.enrolled) == 3
        # Those who have one are not held up, and an hour later there is room again.
        assert all(source.find(address) for address in made_up[:3])
        clock.seconds = 3601
        assert source.find(made_up[5])

    def test_nobody_is_enrolled_where_that_is_not_wanted(self, clock: Clock, tmp_path: Path) -> None:
        authority = Authority(clock)
        source = enrolling(authority, clock, tmp_path / "state", on_demand=False)
        source.refresh()
        assert source.find(ALICE) == ()
        assert not authority.enrolled

    @staticmethod
    def _until(done: object) -> None:
        deadline = time.monotonic() + 5
        while not done():  # type: ignore[operator]
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_request_names_the_person() -> None:
    request = SubjectRequest(
        address="zoë@bank.example", given_name="Zoë", surname="Example", organisation="Example Bank"
    )
    csr = x509.load_der_x509_csr(NewKey.generate(request, KeyKind.P256).csr)
    assert csr.is_signature_valid
    assert csr.subject.rfc4514_string() == "CN=Zoë Example,2.5.4.4=Example,2.5.4.42=Zoë,O=Example Bank"
    (name,) = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert isinstance(name, x509.OtherName)
