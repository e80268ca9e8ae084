"""A key server in this process that speaks KV version 2, as slowly and as wrongly as a test wants it."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from mailsigil.config.example import toml_value


class KvServer:
    """Started on entry. ``entries`` are by path; ``delay`` is in seconds; ``asked`` are the paths read."""

    def __init__(self, folder: Path) -> None:
        self.entries: dict[str, dict[str, str]] = {}
        self.delay = 0.0
        self.status = 200
        self.asked: list[str] = []
        self._token = folder / "kv-token"
        self._token.write_text("kv")
        self._token.chmod(0o600)
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # As every real server: header and body must not wait for one another's acknowledgement (40 ms).
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                status, told = owner._answer(self.path.removeprefix("/v1/"))
                body = json.dumps(told).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 512

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> KvServer:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def storage(self, **changes: object) -> str:
        """[[storage]] that asks here."""
        return bao_storage(self.url, self._token, **changes)

    def _answer(self, path: str) -> tuple[int, dict[str, Any]]:
        if path == "auth/token/lookup-self":
            return 200, {"data": {"ttl": 0, "renewable": False}}
        self.asked.append(path)
        time.sleep(self.delay)
        if self.status != 200:
            return self.status, {"errors": ["out of order"]}
        entry = self.entries.get(path.removeprefix("secret/data/storage/"))
        if entry is None:
            return 404, {"errors": []}
        return 200, {"data": {"data": entry, "metadata": {"version": 1}}}


def bao_storage(url: str, token: Path, **changes: object) -> str:
    """[[storage]] of kind "openbao"."""
    values = {"name": "kv", "kind": "openbao", "domains": ("bank.example",), **changes}
    lines = [f"{key} = {toml_value(value)}" for key, value in values.items()]
    section = ["[storage.openbao]", f'url = "{url}"', f'token_file = "{token}"', ""]
    return "\n".join(["[[storage]]", *lines, *section])
