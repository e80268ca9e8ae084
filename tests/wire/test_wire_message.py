"""One message over the wire: what arrives in the handler, and what its plan becomes."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable, Iterator

import pytest

from wire import milter_client as wire
from wire.conftest import Service, starting_services
from wire.report import report_of

Start = Callable[..., Service]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for all tests that want nothing special of it."""
    with starting_services(tmp_path_factory.mktemp("service")) as start:
        yield start()


def test_negotiation_asks_for_leading_spaces_silence_and_few_steps(service: Service) -> None:
    with service.client() as client:
        client.negotiate()
    assert client.steps & wire.HDR_LEADSPC
    silent = wire.NR_CONN | wire.NR_MAIL | wire.NR_RCPT | wire.NR_HDR | wire.NR_EOH | wire.NR_BODY
    assert client.steps & silent == silent
    unused = wire.NOHELO | wire.NODATA | wire.NOUNKNOWN
    assert client.steps & unused == unused
    assert client.actions == wire.ADDHDRS | wire.CHGHDRS | wire.CHGBODY | wire.SETSYMLIST
    assert client.macros == {0: b"{daemon_name}", 2: b"{auth_authen} {mail_addr}", 5: b"i"}


def test_host_without_silence_gets_its_answers(service: Service) -> None:
    with service.client(steps=wire.HDR_LEADSPC) as client:
        client.connect()
        report = report_of(client.message([(b"From", b" a@b.example")], b"x"))
    assert report.headers == b"From: a@b.example\r\n"


@pytest.mark.parametrize(
    ("actions", "steps"),
    [
        pytest.param(wire.POSTFIX_ACTIONS, wire.POSTFIX_STEPS & ~wire.HDR_LEADSPC, id="no leading spaces"),
        pytest.param(wire.POSTFIX_ACTIONS & ~wire.CHGBODY, wire.POSTFIX_STEPS, id="no body changes"),
        pytest.param(wire.POSTFIX_ACTIONS & ~wire.CHGHDRS, wire.POSTFIX_STEPS, id="no header changes"),
    ],
)
def test_host_that_cannot_do_what_is_needed_is_refused(service: Service, actions: int, steps: int) -> None:
    with service.client(actions=actions, steps=steps) as client, pytest.raises(wire.HostError):
        client.negotiate()
    assert "too old" in service.log()


def test_envelope(service: Service) -> None:
    with service.client() as client:
        client.connect(address="2001:db8::1", daemon_name="submission")
        answer = client.message(
            [], b"", sender=b"alice@bank.example", recipients=(b"x@y", b"\xff@z"), auth_authen="alice"
        )
    assert report_of(answer).envelope == [
        "4XyZ12",
        "2001:db8::1",
        "alice",
        "submission",
        "alice@bank.example",
        ["x@y", "\udcff@z"],
    ]


def test_bounce_has_an_empty_sender(service: Service) -> None:
    with service.client() as client:
        client.connect(daemon_name="smtpd")
        assert report_of(client.message([], b"", sender=b"")).envelope[4] == ""


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(b" plain", b" plain", id="one space"),
        pytest.param(b"tight", b"tight", id="no space"),
        pytest.param(b"\t  wide ", b"\t  wide ", id="tab and spaces"),
        pytest.param(b" a\n b\n\tc", b" a\r\n b\r\n\tc", id="folds as the host sends them"),
        pytest.param(b" a\r\n b", b" a\r\n b", id="folds as CRLF"),
        pytest.param(b"\n folded at once", b"\r\n folded at once", id="fold first"),
        pytest.param(b" caf\xe9 \xff\xfe", b" caf\xe9 \xff\xfe", id="8-bit bytes"),
        pytest.param(" süß".encode(), " süß".encode(), id="UTF-8"),
        pytest.param(b"", b"", id="empty"),
        pytest.param(b" %s%n\x01\x7f", b" %s%n\x01\x7f", id="formats and controls"),
        pytest.param(b" " + b"x" * 60_000, b" " + b"x" * 60_000, id="as long as Postfix lets it be"),
    ],
)
def test_header_bytes_are_reproducible(service: Service, value: bytes, expected: bytes) -> None:
    with service.client() as client:
        client.connect(daemon_name="smtpd")
        report = report_of(client.message([(b"sUbJeCt", value), (b"X", b" y")], b""))
    assert report.headers == b"sUbJeCt:" + expected + b"\r\nX: y\r\n"


