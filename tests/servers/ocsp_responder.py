"""OpenSSL's own authority tools as servers: ``openssl ocsp`` answers, Python's web server publishes lists."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from mailsigil.demo.programs import Daemon
from pki.pki_make import Made


def key_pem(made: Made) -> bytes:
    """The key, as OpenSSL reads it."""
    pem: bytes = made.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem


def pem(*chain: Made) -> bytes:
    """Certificates, one after another."""
    return b"".join(made.certificate.public_bytes(Encoding.PEM) for made in chain)


def write_index(path: Path, valid: tuple[Made, ...], revoked: tuple[Made, ...]) -> None:
    """The database of ``openssl ca``, from which its responder answers."""
    now = f"{datetime.now(UTC):%y%m%d%H%M%SZ}"
    lines = []
    for made in (*valid, *revoked):
        state, when = ("R", now) if made in revoked else ("V", "")
        end = f"{made.certificate.not_valid_after_utc:%y%m%d%H%M%SZ}"
        serial = f"{made.certificate.serial_number:X}"
        serial = serial.zfill(len(serial) + len(serial) % 2)
        lines.append(f"{state}\t{end}\t{when}\t{serial}\tunknown\t/CN=x\n")
    path.write_text("".join(lines))


@contextmanager
def responding(folder: Path, port: int, issuer: Made, signer: Made, *, minutes: int = 60) -> Iterator[Daemon]:
    """``openssl ocsp`` on a port of loopback, for ``folder/index.txt``; ended at the end or before."""
    folder.mkdir(exist_ok=True)
    (folder / "issuer.pem").write_bytes(pem(issuer))
    (folder / "signer.pem").write_bytes(pem(signer))
    (folder / "signer.key").write_bytes(key_pem(signer))
    index = folder / "index.txt"
    signer_files = ("-rsigner", folder / "signer.pem", "-rkey", folder / "signer.key")
    files = ("-CA", folder / "issuer.pem", *signer_files, "-index", index)
    command = ("openssl", "ocsp", "-port", str(port), "-nmin", str(minutes), "-ignore_err", *files)
    log = folder / "ocsp.log"
    program = Daemon(command, log=log)
    try:
        # A connection without a request, as a probe makes one, keeps this server from the next.
        program.wait_until(lambda: b"waiting for OCSP client" in log.read_bytes())
        yield program
    finally:
        program.stop()


@contextmanager
def publishing(folder: Path, port: int) -> Iterator[list[str]]:
    """A web server for the files of a folder; gives the paths that were asked for."""
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            asked.append(self.path)

    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield asked
        server.shutdown()
