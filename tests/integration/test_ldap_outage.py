"""Servers are killed while mail is sent: none leaves unsigned, none is lost, incoming mail never waits."""

from __future__ import annotations

import email
import os
import smtplib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path

import pytest

from integration.ldap_house import slapd
from integration.mailroom import site
from mailsigil.demo.bank import directory_lines
from mailsigil.demo.organisation import EMPLOYEES
from mailsigil.demo.programs import wait_until
from mailsigil.demo.site import Site
from mailsigil.demo.slapd import Slapd

pytestmark = [
    pytest.mark.integration,
    pytest.mark.xdist_group("ldap"),
    pytest.mark.skipif(os.geteuid() != 0, reason="a private Postfix needs root"),
]

MAILS = 500
SENDERS = 8


@dataclass
class Stream:
    """``MAILS`` mails from ``SENDERS`` clients, each sent again until it is accepted."""

    site: Site
    accepted: int = 0
    replies: Counter[int] = field(default_factory=Counter)
    slowest: float = 0.0
    deadline: float = field(default_factory=lambda: time.monotonic() + 90)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, *, at: int, then: Callable[[], None]) -> None:
        """Send all; once ``at`` are accepted call ``then`` beside the stream."""
        numbers = iter(range(MAILS))
        with ThreadPoolExecutor(SENDERS + 1) as pool:
            tasks = [pool.submit(self._client, numbers) for _ in range(SENDERS)]
            tasks.append(pool.submit(self._when, at, then))
            for task in as_completed(tasks):
                self.deadline = 0 if task.exception() else self.deadline
                task.result()

    def _when(self, at: int, then: Callable[[], None]) -> None:
        wait_until(lambda: self.accepted >= at, what=f"mail {at}", timeout=60)
        then()

    def _client(self, numbers: Iterator[int]) -> None:
        while True:
            with self.lock:
                number = next(numbers, None)
            if number is None:
                return
            self._deliver(number)

    def _deliver(self, number: int) -> None:
        sender = EMPLOYEES[number % len(EMPLOYEES)].address
        content = (
            f"From: {sender}\r\nTo: bob@customer.example\r\nSubject: {number}\r\n\r\nMail {number}.\r\n"
        ).encode()
        while True:
            started = time.monotonic()
            try:
                self.site.submit(content, login=sender, mail_from=sender)
            except smtplib.SMTPDataError as error:
                if time.monotonic() > self.deadline:
                    raise
                with self.lock:
                    self.replies[error.smtp_code] += 1
                time.sleep(0.1)
                continue
            with self.lock:
                self.accepted += 1
                self.slowest = max(self.slowest, time.monotonic() - started)
            return


def _assert_all_arrived_signed(running: Site) -> None:
    wait_until(lambda: len(_ours(running)) >= MAILS, what="all mail", timeout=60)
    ours = _ours(running)
    assert sorted(int(mail["Subject"]) for mail in ours) == list(range(MAILS))
    assert {mail.get_content_type() for mail in ours} == {"multipart/signed"}


def _ours(running: Site) -> list[Message]:
    arrived = [email.message_from_bytes(mail.content) for mail in running.sink.deliveries]
    return [mail for mail in arrived if (mail["Subject"] or "").isdigit()]


def _site(*servers: Slapd, **directory: object) -> AbstractContextManager[Site]:
    # Each worker remembers answers of its own: two of them meet every sender before a server dies.
    settings = {"milter": "workers = 2\n", "[directory]": directory_lines(*servers, **directory)}
    return site(settings=settings, policy="# Everything is in the directory.\n")


def _inbound_seconds(running: Site) -> float:
    started = time.monotonic()
    content = b"From: a@customer.example\r\nSubject: hello\r\n\r\nHello.\r\n"
    running.deliver(content, mail_from="a@customer.example")
    return time.monotonic() - started


def test_the_only_server_is_killed_and_comes_back(tmp_path: Path) -> None:
    with (
        slapd(tmp_path / "ldap") as server,
        _site(server, cache_seconds=0.3, negative_seconds=0.3, grace_seconds=0) as running,
    ):
        stream = Stream(running)
        inbound: list[float] = []

        def outage() -> None:
            server.kill()
            for _ in range(5):
                time.sleep(0.5)
                inbound.append(_inbound_seconds(running))
            server.start()

        stream.run(at=150, then=outage)
        # Unlike a client here, a reply of 4xx is all that a sender may have seen.
        assert set(stream.replies) == {451}
        _assert_all_arrived_signed(running)
        assert max(inbound) < 1.0
        # The service is the one that was started, and no restart was needed.
        assert {one.process.poll() for one in running.services.values()} == {None}


def test_the_server_in_use_is_killed_and_another_takes_over(tmp_path: Path) -> None:
    with (
        slapd(tmp_path / "one") as one,
        slapd(tmp_path / "two") as two,
        _site(one, two, cache_seconds=0.3, negative_seconds=0.3, grace_seconds=0) as running,
    ):
        stream = Stream(running)
        stream.run(at=150, then=one.kill)
        assert not stream.replies
        assert stream.slowest < 1.5
        _assert_all_arrived_signed(running)


def test_the_last_answers_serve_on_during_the_grace_time(tmp_path: Path) -> None:
    with (
        slapd(tmp_path / "ldap") as server,
        _site(server, cache_seconds=0.3, negative_seconds=0.3, grace_seconds=600) as running,
    ):
        for number in range(8):
            _send(running, number)
        stream = Stream(running)
        stream.run(at=150, then=server.kill)
        assert not stream.replies
        _assert_all_arrived_signed(running)


def _send(running: Site, number: int) -> None:
    for employee in EMPLOYEES:
        content = f"From: {employee.address}\r\nSubject: warm {number}\r\n\r\nHello.\r\n".encode()
        running.submit(content, login=employee.address, mail_from=employee.address)
