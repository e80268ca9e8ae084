"""The embedded authority's two servers: enrolment over HTTPS, and what everybody may look up over HTTP."""

from __future__ import annotations

import logging
import signal
import socket
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from OpenSSL import SSL

from mailsigil.ca.approvals import Approvals
from mailsigil.ca.est import EstApplication
from mailsigil.ca.logins import Logins
from mailsigil.ca.passwords import Passwords
from mailsigil.ca.published import PublishedApplication
from mailsigil.ca.web import Bounds, WebServer, listen
from mailsigil.ca.wire import tls_context
from mailsigil.config.authority import AuthoritySettings, ServeLimits
from mailsigil.keys.authority import Authority, AuthorityError
from mailsigil.keys.ocsp_responder import OcspResponder
from mailsigil.process.notify import Notifier

log = logging.getLogger("mailsigil.ca")

SERVER_FILE: Final = "server.pem"
RENEW_BEFORE: Final = timedelta(days=30)
LOOK_SECONDS: Final = 2.0
"""So often it is looked whether lists or the TLS certificate are due."""


def utc_now() -> datetime:
    """The time, aware, in UTC."""
    return datetime.now(UTC)


class Listeners:
    """The two sockets, opened before a process gives up root. Raises AuthorityError."""

    def __init__(self, settings: AuthoritySettings) -> None:
        self.settings = settings
        self.est = _listen(settings.est.listen)
        self.publish = _listen(settings.publish.listen)


class AuthorityService:
    """Both servers on one authority. Raises AuthorityError when they cannot start."""

    def __init__(
        self,
        authority: Authority,
        *,
        listeners: Listeners | None = None,
        now: Callable[[], datetime] = utc_now,
        notify: Notifier | None = None,
    ) -> None:
        self._now = now
        self._notify = notify or Notifier()
        self._stop = threading.Event()
        self._reload = threading.Event()
        self._woken = threading.Event()
        self._listed: frozenset[int] = frozenset()
        self._listeners = listeners or Listeners(authority.settings)
        self._take(authority)
        bounds = _bounds(authority.settings.limits)
        self.enrolment = WebServer(self._listeners.est, self._est, bounds=bounds, context=self._tls())
        self.lookups = WebServer(self._listeners.publish, self._published, bounds=bounds)

    def _take(self, authority: Authority) -> None:
        """Builds what answers requests out of an authority as it is now."""
        settings = authority.settings
        passwords = Passwords(Path(settings.est.passwords or authority.directory / "passwords"))
        responder = OcspResponder(
            authority.issuers,
            authority.register,
            now=self._now,
            keep=timedelta(hours=settings.publish.ocsp_hours),
        )
        self._authority = authority
        self.publish_lists()
        logins = Logins(passwords, most_failures=settings.limits.failed_logins)
        approvals = Approvals(authority.directory, now=self._now)
        self._est = EstApplication(authority, logins, approvals, now=self._now)
        self._published = PublishedApplication(authority, responder)

    def reload(self) -> None:
        """Reads ca.toml and the authority's files anew; when they cannot be used, the old ones stay."""
        before = self._authority
        try:
            fresh = Authority.load(before.directory)
            self._take(fresh)
            context = self._tls()
        except AuthorityError as error:
            self._authority = before
            log.error("reload refused, the old settings stay: %s", error)
            return
        self.enrolment.application, self.enrolment.context = self._est, context
        self.lookups.application = self._published
        old, new = self._listeners.settings, fresh.settings
        places = (new.est.listen, new.publish.listen, new.limits)
        if places != (old.est.listen, old.publish.listen, old.limits):
            log.warning("ca listens where it did, and within the old limits, until it is started anew")
        log.info("ca reloaded its settings, %d rules for enrolment", len(fresh.settings.enrol))

    def run(self) -> None:
        """Serves until SIGTERM or SIGINT; SIGHUP reloads."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._wake(self._stop))
        signal.signal(signal.SIGHUP, lambda *_: self._wake(self._reload))
        self.start()
        self._notify.ready("serving")
        while not self._stop.is_set():
            self._woken.wait(LOOK_SECONDS)
            self._woken.clear()
            if self._reload.is_set():
                self._reload.clear()
                self._notify.reloading()
                self.reload()
                self._notify.ready("serving")
            self.look()
        self._notify.stopping("taking no new connections")
        self.stop()

    def _wake(self, why: threading.Event) -> None:
        why.set()
        self._woken.set()

    def start(self) -> None:
        """Begins to serve, in threads of its own."""
        for server, name in ((self.enrolment, "est"), (self.lookups, "lookups")):
            threading.Thread(target=server.serve, name=name, daemon=True).start()
        log.info(
            "ca serves EST on port %d, lists and OCSP on port %d", self.enrolment.port, self.lookups.port
        )

    def stop(self) -> None:
        """Takes no new connections."""
        self.enrolment.stop()
        self.lookups.stop()

    def look(self) -> None:
        """Writes new lists and a new TLS certificate when they are due; what fails is tried again."""
        try:
            self.publish_lists()
            if self._tls_ends_soon():
                self.enrolment.context = self._tls()
        except AuthorityError as error:
            log.error("%s", error)

    def publish_lists(self) -> None:
        """Writes new revocation lists when the old ones miss something, or are past half of their life."""
        revoked = frozenset(self._authority.register.revoked())
        if revoked == self._listed and not self._lists_age():
            return
        self._authority.write_crls(now=self._now())
        self._listed = revoked
        log.info("ca wrote revocation lists, %d certificates revoked", len(revoked))

    def _lists_age(self) -> bool:
        for name in self._authority.issuers:
            try:
                content = (self._authority.directory / f"{name}.crl").read_bytes()
                found = x509.load_der_x509_crl(content)
            except (OSError, ValueError):
                return True
            end = found.next_update_utc
            if end is None or self._now() > end - (end - found.last_update_utc) / 2:
                return True
        return False

    def _tls(self) -> SSL.Context:
        if self._tls_ends_soon():
            names = self._authority.settings.est.names
            self._authority.issue_server(
                [_general_name(name) for name in names],
                shown=names[0],
                path=self._server_file,
                now=self._now(),
            )
            log.info("ca issued the TLS certificate of its server, for %s", ", ".join(names))
        try:
            return tls_context(self._server_file)
        except (SSL.Error, OSError) as error:
            raise AuthorityError(f"{self._server_file} cannot be used for TLS; remove it") from error

    def _tls_ends_soon(self) -> bool:
        try:
            found = x509.load_pem_x509_certificate(self._server_file.read_bytes())
        except FileNotFoundError:
            return True
        except (OSError, ValueError) as error:
            raise AuthorityError(f"{self._server_file} cannot be read; remove it") from error
        wanted = [_general_name(name) for name in self._authority.settings.est.names]
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return list(names) != wanted or self._now() > found.not_valid_after_utc - RENEW_BEFORE

    @property
    def _server_file(self) -> Path:
        return self._authority.directory / SERVER_FILE


def _listen(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    try:
        return listen((host.strip("[]"), int(port)))
    except OSError as error:
        raise AuthorityError(
            f"cannot listen on {address}: {error.strerror or error}; choose another port in ca.toml, or start"
            " as root with --user"
        ) from error


def _bounds(limits: ServeLimits) -> Bounds:
    return Bounds(
        connections=limits.connections,
        seconds=limits.seconds,
        idle_seconds=limits.idle_seconds,
        request_bytes=limits.request_bytes,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