def test_edits_come_in_an_order_that_keeps_places_right(service: Service) -> None:
    orders = [b"insert", b"append", b"delete X-A 1", b"delete X-A 3", b"change X-A 2 new \xc3\xa9"]
    with service.client() as client:
        client.connect()
        answer = client.message([(b"X-Do", b" " + order) for order in orders], b"x")
    # Deleting is a change to nothing; later occurrences go first.
    assert answer.changed == [(3, b"X-A", b""), (2, b"X-A", b" new \xc3\xa9"), (1, b"X-A", b"")]
    # Each one goes to the top, so the report, first in the plan, ends up above the others.
    assert [(place, name) for place, name, _ in answer.inserted] == [
        (0, b"X-Second"),
        (0, b"X-First"),
        (0, b"X-Report"),
    ]
    assert answer.inserted[1][2] == b" one\n two"
    assert answer.added == [(b"X-Last", b" last")]
    assert answer.edits == [b"m"] * 3 + [b"i"] * 3 + [b"h"]


@pytest.mark.parametrize(
    "order",
    [
        pytest.param(b"change X 1 caf\xe9", id="not UTF-8"),
        pytest.param(b"change X\xff 1 y", id="name not ASCII"),
        pytest.param(b"change X 1 a\rb", id="line break in a value"),
    ],
)
def test_field_that_cannot_be_written_makes_the_mail_wait(service: Service, order: bytes) -> None:
    with service.client() as client:
        client.connect()
        answer = client.message([(b"X-Do", b" " + order)], b"x")
    assert (answer.verdict, answer.reply[:9]) == (b"y", b"451 4.7.0")


@pytest.mark.parametrize(
    ("order", "reply"),
    [
        pytest.param("TEMPFAIL", b"451 4.7.0 Message cannot be processed now, try again later", id="451"),
        pytest.param("REFUSE_SENDER", b"550 5.7.1 Sender is not allowed to send as this author", id="550"),
        pytest.param("REFUSE_SIZE", b"552 5.3.4 Message exceeds the limits of this server", id="552"),
    ],
)
def test_outcomes_are_replies_without_edits(service: Service, order: str, reply: bytes) -> None:
    with service.client() as client:
        client.connect()
        answer = client.message([(b"X-Do", b" outcome " + order.encode()), (b"X-Do", b" insert")], b"x")
    assert (answer.verdict, answer.reply, answer.edits) == (b"y", reply, [])


def test_error_is_a_451_that_tells_nothing_and_the_log_tells_it_with_the_queue_id(service: Service) -> None:
    with service.client() as client:
        client.connect()
        answer = client.message([(b"X-Do", b" crash")], b"x", queue_id="4Crash")
        assert (answer.verdict, answer.reply[:9]) == (b"y", b"451 4.7.0")
        assert b"secret" not in answer.reply
        report_of(client.message([], b"the next one passes"))
    assert '4Crash: failed reason=RuntimeError error="secret internals\\nforged: line"' in service.log()
    assert "\nforged" not in service.log()


def test_login_that_cannot_be_read_makes_the_mail_wait(service: Service) -> None:
    """Taken for absent, it would turn an employee's mail into mail from outside."""
    with service.client() as client:
        client.connect()
        answer = client.message([], b"x", auth_authen="al\udcffice")
        assert (answer.verdict, answer.reply[:9]) == (b"y", b"451 4.7.0")
        assert report_of(client.message([], b"x", auth_authen="alice")).envelope[2] == "alice"


def test_login_of_one_message_is_not_that_of_the_next(service: Service) -> None:
    with service.client() as client:
        client.connect()
        assert report_of(client.message([], b"x", auth_authen="alice")).envelope[2] == "alice"
        assert report_of(client.message([], b"x", mail_addr="x@y")).envelope[2] == ""


