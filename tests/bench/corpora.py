"""The slowest message of each published corpus, and the slowest certificate path: none may take a second.

Runs alone: ``python tests/bench/corpora.py``. Every file is taken for a message and goes the whole inbound
way, whatever it is: mail may hold anything. Seconds of CPU, for other work on the machine is not theirs.
"""

from __future__ import annotations

import io
import json
import sys
import tarfile
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "milter"), str(ROOT / "tests")]

from cryptography import x509  # noqa: E402
from cryptography.hazmat.primitives.serialization import Encoding  # noqa: E402

import bank  # noqa: E402
from conftest import CORPORA  # noqa: E402
from mailsigil.inbound import InboundParts, inbound  # noqa: E402
from mailsigil.message.reader import read_message  # noqa: E402
from mailsigil.pki.anchors import AnchorSet, TrustStore  # noqa: E402
from mailsigil.pki.path import PathValidator  # noqa: E402
from mailsigil.pki.policies import Level  # noqa: E402

TARGET = 1.0
LIMBO_AT = datetime(2024, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, order=True)
class Took:
    """Seconds of CPU, and for what."""

    seconds: float
    what: str


def messages(folder: Path, parts: InboundParts) -> Iterator[Took]:
    """Each file below a folder, as a message."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            begun = time.process_time()
            message = read_message(io.BytesIO(path.read_bytes()))
            inbound(message.fields, message.body, parts, damage=message.damage)
            message.body.close()
            yield Took(time.process_time() - begun, str(path.relative_to(folder)))


def paths(folder: Path) -> Iterator[Took]:
    """Each case of x509-limbo."""
    for case in json.loads(next(folder.rglob("limbo.json")).read_text())["testcases"]:
        try:
            roots = tuple(x509.load_pem_x509_certificate(pem.encode()) for pem in case["trusted_certs"])
            leaf, *others = (
                x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)
                for pem in (case["peer_certificate"], *case["untrusted_intermediates"])
            )
            validator = PathValidator(TrustStore((AnchorSet(name="x", certificates=roots, level=Level.V1),)))
        except ValueError:
            continue  # no certificate, or no anchor that an administrator could configure
        at = datetime.fromisoformat(case["validation_time"]) if case["validation_time"] else LIMBO_AT
        begun = time.process_time()
        validator.validate(leaf, others, at=at)
        yield Took(time.process_time() - begun, case["id"])


def main() -> int:
    """Print one line a corpus."""
    archives = sorted(CORPORA.glob("*.tar.xz"))
    if not archives:
        print(f"no corpora in {CORPORA}: set MAILSIGIL_CORPORA to their folder")
        return 0
    # What a certificate's parser thinks of strange certificates is no news here.
    warnings.simplefilter("ignore")
    parts = InboundParts(
        verification=bank.verification(),
        txt=bank.no_dns,
        now=lambda: bank.NOW,
        authserv_id=bank.HOST,
        dkim_max_bytes=1_000_000,
        dkim_max_signatures=5,
    )
    print("the slowest message of each corpus, whole inbound way, seconds of CPU")
    print(f"{'':24}{'files':>6}{'slowest':>9}")
    slowest = []
    for archive in archives:
        name = archive.name.removesuffix(".tar.xz")
        with tempfile.TemporaryDirectory() as folder:
            with tarfile.open(archive) as tar:
                if hasattr(tarfile, "data_filter"):  # Debian 12's Python 3.11.2 does not have it
                    tar.extraction_filter = tarfile.data_filter
                tar.extractall(folder)
            slowest.append(_report(name, list(messages(Path(folder), parts))))
            if name == "x509-limbo":
                slowest.append(_report(f"{name}, as paths", list(paths(Path(folder)))))
    reached = max(slowest).seconds < TARGET
    print(f"target: no message over {TARGET:.0f} s: {'yes' if reached else 'NO'}, {max(slowest).seconds:.2f}")
    return 0


def _report(name: str, took: list[Took]) -> Took:
    worst = max(took)
    print(f"{name:24}{len(took):6}{worst.seconds:9.3f}  {worst.what[-60:]}")
    return worst


if __name__ == "__main__":
    raise SystemExit(main())
