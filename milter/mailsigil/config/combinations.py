"""Settings that are right one by one and impossible together."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network
from typing import Final

from mailsigil.config.locate import KeyPath
from mailsigil.config.settings import Settings
from mailsigil.config.sockets import SocketFamily
from mailsigil.config.trust import TrustSettings

BR_ARC: Final = "2.23.140.1.5."
"""Policies of the CA/Browser Forum's S/MIME Baseline Requirements."""

Mistake = tuple[KeyPath, str]


def impossible(settings: Settings) -> Iterator[Mistake]:
    """Give place and sentence of everything that cannot be meant."""
    yield from _sockets(settings)
    yield from _directions(settings)
    yield from _users(settings)
    for number, trust in enumerate(settings.trust):
        yield from _one_trust(trust, ("trust", number))
    yield from _trust_names(settings)
    yield from _trust_files(settings)
    yield from _directories(settings)
    yield from _sources(settings)
    yield from _lifecycle(settings)
    yield from _storage(settings)


def _sockets(settings: Settings) -> Iterator[Mistake]:
    address = settings.milter.address
    if address.family is SocketFamily.UNIX:
        if address.path == settings.keyd.socket:
            yield (
                ("keyd", "socket") if "socket" in settings.keyd.model_fields_set else ("milter", "socket"),
                f'"socket" in [keyd] and in [milter] are both "{address.path}"; give each its own',
            )
        return
    for key in ("socket_mode", "socket_group"):
        if key in settings.milter.model_fields_set:
            yield (
                ("milter", key),
                f'"{key}" in [milter] is for a unix socket, and "socket" is "{settings.milter.socket}";'
                " remove one of the two",
            )


def _directions(settings: Settings) -> Iterator[Mistake]:
    for number, name in enumerate(settings.inbound.daemons):
        if name in settings.outbound.daemons:
            yield (
                ("inbound", "daemons", number),
                f'"{name}" is in "daemons" of [inbound] and of [outbound]; a listener is one of the two',
            )
    for number, name in enumerate(settings.inbound.trusted_authserv_ids):
        if name.lower().rstrip(".") == settings.inbound.authserv_id.lower().rstrip("."):
            yield (
                ("inbound", "trusted_authserv_ids", number),
                f'"{name}" in "trusted_authserv_ids" of [inbound] is "authserv_id", the name of this server;'
                " fields of this name are removed, so list servers in front of this one",
            )
    if settings.inbound.trusted_authserv_ids and not settings.inbound.trusted_relays:
        yield (
            ("inbound", "trusted_authserv_ids"),
            '"trusted_authserv_ids" of [inbound] needs "trusted_relays": the addresses of these servers, or'
            " anybody could write results in their name",
        )
    for number, text in enumerate(settings.inbound.trusted_relays):
        if ip_network(text).prefixlen == 0:
            yield (
                ("inbound", "trusted_relays", number),
                f'"{text}" in "trusted_relays" of [inbound] is the whole Internet, so anybody could write'
                " results in the name of these servers; list their addresses",
            )
    for number, text in enumerate(settings.outbound.trusted_networks):
        if ip_network(text).prefixlen == 0:
            yield (
                ("outbound", "trusted_networks", number),
                f'"{text}" in [outbound] is the whole Internet, so nothing would be inbound;'
                " list your own networks",
            )


def _users(settings: Settings) -> Iterator[Mistake]:
    user = settings.milter.user
    if user and user not in settings.keyd.allowed_users:
        listed = "allowed_users" in settings.keyd.model_fields_set
        yield (
            ("keyd", "allowed_users") if listed else ("milter", "user"),
            f'the milter runs as "{user}", which "allowed_users" in [keyd] does not list;'
            " it would get no signature",
        )


def _one_trust(trust: TrustSettings, path: KeyPath) -> Iterator[Mistake]:
    for key in ("oids", "asserts"):
        if trust.level and getattr(trust, key):
            yield (
                (*path, "level"),
                f'"level" and "{key}" of [[trust]] "{trust.name}" exclude each other: either all its'
                " certificates have one level, or their policies decide",
            )
    for oid in trust.oids:
        if oid.startswith(BR_ARC):
            yield (
                (*path, "oids", oid),
                f'"{oid}" in "oids" of [[trust]] "{trust.name}" belongs to the CA/Browser Forum;'
                ' for a public authority write asserts = ["br"]',
            )


