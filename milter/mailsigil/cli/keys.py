"""``mailsigil keys``: keys and certificates of everybody."""

from __future__ import annotations

import json
from pathlib import Path

import click

from mailsigil.cli.certificates import (
    as_json_option,
    export_public,
    list_certificates,
    revoke_certificates,
    show,
)
from mailsigil.cli.misuse import Misuse
from mailsigil.cli.options import settings_option
from mailsigil.clock import utc_now
from mailsigil.config.settings import Settings
from mailsigil.keys.admin import AdminClient
from mailsigil.keys.errors import KeyFileError, KeyServiceError
from mailsigil.keys.import_keys import Planned, bundles, carry_out, plan_import
from mailsigil.keys.key_files import MAX_PASSPHRASE, read_key_file, read_passphrase


@click.group()
def command() -> None:
    """Keys and certificates of everybody.

    To be called as root or as the agent's user. With [lifecycle], certificates are looked up in its database;
    `status`, `reload` and `list --at-hand` ask the running agent on its admin socket.
    """


for _one in (list_certificates, show, export_public, revoke_certificates):
    command.add_command(_one)


@command.command()
@as_json_option
@settings_option
def status(as_json: bool, settings: Settings) -> None:
    """Tell how many processes, sources and keys the agent has."""
    try:
        found = _agent(settings).status()
    except KeyServiceError as error:
        raise Misuse(str(error)) from error
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False, indent=2))
        return
    click.echo(f"Key agent with {found['processes']} processes, since {found['started']}")
    for source in found["sources"]:
        expired = f", {source['expired']} of them expired" if source["expired"] else ""
        click.echo(f"  {source['name']}: {source['keys']} keys{expired}")


@command.command()
@settings_option
def reload(settings: Settings) -> None:
    """Have the agent read all keys anew, as SIGHUP does."""
    try:
        _agent(settings).reload()
    except KeyServiceError as error:
        raise Misuse(str(error)) from error
    click.echo("The key agent reads all keys anew.")


@command.command(name="import")
@click.argument(
    "files",
    metavar="FILE...",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
)
@click.option("--source", default="", help='Name of a [[source]] of kind "folder" [default: that of [keyd]].')
@click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="File with the passphrase [default: NAME.pass beside NAME.p12].",
)
@click.option("--replace", is_flag=True, help="Put a new key in the place of one that exists.")
@settings_option
def import_keys(
    files: tuple[Path, ...],
    source: str,
    passphrase_file: Path | None,
    replace: bool,
    settings: Settings,
) -> None:
    """Copy existing keys and certificates into a key folder.

    FILE is PKCS#12 or PEM; files that share a name up to the last dot belong together. Each key is checked
    as the agent would, and copied whole, with mode 0600. If one of them cannot be used, that is told and
    none is copied; exit status 1 then. The running agent finds the new keys by itself.
    """
    folder, domains = _folder(settings, source)
    planned: list[Planned] = []
    refused = False
    try:
        passphrase = _passphrase(passphrase_file)
    except KeyFileError as fault:
        raise Misuse(str(fault)) from fault
    for bundle in bundles(files):
        try:
            one = plan_import(
                bundle, folder, domains=domains, passphrase=passphrase, replace=replace, now=utc_now()
            )
            planned.append(one)
        except KeyFileError as fault:
            click.echo(str(fault), err=True)
            refused = True
    if refused:
        click.echo("Nothing was imported.", err=True)
        raise SystemExit(1)
    try:
        carry_out(planned)
    except KeyFileError as fault:
        click.echo(str(fault), err=True)
        raise SystemExit(1) from fault
    for done in (each.imported for each in planned):
        click.echo(f"{done.path}: {', '.join(done.addresses)}, until {done.valid_until:%Y-%m-%d}")


def _agent(settings: Settings) -> AdminClient:
    return AdminClient(Path(settings.keyd.admin_path))


def _folder(settings: Settings, name: str) -> tuple[Path, frozenset[str]]:
    if not name:
        return Path(settings.keyd.folder), frozenset()
    for source in settings.source:
        if source.name == name and source.folder is not None:
            return Path(source.folder.path), frozenset(source.domains)
    folders = ", ".join(f'"{each.name}"' for each in settings.source if each.folder) or "there is none"
    raise Misuse(f'no [[source]] of kind "folder" has the name "{name}"; those of this kind: {folders}')


def _passphrase(path: Path | None) -> bytes | None:
    return None if path is None else read_passphrase(read_key_file(path, limit=MAX_PASSPHRASE))
