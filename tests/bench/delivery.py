"""``python tests/bench/delivery.py``: what decryption at delivery costs.

The same mail at one private Dovecot with the Sieve scripts: as it is, encrypted and left alone, encrypted and
decrypted with its signature verified. One after the other, and four at a time. Needs root and Dovecot.
Exit status 0 when everything was measured, whatever the figures.
"""

from __future__ import annotations

import argparse
import os
import smtplib
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
PLACES = [str(TESTS), str(TESTS.parent / "milter")]
sys.path[:0] = PLACES
# The programs that are measured are started from here and must find the same code.
os.environ["PYTHONPATH"] = os.pathsep.join([*PLACES, *filter(None, [os.environ.get("PYTHONPATH")])])

from envelopes import BOB, enclosed, person  # noqa: E402
from mailsigil.demo.dovecot import MAIL_USER, Dovecot  # noqa: E402
from mailsigil.demo.organisation import HOST, found  # noqa: E402
from mailsigil.demo.programs import Daemon, DemoError, accepts, run  # noqa: E402
from servers.sieve import FILTERS, compile_scripts, sieve_dovecot  # noqa: E402

ALICE = "alice@bank.example"
SALES = "sales@bank.example"
TOGETHER = 4


@contextmanager
def delivery(folder: Path) -> Iterator[tuple[Dovecot, bytes]]:
    """Everything that is measured, and a signed mail of 5 KB."""
    (folder / "dovecot").mkdir(mode=0o755)
    dovecot = sieve_dovecot(folder / "dovecot", {BOB: "x", SALES: "x"}, host=HOST)
    socket, keys = dovecot.folder / FILTERS / "mailsigil-decrypt", folder / "mailsigil" / "decrypt.sock"
    settings = {
        "delivery": f'domains = ["bank.example"]\nexcept_users = ["{SALES}"]\nsocket = "{socket}"\n'
        f'allowed_users = ["{MAIL_USER}"]\nkey_socket = "{keys}"\n',
        "revocation": 'fetch = false\ncache_folder = ""\n',
        "log": 'level = "warning"\n',
    }
    organisation = found(folder / "mailsigil", now=datetime.now(UTC), dns_port=9, settings=settings)
    for kind in ("rsa", "p256"):
        person(kind).write(organisation.folder / "keys", f"bob-{kind}.pem")
    services: list[Daemon] = []
    with dovecot:
        compile_scripts(dovecot)
        try:
            for name, path in (("keyd", keys), ("delivery", socket)):
                command = [sys.executable, "-m", "mailsigil", name, "--config", str(organisation.config)]
                services.append(Daemon(command, log=folder / "mailsigil.log"))
                services[-1].wait_until(lambda path=path: accepts(str(path)))  # type: ignore[misc]
            yield dovecot, _signed(organisation.folder)
        finally:
            for service in reversed(services):
                service.stop()


def _signed(folder: Path) -> bytes:
    (pem,) = (path for path in (folder / "keys").iterdir() if "alice" in path.name)
    raw = f"From: {ALICE}\r\nTo: {BOB}\r\nDate: {format_datetime(datetime.now(UTC))}\r\nMIME-Version: 1.0\r\n"
    text = raw.encode() + b"Content-Type: text/plain\r\n\r\n" + b"A line of the message.\r\n" * 200
    return run([sys.executable, "-m", "mailsigil", "sign", "--cert", str(pem)], stdin=text)


def one_by_one(dovecot: Dovecot, mail: bytes, to: str, count: int) -> list[float]:
    """Milliseconds of each delivery."""
    with smtplib.LMTP(str(dovecot.lmtp_socket), 0) as client:
        return [_timed(client, mail, to) for _ in range(count)]


def _timed(client: smtplib.LMTP, mail: bytes, to: str) -> float:
    begun = time.perf_counter()
    client.sendmail(ALICE, [to], mail)
    return (time.perf_counter() - begun) * 1000


def together(dovecot: Dovecot, mail: bytes, to: str, count: int) -> float:
    """Deliveries a second, some at a time."""
    begun = time.perf_counter()
    with ThreadPoolExecutor(TOGETHER) as pool:
        shares = [pool.submit(one_by_one, dovecot, mail, to, count // TOGETHER) for _ in range(TOGETHER)]
        done = sum(len(share.result()) for share in shares)
    return done / (time.perf_counter() - begun)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--mails", type=int, default=200, help="deliveries of each kind")
    count = parser.parse_args().mails
    print("Decryption at delivery: LMTP, Sieve, the filter, the key agent; mail of 5 KB, signed with P-256\n")
    try:
        with tempfile.TemporaryDirectory(prefix="mailsigil-bench-") as name:
            folder = Path(name)
            folder.chmod(0o755)
            with delivery(folder) as (dovecot, signed):
                _measure(dovecot, signed, folder, count)
    except DemoError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


def _measure(dovecot: Dovecot, signed: bytes, folder: Path, count: int) -> None:
    kinds = {
        "not encrypted": (signed, BOB),
        "encrypted, not to be decrypted": (enclosed(signed, (person("rsa"),), folder), SALES),
        "decrypted, RSA-2048, AES-256-GCM": (enclosed(signed, (person("rsa"),), folder), BOB),
        "decrypted, RSA-2048, AES-256-CBC": (
            enclosed(signed, (person("rsa"),), folder, cipher="-aes-256-cbc"),
            BOB,
        ),
        "decrypted, P-256, AES-256-GCM": (enclosed(signed, (person("p256"),), folder), BOB),
    }
    print(f"{'':36}{'median':>10}{'p95':>10}{f'{TOGETHER} at a time':>16}")
    for name, (mail, to) in kinds.items():
        one_by_one(dovecot, mail, to, 10)
        times = one_by_one(dovecot, mail, to, count)
        p95 = statistics.quantiles(times, n=20)[-1]
        rate = together(dovecot, mail, to, count)
        print(f"{name:36}{statistics.median(times):>7.1f} ms{p95:>7.1f} ms{rate:>12.0f} a s")


if __name__ == "__main__":
    raise SystemExit(main())
