"""A whole site with mailboxes: Postfix, mailsigil, Dovecot by LMTP with the Sieve scripts of contrib/dovecot.

Alice and her colleagues submit, the world delivers, and the customer's mailbox shows who really wrote.
"""

from __future__ import annotations

import os
import smtplib
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from pathlib import Path

import pytest

from mailsigil.demo.dovecot import MAIL_USER, Dovecot
from mailsigil.demo.organisation import DOMAIN, EMPLOYEES, HOST, PASSWORD, Organisation, found
from mailsigil.demo.postfix import Listener, Postfix
from mailsigil.demo.programs import Daemon, DemoError, accepts, free_port
from servers.sieve import FILTERS, compile_scripts, sieve_dovecot

BOB = f"bob@{DOMAIN}"
ALICE, CAROL, DORA, INFO = (employee.address for employee in EMPLOYEES)
STRANGER = f"stranger@{DOMAIN}"


@dataclass(frozen=True)
class TaggedSite:
    """Where mail goes in and comes out."""

    folder: Path
    organisation: Organisation
    dovecot: Dovecot
    submission_port: int
    inbound_port: int

    @property
    def log(self) -> Path:
        return self.folder / "mailsigil.log"

    def submit(self, author: str, *, subject: str, text: str, name: str = "", to: str = BOB) -> None:
        """Sends a mail as an employee who has logged in."""
        with smtplib.SMTP("127.0.0.1", self.submission_port, timeout=60) as client:
            client.login(author, PASSWORD)
            client.send_message(message(author, subject=subject, text=text, name=name, to=to))

    def bring(self, content: bytes, *, mail_from: str = "someone@elsewhere.example", to: str = BOB) -> None:
        """Delivers a message from outside."""
        with smtplib.SMTP("127.0.0.1", self.inbound_port, timeout=60) as client:
            client.sendmail(mail_from, [to], content)


def message(author: str, *, subject: str, text: str, name: str = "", to: str = BOB) -> EmailMessage:
    """A plain mail, written now."""
    mail = EmailMessage()
    mail["From"] = f"{name} <{author}>" if name else author
    mail["To"] = to
    mail["Subject"] = subject
    mail["Date"] = format_datetime(datetime.now(UTC))
    mail["Message-ID"] = make_msgid(domain=author.rpartition("@")[2])
    mail.set_content(text)
    return mail


@contextmanager
def tagged_site(
    *,
    root: Path | None = None,
    settings: Mapping[str, str] | None = None,
    add_keys: Callable[[Path], None] = lambda folder: None,
    companion: Callable[[Dovecot], str] = lambda dovecot: "",
) -> Iterator[TaggedSite]:
    """Starts everything in a folder of its own, and ends it. Skips where servers or rights are missing.

    ``add_keys`` may put more into the key folder, before the key agent reads it; ``companion`` may change the
    Dovecot before it starts, and gives further lines of the configuration.
    """
    if os.geteuid() != 0:
        pytest.skip("only root can start a private Postfix")
    with ExitStack() as stack:
        # Not pytest's folder: Postfix's and Dovecot's own users have to reach the sockets.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mailsigil-tags-")))
        folder.chmod(0o755)
        try:
            yield _start(folder, stack, root, settings or {}, add_keys, companion)
        except DemoError as error:
            if "is missing" in str(error):
                pytest.skip(str(error))
            raise


def _start(
    folder: Path,
    stack: ExitStack,
    root: Path | None,
    settings: Mapping[str, str],
    add_keys: Callable[[Path], None],
    companion: Callable[[Dovecot], str],
) -> TaggedSite:
    (folder / "dovecot").mkdir(mode=0o755)
    dovecot = sieve_dovecot(folder / "dovecot", {BOB: PASSWORD}, host=HOST, root=root)
    given = {
        "delivery": f'domains = ["{DOMAIN}"]\nsocket = "{dovecot.folder}/{FILTERS}/mailsigil-decrypt"\n'
        f'allowed_users = ["{MAIL_USER}"]\nkey_socket = "{folder}/mailsigil/decrypt.sock"\nprocesses = 1\n',
        "revocation": 'fetch = false\ncache_folder = ""\n',
        "milter": "workers = 2\n",
        **settings,
    }
    organisation = found(folder / "mailsigil", now=datetime.now(UTC), dns_port=9, settings=given)
    add_keys(organisation.folder / "keys")
    with organisation.config.open("a") as config:
        config.write(companion(dovecot))
    stack.enter_context(dovecot)
    compile_scripts(dovecot)
    command = [sys.executable, "-m", "mailsigil", "run", "--config", str(organisation.config)]
    service = Daemon(command, log=folder / "mailsigil.log")
    stack.callback(service.stop)
    sockets = (
        organisation.milter_socket,
        folder / "mailsigil" / "decrypt.sock",
        dovecot.folder / FILTERS / "mailsigil-decrypt",
    )
    service.wait_until(lambda: all(accepts(str(each)) for each in sockets))
    ports = free_port(), free_port()
    ours = (f"unix:{organisation.milter_socket}",)
    listeners = (
        Listener(port=ports[0], name="submission", milters=ours, logins=True),
        Listener(port=ports[1], name="inbound", milters=ours),
    )
    users = dict.fromkeys((*(employee.address for employee in EMPLOYEES), STRANGER), PASSWORD)
    lmtp = {"default_transport": f"lmtp:unix:{dovecot.lmtp_socket}"}
    stack.enter_context(Postfix(folder / "postfix", listeners, users=users, options=lmtp))
    return TaggedSite(folder, organisation, dovecot, *ports)