def _trust_names(settings: Settings) -> Iterator[Mistake]:
    first: dict[str, int] = {}
    for number, trust in enumerate(settings.trust):
        if first.setdefault(trust.name, number) != number:
            yield ("trust", number, "name"), f'a [[trust]] of the name "{trust.name}" stands above already'


def _trust_files(settings: Settings) -> Iterator[Mistake]:
    first: dict[str, str] = {}
    for number, trust in enumerate(settings.trust):
        for index, file in enumerate(trust.files):
            if file in first:
                yield (
                    ("trust", number, "files", index),
                    f'"{file}" is listed by [[trust]] "{first[file]}" already; only one entry can say what it'
                    " asserts",
                )
            first.setdefault(file, trust.name)


def _directories(settings: Settings) -> Iterator[Mistake]:
    names: set[str] = set()
    owners: dict[str, str] = {}
    bare = ""
    for number, directory in enumerate(settings.directory):
        if directory.name in names:
            yield (
                ("directory", number, "name"),
                f'a [[directory]] of the name "{directory.name}" stands above already',
            )
        names.add(directory.name)
        for index, domain in enumerate(directory.domains):
            if domain in owners:
                yield (
                    ("directory", number, "domains", index),
                    f'"{domain}" belongs to [[directory]] "{owners[domain]}" already; each domain has one',
                )
            owners.setdefault(domain, directory.name)
        if directory.bare_logins and bare:
            yield (
                ("directory", number, "bare_logins"),
                f'login names without a domain belong to [[directory]] "{bare}" already',
            )
        bare = bare or (directory.name if directory.bare_logins else "")


def _sources(settings: Settings) -> Iterator[Mistake]:
    names: set[str] = set()
    for number, source in enumerate(settings.source):
        # Letter case apart they would share a folder on some file systems.
        if source.name.lower() in names:
            yield (
                ("source", number, "name"),
                f'a [[source]] of the name "{source.name}" stands above already',
            )
        names.add(source.name.lower())
        if source.name.lower() == "keyd":
            yield (
                ("source", number, "name"),
                f'policies call the folder of [keyd] "{source.name}"; give the [[source]] another name',
            )
        if source.timeout >= settings.keyd.timeout:
            yield (
                ("source", number, "timeout"),
                f'"timeout" of [[source]] "{source.name}" must be less than that of [keyd], which is'
                f" {settings.keyd.timeout:g}; else the milter has gone before the source is given up",
            )


def _storage(settings: Settings) -> Iterator[Mistake]:
    owners: dict[str, str] = {}
    names: set[str] = set()
    for number, storage in enumerate(settings.storage):
        if storage.name.lower() in names:
            yield (
                ("storage", number, "name"),
                f'a [[storage]] of the name "{storage.name}" stands above already',
            )
        names.add(storage.name.lower())
        for index, domain in enumerate(storage.domains):
            if domain in owners:
                yield (
                    ("storage", number, "domains", index),
                    f'"{domain}" belongs to [[storage]] "{owners[domain]}" already; each domain has one',
                )
            owners.setdefault(domain, storage.name)


def _lifecycle(settings: Settings) -> Iterator[Mistake]:
    lifecycle = settings.lifecycle
    if not lifecycle.enabled:
        return
    if not any(source.issues for source in settings.source):
        yield (
            ("lifecycle", "enabled"),
            "certificates come from a [[source]] that certifies keys, and there is none; add one of kind"
            ' "est", "cmp", "embedded" or "openbao"',
        )
    if lifecycle.provision_seconds >= settings.keyd.timeout:
        yield (
            ("lifecycle", "provision_seconds"),
            f'"provision_seconds" must be less than "timeout" in [keyd], which is {settings.keyd.timeout:g};'
            " else the milter has gone before the certificate is there",
        )
    if lifecycle.share_keys_with and not lifecycle.database.startswith("postgresql"):
        yield (
            ("lifecycle", "share_keys_with"),
            "a database of SQLite is on one machine, so there is nobody to share keys with; name a database"
            " of PostgreSQL",
        )
