"""From settings to the directory that the rest of the house asks."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from mailsigil.config.directories import DirectorySettings
from mailsigil.config.settings import Settings
from mailsigil.directory.api import Directory
from mailsigil.directory.file import FileDirectory
from mailsigil.directory.ldap import connector
from mailsigil.directory.ldap_directory import LdapDirectory
from mailsigil.directory.servers import Connect, Servers
from mailsigil.directory.tenants import TenantDirectory


def open_directory(settings: Settings) -> Directory:
    """Give the policy file's directory, with the LDAP directories in front of it where there are any.

    Reads the policy file (raises ``ConfigError``) and connects nowhere: that comes with the first question.
    """
    file = FileDirectory.load(settings.policy.file)
    if not settings.directory:
        return file
    return TenantDirectory(file, [ldap_directory(one, servers_of(one)) for one in settings.directory])


def servers_of(
    settings: DirectorySettings,
    *,
    connect: Connect | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Servers:
    """Give the servers of one ``[[directory]]``, unconnected."""
    return Servers(
        settings.name,
        settings.servers,
        connect=connect or connector(settings),
        clock=clock,
        timeout=settings.timeout,
        failover_seconds=settings.failover_seconds,
        connections=settings.connections,
    )


def ldap_directory(
    settings: DirectorySettings,
    servers: Servers,
    *,
    clock: Callable[[], float] = time.monotonic,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> LdapDirectory:
    """Give one LDAP directory."""
    return LdapDirectory(settings, ask=servers.search, clock=clock, now=now)
