"""``mailsigil keyd``: the key agent, which holds the private keys and never reads mail."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mailsigil.cli.logs import start_logging
from mailsigil.cli.misuse import Misuse
from mailsigil.cli.options import config_errors_shown, config_option
from mailsigil.clock import utc_now
from mailsigil.config.loading import load_settings
from mailsigil.config.reading import ReadText, unpacked
from mailsigil.config.settings import Settings
from mailsigil.config.sources import SourceSettings
from mailsigil.directory.opening import open_directory
from mailsigil.dovecot.companion import DovecotServices
from mailsigil.keys.companion import Companion
from mailsigil.keys.decryption_service import DecryptionService
from mailsigil.keys.enrolment import Managed
from mailsigil.keys.errors import KeyAgentSetupError
from mailsigil.keys.keyd import run_agent
from mailsigil.keys.secret_files import SecretFile
from mailsigil.keys.sources.live import LiveSources
from mailsigil.keys.warming import Warmer
from mailsigil.process.control import WorkerControl
from mailsigil.process.privileges import PrivilegeError

if TYPE_CHECKING:
    from mailsigil.lifecycle.provision import Provisioner


@click.command()
@config_option
def command(config: Path) -> None:
    """Start the key agent.

    SIGHUP reads all keys anew, each [[source]] and [lifecycle] of the configuration; other settings need a
    restart.
    """
    with config_errors_shown():
        settings = load_settings(config)
    start_logging(settings.log)
    keyd = settings.keyd
    current = _Current(config, settings)
    try:
        status = run_agent(
            socket_path=keyd.socket,
            folder=keyd.folder,
            allowed_users=keyd.allowed_users,
            user=keyd.user,
            processes=keyd.processes,
            more=LiveSources(
                settings.source,
                load=current.read,
                managed=current.managed,
                taken=current.take,
            ),
            beside=_timer(current),
            admin_socket=keyd.admin_path,
            companions=_counting(settings),
            together=_for_mailboxes(settings),
            passphrase=SecretFile("keyd", keyd.passphrase_file) if keyd.passphrase_file else None,
        )
    except (KeyAgentSetupError, PrivilegeError) as error:
        raise Misuse(str(error)) from error
    raise SystemExit(status)


class _Current:
    """The settings in force, in the supervisor and in each process: a reload that is refused changes none."""

    def __init__(self, config: Path, settings: Settings) -> None:
        self.settings = settings
        self._config = config
        self._next = settings
        self._provisioner = _provisioner(settings)

    def read(self, read: ReadText) -> Sequence[SourceSettings]:
        """The sources of settings that may come to be in force."""
        self._next = load_settings(self._config, read=read)
        return self._next.source

    def take(self) -> None:
        """What was read last can be used, and is in force now."""
        self.settings = self._next
        if self._provisioner is not None:
            self._provisioner.take(self.settings)

    def managed(self, source: SourceSettings) -> Managed | None:
        """Who looks after the certificates of a source."""
        if self._provisioner is None or not source.issues:
            return None
        seconds = self._next.lifecycle.provision_seconds
        return Managed(partial(self._provisioner.provision, source.name), seconds)

    def handed(self, handed: bytes) -> Settings:
        """The settings that a reload brings to the timer's process."""
        return load_settings(self._config, read=unpacked(handed))


def _for_mailboxes(settings: Settings) -> list[Companion]:
    """In one process: the keys that a login brought are at hand for the next one, and for his mail."""
    delivery = settings.delivery
    if not delivery.enabled:
        return [DovecotServices(settings.dovecot, settings.storage)]
    return [
        # Who logs in reads his mail, and gets more of it: the keys for that are fetched now.
        DovecotServices(
            settings.dovecot, settings.storage, on_login=lambda agent: Warmer(lambda: agent.sources).warm
        ),
        DecryptionService(delivery.key_socket, user=delivery.user),
    ]


def _counting(settings: Settings) -> list[Companion]:
    if not settings.counts_usage:
        return []
    # As below.
    from mailsigil.lifecycle.errors import LifecycleError
    from mailsigil.lifecycle.upgrade import preload
    from mailsigil.usage.companion import UsageCounting

    try:
        if settings.keyd.user:
            preload(settings.lifecycle)
    except LifecycleError as error:
        raise Misuse(str(error)) from error
    return [UsageCounting(settings, now=utc_now)]


def _provisioner(settings: Settings) -> Provisioner | None:
    """Where certificates are looked after, a first mail is provisioned by the rules of that."""
    if not settings.lifecycle.enabled:
        return None
    # Imported where it is needed: it brings a database along.
    from mailsigil.lifecycle.errors import LifecycleError
    from mailsigil.lifecycle.provision import Provisioner
    from mailsigil.lifecycle.upgrade import preload

    try:
        if settings.keyd.user:
            preload(settings.lifecycle)
    except LifecycleError as error:
        raise Misuse(str(error)) from error
    return Provisioner(settings, open_directory, now=utc_now)


def _timer(current: _Current) -> Callable[[WorkerControl], None] | None:
    settings = current.settings
    if not settings.lifecycle.enabled or not settings.lifecycle.every_minutes:
        return None

    from mailsigil.lifecycle.timer import Timer

    def serve(control: WorkerControl) -> None:
        chance = random.SystemRandom().random
        # As a reload has left them: this process may be started again at any time.
        timer = Timer(current.settings, open_directory, now=utc_now, chance=chance, again=current.handed)
        timer.serve(control)

    return serve
