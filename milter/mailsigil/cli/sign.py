"""``mailsigil sign``: the outbound way on one message."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import click

from mailsigil.cli.messages import message_argument, read, write
from mailsigil.cli.misuse import Misuse
from mailsigil.cli.options import config_errors_shown
from mailsigil.config.loading import load_settings
from mailsigil.config.settings import Settings
from mailsigil.directory.api import Directory, DirectoryUnavailable
from mailsigil.directory.one_person import OnePerson
from mailsigil.directory.opening import open_directory
from mailsigil.keys.client import KeyAgentClient
from mailsigil.keys.errors import KeyFileError
from mailsigil.keys.local import LocalKeys
from mailsigil.message.address import Address, AddressError
from mailsigil.message.author import Author, parse_author
from mailsigil.message.reader import Message
from mailsigil.outbound import outbound
from mailsigil.pki.anchors import AnchorError
from mailsigil.plan import Envelope, Event, Outcome
from mailsigil.policy.model import Form
from mailsigil.rewrite import rewritten
from mailsigil.service import outbound_parts, trust_store
from mailsigil.signing import Keys


@click.command()
@message_argument
@click.option("--sender", help="Who sends it: login and envelope sender. Without it, the author.")
@click.option("--recipient", multiple=True, help="An envelope recipient, where policy asks for one.")
@click.option("--cert", type=click.Path(path_type=Path, exists=True), help="Certificate (PEM, with chain).")
@click.option("--key", type=click.Path(path_type=Path, exists=True), help="Its private key (PEM).")
@click.option(
    "--form",
    type=click.Choice([form.value for form in Form]),
    default=Form.CLEAR.value,
    show_default=True,
    help="Clear or opaque, beside --cert; otherwise policy decides.",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    envvar="MAILSIGIL_CONFIG",
    show_envvar=True,
    help="The configuration file. Not needed beside --cert.",
)
def command(
    file: BinaryIO,
    sender: str | None,
    recipient: tuple[str, ...],
    cert: Path | None,
    key: Path | None,
    form: str,
    config: Path | None,
) -> None:
    """Send the message in FILE the outbound way, and write what would leave the house.

    Without FILE it comes from standard input. With --cert and --key it is signed with these, or not at
    all; otherwise by the configured policy with the key agent. Exit status 1 when it would be refused or
    deferred; then nothing is written.
    """
    if key is not None and cert is None:
        raise click.UsageError("--key needs --cert beside it")
    with config_errors_shown():
        settings = Settings() if cert is not None and config is None else _load(config)
        message = read(file, settings)
        address = _sender_address(sender, message)
        directory, keys = _directory_and_keys(settings, address, cert, key, Form(form))
    try:
        person = directory.person_by_address(address) if address else None
        trust = trust_store(settings)
    except (DirectoryUnavailable, AnchorError) as error:
        raise Misuse(str(error)) from error
    envelope = Envelope(
        login=person.logins[0] if person and person.logins else "",
        mail_from=address,
        recipients=recipient,
    )
    parts = outbound_parts(settings, directory=directory, keys=keys, trust=trust)
    plan = outbound(envelope, message.fields, message.body, parts)
    for warning in plan.warnings:
        click.echo(f"warning: {warning}", err=True)
    if plan.outcome is not Outcome.ACCEPT:
        click.echo(f"{plan.event.value}: {plan.reason}", err=True)
        raise SystemExit(1)
    if plan.event is not Event.SIGNED:
        click.echo(f"passed unsigned: {plan.reason}", err=True)
    write(rewritten(message.fields, message.body, plan.edits))


def _load(config: Path | None) -> Settings:
    return load_settings(config) if config is not None else load_settings()


def _sender_address(sender: str | None, message: Message) -> str:
    if sender is not None:
        try:
            return Address.parse(sender).key
        except AddressError as error:
            raise click.BadParameter(str(error), param_hint="--sender") from error
    author = parse_author(message.fields)
    # A faulty author is for the outbound way to judge; the address only has to be no bounce's.
    return author.address.key if isinstance(author, Author) else "nobody@invalid"


def _directory_and_keys(
    settings: Settings, address: str, cert: Path | None, key: Path | None, form: Form
) -> tuple[Directory, Keys]:
    if cert is None:
        client = KeyAgentClient(settings.keyd.socket, timeout=settings.keyd.timeout)
        return open_directory(settings), client
    try:
        return OnePerson(address, form, where="the command line"), LocalKeys.load(cert, key)
    except KeyFileError as error:
        raise Misuse(str(error)) from error
