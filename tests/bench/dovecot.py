"""``python tests/bench/dovecot.py``: what keys from the key agent cost Dovecot's users.

Logins and deliveries at two private Dovecots in turn, one with mailsigil's configuration and one with the
same but for who is asked for keys; then ninety people at once, with a key server that takes 500 ms. Needs
root and Dovecot. Exit status 0 when everything was measured, whatever the figures.
"""

from __future__ import annotations

import argparse
import imaplib
import multiprocessing
import os
import re
import smtplib
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
PLACES = [str(TESTS), str(TESTS.parent / "milter")]
sys.path[:0] = PLACES
# The programs that are measured are started from here and must find the same code.
os.environ["PYTHONPATH"] = os.pathsep.join([*PLACES, *filter(None, [os.environ.get("PYTHONPATH")])])

from mailsigil.demo.dovecot import Dovecot  # noqa: E402
from mailsigil.demo.programs import DemoError  # noqa: E402
from mailsigil.keys.storage.key import StorageKeyKind, generate  # noqa: E402
from mailsigil.keys.storage.pins import PinFolder  # noqa: E402
from servers.kv import KvServer, bao_storage  # noqa: E402
from servers.storage_house import StorageHouse  # noqa: E402

PASSWORD = "sesame"
PEOPLE = 90
KM_SECONDS = 0.5
TARGET_MS = 8.0
TARGET_COLD = 0.7
_ASKING = re.compile(r"^(?:service imap|userdb(?: lua)?) \{.*?^\}\n", re.DOTALL | re.MULTILINE)
MESSAGE = b"From: alice@bank.example\r\nSubject: figures\r\n\r\n" + b"A line of the message.\r\n" * 200


def person(number: int) -> str:
    """The name of one of them."""
    return f"user{number}@bank.example"


def _serve(server: KvServer, ready: object) -> None:
    with server:
        ready.set()  # type: ignore[attr-defined]
        threading.Event().wait()


@contextmanager
def key_server(folder: Path, server: KvServer) -> Iterator[None]:
    """Runs the key server in a process of its own, so that it takes no time from those who measure."""
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=_serve, args=(server, ready), daemon=True)
    process.start()
    ready.wait(10)
    try:
        yield
    finally:
        process.terminate()
        process.join()


def log_in(port: int, user: str) -> float:
    """Seconds of one LOGIN, until the mail process has answered a NOOP."""
    with imaplib.IMAP4("127.0.0.1", port, timeout=60) as client:
        begun = time.perf_counter()
        client.login(user, PASSWORD)
        client.noop()
        return time.perf_counter() - begun


def deliver(dovecot: Dovecot, user: str) -> float:
    """Seconds of one delivery over LMTP."""
    with smtplib.LMTP(str(dovecot.lmtp_socket), 0) as client:
        begun = time.perf_counter()
        client.sendmail("alice@bank.example", [user], MESSAGE)
        return time.perf_counter() - begun


def in_turns(with_hook: Dovecot, without: Dovecot, count: int) -> None:
    """Logins and deliveries at both, one after the other."""
    for what, act in (
        ("login", lambda one: log_in(one.imap_port, person(0))),
        ("delivery", lambda one: deliver(one, person(0))),
    ):
        took: dict[str, list[float]] = {"with": [], "without": []}
        for number in range(count + 10):
            for name, one in (("with", with_hook), ("without", without)):
                seconds = act(one)
                if number >= 10:  # The first ones start processes and fill caches.
                    took[name].append(1000 * seconds)
        medians = {name: statistics.median(values) for name, values in took.items()}
        for name, values in took.items():
            p95 = statistics.quantiles(values, n=20)[18]
            print(f"{what} {name:8} p50 {medians[name]:6.2f} ms  p95 {p95:6.2f} ms  ({count})")
        more = medians["with"] - medians["without"]
        target = (
            f" (target: at most {TARGET_MS:g} ms)" if what == "login" else ", encrypted in place of clear"
        )
        print(f"{what}: the key agent adds {more:+.2f} ms{target}")


def at_once(dovecot: Dovecot) -> list[float]:
    """Seconds of the logins of ninety people at once."""
    took: list[float] = []
    start = threading.Barrier(PEOPLE)

    def one(number: int) -> None:
        start.wait(60)
        took.append(log_in(dovecot.imap_port, person(number)))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(1, PEOPLE + 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(took) != PEOPLE:
        print(f"logins at once: {PEOPLE - len(took)} of {PEOPLE} failed")
    return took


def cold(with_hook: Dovecot, without: Dovecot) -> None:
    """Ninety people at once, none of whose keys is at hand; and what Dovecot itself takes for ninety."""
    plain = statistics.median(at_once(without))
    took = at_once(with_hook)
    median = statistics.median(took)
    print(
        f"{PEOPLE} logins at once, a key server that takes {1000 * KM_SECONDS:.0f} ms: median"
        f" {median:.2f} s, last {max(took):.2f} s (target: median below {TARGET_COLD} s)"
    )
    print(
        f"{PEOPLE} logins at once without the key agent: median {plain:.2f} s; beyond this and the key server"
        f" it adds {median - plain - KM_SECONDS:+.2f} s"
    )
    again = at_once(with_hook)
    print(f"{PEOPLE} logins at once, warm: median {statistics.median(again):.2f} s, last {max(again):.2f} s")


def measure(folder: Path, count: int) -> None:
    """Everything, in a folder."""
    key = generate(StorageKeyKind.P256)
    kv = KvServer(folder)
    kv.delay = KM_SECONDS
    people = [person(number) for number in range(PEOPLE + 1)]
    for address in people:
        kv.entries[address] = {"user": address, "private_key": key.private_pem.decode()}
    version = Dovecot(folder, {}).version
    storage = bao_storage(kv.url, folder / "kv-token", key_seconds=3600.0)
    users = dict.fromkeys(people, PASSWORD)
    with ExitStack() as stack:
        stack.enter_context(key_server(folder, kv))
        house = stack.enter_context(StorageHouse(folder / "one", storage, version=version))
        pins = PinFolder(house.public_keys)
        for address in people:
            pins.write(address, [key.public])
        with_hook = stack.enter_context(house.dovecot(users=users))
        (folder / "two").mkdir()
        # The same configuration, mail_crypt and all, and nobody asks for keys.
        plain = _ASKING.sub("", with_hook.before)
        without = stack.enter_context(Dovecot(folder / "two", users, before=plain))
        print(f"Dovecot {'.'.join(map(str, version))}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
        in_turns(with_hook, without, count)
        cold(with_hook, without)


def main() -> int:
    """Measure and print; see ``--help``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="logins and deliveries each (default 200)")
    arguments = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="mailsigil-bench-") as name:
            folder = Path(name)
            folder.chmod(0o755)
            measure(folder, arguments.count)
    except DemoError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
