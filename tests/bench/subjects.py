"""What is measured: each subject is a port of one private Postfix with its milters behind it."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bench.load import SENDER
from mailsigil.demo.dns import DnsServer
from mailsigil.demo.opendkim import OpenDkim
from mailsigil.demo.organisation import DOMAIN, Organisation, found
from mailsigil.demo.postfix import Listener, Postfix
from mailsigil.demo.programs import Daemon, accepts, free_port
from mailsigil.demo.sink import Sink
from mailsigil.keys.profile import KeyKind
from mailsigil.milter.worker import default_workers

OUTBOUND, INBOUND = "submission", "inbound"
SMIME, DKIM, IDENTITY = "Content-Type: multipart/signed", "DKIM-Signature: ", "Verified-Identity: V4"
FLOOR = "does nothing"
WORKERS = (1, 2, default_workers())
"""One, one a core of two, and what an administrator gets who sets nothing."""
_CLIENT_RULE = f'\n[[client]]\nnetworks = ["127.0.0.0/8"]\nmay_send_as = ["{SENDER}"]\n'
_MEMORY_FILESYSTEM = Path("/dev/shm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One row of the table."""

    name: str
    workers: int = 0
    port: int
    daemon: str
    milters: tuple[str, ...] = ()
    root: int = 0
    """The process that is, with its descendants, the milter side; 0 for none."""
    mark: str = ""
    """How the header field begins that each message must get."""
    anchor: Path | None = None
    """The root certificate of the S/MIME signatures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A running mailsigil."""

    organisation: Organisation
    daemon: Daemon

    @property
    def milter(self) -> str:
        return f"unix:{self.organisation.milter_socket}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Everything that runs."""

    folder: Path
    sink: Sink
    dkim: OpenDkim
    dns: DnsServer
    memory: Organisation
    """Of the service that memory is measured with; it is not running yet."""
    signing: tuple[Subject, ...]
    verifying: tuple[Subject, ...]
    both: Subject
    """S/MIME and then DKIM: makes the mail that is verified."""
    big: tuple[Subject, Subject]
    """Out and in, through the service that memory is measured with."""
    postfix: Postfix


@contextmanager
def bench() -> Iterator[Bench]:
    """Starts everything, and ends it by process id."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="mailsigil-bench-", dir=_place()))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o755)  # Postfix comes here as its own user.
        sink = stack.enter_context(Sink())
        dkim = stack.enter_context(OpenDkim(folder / "opendkim", DOMAIN))
        dns = stack.enter_context(DnsServer(folder / "dns", {dkim.record_name: dkim.record}))
        signing = [
            _subject("no milter", OUTBOUND),
            *(_floor(folder, stack, workers) for workers in WORKERS),
            _subject("OpenDKIM, RSA-2048", OUTBOUND, (dkim.milter,), root=dkim.pid, mark=DKIM),
        ]
        for kind, title in ((KeyKind.RSA2048, "RSA-2048"), (KeyKind.P256, "P-256")):
            for workers in WORKERS:
                service = start(make(folder / f"{kind}-{workers}", dns.port, kind, workers), stack)
                signing.append(_signer(title, workers, service))
        verifying = [
            _verifier(name, workers, service)
            for name, workers in (
                ("mailsigil verifies", WORKERS[-1]),
                ("mailsigil verifies, and DKIM", WORKERS[-1]),
            )
        ]
        memory = make(folder / "memory", dns.port, KeyKind.P256, 1)
        milter = f"unix:{memory.milter_socket}"
        big = (
            _subject("memory", OUTBOUND, (milter,), mark=SMIME),
            _subject("memory", INBOUND, (milter,), mark=IDENTITY),
        )
        both = _subject("both", OUTBOUND, (service.milter, dkim.milter))
        postfix = stack.enter_context(_postfix(folder, [*signing, *verifying, both, *big], sink.port))
        yield Bench(
            folder=folder,
            sink=sink,
            dkim=dkim,
            dns=dns,
            memory=memory,
            signing=tuple(signing),
            verifying=tuple(verifying),
            both=both,
            big=big,
            postfix=postfix,
        )


def make(folder: Path, dns_port: int, key: KeyKind, workers: int) -> Organisation:
    """An organisation whose Alice may send from this machine without a login."""
    organisation = found(
        folder,
        now=datetime.now(UTC),
        dns_port=dns_port,
        key=key,
        settings={"milter": f"workers = {workers}\n"},
    )
    with (folder / "policy.toml").open("a") as policy:
        policy.write(_CLIENT_RULE)
    return organisation


def start(organisation: Organisation, stack: ExitStack) -> Service:
    """Starts mailsigil for an organisation until the stack unwinds."""
    log = organisation.folder / "mailsigil.log"
    daemon = Daemon([sys.executable, "-m", "mailsigil", "run", "--config", organisation.config], log=log)
    stack.callback(daemon.stop)
    daemon.wait_until(lambda: accepts(str(organisation.milter_socket)))
    return Service(organisation=organisation, daemon=daemon)


def _place() -> str | None:
    # On a disk the waits of Postfix's fsync would hide what a milter costs.
    if _MEMORY_FILESYSTEM.is_dir() and shutil.disk_usage(_MEMORY_FILESYSTEM).free > 2 << 30:
        return str(_MEMORY_FILESYSTEM)
    return None


def _subject(
    name: str, daemon: str, milters: tuple[str, ...] = (), *, root: int = 0, mark: str = ""
) -> Subject:
    return Subject(name=name, port=free_port(), daemon=daemon, milters=milters, root=root, mark=mark)


def _floor(folder: Path, stack: ExitStack, workers: int) -> Subject:
    socket = folder / f"null-{workers}.sock"
    program = Path(__file__).with_name("null_milter.py")
    daemon = Daemon([sys.executable, program, socket, str(workers)], log=folder / f"null-{workers}.log")
    stack.callback(daemon.stop)
    daemon.wait_until(lambda: accepts(str(socket)))
    return Subject(
        name=FLOOR,
        workers=workers,
        port=free_port(),
        daemon=OUTBOUND,
        milters=(f"unix:{socket}",),
        root=daemon.pid,
    )


def _signer(title: str, workers: int, service: Service) -> Subject:
    return Subject(
        name=f"mailsigil signs, {title}",
        workers=workers,
        port=free_port(),
        daemon=OUTBOUND,
        milters=(service.milter,),
        root=service.daemon.pid,
        mark=SMIME,
        anchor=service.organisation.anchor,
    )


def _verifier(name: str, workers: int, service: Service) -> Subject:
    return Subject(
        name=name,
        workers=workers,
        port=free_port(),
        daemon=INBOUND,
        milters=(service.milter,),
        root=service.daemon.pid,
        mark=IDENTITY,
    )


def _postfix(folder: Path, subjects: list[Subject], sink_port: int) -> Postfix:
    return Postfix(
        folder / "postfix",
        tuple(
            Listener(port=subject.port, name=subject.daemon, milters=subject.milters) for subject in subjects
        ),
        options={
            "transport_maps": f"inline:{{{{sample.example = smtp:[127.0.0.1]:{sink_port}}}}}",
            # Postfix notes each message that was treated, so that every one can be counted.
            "milter_header_checks": f"regexp:{{{{~^({SMIME}|{DKIM}|{IDENTITY})~ INFO}}}}",
        },
    )
