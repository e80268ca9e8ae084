"""From settings to the directory that the rest of the house asks."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from mailsigil.config.directories import DirectorySettings
from mailsigil.config.reading import ReadText, read_text
from mailsigil.config.settings import Settings
from mailsigil.directory.api import Population
from mailsigil.directory.file import FileDirectory
from mailsigil.directory.ldap import connector
from mailsigil.directory.ldap_directory import LdapDirectory
from mailsigil.directory.servers import Connect, Servers
from mailsigil.directory.tenants import TenantDirectory


def open_directory(settings: Settings, *, read: ReadText = read_text) -> Population:
    """Give the policy file's directory, with the LDAP directories in front of it where there are any.

    Reads the policy file (raises ``ConfigError``) and connects nowhere: that comes with the first question.
    """
    sources = source_names(settings)
    file = FileDirectory.load(settings.policy.file, sources=sources, read=read)
    if not settings.directory:
        return file
    directories = [ldap_directory(one, servers_of(one), sources=sources) for one in settings.directory]
    return TenantDirectory(file, directories)


def source_names(settings: Settings) -> frozenset[str]:
    """Give the names of all [[source]], as policies are held against them: in lower case."""
    return frozenset(source.name.lower() for source in settings.source)


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
    sources: frozenset[str] | None = None,
    clock: Callable[[], float] = time.monotonic,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> LdapDirectory:
    """Give one LDAP directory; ``sources`` are the names that its policies may use, None: any."""
    return LdapDirectory(
        settings, ask=servers.search, pages=servers.pages, clock=clock, now=now, sources=sources
    )
