"""The first mail of a signer whose certificate has to be asked about by OCSP, and the next one.

Runs alone: ``python tests/bench/cold.py``. OpenSSL's responder answers on loopback. The floor is what nobody
can leave out: the digest, the signatures of the mail, of the signer's certificate and of the OCSP response.
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "milter"), str(ROOT / "tests")]

from cryptography.hazmat.primitives import hashes  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec  # noqa: E402

import bank  # noqa: E402
from bench.verify import BODY, Mail, cpu_ms, floor_of  # noqa: E402
from mailsigil.demo.programs import free_port  # noqa: E402
from mailsigil.pki.anchors import RevocationMode  # noqa: E402
from mailsigil.pki.fetch import HttpFetch  # noqa: E402
from mailsigil.pki.library import Library  # noqa: E402
from mailsigil.pki.lookup import Lookup  # noqa: E402
from mailsigil.pki.revocation import RevocationChecker  # noqa: E402
from mailsigil.verification import VerificationParts, verify  # noqa: E402
from pki import pki_make as make  # noqa: E402
from pki import publisher  # noqa: E402
from pki.pki_make import Made  # noqa: E402
from servers.ocsp_responder import key_pem, pem, responding, write_index  # noqa: E402

SIGNERS = 50


@dataclass(frozen=True)
class Cost:
    """Milliseconds for one message: on the clock, and of our CPU."""

    elapsed: float
    cpu: float


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


def people(root: Made, url: str, days: tuple[int, int]) -> list[tuple[str, Made]]:
    """Senders of one authority, whose certificates name a responder."""
    addresses = [f"person{number}@bank.example" for number in range(SIGNERS)]
    place = publisher.ocsp_at(url)
    return [
        (address, make.leaf(root, place, make.mailbox(address), subject=make.name(cn="Person"), days=days))
        for address in addresses
    ]


def signed(root: Made, address: str, person: Made) -> Mail:
    """A mail of one of them."""
    house = bank.Bank(
        root=root.certificate,
        issuing=root.certificate,
        pem={address: key_pem(person) + pem(person)},
        now=now(),
    )
    raw = bank.mail(f"Person <{address}>", BODY)
    return bank.cut(bank.signed(raw, by=house, author=address, now=now()))


def asking(root: Made) -> VerificationParts:
    """Verification that requires an answer about each certificate."""
    library = Library()
    lookup = Lookup(
        fetch=HttpFetch(allow_private_addresses=True),
        library=library,
        now=now,
        prefetch=timedelta(hours=1),
        max_crl=1 << 20,
    )
    checker = RevocationChecker(now=now, library=library, lookup=lookup, patience=20.0)
    house = bank.Bank(root.certificate, root.certificate, {}, now())
    return bank.verification(house.trust(revocation=RevocationMode.REQUIRE), revocation=checker)


@contextmanager
def answering(folder: Path, port: int, root: Made) -> Iterator[None]:
    """The responder in a process of its own, so that its CPU is not taken for ours."""
    fork = multiprocessing.get_context("fork")
    ready, done = fork.Event(), fork.Event()

    def serve() -> None:
        with responding(folder, port, root, root):
            ready.set()
            done.wait()

    process = fork.Process(target=serve)
    process.start()
    try:
        if not ready.wait(30):
            raise SystemExit("the OCSP responder does not start")
        yield
    finally:
        done.set()
        process.join()


def cost(mails: Sequence[Mail], parts: VerificationParts) -> Cost:
    """What one of these mails costs; each has to be found good."""
    begun, spent = time.perf_counter(), time.process_time()
    for mail in mails:
        verdict = verify(*mail, parts, at=now())
        if verdict.identity is None:
            raise SystemExit(f"a genuine mail was refused: {verdict.reason.sentence} {verdict.detail}")
    elapsed, cpu = time.perf_counter() - begun, time.process_time() - spent
    return Cost(elapsed * 1000 / len(mails), cpu * 1000 / len(mails))


def floor_ms(root: Made, mail: Mail, parts: VerificationParts) -> float:
    """The digest and three signatures with keys of the same kind."""
    data = b"x" * 500
    signature = root.key.sign(data, ec.ECDSA(hashes.SHA256()))
    key = root.key.public_key()
    one = cpu_ms(lambda: key.verify(signature, data, ec.ECDSA(hashes.SHA256())))
    return cpu_ms(floor_of(mail, parts)) + 2 * one


def main() -> int:
    """Print the figures."""
    passed = (now() - make.NOW).days
    days = (passed - 30, passed + 300)
    root = make.root(days=days)
    port = free_port()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "ocsp"
        folder.mkdir()
        senders = people(root, f"http://127.0.0.1:{port}/", days)
        write_index(folder / "index.txt", tuple(person for _, person in senders), ())
        (folder / "now.txt.attr").write_text("unique_subject = no\n")
        mails = [signed(root, address, person) for address, person in senders]
        with answering(folder, port, root):
            parts = asking(root)
            first = cost(mails, parts)
            again = cost(mails, parts)
        floor = floor_ms(root, mails[0], parts)
    print(f"{SIGNERS} signers, P-256, revocation required, OCSP by openssl ocsp; ms a message")
    print(f"{'':28}{'elapsed':>9}{'CPU':>9}{'floor':>9}{'ratio':>8}")
    print(f"{'first mail, asked':28}{first.elapsed:9.2f}{first.cpu:9.2f}{floor:9.2f}{first.cpu / floor:8.1f}")
    warm = cpu_ms(floor_of(mails[0], parts))
    print(f"{'again, known':28}{again.elapsed:9.2f}{again.cpu:9.2f}{warm:9.2f}{again.cpu / warm:8.1f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
