"""``python tests/bench/ldap.py``: what policy from LDAP costs, beside policy from a file.

Twenty thousand people in slapd, fifty of them sending in rotation through two private Postfixes, one with
each kind of directory, in turns; then look-ups that no cache answers, and the first answer after the server
in use was killed. Needs root and slapd. Exit status 0 when everything was measured, whatever the figures.
"""

from __future__ import annotations

import argparse
import os
import random
import smtplib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
PLACES = [str(TESTS), str(TESTS.parent / "milter")]
sys.path[:0] = PLACES
# The programs that are measured are started from here and must find the same code.
os.environ["PYTHONPATH"] = os.pathsep.join([*PLACES, *filter(None, [os.environ.get("PYTHONPATH")])])

from bench.processes import cpu_seconds  # noqa: E402
from integration.ldap_house import person, slapd  # noqa: E402
from mailsigil.config.loading import load_settings  # noqa: E402
from mailsigil.demo.bank import ALL_SIGN, FRAME, ORGANISATION, directory_lines  # noqa: E402
from mailsigil.demo.organisation import DOMAIN, PASSWORD, Employee  # noqa: E402
from mailsigil.demo.programs import DemoError  # noqa: E402
from mailsigil.demo.site import Site  # noqa: E402
from mailsigil.demo.slapd import SUFFIX, Slapd  # noqa: E402
from mailsigil.directory.api import Directory  # noqa: E402
from mailsigil.directory.opening import open_directory  # noqa: E402
from mailsigil.keys.profile import Subject  # noqa: E402
from mailsigil.pki.policies import Level  # noqa: E402

PEOPLE = 20_000
SENDERS = 50
CLIENTS = 4
WARM_UP = 1200
"""Messages before measuring, so that each worker has met each sender."""
RECIPIENT = "bob@customer.example"
TARGET = 0.95


def senders() -> list[Employee]:
    """Those who send."""
    return [
        Employee(Subject(level=Level.V1, address=f"p{number}@{DOMAIN}"), f"Person {number}")
        for number in range(SENDERS)
    ]


def people() -> str:
    """Entries of all who do not send."""
    return "\n".join(
        f"dn: uid=p{number},ou=people,{SUFFIX}\nobjectClass: inetOrgPerson\nuid: p{number}\n"
        f"cn: Person {number}\nsn: {number}\nmail: p{number}@{DOMAIN}\nmail: person.{number}@{DOMAIN}\n"
        for number in range(SENDERS, PEOPLE)
    )


