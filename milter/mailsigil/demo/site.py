"""A whole mail site on loopback: Postfix with mailsigil and OpenDKIM, DNS, and where mail arrives.

Employees submit at one port, the world delivers at the other; all mail ends in the sink.
"""

from __future__ import annotations

import smtplib
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from mailsigil.demo.dns import DnsServer
from mailsigil.demo.opendkim import OpenDkim
from mailsigil.demo.organisation import DOMAIN, EMPLOYEES, PASSWORD, Employee, Organisation, found
from mailsigil.demo.postfix import Listener, Postfix
from mailsigil.demo.programs import Daemon, accepts, free_port
from mailsigil.demo.sink import Delivery, Sink
from mailsigil.keys.profile import KeyKind


class Site:
    """Everything is started on entry and stopped by process id on exit.

    ``commands`` are those of mailsigil that make up the service: ``run``, or ``keyd`` and ``milter``.
    ``logins`` are further ones beside the employees' addresses; with ``saslauthd`` its people log in, and no
    others. ``founded`` is when the authority was made (aware); None: now.
    """

    def __init__(
        self,
        folder: Path,
        *,
        key: KeyKind = KeyKind.P256,
        settings: Mapping[str, str] | None = None,
        eight_bit_sink: bool = True,
        employees: Sequence[Employee] = EMPLOYEES,
        logins: Sequence[str] = (),
        saslauthd: Path | None = None,
        founded: datetime | None = None,
        policy: str = "",
        commands: Sequence[str] = ("run",),
    ) -> None:
        self.folder = folder
        self.submission_port = free_port()
        self.inbound_port = free_port()
        self.sink = Sink(eight_bit=eight_bit_sink)
        self._key = key
        self._settings = settings
        self._employees = employees
        self._logins = (*(employee.address for employee in employees), *logins)
        self._saslauthd = saslauthd
        self._founded = founded
        self._policy = policy
        self._commands = commands
        self._stack = ExitStack()
        self.organisation: Organisation
        self.postfix: Postfix
        self.dkim: OpenDkim
        self.services: dict[str, Daemon] = {}

    def __enter__(self) -> Site:
        with ExitStack() as stack:
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self, stack: ExitStack) -> None:
        self.folder.chmod(0o755)  # Postfix comes here as its own user
        stack.enter_context(self.sink)
        self.dkim = stack.enter_context(OpenDkim(self.folder / "opendkim", DOMAIN))
        records = {self.dkim.record_name: self.dkim.record}
        dns = stack.enter_context(DnsServer(self.folder / "dns", records))
        self.organisation = found(
            self.folder / "mailsigil",
            now=self._founded or datetime.now(UTC),
            dns_port=dns.port,
            key=self._key,
            settings=self._settings,
            employees=self._employees,
            policy=self._policy,
        )
        stack.callback(self._stop_services)
        for command in self._commands:
            self.start_service(command)
        self.services[self._commands[-1]].wait_until(lambda: accepts(str(self.organisation.milter_socket)))
        self.postfix = stack.enter_context(self._postfix())

    def start_service(self, command: str) -> Daemon:
        """Starts one of mailsigil's services, or starts it again after its end."""
        arguments: list[str | Path] = [sys.executable, "-m", "mailsigil", command]
        arguments += ["--config", self.organisation.config]
        self.services[command] = Daemon(arguments, log=self.log)
        return self.services[command]

    def _stop_services(self) -> None:
        for service in reversed(self.services.values()):
            service.stop()

    @property
    def log(self) -> Path:
        """What mailsigil says."""
        return self.folder / "mailsigil.log"

    def submit(
        self,
        content: bytes,
        *,
        login: str | None,
        mail_from: str,
        recipients: tuple[str, ...] = ("bob@customer.example",),
    ) -> None:
        """Sends a message through the submission port, as a mail client does; raises SMTPException."""
        with smtplib.SMTP("127.0.0.1", self.submission_port, timeout=60) as client:
            if login is not None:
                client.login(login, PASSWORD)
            client.sendmail(mail_from, recipients, content, ["BODY=8BITMIME"])

    def deliver(
        self,
        content: bytes,
        *,
        mail_from: str = f"alice@{DOMAIN}",
        recipients: tuple[str, ...] = ("bob@customer.example",),
    ) -> None:
        """Sends a message to the port that receives from outside; raises SMTPException."""
        with smtplib.SMTP("127.0.0.1", self.inbound_port, timeout=60) as client:
            client.sendmail(mail_from, recipients, content, ["BODY=8BITMIME"])

    def arrival(self, count: int) -> Delivery:
        """Waits for the ``count``-th message of all, from 1."""
        return self.sink.wait_for(count)[count - 1]

    def _postfix(self) -> Postfix:
        ours = f"unix:{self.organisation.milter_socket}"
        return Postfix(
            self.folder / "postfix",
            (
                # mailsigil first: a DKIM signature made before S/MIME would break.
                Listener(
                    port=self.submission_port,
                    name="submission",
                    milters=(ours, self.dkim.milter),
                    logins=True,
                ),
                Listener(port=self.inbound_port, name="inbound", milters=(ours,)),
            ),
            next_hop=f"127.0.0.1:{self.sink.port}",
            users=dict.fromkeys(self._logins, PASSWORD),
            saslauthd=self._saslauthd,
        )
