"""Both services on real sockets, without a Dovecot: who is admitted, who is told what, what stays open."""

from __future__ import annotations

import array
import contextlib
import logging
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mailsigil.config.storage import DovecotSettings, FolderStorage, StorageSettings
from mailsigil.dovecot.companion import POSTLOGIN, PUBLIC_KEYS, DovecotServices
from mailsigil.dovecot.mail_crypt import Release
from mailsigil.dovecot.postlogin import Admitted, PostloginService, Refused, Sentence
from mailsigil.dovecot.postlogin_wire import PostloginRequest
from mailsigil.dovecot.public_keys import MAX_ANSWER, PublicKeyService
from mailsigil.dovecot.storage_keys import StorageKeys
from mailsigil.keys.errors import SourceAnswer, SourceError, SourceUnavailable
from mailsigil.keys.guard import Breaker, Guard
from mailsigil.keys.server import listen
from mailsigil.keys.storage.key import Entry, StorageKey, StorageKeyKind, generate
from mailsigil.keys.storage.makers import OwnMaker
from mailsigil.keys.storage.pins import PinFolder
from mailsigil.keys.storage.routes import StorageRoute, StorageRoutes
from mailsigil.process.callers import Callers

BOB = "bob@bank.example"
KEY = generate(StorageKeyKind.P256)
BIG = generate(StorageKeyKind.RSA4096)
HEAD = "VERSION\tscript-login\t1\t0\n"


class Store:
    """A key server in memory, with a switch for its failures."""

    def __init__(self) -> None:
        self.entries = {BOB: Entry((KEY,), frozenset({BOB}))}
        self.asked = 0
        self.trouble: SourceError | None = None
        self.delay = 0.0

    def fetch(self, address: str, *, passphrase: bytes | None = None) -> Entry:
        self.asked += 1
        if passphrase not in (None, b"sesame"):
            raise SourceAnswer("km", "the PKCS#12 cannot be opened", "Correct it")
        time.sleep(self.delay)
        if self.trouble is not None:
            raise self.trouble
        return self.entries.get(address, Entry())

    def add(self, address: str, key: StorageKey) -> None:
        self.entries[address] = Entry((key,), frozenset({address}))

    def reload(self) -> None:
        pass


def _settings(**changes: object) -> StorageSettings:
    values = {"name": "km", "kind": "folder", "domains": ("bank.example",), **changes}
    return StorageSettings(folder=FolderStorage(path="/nowhere"), **values)  # type: ignore[arg-type]


class House:
    """Keys of one domain, and both services."""

    def __init__(self, folder: Path, **changes: object) -> None:
        self.store = Store()
        self.pins = PinFolder(folder / "pins")
        self.pins.folder.mkdir(mode=0o700, parents=True)
        self.pins.write(BOB, [KEY.public])
        settings = _settings(**changes)
        guard = Guard("km", timeout=settings.timeout, breaker=Breaker(failures=3, pause=60), calls=256)
        self.route = StorageRoute(settings, self.store, OwnMaker(StorageKeyKind.P256), guard)
        self.routes = StorageRoutes([self.route], self.pins)
        self.now = 0.0
        self.keys = StorageKeys(self.routes, clock=lambda: self.now)
        self.logins: list[str] = []
        self.postlogin = PostloginService(self.keys, release=Release.V23, on_login=self.logins.append)
        self.public = PublicKeyService(self.routes)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def _request(user: str = BOB, **fields: str) -> PostloginRequest:
    return PostloginRequest("127.0.0.1", "192.0.2.7", user, fields)


def _names(decision: Admitted | Refused) -> list[str]:
    assert isinstance(decision, Admitted)
    return [name for name, _ in decision.fields]


ENCRYPTS = ["mail_crypt_global_public_key", "mail_crypt_save_version"]
AWAY = SourceUnavailable("km", "it is away", "Wait")


