"""``python tests/bench/lifecycle.py``: a certificate for each of 10,000 employees, by `mailsigil sync`.

The employees are in slapd, validated as V4, the authority is the embedded one, and the bound on its rate is
lifted. First nobody has a certificate; then everybody has, and nothing is to be done. With SQLite, and with
PostgreSQL as it is run for good (fsync on). A run of a tenth of the people shows whether memory grows.
Exit status 0 when everything was measured, whatever the figures.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
PLACES = [str(TESTS), str(TESTS.parent / "milter")]
sys.path[:0] = PLACES
# The program that is measured is started from here and must find the same code.
os.environ["PYTHONPATH"] = os.pathsep.join([*PLACES, *filter(None, [os.environ.get("PYTHONPATH")])])

from integration.ldap_house import slapd  # noqa: E402
from mailsigil.demo.bank import ALL_SIGN, FRAME, ORGANISATION, directory_lines  # noqa: E402
from mailsigil.demo.postgresql import PASSWORD, Postgresql  # noqa: E402
from mailsigil.demo.programs import DemoError  # noqa: E402
from mailsigil.demo.slapd import SUFFIX, Slapd  # noqa: E402
from mailsigil.keys.authority import Authority  # noqa: E402

NEW_SECONDS = 120.0
UNCHANGED_SECONDS = 5.0
GROWTH_MIB = 48.0
"""What ten times as many people may take more: their names, not their keys."""
_FEW = "few"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One run of `mailsigil sync`."""

    seconds: float
    cpu: float
    peak_mib: float


def people(count: int) -> Iterator[str]:
    """The entries; the first tenth stands in a place of its own below the others."""
    yield f"dn: ou={_FEW},ou=people,{SUFFIX}\nobjectClass: organizationalUnit\nou: {_FEW}\n"
    for number in range(count):
        place = f"ou={_FEW},ou=people" if number < count // 10 else "ou=people"
        yield (
            f"dn: uid=p{number},{place},{SUFFIX}\nobjectClass: inetOrgPerson\nobjectClass: mailsigilPerson\n"
            f"uid: p{number}\ncn: Person Nr{number}\ngivenName: Person\nsn: Nr{number}\ntitle: Clerk\n"
            f"mail: p{number}@bank.example\nmailsigilValidatedLevel: V4\n"
        )


def configure(folder: Path, server: Slapd, database: str, *, few: bool) -> Path:
    """Write the settings of a machine that has no certificate yet; gives the file."""
    folder.mkdir()
    Authority.init(folder / "ca", organisation="Example Bank", now=datetime.now(UTC))
    base = f"ou=people,{SUFFIX}"
    lines = directory_lines(server, people_base=f"ou={_FEW},{base}" if few else base)
    (folder / "policy.toml").write_text("")
    (folder / "password").write_text(PASSWORD)
    (folder / "password").chmod(0o600)
    secret = f'password_file = "{folder}/password"\n' if database.startswith("postgresql") else ""
    path = folder / "mailsigil.toml"
    path.write_text(
        f'[policy]\nfile = "{folder}/policy.toml"\n[[directory]]\n{lines}[lifecycle]\nenabled = true\n'
        f'database = "{database}"\n{secret}per_second = 10000\n[[source]]\nname = "ca"\nkind = "embedded"\n'
        f'domains = ["bank.example"]\n[source.embedded]\nfolder = "{folder}/ca"\n'
        f'[source.enrolment]\nstate = "{folder}/state"\n'
    )
    return path


def sync(config: Path, *, done: int) -> Measured:
    """Run it to its end, which has to be that so many certificates were issued."""
    command = [sys.executable, "-m", "mailsigil", "sync", "--config", str(config)]
    with tempfile.TemporaryFile() as told:
        started = time.monotonic()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=told, stderr=told)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        told.seek(0)
        words = told.read().decode("utf-8", "replace")
    expected = f"{done} done" if done else "nothing is to be done"
    if process.returncode != 0 or expected not in words:
        raise DemoError(f"sync did not do its work: {words[-2000:]}")
    return Measured(seconds=seconds, cpu=usage.ru_utime + usage.ru_stime, peak_mib=usage.ru_maxrss / 1024)


@contextmanager
def databases(folder: Path) -> Iterator[dict[str, tuple[str, str]]]:
    """Two empty databases of each kind: for the few, and for all."""
    with Postgresql(fsync=True) as server:
        server.statement("CREATE DATABASE few", database="postgres")
        yield {
            "SQLite": (f"sqlite:///{folder}/few.db", f"sqlite:///{folder}/all.db"),
            "PostgreSQL": (f"{server.url.rpartition('/')[0]}/few", server.url),
        }


def measure(folder: Path, count: int, repeats: int) -> None:
    """Measure and print."""
    data = [FRAME, ORGANISATION, ALL_SIGN, *people(count)]
    with slapd(folder / "slapd", data) as server, databases(folder) as both:
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {count} employees in slapd, P-256")
        for name, (small, whole) in both.items():
            few = sync(configure(folder / f"{name}-few", server, small, few=True), done=count // 10)
            config = configure(folder / f"{name}-all", server, whole, few=False)
            new = sync(config, done=count)
            issued = len(Authority.load(config.parent / "ca").register.entries())
            if issued != count:
                raise DemoError(f"the authority issued {issued} certificates to {count} people")
            unchanged = [sync(config, done=0) for _ in range(repeats)]
            _report(name, count, few, new, unchanged)


def _report(name: str, count: int, few: Measured, new: Measured, unchanged: list[Measured]) -> None:
    seconds = statistics.median(each.seconds for each in unchanged)
    growth = new.peak_mib - few.peak_mib
    print(f"\n{name}")
    print(
        f"  {count} new employees: {new.seconds:.1f} s, {count / new.seconds:.0f} people/s,"
        f" {1000 * new.cpu / count:.2f} ms of CPU each, {new.peak_mib:.0f} MiB at most"
    )
    print(f"  {count // 10} new employees: {few.seconds:.1f} s, {few.peak_mib:.0f} MiB at most")
    peak = max(each.peak_mib for each in unchanged)
    cpu = statistics.median(each.cpu for each in unchanged)
    print(
        f"  {count} unchanged: {seconds:.1f} s (median of {len(unchanged)}), {cpu:.1f} s of CPU,"
        f" {peak:.0f} MiB at most"
    )
    _target(f"new employees in under {NEW_SECONDS:.0f} s", f"{new.seconds:.1f} s", new.seconds < NEW_SECONDS)
    _target(f"unchanged in under {UNCHANGED_SECONDS:.0f} s", f"{seconds:.1f} s", seconds < UNCHANGED_SECONDS)
    what = f"ten times the people take less than {GROWTH_MIB:.0f} MiB more"
    _target(what, f"{growth:.0f} MiB", growth < GROWTH_MIB)


def _target(what: str, figure: str, reached: bool) -> None:
    print(f"  {'yes' if reached else 'NO ':3}  {what}: {figure}")


def main() -> int:
    """Measure and print; see ``--help``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=10_000, help="employees (default 10000)")
    parser.add_argument("--repeats", type=int, default=3, help="runs without changes (default 3)")
    arguments = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="mailsigil-bench-") as name:
            folder = Path(name)
            folder.chmod(0o755)
            measure(folder, arguments.people, arguments.repeats)
    except DemoError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
