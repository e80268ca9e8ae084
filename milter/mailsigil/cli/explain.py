"""``mailsigil explain``: which policy applies to a sender, and why."""

from __future__ import annotations

import json

import click

from mailsigil.cli.options import config_errors_shown, settings_option
from mailsigil.config.settings import Settings
from mailsigil.directory.api import Directory, Person
from mailsigil.directory.file import FileDirectory
from mailsigil.message.address import Address, AddressError
from mailsigil.policy.model import SETTING_NAMES, EffectivePolicy, Setting
from mailsigil.policy.resolve import resolve


@click.command()
@click.argument("address")
@click.option("--json", "as_json", is_flag=True, help="For programs: one JSON object.")
@settings_option
def command(settings: Settings, address: str, as_json: bool) -> None:
    """Show which policy applies to the sender ADDRESS, and why.

    Each setting is shown with its value and the entry it came from: the person's, the domain's, the
    default of the policy file, or the built-in default.
    """
    try:
        key = Address.parse(address).key
    except AddressError as error:
        raise click.BadParameter(str(error), param_hint="ADDRESS") from error
    with config_errors_shown():
        directory: Directory = FileDirectory.load(settings.policy.file)
    person = directory.person_by_address(key)
    policy = resolve(directory.policies(key))
    if as_json:
        click.echo(json.dumps(_as_json(key, person, policy), indent=2, ensure_ascii=False))
    else:
        click.echo(_as_text(key, person, policy))


def _settings(policy: EffectivePolicy) -> list[tuple[str, Setting[object]]]:
    return [(name, getattr(policy, name)) for name in SETTING_NAMES]


def _as_json(key: str, person: Person | None, policy: EffectivePolicy) -> dict[str, object]:
    return {
        "address": key,
        "person": person
        and {
            "name": person.name,
            "addresses": person.addresses,
            "logins": person.logins,
            "may_send_as": person.may_send_as,
        },
        "policy": {
            name: {"value": setting.value, "source": setting.source} for name, setting in _settings(policy)
        },
    }


def _as_text(key: str, person: Person | None, policy: EffectivePolicy) -> str:
    rows = [("sender", key, "")]
    if person is None:
        rows.append(
            ("person", "nobody in the directory has this address; only a rule (may_send_as) can cover it", "")
        )
    else:
        rows.append(("person", person.name or person.addresses[0], ""))
        rows.append(("addresses", _list(person.addresses), ""))
        rows.append(("logins", _list(person.logins), ""))
        rows.append(("may send as", _list(person.may_send_as), ""))
    rows.append(("", "", ""))
    rows.extend((name, _value(setting.value), setting.source) for name, setting in _settings(policy))
    first = max(len(row[0]) for row in rows)
    second = max(len(row[1]) for row in rows if row[2])
    return "\n".join(_line(row, first, second) for row in rows)


def _line(row: tuple[str, str, str], first: int, second: int) -> str:
    name, value, source = row
    start = f"{name:<{first}}  {value}"
    return f"{name:<{first}}  {value:<{second}}  from {source}" if source else start.rstrip()


def _value(value: object) -> str:
    return _list(value) if isinstance(value, tuple) else str(value)


def _list(values: tuple[str, ...]) -> str:
    return ", ".join(values) or "-"
