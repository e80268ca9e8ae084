"""A real DNS server on loopback for one test: dnsmasq, started and ended by its process id."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import dns.exception
import dns.message
import dns.query
import pytest

HOST = "127.0.0.1"
_STRING = 255
"""Octets of one string in a TXT record (RFC 1035 3.3)."""


@dataclass(frozen=True, slots=True)
class DnsServer:
    """Where the server listens, and what is needed to stop it early."""

    host: str
    port: int
    process: subprocess.Popen[bytes]

    def stop(self) -> None:
        """End the server. May be called again."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(5)


@contextmanager
def dns_server(
    txt: Mapping[str, str], *, ttl: int = 0, arguments: tuple[str, ...] = ()
) -> Iterator[DnsServer]:
    """Serve TXT records by name; long texts are cut into strings of 255. Other names do not exist.

    ``arguments`` are further ones for dnsmasq. Skips the test where dnsmasq is not installed.
    """
    binary = shutil.which("dnsmasq", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    if binary is None:
        pytest.skip("dnsmasq is not here: install Debian's dnsmasq-base")
    records = [f"--txt-record={name},{_strings(text)}" for name, text in txt.items()]
    for _ in range(3):  # somebody else may take the port before dnsmasq does
        port = free_port()
        server = DnsServer(HOST, port, _start(binary, port, ttl, [*records, *arguments]))
        try:
            if _answers(server):
                yield server
                return
        finally:
            server.stop()
    pytest.fail("dnsmasq did not start")


def free_port() -> int:
    """Give a port of loopback that is free for UDP and TCP at this moment."""
    for _ in range(50):
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
            socket.socket(socket.AF_INET, socket.SOCK_STREAM) as stream,
        ):
            datagrams.bind((HOST, 0))
            port: int = datagrams.getsockname()[1]
            try:
                stream.bind((HOST, port))
            except OSError:
                continue  # free for UDP alone
            return port
    raise RuntimeError("no port is free for UDP and TCP")


def _start(binary: str, port: int, ttl: int, more: list[str]) -> subprocess.Popen[bytes]:
    command = [
        binary,
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--pid-file=",
        f"--port={port}",
        f"--listen-address={HOST}",
        "--bind-interfaces",
        "--no-resolv",
        "--no-hosts",
        "--local=/#/",  # we know all names there are; the others do not exist
        f"--local-ttl={ttl}",
        "--log-facility=-",
        "--user=",
        "--group=",
        *more,
    ]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _strings(text: str) -> str:
    if "," in text or '"' in text:
        raise ValueError("dnsmasq's command line takes no commas and quotes in a TXT record")
    return ",".join(text[start : start + _STRING] for start in range(0, len(text), _STRING))


def _answers(server: DnsServer) -> bool:
    question = dns.message.make_query("ready.invalid.", "TXT")
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and server.process.poll() is None:
        try:
            dns.query.udp(question, server.host, port=server.port, timeout=0.2)
        except (dns.exception.DNSException, OSError):
            time.sleep(0.02)
        else:
            return True
    return False