def _send(port: int, names: Sequence[str], count: int) -> int:
    """Send ``count`` mails in rotation, a connection for each turn of a sender."""
    sent = 0
    while sent < count:
        name = names[(sent // 5) % len(names)]
        with smtplib.SMTP("127.0.0.1", port, timeout=60) as client:
            client.login(name, PASSWORD)
            for _ in range(min(5, count - sent)):
                content = (
                    f"From: {name}\r\nTo: bob@customer.example\r\nSubject: {sent}\r\n\r\n" + "Text.\r\n" * 600
                )
                client.sendmail(name, ["bob@customer.example"], content.encode())
                sent += 1
    return sent


def rate(site: Site, pool: ProcessPoolExecutor, count: int) -> float:
    """Messages a second that are signed and accepted."""
    names = [employee.address for employee in senders()]
    before = len(site.sink.deliveries)
    started = time.monotonic()
    shares = [
        pool.submit(_send, site.submission_port, names[client::CLIENTS], count // CLIENTS)
        for client in range(CLIENTS)
    ]
    sent = sum(share.result() for share in shares)
    elapsed = time.monotonic() - started
    arrived = site.sink.wait_for(before + sent, timeout=120)[before:]
    if not all(b"multipart/signed" in mail.content for mail in arrived):
        raise DemoError("a mail was not signed, so there is nothing to measure")
    return sent / elapsed


def throughput(folder: Path, server: Slapd, rounds: int, count: int) -> None:
    """Measure both kinds of policy in turns."""
    everybody = senders()
    with ExitStack() as stack:
        pool = stack.enter_context(ProcessPoolExecutor(CLIENTS))
        sites = {}
        for name in ("file", "ldap"):
            (folder / name).mkdir()
            more = {"settings": {"[directory]": directory_lines(server)}, "policy": "# in LDAP\n"}
            options = more if name == "ldap" else {}
            sites[name] = stack.enter_context(Site(folder / name, employees=everybody, **options))  # type: ignore[arg-type]
        rates: dict[str, list[float]] = {name: [] for name in sites}
        for site in sites.values():
            rate(site, pool, WARM_UP)
        before = {name: cpu_seconds(site.services["run"].pid) for name, site in sites.items()}
        for number in range(rounds):
            for name in sorted(sites, reverse=bool(number % 2)):
                rates[name].append(rate(sites[name], pool, count))
        ratios = [ldap / file for ldap, file in zip(rates["ldap"], rates["file"], strict=True)]
        for name in sites:
            cpu = cpu_seconds(sites[name].services["run"].pid) - before[name]
            print(
                f"policy from {name}: {statistics.median(rates[name]):6.1f} messages/s (median of {rounds}),"
                f" {1000 * cpu / (rounds * count):.2f} ms of CPU a message"
            )
        ratio = statistics.median(ratios)
        met = "met" if ratio >= TARGET else "MISSED"
        print(f"LDAP to file, once warm: {ratio:.3f} (target {TARGET}: {met}); rounds {_list(ratios)}")


def cold(folder: Path, server: Slapd, count: int) -> None:
    """Measure look-ups with no cache."""
    directory = _open(folder, server, cache_seconds=3600)
    # Policies are few and shared by all, so they are warm as in any service that has seen one mail.
    directory.policies(f"p1@{DOMAIN}")
    chosen = [f"p{number}" for number in random.Random(1).sample(range(PEOPLE), count)]

    def whole(name: str) -> None:
        directory.person_by_login(name)
        directory.policies(f"{name}@{DOMAIN}")
        directory.identity(f"{name}@{DOMAIN}")

    _percentiles("one look-up, cold", chosen[: count // 2], directory.person_by_login)
    _percentiles("all that one sender needs, cold", chosen[count // 2 :], whole)


def after_a_kill(folder: Path, one: Slapd, two: Slapd, times: int) -> None:
    """Measure the first answer after SIGKILL of the server in use."""
    took = []
    for _ in range(times):
        directory = _open(folder, one, two)
        directory.person_by_login("p1")
        one.kill()
        started = time.monotonic()
        if directory.person_by_login("p2") is None:
            raise DemoError("the second server does not know p2")
        took.append(1000 * (time.monotonic() - started))
        one.start()
    print(f"first answer after the server in use was killed: {_list(took)} ms")


def _open(folder: Path, *servers: Slapd, cache_seconds: int = 0) -> Directory:
    (folder / "policy.toml").write_text("")
    lines = directory_lines(*servers, cache_seconds=cache_seconds)
    config = folder / "mailsigil.toml"
    config.write_text(f'[policy]\nfile = "{folder}/policy.toml"\n[[directory]]\n{lines}')
    return open_directory(load_settings(config))


def _percentiles(what: str, names: Sequence[str], ask: Callable[[str], object]) -> None:
    took = []
    for name in names:
        started = time.perf_counter()
        ask(name)
        took.append(1000 * (time.perf_counter() - started))
    cuts = statistics.quantiles(took, n=100)
    print(f"{what}: p50 {cuts[49]:.2f} ms, p99 {cuts[98]:.2f} ms ({len(took)} of {PEOPLE} people)")


def _list(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in values)


def main() -> int:
    """Measure and print; see ``--help``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds (default 5); 0 leaves them out")
    parser.add_argument("--messages", type=int, default=600, help="messages of a run (default 600)")
    arguments = parser.parse_args()
    data = [FRAME, ORGANISATION, ALL_SIGN, *map(person, senders()), people()]
    try:
        with tempfile.TemporaryDirectory(prefix="mailsigil-bench-") as name, ExitStack() as stack:
            folder = Path(name)
            folder.chmod(0o755)
            one, two = (stack.enter_context(slapd(folder / f"slapd-{n}", data)) for n in (1, 2))
            if arguments.rounds:
                throughput(folder, one, arguments.rounds, arguments.messages)
            cold(folder, one, 2000)
            after_a_kill(folder, one, two, 5)
    except DemoError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
