"""``mailsigil explain``: which policy applies to a sender, which certificate signs, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime

import click

from mailsigil.cli.chosen import Choice, choices
from mailsigil.cli.misuse import Misuse
from mailsigil.cli.options import config_errors_shown, settings_option
from mailsigil.cli.printable import json_text, printable
from mailsigil.config.settings import Settings
from mailsigil.directory.api import DirectoryUnavailable, OwnAddress, Person
from mailsigil.directory.opening import open_directory
from mailsigil.keys.client import KeyAgentClient
from mailsigil.lifecycle.shortfall import certifying, said
from mailsigil.message.address import Address, AddressError
from mailsigil.pki.anchors import AnchorError
from mailsigil.policy.certificates import CertificateRule
from mailsigil.policy.entitlement import Entitlement, IdentityFacts, entitlement
from mailsigil.policy.model import SETTING_NAMES, EffectivePolicy, Setting, shown
from mailsigil.policy.resolve import resolve
from mailsigil.service import trust_store
from mailsigil.signing import levels_under


@click.command()
@click.argument("address")
@click.option(
    "--to",
    "recipients",
    multiple=True,
    metavar="RECIPIENT",
    help="Show which certificate signs a mail to this address; several are one mail to all of them.",
)
@click.option("--json", "as_json", is_flag=True, help="For programs: one JSON object.")
@settings_option
def command(settings: Settings, address: str, recipients: tuple[str, ...], as_json: bool) -> None:
    """Show which policy applies to the sender ADDRESS, and why.

    Each setting is shown with its value and the entry it came from: the person's, a group's, the domain's,
    the one for everyone, or the built-in default. "entitled" are the levels that a signature may have today.
    With [lifecycle], "certificate" is what the next one will say, and why no more. Below stands the one that
    would sign, as the key agent tells of it now: ask as root, or as one of the users who may have mail
    signed.
    """
    key = _key(address, "ADDRESS")
    to = tuple(_key(recipient, "--to") for recipient in recipients)
    with config_errors_shown():
        directory = open_directory(settings)
    now = datetime.now(UTC)
    try:
        person = directory.person_by_address(key)
        entries = directory.policies(key)
        facts = directory.identity(key)
    except DirectoryUnavailable as error:
        raise Misuse(f"the directory does not answer, so mail of this sender is deferred: {error}") from error
    policy = resolve(entries, at=now)
    entitled = entitlement(facts, at=now)
    own = OwnAddress(address=key, identity=facts, policies=entries)
    try:
        levels_of = levels_under(trust_store(settings))
    except AnchorError as error:
        raise Misuse(str(error)) from error
    # No waiting for an agent that is being restarted: here a person waits, and no mail. Nor is a certificate
    # brought about by the question: whoever's was revoked has none before the next mail or run.
    keys = KeyAgentClient(
        settings.keyd.socket, timeout=settings.keyd.timeout, sleep=lambda seconds: None, at_hand=True
    )
    chosen = list(choices(key, person, policy, facts, recipients=to, keys=keys, levels_of=levels_of, at=now))
    will_say = _will_say(settings, person, own, now)
    if as_json:
        answer = _as_json(key, person, policy, facts, entitled)
        answer["will_say"] = will_say
        answer["certificates"] = [asdict(choice) for choice in chosen]
        click.echo(json_text(answer))
    else:
        click.echo(_as_text(key, person, policy, facts, entitled, will_say))
        click.echo("\n" + "\n".join(_choice(choice) for choice in chosen))


def _will_say(settings: Settings, person: Person | None, own: OwnAddress, now: datetime) -> dict[str, str]:
    """By source: what a certificate of this address will say, and why no more."""
    if person is None or not settings.lifecycle.enabled:
        return {}
    sources = certifying(settings.source, own.address.rpartition("@")[2])
    return {source.name: said(person, own, source, at=now) for source in sources}


def _key(address: str, hint: str) -> str:
    try:
        return Address.parse(address).key
    except AddressError as error:
        raise click.BadParameter(str(error), param_hint=hint) from error


def _choice(choice: Choice) -> str:
    to = f"mail to {' '.join(choice.recipients)}" if choice.recipients else "all other mail"
    why = f'by the rule "{choice.rule}"' if choice.rule else "no rule decides, so the one that says most"
    return f"{printable(f'{to}: {choice}')}\n  {printable(why)}"


def _settings(policy: EffectivePolicy) -> list[tuple[str, Setting[object]]]:
    return [(name, getattr(policy, name)) for name in SETTING_NAMES]


def _as_json(
    key: str, person: Person | None, policy: EffectivePolicy, facts: IdentityFacts, entitled: Entitlement
) -> dict[str, object]:
    organisation = facts.organisation
    return {
        "address": key,
        "person": person
        and {
            "name": person.name,
            "addresses": person.addresses,
            "logins": person.logins,
            "may_send_as": person.may_send_as,
            "source": person.source,
        },
        "organisation": organisation
        and {
            "name": organisation.name,
            "key_service": organisation.key_service,
            "source": organisation.source,
        },
        "entitled": {"levels": sorted(entitled.levels), "reason": entitled.reason},
        "policy": {
            name: {"value": _plain(setting.value), "source": setting.source}
            for name, setting in _settings(policy)
        },
        "conflicts": [str(conflict) for conflict in policy.conflicts],
    }


def _as_text(
    key: str,
    person: Person | None,
    policy: EffectivePolicy,
    facts: IdentityFacts,
    entitled: Entitlement,
    will_say: Mapping[str, str],
) -> str:
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
    if facts.organisation is not None:
        served = f" (served by {facts.organisation.key_service})" if facts.organisation.key_service else ""
        rows.append(("organisation", facts.organisation.name + served, ""))
    rows.append(("entitled", f"{entitled}: {entitled.reason}", ""))
    for source, words in will_say.items():
        rows.append(("certificate", words if len(will_say) == 1 else f'{words} (of "{source}")', ""))
    rows.append(("", "", ""))
    rows.extend((name, shown(setting.value), setting.source) for name, setting in _settings(policy))
    rows = [(printable(name), printable(value), printable(source)) for name, value, source in rows]
    first = max(len(row[0]) for row in rows)
    second = max(len(row[1]) for row in rows if row[2])
    conflicts = [printable(f"conflict: {one}; {one.holds} holds") for one in policy.conflicts]
    return "\n".join([*(_line(row, first, second) for row in rows), *conflicts])


def _line(row: tuple[str, str, str], first: int, second: int) -> str:
    name, value, source = row
    start = f"{name:<{first}}  {value}"
    return f"{name:<{first}}  {value:<{second}}  from {source}" if source else start.rstrip()


def _plain(value: object) -> object:
    """A setting as JSON has it."""
    return (
        [asdict(one) if isinstance(one, CertificateRule) else one for one in value]
        if isinstance(value, tuple)
        else value
    )


def _list(values: tuple[str, ...]) -> str:
    return ", ".join(values) or "-"
