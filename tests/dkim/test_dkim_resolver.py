"""TXT lookups against a real DNS server, and against what no DNS server should be."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import dns.message
import dns.rdata
import dns.rdatatype
import dns.resolver
import dns.rrset
import pytest

from mailsigil.dkim import resolver as resolver_module
from mailsigil.dkim.resolver import DnsTrouble, make_txt_lookup
from servers.dnsmasq import HOST, DnsServer, dns_server, free_port

KEY = "v=DKIM1; k=rsa; p=" + "QUJD" * 300
NAME = b"s1._domainkey.bank.example."


@pytest.fixture(scope="module")
def server() -> Iterator[DnsServer]:
    records = {"s1._domainkey.bank.example": KEY, "empty._domainkey.bank.example": ""}
    with dns_server(records, ttl=30) as started:
        yield started


def test_long_record_comes_joined(server: DnsServer) -> None:
    assert make_txt_lookup([server.host], server.port, 2.0)(NAME) == KEY.encode()


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(b"S1._DomainKey.Bank.Example.", id="letter case does not matter"),
        pytest.param(b"s1._domainkey.bank.example", id="final dot does not matter"),
    ],
)
def test_spellings_of_a_name(server: DnsServer, name: bytes) -> None:
    assert make_txt_lookup([server.host], server.port, 2.0)(name) == KEY.encode()


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(b"s2._domainkey.bank.example.", id="no such name"),
        pytest.param(b"a..b.example.", id="empty label"),
        pytest.param(b"x" * 64 + b".example.", id="label too long"),
        pytest.param(b"x." * 200, id="name too long"),
        pytest.param(b"\xff\xfe.example.", id="not ASCII"),
        pytest.param(b"\\999.example.", id="bad escape"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_names_without_record(server: DnsServer, name: bytes) -> None:
    assert make_txt_lookup([server.host], server.port, 2.0)(name) is None


def test_answers_live_as_long_as_their_ttl() -> None:
    now = [1000.0]
    with dns_server({"s1._domainkey.bank.example": KEY}, ttl=30) as server:
        lookup = make_txt_lookup([server.host], server.port, 0.5, clock=lambda: now[0])
        assert lookup(NAME) == KEY.encode()
        assert lookup(b"none.bank.example.") is None
    now[0] += 29
    assert lookup(NAME) == KEY.encode()
    assert lookup(b"none.bank.example.") is None
    now[0] += 2
    with pytest.raises(DnsTrouble):
        lookup(NAME)


def test_a_silent_server_is_trouble_within_the_timeout() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((HOST, 0))
        lookup = make_txt_lookup([HOST], silent.getsockname()[1], 0.3)
        begun = time.monotonic()
        with pytest.raises(DnsTrouble):
            lookup(NAME)
        assert time.monotonic() - begun < 2


def test_a_dead_server_is_trouble() -> None:
    with pytest.raises(DnsTrouble):
        make_txt_lookup([HOST], free_port(), 0.3)(NAME)


def test_servfail_is_trouble_not_absence() -> None:
    """dnsmasq without anybody to ask refuses; that says nothing about the name."""
    nobody = ("--server=/broken.example/127.0.0.1#1",)
    with dns_server({}, arguments=nobody) as server, pytest.raises(DnsTrouble):
        make_txt_lookup([server.host], server.port, 0.5)(b"s1._domainkey.broken.example.")


def test_garbage_is_trouble() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as liar:
        liar.bind((HOST, 0))
        liar.settimeout(2)

        def lie() -> None:
            try:
                while True:
                    data, address = liar.recvfrom(512)
                    liar.sendto(data[:2] + b"\x81\x80\x00\x01\x00\x09garbage", address)
            except OSError:
                return

        thread = threading.Thread(target=lie, daemon=True)
        thread.start()
        with pytest.raises(DnsTrouble):
            make_txt_lookup([HOST], liar.getsockname()[1], 0.5)(NAME)


def test_no_servers_at_all_is_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    def unconfigured(*args: object, **kwargs: object) -> None:
        raise dns.resolver.NoResolverConfiguration

    monkeypatch.setattr(dns.resolver, "Resolver", unconfigured)
    with pytest.raises(DnsTrouble, match="no DNS servers"):
        make_txt_lookup([], 53, 1.0)(NAME)


def test_many_threads_share_one_lookup(server: DnsServer) -> None:
    lookup = make_txt_lookup([server.host], server.port, 5.0)
    found: list[bytes | None] = []

    def ask(number: int) -> None:
        found.extend(lookup(NAME if turn % 2 else b"n%d.bank.example." % (number % 5)) for turn in range(40))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found.count(KEY.encode()) == found.count(None) == 8 * 20


def test_cache_is_bounded(server: DnsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver_module, "MAX_ENTRIES", 3)
    lookup = make_txt_lookup([server.host], server.port, 2.0)
    for number in range(6):
        assert lookup(b"n%d.bank.example." % number) is None
    assert list(lookup._answers) == [b"n3.bank.example.", b"n4.bank.example.", b"n5.bank.example."]


@pytest.mark.parametrize(
    ("texts", "chosen"),
    [
        pytest.param(["v=DKIM1; p=B", "v=DKIM1; p=A"], b"v=DKIM1; p=A", id="several keys, a fixed one"),
        pytest.param(["v=spf1 -all", "v=DKIM1; p=A"], b"v=DKIM1; p=A", id="another record beside the key"),
        pytest.param(["p=A"], b"p=A", id="key without version"),
        pytest.param(["x" * 20000], None, id="too long to be a key"),
    ],
)
def test_choice_among_records(texts: list[str], chosen: bytes | None) -> None:
    records = [
        dns.rdata.from_text("IN", "TXT", " ".join(f'"{text[i : i + 255]}"' for i in range(0, len(text), 255)))
        for text in texts
    ]
    assert resolver_module._choose(records) == chosen
    assert resolver_module._choose(records[::-1]) == chosen
