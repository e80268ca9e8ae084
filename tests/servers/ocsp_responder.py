"""OpenSSL's own authority tools behind Python's web server: ``openssl ocsp`` answers, lists are published."""

from __future__ import annotations

import functools
import http.server
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

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
def responding(folder: Path, port: int, issuer: Made, signer: Made, *, minutes: int = 60) -> Iterator[None]:
    """Answers of ``openssl ocsp`` for ``folder/index.txt`` as it is at the start, on a port of loopback.

    OpenSSL's own server listens on all addresses, so each request is handed to a process of its own instead.
    """
    folder.mkdir(exist_ok=True)
    (folder / "issuer.pem").write_bytes(pem(issuer))
    (folder / "signer.pem").write_bytes(pem(signer))
    (folder / "signer.key").write_bytes(key_pem(signer))
    (folder / "now.txt").write_bytes((folder / "index.txt").read_bytes())
    files = ("-CA", "issuer.pem", "-rsigner", "signer.pem", "-rkey", "signer.key", "-index", "now.txt")
    command = ("openssl", "ocsp", "-nmin", str(minutes), *files)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with tempfile.TemporaryDirectory(dir=folder) as name:
                request, response = Path(name, "request"), Path(name, "response")
                request.write_bytes(body)
                asked = ("-reqin", str(request), "-respout", str(response))
                done = subprocess.run([*command, *asked], cwd=folder, capture_output=True)
                answer = response.read_bytes() if response.exists() else b""
            if done.returncode != 0 or not answer:
                self.send_error(500)
                return
            self.send_response(200)
            self.send_header("Content-Type", "application/ocsp-response")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *args: object) -> None:
            pass

    with _serving(port, Handler):
        yield


@contextmanager
def _serving(port: int, handler: Callable[..., http.server.BaseHTTPRequestHandler]) -> Iterator[None]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield
        server.shutdown()


@contextmanager
def publishing(folder: Path, port: int) -> Iterator[list[str]]:
    """A web server for the files of a folder; gives the paths that were asked for."""
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            asked.append(self.path)

    handler = functools.partial(Handler, directory=str(folder))
    with _serving(port, handler):
        yield asked
