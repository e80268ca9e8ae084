"""Enrolments a second of the embedded authority over EST, beside issuing in process. Runs alone.

The clients run on the same machine and take their part of it; the server's CPU time is its own.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import multiprocessing
import os
import ssl
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
PLACES = [str(TESTS), str(TESTS.parent / "milter")]
sys.path[:0] = PLACES
# The server is started from here and must find the same code.
os.environ["PYTHONPATH"] = os.pathsep.join([*PLACES, *filter(None, [os.environ.get("PYTHONPATH")])])

from bench.processes import cpu_seconds, memory_kib  # noqa: E402
from mailsigil.keys.newkey import NewKey  # noqa: E402
from mailsigil.keys.profile import KeyKind, Subject  # noqa: E402
from mailsigil.keys.subject import SubjectRequest  # noqa: E402
from mailsigil.pki.policies import Level  # noqa: E402
from servers.ca_serve import PASSWORD, CaServe  # noqa: E402

_HEADERS = {
    "Content-Type": "application/pkcs10",
    "Authorization": "Basic " + base64.b64encode(f"keyd:{PASSWORD}".encode()).decode(),
}


def main() -> int:
    """Measures and prints; see ``--help``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each run (default 5)")
    parser.add_argument("--clients", type=int, default=4, help="processes that enrol (default 4)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as home, CaServe(Path(home), log_level="warning") as server:
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {arguments.clients} clients, P-256")
        _report("in process, registered", _in_process(server, arguments.seconds), 0.0)
        for what, keep in (("EST, connections kept", True), ("EST, a connection each", False)):
            before = cpu_seconds(server.pid)
            count = _clients(server, arguments.clients, arguments.seconds, keep=keep)
            _report(what, count / arguments.seconds, (cpu_seconds(server.pid) - before) / max(1, count))
        print(f"memory of the server: {memory_kib(server.pid, 'VmRSS') / 1024:.0f} MiB resident")
    return 0


def _report(what: str, rate: float, cpu: float) -> None:
    print(f"  {what:24} {rate:8.0f} enrolments/s" + (f"   {cpu * 1000:.2f} ms CPU each" if cpu else ""))


def _in_process(server: CaServe, seconds: float) -> float:
    key = KeyKind.P256.generate().public_key()
    subject = Subject(level=Level.V1, address="bench@bank.example")
    count, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        server.authority.certify(subject, key=key, now=datetime.now(UTC))
        count += 1
    return count / seconds


def _clients(server: CaServe, number: int, seconds: float, *, keep: bool) -> int:
    counter = multiprocessing.Value("i", 0)
    start = multiprocessing.Barrier(number)

    def add(count: int) -> None:
        with counter.get_lock():
            counter.value += count

    arguments = (server.est_port, str(server.root), seconds, keep, start.wait, add)
    clients = [multiprocessing.Process(target=_client, args=(each, *arguments)) for each in range(number)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    if any(client.exitcode for client in clients):
        raise SystemExit("a client failed")
    return counter.value


def _client(
    number: int,
    port: int,
    root: str,
    seconds: float,
    keep: bool,
    wait: Callable[[], object],
    add: Callable[[int], None],
) -> None:
    context = ssl.create_default_context(cafile=root)
    request = SubjectRequest(address=f"bench{number}@bank.example")
    body = base64.b64encode(NewKey.generate(request, KeyKind.P256).csr)

    def enrol(connection: http.client.HTTPSConnection) -> None:
        connection.request("POST", "/.well-known/est/v1/simpleenroll", body, _HEADERS)
        answer = connection.getresponse()
        if answer.status != 200 or len(base64.b64decode(answer.read())) < 500:
            raise SystemExit(f"status {answer.status}")

    def connect() -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection("localhost", port, context=context, timeout=30)

    connection = connect()
    enrol(connection)  # Log in once: scrypt is slow on purpose.
    wait()
    count, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        if not keep or count % 500 == 499:
            connection.close()
            connection = connect()
        enrol(connection)
        count += 1
    connection.close()
    add(count)


if __name__ == "__main__":
    raise SystemExit(main())
