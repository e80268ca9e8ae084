"""``mailsigil keyd``: the key agent, which holds the private keys and never reads mail."""

from __future__ import annotations

import random
from collections.abc import Callable
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

    SIGHUP reads all keys anew, and each [[source]] of the configuration; other settings need a restart.
    """
    with config_errors_shown():
        settings = load_settings(config)
    start_logging(settings.log)
    keyd = settings.keyd
    provisioner = _provisioner(settings)

    def again(read: ReadText) -> Settings:
        fresh = load_settings(config, read=read)
        if provisioner is not None:
            provisioner.take(fresh)
        return fresh

    try:
        status = run_agent(
            socket_path=keyd.socket,
            folder=keyd.folder,
            allowed_users=keyd.allowed_users,
            user=keyd.user,
            processes=keyd.processes,
            more=LiveSources(
                settings.source,
                load=lambda read: again(read).source,
                managed=lambda source: _managed(source, provisioner, settings),
            ),
            beside=_timer(settings, lambda handed: again(unpacked(handed))),
            admin_socket=keyd.admin_path,
            companions=_counting(settings),
            together=_for_mailboxes(settings),
            passphrase=SecretFile("keyd", keyd.passphrase_file) if keyd.passphrase_file else None,
        )
    except (KeyAgentSetupError, PrivilegeError) as error:
        raise Misuse(str(error)) from error
    raise SystemExit(status)


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


def _managed(source: SourceSettings, provisioner: Provisioner | None, settings: Settings) -> Managed | None:
    if provisioner is None or not source.issues:
        return None
    return Managed(partial(provisioner.provision, source.name), settings.lifecycle.provision_seconds)


def _timer(settings: Settings, again: Callable[[bytes], Settings]) -> Callable[[WorkerControl], None] | None:
    if not settings.lifecycle.enabled or not settings.lifecycle.every_minutes:
        return None

    from mailsigil.lifecycle.timer import Timer

    def serve(control: WorkerControl) -> None:
        chance = random.SystemRandom().random
        Timer(settings, open_directory, now=utc_now, chance=chance, again=again).serve(control)

    return serve
