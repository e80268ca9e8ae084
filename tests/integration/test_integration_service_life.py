"""Reload, retirement, death and absence of mailsigil's processes, with mail coming in all the time.

What is held here: no mail is lost, and none that must be signed leaves unsigned.
"""

from __future__ import annotations

import os
import signal
import smtplib
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from integration.kinds import mail
from integration.mailroom import Mailroom, is_signed, new_recipient, site, values
from mailsigil.demo.organisation import DOMAIN, EMPLOYEES, PASSWORD
from mailsigil.demo.programs import accepts

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("life-site")]

ALICE = EMPLOYEES[0].address
REQUIRED = f'[[domain]]\nname = "{DOMAIN}"\nsigning = "required"\n[[person]]\naddress = "{ALICE}"\n'
NEVER = REQUIRED.replace("required", "never")


@pytest.fixture(scope="module")
def mailroom() -> Iterator[Mailroom]:
    settings = {"milter": "workers = 2\ndrain_seconds = 10\n", "keyd": "timeout = 1.0\n"}
    with site(policy=REQUIRED, commands=("keyd", "milter"), settings=settings) as running:
        yield Mailroom(running)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class Stream:
    """A client that sends one mail after the other until it is told to stop, and keeps the replies."""

    def __init__(self, mailroom: Mailroom) -> None:
        self.taken: list[str] = []
        self.told: list[int] = []
        self._site = mailroom.site
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Stream:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)

    def _run(self) -> None:
        while not self._stop.is_set():
            recipient = new_recipient()
            try:
                self._site.submit(mail(ALICE), login=ALICE, mail_from=ALICE, recipients=(recipient,))
            except smtplib.SMTPResponseException as error:
                self.told.append(error.smtp_code)
            else:
                self.taken.append(recipient)


@contextmanager
def session(mailroom: Mailroom) -> Iterator[smtplib.SMTP]:
    """An SMTP session that stays open between mails."""
    with smtplib.SMTP("127.0.0.1", mailroom.site.submission_port, timeout=60) as client:
        client.login(ALICE, PASSWORD)
        yield client


def sent(mailroom: Mailroom, client: smtplib.SMTP) -> bytes:
    recipient = new_recipient()
    client.sendmail(ALICE, recipient, mail(ALICE))
    return mailroom.arrival(recipient).content


def reload_with(mailroom: Mailroom, policy: str, words: str) -> None:
    """Puts a policy in place, sends SIGHUP, and waits for words in the log that were not there before."""
    before = mailroom.log().count(words)
    mailroom.site.organisation.policy.write_text(policy)
    mailroom.site.services["milter"].process.send_signal(signal.SIGHUP)
    mailroom.wait_for(lambda: mailroom.log().count(words) > before, words)


@pytest.fixture
def policy(mailroom: Mailroom) -> Iterator[None]:
    """The policy that was in force comes back after the test."""
    yield
    reload_with(mailroom, REQUIRED, "reloading 2 workers")


@pytest.mark.usefixtures("policy")
def test_a_changed_policy_counts_in_a_session_that_is_open(mailroom: Mailroom) -> None:
    with session(mailroom) as client:
        assert is_signed(sent(mailroom, client))
        reload_with(mailroom, NEVER, "reloading 2 workers")
        mailroom.wait_for(lambda: not is_signed(sent(mailroom, client)), "the new policy")
        reload_with(mailroom, REQUIRED, "reloading 2 workers")
        mailroom.wait_for(lambda: is_signed(sent(mailroom, client)), "the old policy")


@pytest.mark.usefixtures("policy")
def test_a_broken_policy_keeps_the_old_one_and_is_told(mailroom: Mailroom) -> None:
    with session(mailroom) as client:
        reload_with(mailroom, "[default]\nsigning = 'sometimes'\n", "policy.toml:2")
        assert is_signed(sent(mailroom, client))
    # A worker that is started now has the old policy as well.
    for worker in children(mailroom.site.services["milter"].pid):
        os.kill(worker, signal.SIGKILL)
    mailroom.wait_for(lambda: len(children(mailroom.site.services["milter"].pid)) == 2, "new workers")
    with session(mailroom) as client:
        assert is_signed(sent(mailroom, client))