@pytest.mark.parametrize(
    "size", [pytest.param(0, id="empty"), pytest.param(7, id="tiny"), pytest.param(300_000, id="on disk")]
)
def test_body_arrives_and_returns_whole(service: Service, size: int) -> None:
    body = bytes(range(256)) * (size // 256) + b"\0\r\n" * (size % 256 // 3)
    with service.client() as client:
        client.connect()
        answer = client.message([(b"X-Do", b" echo-body")], body)
    assert answer.body == body
    report = report_of(answer)
    assert (report.body_size, report.body_sha256) == (len(body), hashlib.sha256(body).hexdigest())


def test_body_can_become_empty(service: Service) -> None:
    with service.client() as client:
        client.connect()
        assert client.message([(b"X-Do", b" empty-body")], b"text").body == b""


def test_memory_does_not_grow_with_the_body(service: Service) -> None:
    block = b"0123456789abcde\n" * 4096
    with service.client() as client:
        client.connect()
        before = report_of(client.message([], b"small")).rss_kb
        client.envelope(b"a@b", b"c@d")
        client.header(b"X-Do", b" echo-body")
        client.step(b"N", b"")
        for _ in range(640):  # 40 MiB
            client.step(b"B", block[:65535])
        answer = client.end()
        after = report_of(client.message([], b"small")).rss_kb
    assert len(answer.body or b"") == 640 * 65535
    assert max(report_of(answer).rss_kb, after) - before < 4096


def test_messages_of_one_connection_do_not_mix(service: Service) -> None:
    with service.client() as client:
        client.connect()
        for number in range(20):
            answer = client.message(
                [(b"X-Number", b" %d" % number)], b"body %d" % number, recipients=(b"r%d@x" % number,)
            )
            report = report_of(answer)
            assert report.headers == b"X-Number: %d\r\n" % number
            assert report.envelope[5] == [f"r{number}@x"]
            assert report.body_size == len(b"body %d" % number)


def test_aborted_message_leaves_nothing_behind(service: Service) -> None:
    with service.client() as client:
        client.connect()
        client.envelope(b"first@x", b"one@x", auth_authen="alice")
        client.header(b"X-Old", b" old")
        client.body(b"old body")
        client.abort()
        client.abort()
        report = report_of(client.message([(b"X-New", b" new")], b"new", sender=b"second@x"))
    assert report.headers == b"X-New: new\r\n"
    assert report.envelope[4] == "second@x"
    assert report.body_size == 3


@pytest.mark.parametrize(
    ("limits", "fields", "body", "kept", "bound"),
    [
        pytest.param({"header_fields": 3}, 3, 5, 3, "", id="as many fields as allowed"),
        pytest.param({"header_fields": 3}, 4, 5, 3, "header_fields", id="one field too many"),
        pytest.param({"header_bytes": 21}, 3, 5, 3, "", id="as many header bytes as allowed"),
        pytest.param({"header_bytes": 20}, 3, 5, 2, "header_bytes", id="one header byte too many"),
        pytest.param({"message_bytes": 26}, 3, 5, 3, "", id="as large as allowed"),
        pytest.param({"message_bytes": 25}, 3, 5, 3, "message_bytes", id="one byte too large"),
    ],
)
def test_bounds(
    start_service: Start, limits: dict[str, int], fields: int, body: int, kept: int, bound: str
) -> None:
    service = start_service(limits=limits)
    with service.client() as client:
        client.connect()
        report = report_of(client.message([(b"X-A", b"b")] * fields, b"x" * body))
        assert report.over_limit == bound
        assert report.headers == b"X-A:b\r\n" * kept
        # The bound is one message's, not the connection's.
        assert report_of(client.message([(b"X-A", b"b")], b"x")).over_limit == ""


def test_over_tcp_without_delays(start_service: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    service = start_service(socket=f"inet:127.0.0.1:{port}", workers=2)
    with service.client() as client:
        client.connect()
        assert report_of(client.message([(b"X-Do", b" insert")], b"x")).body_size == 1


def test_garbage_ends_the_connection_and_not_the_worker(service: Service) -> None:
    service.wait_for(service.workers, "a worker")
    pids = service.workers()
    for data in (b"\xff" * 64, b"\0\0\0\0", b"\0\0\0\1?", b"\0\0\0\5OABCD", b"GET / HTTP/1.0\r\n\r\n"):
        client = service.client()
        client.sock.sendall(data)
        client.sock.close()
    with service.client() as client:
        client.connect()
        assert report_of(client.message([], b"x")).pid in pids