def test_a_user_gets_the_keys_and_the_log_says_so(house: House, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        assert _names(house.postlogin.decide(_request())) == [*ENCRYPTS, "mail_crypt_global_private_key"]
    assert caplog.messages == ['storage keys given user=bob@bank.example remote=192.0.2.7 keys=1 source="km"']
    assert house.logins == [BOB]


def test_a_master_user_gets_no_private_key(house: House) -> None:
    assert _names(house.postlogin.decide(_request(auth_user="root"))) == ENCRYPTS
    assert house.store.asked == 0
    assert house.logins == []


@pytest.mark.parametrize("user", ["carol@elsewhere.example", "bob", "../x", "a b", "x" * 10_000])
def test_users_of_other_domains_go_on_as_without_us(user: str, house: House) -> None:
    assert house.postlogin.decide(_request(user)) == Admitted([])
    assert house.public.of_user(user) == "none"
    assert house.store.asked == 0


@pytest.mark.parametrize(
    "user",
    [
        "../x@bank.example",
        "a b@bank.example",
        "x" * 10_000 + "@bank.example",
        "@bank.example",
        "a\n@bank.example",
    ],
)
def test_strange_names_of_our_domains_are_refused(
    user: str, house: House, caplog: pytest.LogCaptureFixture
) -> None:
    assert house.postlogin.decide(_request(user)) == Refused(Sentence.STRANGE_NAME)
    assert house.public.of_user(user).startswith("later ")
    assert house.store.asked == 0
    assert all(len(message) < 600 and "\n" not in message for message in caplog.messages)


@pytest.mark.parametrize(
    ("policy", "outcome"),
    [("deny", Refused(Sentence.LATER)), ("degraded", ENCRYPTS)],
)
def test_the_key_server_is_away(policy: str, outcome: Refused | list[str], tmp_path: Path) -> None:
    house = House(tmp_path, on_failure=policy)
    house.store.trouble = AWAY
    decision = house.postlogin.decide(_request())
    # "degraded" never means that something new is stored in clear.
    assert (decision if isinstance(outcome, Refused) else _names(decision)) == outcome
    assert house.public.of_user(BOB).startswith("key ")


@pytest.mark.parametrize("policy", ["deny", "degraded"])
def test_the_disk_with_public_keys_is_away(policy: str, tmp_path: Path) -> None:
    house = House(tmp_path, on_failure=policy)
    house.pins.folder.rename(tmp_path / "gone")
    assert house.postlogin.decide(_request()) == Refused(Sentence.LATER)
    assert house.public.of_user(BOB) == "later the keys cannot be had just now"


@pytest.mark.parametrize(
    ("policy", "login", "delivery"),
    [
        ("clear", Admitted([]), "none"),
        ("refuse", Refused(Sentence.WITHOUT_KEY), "later the user has no key"),
    ],
)
def test_a_user_without_a_key(policy: str, login: Admitted | Refused, delivery: str, tmp_path: Path) -> None:
    house = House(tmp_path, without_key=policy)
    assert house.postlogin.decide(_request("new@bank.example")) == login
    assert house.public.of_user("new@bank.example") == delivery
    assert house.store.asked == 0


def test_where_keys_are_adopted_no_answer_is_not_no_key(tmp_path: Path) -> None:
    house = House(tmp_path, adopt=True)
    assert house.public.of_user("new@bank.example") == "none"
    house.store.trouble = AWAY
    assert house.public.of_user("new@bank.example") == "later the keys cannot be had just now"


def test_200_logins_of_one_user_are_one_question(house: House) -> None:
    house.store.delay = 0.2
    found: list[Admitted | Refused] = []
    threads = [
        threading.Thread(target=lambda: found.append(house.postlogin.decide(_request()))) for _ in range(200)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 200
    assert all(isinstance(one, Admitted) for one in found)
    assert house.store.asked == 1


def test_a_failure_is_everybodys_and_is_not_remembered(house: House) -> None:
    house.store.trouble, house.store.delay = AWAY, 0.2
    found: list[Admitted | Refused] = []
    threads = [
        threading.Thread(target=lambda: found.append(house.postlogin.decide(_request()))) for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [Refused(Sentence.LATER)] * 5
    house.store.trouble, house.store.delay = None, 0.0
    assert isinstance(house.postlogin.decide(_request()), Admitted)


def test_keys_are_remembered_for_their_time_and_no_longer(house: House) -> None:
    for now, asked in ((0.0, 1), (299.0, 1), (300.0, 2)):
        house.now = now
        house.postlogin.decide(_request())
        assert house.store.asked == asked
    house.now = 700.0
    house.keys.sweep()
    assert not house.keys._kept
    house.now = 600.0
    house.postlogin.decide(_request())
    house.keys.forget()
    assert not house.keys._kept


@contextlib.contextmanager
def _serving(
    folder: Path, converse: Callable[[socket.socket], None], uids: set[int], *, connections: int = 8
) -> Iterator[Path]:
    path = folder / "sock"
    with listen(path, mode=0o600) as listener:
        service = Callers(
            "test",
            listener,
            lambda connected, _: converse(connected),
            allowed_uids=uids,
            connections=connections,
        )
        thread = threading.Thread(target=service.take)
        thread.start()
        try:
            yield path
        finally:
            service.stop()
            thread.join()


def _call(path: Path, data: bytes, descriptors: list[int], *, shut: bool = False) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as end:
        end.settimeout(10)
        end.connect(str(path))
        rights = (
            [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        )
        answer = b""
        # A refusal may be faster than the sender of a long request.
        with contextlib.suppress(ConnectionError):
            end.sendmsg([data], rights)
            if shut:
                end.shutdown(socket.SHUT_WR)
            while piece := end.recv(65536):
                answer += piece
        return answer


def _open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def _wire(user: str = BOB) -> bytes:
    return f"{HEAD}127.0.0.1\t192.0.2.7\t{user}\tuid=8\n".encode()


def test_the_client_is_told_why(house: House, tmp_path: Path) -> None:
    house.store.trouble = AWAY
    ours, clients = socket.socketpair()
    with _serving(tmp_path, house.postlogin.converse, {os.geteuid()}) as path, ours, clients:
        assert _call(path, _wire(), [clients.fileno()]) == b""
        ours.settimeout(5)
        assert ours.recv(1000) == f"* BYE {Sentence.LATER.value}\r\n".encode()


def test_a_client_that_does_not_read_holds_nobody_up(house: House, tmp_path: Path) -> None:
    house.store.trouble = AWAY
    ours, clients = socket.socketpair()
    clients.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            clients.send(b"x" * 65536)
    with _serving(tmp_path, house.postlogin.converse, {os.geteuid()}) as path, ours, clients:
        assert _call(path, _wire(), [clients.fileno()]) == b""


def test_no_descriptor_is_left_open(house: House, tmp_path: Path) -> None:
    one, two = socket.socketpair()
    file = os.open("/dev/null", os.O_RDONLY)
    whole = _wire()
    with _serving(tmp_path, house.postlogin.converse, {os.geteuid()}) as path:
        _call(path, whole, [one.fileno()])
        before = _open_descriptors()
        for _ in range(3):
            assert _call(path, whole, [one.fileno()]).startswith(b"bob@bank.example\tuid=8\tmail_crypt")
            assert _call(path, whole, []) == b""
            assert _call(path, whole, [one.fileno(), two.fileno()]) == b""
            assert _call(path, whole, [file] * 60) == b""
            assert _call(path, whole[:30], [one.fileno()], shut=True) == b""
            assert _call(path, b"x" * 70_000, [one.fileno()]) == b""
            assert _call(path, b"GET / HTTP/1.1\n\n", [one.fileno()]) == b""
            house.store.trouble = AWAY
            house.keys.forget()
            assert _call(path, whole, [file]) == b""  # A client that is no socket cannot be told.
            house.store.trouble = None
            house.keys.forget()
        _call(path, whole, [one.fileno()])
        deadline = time.monotonic() + 5
        while _open_descriptors() > before and time.monotonic() < deadline:
            time.sleep(0.02)
        assert _open_descriptors() <= before
    for end in (one, two):
        end.close()
    os.close(file)


def test_a_peer_of_another_user_is_not_heard(
    house: House, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = socket.socketpair()
    with _serving(tmp_path, house.postlogin.converse, {os.geteuid() + 1}) as path, one, two:
        for _ in range(3):
            assert _call(path, _wire(), [one.fileno()]) == b""
    assert house.store.asked == 0
    # Who may not ask may not fill the log either.
    assert len([message for message in caplog.messages if "this user may not ask" in message]) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("mode", [0o600, 0o666])
def test_a_process_of_another_user_is_not_heard(mode: int, house: House, tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(folder.stat().st_mode | 0o011)
    ask = (
        "import socket, sys; end = socket.socket(socket.AF_UNIX); end.settimeout(10)\n"
        "end.connect(sys.argv[1])\n"
        "end.send(b'public-key bob@bank.example\\n')\n"
        "print(end.recv(9000))"
    )
    with _serving(tmp_path, house.public.converse, {0}) as path:
        path.chmod(mode)
        command = ["/usr/bin/python3", "-c", ask, str(path)]
        root = subprocess.run(command, capture_output=True, check=False)
        other = subprocess.run(command, capture_output=True, check=False, user=65534, group=65534)
    assert root.stdout.startswith(b"b'key ")
    assert b"key " not in other.stdout
    if mode == 0o600:
        # Not even the kernel lets it through.
        assert b"PermissionError" in other.stderr
    else:
        assert other.stdout == b"b''\n" or b"BrokenPipe" in other.stderr or b"ConnectionReset" in other.stderr


def test_a_caller_who_says_nothing_is_given_up(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailsigil.dovecot.postlogin.REQUEST_SECONDS", 0.2)
    one, two = socket.socketpair()
    with (
        _serving(tmp_path, house.postlogin.converse, {os.geteuid()}, connections=1) as path,
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent,
        one,
        two,
    ):
        silent.connect(str(path))
        # There is one place: the second caller gets it after the silent one.
        assert _call(path, _wire(), [one.fileno()]).startswith(b"bob@bank.example\t")


def test_100_kilobytes_of_keys(house: House, tmp_path: Path) -> None:
    keys = (KEY, *(StorageKey(b"%d" % number, BIG.private_pem) for number in range(31)))
    house.store.entries[BOB] = Entry(keys)
    pinned = [key.public for key in keys]
    house.keys.routes.pins.read = lambda address: tuple(pinned)  # type: ignore[method-assign]
    one, two = socket.socketpair()
    with _serving(tmp_path, house.postlogin.converse, {os.geteuid()}) as path, one, two:
        answer = _call(path, _wire(), [one.fileno()])
    assert len(answer) > 100_000
    assert answer.count(b"\n") == 1
    assert answer.count(b"mail_crypt_global_private_key") == 32


@pytest.mark.parametrize(
    ("request_line", "answer"),
    [
        (b"public-key bob@bank.example\n", b"key "),
        (b"public-key BOB@BANK.EXAMPLE\r\n", b"key "),
        (b"public-key carol@bank.example\n", b"none\n"),
        (b"public-key \n", b"none\n"),
        (b"public-key ../x@bank.example\n", b"later "),
        (b"private-key bob@bank.example\n", b"later the request is none\n"),
        (b"\xff\xfe\n", b"later the request is none\n"),
        (b"public-key a\nb\n", b"later the request is none\n"),
        (b"x" * 20_000, b"later the request is none\n"),
    ],
)
def test_public_keys_line_for_line(request_line: bytes, answer: bytes, house: House, tmp_path: Path) -> None:
    with _serving(tmp_path, house.public.converse, {os.geteuid()}) as path:
        told = _call(path, request_line, [])
    assert told.startswith(answer) or told == b""
    assert told.endswith(b"\n") or len(request_line) > 16_384
    assert len(told) <= MAX_ANSWER
    assert b"PRIVATE" not in told


def test_the_largest_public_key_fits(house: House) -> None:
    house.pins.write(BOB, [BIG.public])
    assert len(house.public.of_user(BOB)) + 1 <= MAX_ANSWER


def test_sockets_of_systemd_are_taken_and_stay(tmp_path: Path) -> None:
    path = tmp_path / "postlogin"
    listener = listen(path, mode=0o600)
    services = DovecotServices(
        DovecotSettings(public_keys=str(tmp_path)), (), inherited=lambda: {POSTLOGIN: listener.dup()}
    )
    with contextlib.ExitStack() as sockets:
        services.open(sockets)
        assert PUBLIC_KEYS not in services._listeners
    assert path.exists()
    listener.close()
