"""A private DNS server (dnsmasq) on loopback that knows a few TXT records and nothing else."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from mailsigil.demo.programs import Daemon, accepts, free_port, require

_STRING = 250
"""Octets in one string of a TXT record (RFC 1035 3.3: at most 255)."""


class DnsServer:
    """Starts on entry, stops by process id on exit."""

    def __init__(self, folder: Path, txt: Mapping[str, str]) -> None:
        self.folder = folder
        self.port = free_port()
        self._txt = txt
        self._daemon: Daemon | None = None

    def __enter__(self) -> DnsServer:
        command = require("dnsmasq", package="dnsmasq-base")
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "dnsmasq.conf"
        config.write_text(
            f"port={self.port}\nlisten-address=127.0.0.1\nbind-interfaces\nno-resolv\nno-hosts\n"
            f"no-daemon\npid-file\nlocal-service\nlocal=/#/\n{'user=root' if os.geteuid() == 0 else ''}\n"
            + "".join(f"txt-record={name},{_strings(text)}\n" for name, text in self._txt.items())
        )
        self._daemon = Daemon([command, "--conf-file=" + str(config)], log=self.folder / "dnsmasq.log")
        self._daemon.wait_until(lambda: accepts(("127.0.0.1", self.port)))
        return self

    def __exit__(self, *_: object) -> None:
        if self._daemon is not None:
            self._daemon.stop()


def _strings(text: str) -> str:
    pieces = [text[start : start + _STRING] for start in range(0, len(text), _STRING)]
    return ",".join(f'"{piece}"' for piece in pieces)
