"""``mailsigil storage``: keys that encrypt stored mail, made and replaced where [[storage]] says."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from mailsigil.cli.misuse import Misuse
from mailsigil.cli.options import settings_option
from mailsigil.config.settings import Settings
from mailsigil.dovecot.users import address_of
from mailsigil.keys.errors import KeyFileError, SourceError
from mailsigil.keys.storage.build import build_storage
from mailsigil.keys.storage.key import fingerprint
from mailsigil.keys.storage.routes import StorageRoute, StorageRoutes
from mailsigil.process.privileges import PrivilegeError, become

_addresses = click.argument("addresses", metavar="ADDRESS...", nargs=-1, required=True)


@contextmanager
def _errors_shown() -> Iterator[None]:
    try:
        yield
    except (SourceError, KeyFileError) as error:
        raise Misuse(str(error)) from error


def _clear(function: Callable[..., Any]) -> Callable[..., Any]:
    """Have a command end with a sentence where the key server or the folder of public keys fails."""

    @functools.wraps(function)
    def clear(*args: Any, **kwargs: Any) -> Any:
        with _errors_shown():
            return function(*args, **kwargs)

    return clear


@click.group()
def command() -> None:
    """Keys that encrypt stored mail.

    Private keys are made and kept where [[storage]] says; the public ones are written to the folder of
    [dovecot], where delivery finds them. As root, the commands run as the key agent's user.
    """


@command.command()
@_addresses
@settings_option
@_clear
def create(addresses: tuple[str, ...], settings: Settings) -> None:
    """Make the first key of users. From then on their new mail is encrypted."""
    for address, route, routes in _users(settings, addresses):
        if routes.pins.read(address):
            raise Misuse(f"{address} has a storage key already; for the next one: mailsigil storage rotate")
        _tell(address, routes.add(route, address).fingerprint, route)


@command.command()
@_addresses
@settings_option
@_clear
def rotate(addresses: tuple[str, ...], settings: Settings) -> None:
    """Make the next key of users. New mail is encrypted to it; the older keys stay, for the older mail."""
    for address, route, routes in _users(settings, addresses):
        if not routes.pins.read(address):
            raise Misuse(f"{address} has no storage key yet: mailsigil storage create")
        _tell(address, routes.add(route, address).fingerprint, route)


@command.command()
@_addresses
@settings_option
@_clear
def pin(addresses: tuple[str, ...], settings: Settings) -> None:
    """Take over the keys that lie at the key server, as they are now.

    For keys that another program put there. Compare the fingerprints: from now on these keys are believed.
    """
    for address, route, routes in _users(settings, addresses):
        for key in routes.pin(route, address):
            _tell(address, key.fingerprint, route)


@command.command(name="list")
@click.argument("addresses", metavar="[ADDRESS]...", nargs=-1)
@click.option("--fetch", is_flag=True, help="Ask the key server, too, and tell whether its keys fit.")
@click.option("--json", "as_json", is_flag=True, help="For programs: JSON instead of lines for people.")
@settings_option
@_clear
def list_keys(addresses: tuple[str, ...], fetch: bool, as_json: bool, settings: Settings) -> None:
    """List the public keys of users, the newest first. Exit status 1 where --fetch finds a fault."""
    routes = _routes(settings)
    wanted = [*addresses] or routes.pins.addresses()
    found: list[dict[str, object]] = []
    for address, route, _ in _users(settings, wanted, routes):
        entry: dict[str, object] = {
            "address": address,
            "storage": route.name,
            "keys": [fingerprint(public) for public in routes.pins.read(address)],
        }
        if fetch:
            entry["fault"] = _fault(routes, route, address)
        found.append(entry)
    click.echo(json.dumps(found, indent=2) if as_json else "\n".join(map(_line, found)))
    if any(entry.get("fault") for entry in found):
        raise SystemExit(1)


def _fault(routes: StorageRoutes, route: StorageRoute, address: str) -> str:
    try:
        routes.fetch(route, address)
    except SourceError as error:
        return str(error)
    return ""


def _line(entry: dict[str, object]) -> str:
    keys = entry["keys"] if isinstance(entry["keys"], list) else []
    lines = [f"{entry['address']}  {entry['storage']}  {key}" for key in keys]
    if entry.get("fault"):
        lines.append(f"{entry['address']}  {entry['fault']}")
    return "\n".join(lines or [f"{entry['address']}  {entry['storage']}  no key"])


def _tell(address: str, print_: str, route: StorageRoute) -> None:
    click.echo(f"{address}  {route.name}  {print_}")


def _routes(settings: Settings) -> StorageRoutes:
    try:
        # What is written belongs to the agent, and what it may not read, this command may not either.
        become(settings.keyd.user)
    except PrivilegeError as error:
        raise Misuse(str(error)) from error
    return build_storage(settings.storage, settings.dovecot.public_keys)


def _users(
    settings: Settings, names: tuple[str, ...] | list[str], routes: StorageRoutes | None = None
) -> Iterator[tuple[str, StorageRoute, StorageRoutes]]:
    routes = routes or _routes(settings)
    for name in names:
        address = address_of(name, bare_domain=settings.dovecot.bare_domain)
        if not address:
            raise Misuse(f"{name!r} is no user who can have storage keys; write it like bob@bank.example")
        route = routes.of(address)
        if route is None:
            raise Misuse(f"no [[storage]] is for the domain of {address}; add the domain to one")
        yield address, route, routes
