"""Frames and JSON between agent and client, from friends and from enemies."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailsigil.keys.connection import Connection
from mailsigil.keys.errors import KeyAgentRefused, ProtocolError, Refusal
from mailsigil.keys.protocol import (
    MAX_FRAME,
    Credential,
    Operation,
    Request,
    decode_found,
    decode_pong,
    decode_request,
    decode_signature,
    encode_found,
    encode_pong,
    encode_refusal,
    encode_request,
    encode_signature,
    frame,
)

CREDENTIAL = Credential(
    key_id="k1", certificate=b"\x30\x00", intermediates=(b"a", b"b"), schemes=("ed25519",)
)
SIGN = Request(operation=Operation.SIGN, address="a@b.example", key_id="k1", scheme="ed25519", data=b"\x31\0")


@pytest.mark.parametrize(
    "request_",
    [
        SIGN,
        Request(operation=Operation.FIND, address="ä@b.example"),
        Request(operation=Operation.FIND, address="a@b.example", source="public", without="corporate PKI"),
        Request(operation=Operation.FIND, address="a@b.example", at_hand=True),
        Request(operation=Operation.PING),
    ],
    ids=["sign", "find", "find in one source", "find at hand", "ping"],
)
def test_requests_survive_the_way(request_: Request) -> None:
    assert decode_request(encode_request(request_)) == request_


def test_answers_survive_the_way() -> None:
    assert decode_found(encode_found((CREDENTIAL, CREDENTIAL))) == (CREDENTIAL, CREDENTIAL)
    assert decode_found(encode_found(())) == ()
    assert decode_signature(encode_signature(b"\0\xff")) == b"\0\xff"
    assert decode_pong(encode_pong(7)) == 7
    with pytest.raises(KeyAgentRefused) as caught:
        decode_signature(encode_refusal(Refusal.ADDRESS, "no"))
    assert caught.value.reason is Refusal.ADDRESS
    assert str(caught.value) == "no (address)"


def test_credentials_that_do_not_fit_are_left_out() -> None:
    big = Credential(key_id="k", certificate=b"x" * 60_000, intermediates=(), schemes=("ed25519",))
    payload = encode_found((big,) * 10)
    assert len(payload) <= MAX_FRAME
    assert decode_found(payload) == (big,) * 3


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[]",
        b'"find"',
        b"{",
        b"[" * 200_000,
        b'{"op":' * 30_000,
        b"9" * 100_000,
        b'{"op":"dump"}',
        b'{"op":"find","address":"a@b.example","source":7}',
        b'{"op":"find","address":"a@b.example","without":"' + b"x" * 600 + b'"}',
        b'{"op":["find"]}',
        b'{"op":"find"}',
        b'{"op":"find","address":""}',
        b'{"op":"find","address":7}',
        b'{"op":"find","address":"%s"}' % (b"a" * 513),
        b'{"op":"sign","address":"a","key_id":"k","scheme":"s","data":"AA=="}',
        b"\x01",
        b"\x01\x00\x01k",
        b"\x01\x00\x01k\x00\x01a\x00\x01s",
        b"\x01\x00\x00\x00\x01a\x00\x01sdata",
        b"\x01\x00\x01k\x00\x01a\xff\xffsdata",
        b"\x01\x00\x01\xff\x00\x01a\x00\x01sdata",
        b"\x01\x02\x01" + b"k" * 513 + b"\x00\x01a\x00\x01sdata",
    ],
    ids=lambda payload: payload[:40].decode("latin-1") or "empty",
)
def test_malformed_requests_are_refused(payload: bytes) -> None:
    with pytest.raises(KeyAgentRefused) as caught:
        decode_request(payload)
    assert caught.value.reason is Refusal.MALFORMED


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
KEYS = st.sampled_from(
    ["op", "address", "key_id", "scheme", "data", "credentials", "signature", "keys", "refused", "sentence"]
)
PAYLOADS = (
    st.binary(max_size=200)
    | st.binary(max_size=60).map(b"\x01".__add__)
    | st.dictionaries(KEYS, JSON).map(lambda d: json.dumps(d).encode())
)


@settings(max_examples=150, deadline=None)
@given(PAYLOADS)
def test_no_request_breaks_the_agents_reader(payload: bytes) -> None:
    with contextlib.suppress(KeyAgentRefused):
        assert decode_request(payload).operation in Operation


@settings(max_examples=150, deadline=None)
@given(PAYLOADS)
def test_no_answer_breaks_the_clients_reader(payload: bytes) -> None:
    for decode in (decode_found, decode_signature, decode_pong):
        with contextlib.suppress(KeyAgentRefused, ProtocolError):
            decode(payload)


@pytest.fixture
def ends() -> Iterator[tuple[Connection, socket.socket]]:
    ours, theirs = socket.socketpair()
    connection = Connection(ours)
    yield connection, theirs
    connection.close()
    theirs.close()


def receive(connection: Connection, within: float = 0.1) -> bytes | None:
    return connection.receive(wait=within, within=within)


def test_frames_in_one_piece_and_in_many(ends: tuple[Connection, socket.socket]) -> None:
    connection, peer = ends
    big = bytes(range(256)) * 1024
    stream = frame(b"one") + frame(b"two") + frame(big) + frame(b"three")

    def send() -> None:
        for at in range(0, len(stream), 9999):
            peer.sendall(stream[at : at + 9999])
        peer.close()

    sender = threading.Thread(target=send)
    sender.start()
    assert [receive(connection, 2) for _ in range(5)] == [b"one", b"two", big, b"three", None]
    sender.join()


@pytest.mark.parametrize("cut", [1, 3, 4, 6], ids=lambda cut: f"after {cut} octets")
def test_a_frame_that_breaks_off(ends: tuple[Connection, socket.socket], cut: int) -> None:
    connection, peer = ends
    peer.sendall(frame(b"hello")[:cut])
    peer.close()
    with pytest.raises(ConnectionError):
        receive(connection)


@pytest.mark.parametrize("size", [0, MAX_FRAME + 1, 0xFFFFFFFF], ids=["empty", "one too many", "four GB"])
def test_sizes_out_of_bounds(ends: tuple[Connection, socket.socket], size: int) -> None:
    connection, peer = ends
    peer.sendall(size.to_bytes(4, "big"))
    with pytest.raises(ProtocolError):
        receive(connection)


def test_a_slow_sender_has_a_deadline_for_the_whole_frame(ends: tuple[Connection, socket.socket]) -> None:
    connection, peer = ends
    stop = threading.Event()

    def drip() -> None:
        for octet in frame(b"x" * 1000):
            if stop.wait(0.02):
                return
            peer.sendall(bytes([octet]))

    sender = threading.Thread(target=drip)
    sender.start()
    begin = time.monotonic()
    with pytest.raises(TimeoutError):
        receive(connection, 0.2)
    assert time.monotonic() - begin < 1
    stop.set()
    sender.join()


def fill(connection: Connection) -> None:
    for _ in range(100):
        connection.send(b"x" * MAX_FRAME, within=0.05)


def test_silence_and_deafness_end_in_a_timeout(ends: tuple[Connection, socket.socket]) -> None:
    connection, _ = ends
    with pytest.raises(TimeoutError):
        receive(connection, 0.05)
    connection.send(b"x" * 1000, within=0.05)
    with pytest.raises(TimeoutError):
        fill(connection)
    with pytest.raises(ProtocolError):
        connection.send(b"x" * (MAX_FRAME + 1), within=0.05)