@pytest.mark.usefixtures("policy")
def test_no_mail_is_lost_while_policies_are_reloaded(mailroom: Mailroom) -> None:
    with Stream(mailroom) as stream:
        for _ in range(4):
            reload_with(mailroom, REQUIRED, "reloading 2 workers")
    assert stream.told == []
    assert stream.taken
    for recipient in stream.taken:
        assert is_signed(mailroom.arrival(recipient).content)


def test_a_killed_worker_is_replaced_and_nothing_leaves_unsigned(mailroom: Mailroom) -> None:
    supervisor = mailroom.site.services["milter"].pid
    with Stream(mailroom) as stream:
        for _ in range(2):
            killed = children(supervisor)[0]
            os.kill(killed, signal.SIGKILL)
            mailroom.wait_for(
                lambda killed=killed: len(children(supervisor)) == 2 and killed not in children(supervisor),
                "another worker",
            )
            taken = len(stream.taken)
            mailroom.wait_for(lambda taken=taken: len(stream.taken) > taken, "mail to flow")
    # The client of the mail in hand may be told to come back; it is never told that all is well.
    assert all(400 <= code < 500 for code in stream.told)
    for recipient in stream.taken:
        assert is_signed(mailroom.arrival(recipient).content)


def test_without_the_key_agent_required_mail_waits_and_flows_again_after(mailroom: Mailroom) -> None:
    running = mailroom.site
    running.services["keyd"].stop()
    recipient = new_recipient()
    with pytest.raises(smtplib.SMTPDataError) as refusal:
        running.submit(mail(ALICE), login=ALICE, mail_from=ALICE, recipients=(recipient,))
    assert refusal.value.smtp_code == 451
    assert b"4.7.0" in refusal.value.smtp_error  # type: ignore[operator]
    running.start_service("keyd")
    running.services["keyd"].wait_until(lambda: accepts(str(running.organisation.folder / "keyd.sock")))
    arrived = mailroom.send(mail(ALICE), ALICE).content
    assert is_signed(arrived)
    assert mailroom.arrived(recipient) == []


def test_inbound_mail_needs_no_key_agent(mailroom: Mailroom) -> None:
    running = mailroom.site
    running.services["keyd"].stop()
    try:
        assert values(mailroom.bring(mail("x@partner.example")), "Verified-Identity-Text") == ["Not signed"]
    finally:
        running.start_service("keyd")
        running.services["keyd"].wait_until(lambda: accepts(str(running.organisation.folder / "keyd.sock")))


def test_a_client_that_goes_away_in_the_middle_leaves_nothing(mailroom: Mailroom) -> None:
    recipient = new_recipient()
    client = smtplib.SMTP("127.0.0.1", mailroom.site.submission_port, timeout=60)
    client.login(ALICE, PASSWORD)
    client.mail(ALICE)
    client.rcpt(recipient)
    client.putcmd("data")
    client.getreply()
    client.send(mail(ALICE) + b"half a li")
    client.close()
    assert is_signed(mailroom.send(mail(ALICE), ALICE).content)
    assert mailroom.arrived(recipient) == []


def test_sigterm_drains_and_a_restart_takes_mail_again(mailroom: Mailroom) -> None:
    running = mailroom.site
    milter = running.services["milter"]
    with Stream(mailroom) as stream, session(mailroom) as client:
        assert is_signed(sent(mailroom, client))
        milter.process.send_signal(signal.SIGTERM)
        # This session's milter connection stays until the session ends.
        with suppress(smtplib.SMTPDataError):
            assert is_signed(sent(mailroom, client))
        client.quit()
        assert milter.process.wait(15) == 0
        running.start_service("milter")
        running.services["milter"].wait_until(lambda: accepts(str(running.organisation.milter_socket)))
        taken = len(stream.taken)
        mailroom.wait_for(lambda: len(stream.taken) > taken, "mail to flow")
    assert all(400 <= code < 500 for code in stream.told)
    for recipient in stream.taken:
        assert is_signed(mailroom.arrival(recipient).content)
