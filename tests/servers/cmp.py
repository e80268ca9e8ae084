"""A real CMP authority on loopback: libcrypto's own server, compiled for the tests, behind HTTP."""

from __future__ import annotations

import http.server
import shutil
import struct
import subprocess
import threading
from pathlib import Path

from mailsigil.demo.programs import run
from mailsigil.keys.sources import cmp_asn1

SOURCE = Path(__file__).with_name("cmp_responder.c")
SECRET = "a shared secret"  # of a throwaway server


def can_compile() -> bool:
    """Tells whether gcc and the headers of OpenSSL are here."""
    return bool(shutil.which("gcc")) and Path("/usr/include/openssl/cmp.h").exists()


def compile_responder(folder: Path) -> Path:
    """Builds the authority's program."""
    program = folder / "cmp_responder"
    run(["gcc", "-w", "-O1", "-o", program, SOURCE, "-lcrypto"])
    return program


class CmpServer:
    """Started on entry; ``mode`` is one of those that the program knows.

    ``heard`` holds the kind and the transactionID of each request, ``protections`` what protected them. While
    ``loses`` names a kind, its answers do not arrive; while ``is_away``, a proxy answers in its place.
    """

    def __init__(
        self, program: Path, *, certificate: Path, key: Path, mode: str = "issue", implicit: bool = True
    ) -> None:
        arguments = [str(program), str(certificate), str(key), SECRET, mode]
        self._arguments = [*arguments, "implicit" if implicit else "explicit"]
        self._lock = threading.Lock()
        self.heard: list[tuple[str, bytes]] = []
        self.protections: set[str] = set()
        self.loses = ""
        self.is_away = False

    def kinds(self) -> list[str]:
        """Gives what was asked, in order."""
        return [kind for kind, _ in self.heard]

    def __enter__(self) -> CmpServer:
        self._process = subprocess.Popen(self._arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        ask, server = self._ask, self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = self.rfile.read(int(self.headers["Content-Length"]))
                if server.is_away:
                    self._say(502, "text/html", b"<html>Bad Gateway</html>")
                    return
                kind = server.note(request)
                answer = ask(request)
                if kind != server.loses:
                    self._say(200 if answer else 500, "application/pkixcmp", answer)

            def _say(self, status: int, kind: str, answer: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/pkix"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)

    def note(self, request: bytes) -> str:
        """Writes down a request; gives its kind."""
        message = cmp_asn1.Message.load(request)
        kind: str = message["body"].name
        self.heard.append((kind, message["header"]["transaction_id"].native))
        by_secret = message["header"]["protection_alg"]["algorithm"].dotted == cmp_asn1.PBM
        self.protections.add("secret" if by_secret else "signature")
        return kind

    def _ask(self, request: bytes) -> bytes:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            self._process.stdin.write(struct.pack(">I", len(request)) + request)
            self._process.stdin.flush()
            (size,) = struct.unpack(">I", self._process.stdout.read(4))
            return self._process.stdout.read(size)
