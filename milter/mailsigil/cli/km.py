"""``mailsigil km``: is a customer's CA or key-management system integrated?"""

from __future__ import annotations

import json

import click

from mailsigil.cli.misuse import Misuse
from mailsigil.cli.options import settings_option
from mailsigil.config.settings import Settings
from mailsigil.config.sources import SourceSettings
from mailsigil.km.conformance import TEST_MAILBOX, Conformance
from mailsigil.message.address import Address, AddressError
from mailsigil.pki.anchors import AnchorError
from mailsigil.service import trust_store, utc_now


@click.group()
def command() -> None:
    """The customer's own CA or key-management system (KM)."""


@command.command()
@click.argument("source")
@click.option(
    "--address", default="", help=f"Test address [default: {TEST_MAILBOX} in the source's first domain]."
)
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object instead of lines for people.")
@click.option(
    "--wait",
    type=click.FloatRange(0, 86_400),
    default=0.0,
    metavar="SECONDS",
    help="Ask again after a request that waits for approval there, for so long.",
)
@settings_option
def test(source: str, address: str, as_json: bool, wait: float, settings: Settings) -> None:
    """Run every operation that mailsigil needs against the [[source]] named SOURCE.

    Each gets a line: passed, pending, or what is wrong with the answer and how to mend it. Certificates
    that an authority issues for the test are revoked at the end where its protocol can do that. Run it as
    the key agent's user, who may read the secrets. Exit status 0 when everything passed, else 1.
    """
    chosen = _source(settings, source)
    try:
        trust = trust_store(settings)
    except AnchorError as error:
        raise Misuse(str(error)) from error
    place = _address(chosen, address)
    report = Conformance(chosen, place, settings=settings, trust=trust, now=utc_now, patience=wait).run()
    click.echo(json.dumps(report.json(), ensure_ascii=False, indent=2) if as_json else report.text())
    raise SystemExit(0 if report.passed else 1)


def _source(settings: Settings, name: str) -> SourceSettings:
    for source in settings.source:
        if source.name == name:
            return source
    names = ", ".join(f'"{source.name}"' for source in settings.source) or "there is none"
    raise Misuse(f'no [[source]] of the configuration has the name "{name}"; its sources: {names}')


def _address(source: SourceSettings, given: str) -> str:
    if not given:
        return f"{TEST_MAILBOX}@{source.domains[0]}"
    try:
        address = Address.parse(given)
    except AddressError as error:
        raise Misuse(f"--address: {error}") from error
    if address.domain not in source.domains:
        raise Misuse(f'{given} is in none of the domains of "{source.name}": {", ".join(source.domains)}')
    return address.key
