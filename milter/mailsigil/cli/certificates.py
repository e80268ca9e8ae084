"""The commands of ``mailsigil keys`` about certificates: list, show, export-public, revoke."""

from __future__ import annotations

import getpass
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from mailsigil.cli.certificates_shown import (
    known_values,
    lines_with_serials,
    show_details,
    show_history,
    show_known,
    show_listed,
    show_summary,
    summary_values,
)
from mailsigil.cli.database import acting_as, become_agents_user, opened_database
from mailsigil.cli.misuse import Misuse
from mailsigil.cli.options import settings_option
from mailsigil.cli.printable import json_text, printable
from mailsigil.cli.sync_shown import report_values
from mailsigil.clock import utc_now
from mailsigil.config.settings import Settings
from mailsigil.folding import fold
from mailsigil.keys.admin import AdminClient, ListedKey
from mailsigil.keys.errors import KeyServiceError
from mailsigil.keys.files import address_file_name
from mailsigil.keys.register import Reason
from mailsigil.lifecycle.by_hand import REVOCABLE, revoke
from mailsigil.lifecycle.carry_out import Report
from mailsigil.lifecycle.errors import LifecycleError
from mailsigil.lifecycle.overview import Known, Overview
from mailsigil.lifecycle.tables import Status
from mailsigil.message.address import Address, AddressError
from mailsigil.pki.policies import Level

as_json_option = click.option(
    "--json", "as_json", is_flag=True, help="For programs: JSON instead of lines for people."
)
_REASONS: Final = tuple(reason.value for reason in Reason if reason is not Reason.CERTIFICATE_HOLD)


@click.command(name="list")
@as_json_option
@click.option("--summary", "only_summary", is_flag=True, help="The numbers alone: by level, status and end.")
@click.option("--address", default="", help="Only certificates of this address.")
@click.option("--level", type=click.Choice([level.value for level in Level]), help="Only of this level.")
@click.option(
    "--status",
    "statuses",
    type=click.Choice([status.value for status in Status]),
    multiple=True,
    help="Only of this status; may be repeated [default: all that are not over].",
)
@click.option("--within", type=click.IntRange(min=0), metavar="DAYS", help="Only what runs out within DAYS.")
@click.option("--at-hand", is_flag=True, help="What the running agent holds, not what the database knows.")
@settings_option
def list_certificates(
    as_json: bool,
    only_summary: bool,
    address: str,
    level: str | None,
    statuses: tuple[str, ...],
    within: int | None,
    at_hand: bool,
    settings: Settings,
) -> None:
    """List all certificates, with the days that are left of each.

    With [lifecycle] these are the ones of the whole organisation, out of the database. Without, or with
    --at-hand, these are the keys that the running agent has at hand, source by source.
    """
    if at_hand or not settings.lifecycle.enabled:
        if only_summary or level or statuses or within is not None:
            raise Misuse("--summary, --level, --status and --within need [lifecycle], and no --at-hand")
        show_listed(_at_hand(settings, address), as_json=as_json)
        return
    now = utc_now()
    become_agents_user(settings)
    with opened_database(settings.lifecycle) as database:
        overview = Overview(database, now=now)
        if only_summary:
            summary = overview.summary()
            if as_json:
                _print_json(summary_values(summary))
            else:
                show_summary(summary)
            return
        found = overview.certificates(
            address=_key_form(address),
            statuses=[Status(status) for status in statuses],
            level=level or "",
            within_days=within,
        )
        if as_json:
            _print_json([known_values(each, now) for each in found])
            return
        show_known(found, now)
        click.echo("")
        show_summary(overview.summary())


@click.command()
@click.argument("which", metavar="ADDRESS|SERIAL")
@as_json_option
@settings_option
def show(which: str, as_json: bool, settings: Settings) -> None:
    """Show certificates with their history: what happened, when, by whose hand, and why.

    All of an address, what signs first and then the newest, or one by its serial number or key name.
    """
    if not settings.lifecycle.enabled:
        keys = [key for key in _at_hand(settings, "") if _is_meant(key, which)]
        if not keys:
            raise Misuse(f"the key agent has nothing at hand for {which}")
        show_listed(keys, as_json=as_json)
        return
    become_agents_user(settings)
    now = utc_now()
    with opened_database(settings.lifecycle) as database:
        overview = Overview(database, now=now)
        found = _found(overview, which)
        history = overview.history(found)
        ders = {each.held.id: overview.public(each) for each in found}
    if as_json:
        shown = [{**known_values(each, now), **_inside(ders[each.held.id])} for each in found]
        events = [{**asdict(event), "at": event.at.isoformat()} for event in history]
        _print_json({"certificates": shown, "history": events})
        return
    for each in found:
        show_details(each, _inside(ders[each.held.id]), now)
    show_history(history)


@click.command(name="export-public")
@click.argument("addresses", metavar="[ADDRESS]...", nargs=-1)
@click.option("--all", "everybody", is_flag=True, help="The certificates of everybody that sign now.")
@click.option(
    "--to",
    "folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder for a file for each address [default: all on standard output].",
)
@as_json_option
@settings_option
def export_public(
    addresses: tuple[str, ...], everybody: bool, folder: Path | None, as_json: bool, settings: Settings
) -> None:
    """Write out certificates that sign now, as PEM. They are public; no key is among them."""
    if everybody == bool(addresses):
        raise Misuse("give addresses, or --all")
    if not settings.lifecycle.enabled:
        raise Misuse(
            "certificates are kept in the database of [lifecycle], which is not enabled; without it they lie"
            " where their [[source]] keeps them"
        )
    wanted = [_key_form(address) for address in addresses]
    # Root's folder is written by root, and the database is read as the agent's user.
    with acting_as(settings), opened_database(settings.lifecycle) as database:
        overview = Overview(database, now=utc_now())
        found = list(overview.all_public() if everybody else _public(overview, wanted))
    missing = sorted(set(wanted) - {each.held.address for each, _ in found})
    times = Counter(each.held.address for each, _ in found)
    entries = [_written(each, der, _file_of(each, folder, times) if folder else None) for each, der in found]
    if as_json:
        _print_json(entries)
    elif folder is None:
        for entry in entries:
            click.echo(entry["pem"], nl=False)
    else:
        click.echo(f"{len(entries)} certificates in {folder}")
    for address in missing:
        click.echo(f"{printable(address)} has no certificate that signs now.", err=True)
    if missing:
        raise SystemExit(1)


@click.command(name="revoke")
@click.argument("which", metavar="ADDRESS|SERIAL")
@click.option(
    "--reason",
    type=click.Choice(_REASONS, case_sensitive=False),
    required=True,
    help="What the authority is told (RFC 5280 5.3.1).",
)
@click.option("--comment", default="", help="Why, in your own words: for the history.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json_option
@settings_option
def revoke_certificates(
    which: str, reason: str, comment: str, yes: bool, as_json: bool, settings: Settings
) -> None:
    """Have the certificates of an address revoked, or one by its serial number, and drop their keys.

    Its authority is told, the database says who did it and why, and the key signs no more on this machine.
    Who is still
    entitled to a certificate gets another with the next sync or mail, with a new key; to keep somebody from
    signing, disable the person in the directory.

    Exit status: 0 revoked, 1 not, or the authority knows no revocation, 2 wrong use or configuration.
    """
    if not settings.lifecycle.enabled:
        raise Misuse(
            "[lifecycle] is not enabled, so its database knows no certificates; revoke at the authority, with"
            " `mailsigil ca revoke` at the embedded one"
        )
    if not comment.isprintable() or len(comment) > 500:
        raise Misuse("the comment is to be one line of at most 500 characters")
    who = f"{os.environ.get('SUDO_USER') or getpass.getuser()}, by hand"
    become_agents_user(settings)
    with opened_database(settings.lifecycle, changes=True) as database:
        overview = Overview(database, now=utc_now())
        found = overview.found(which, REVOCABLE)
        if not found:
            ended = ", ".join(sorted({each.held.status.value for each in _found(overview, which)}))
            raise Misuse(f"{which} has no certificate that could be revoked; those known are {ended}")
        held = [each.held for each in found]
        if not yes:
            for line in lines_with_serials(found, utc_now()):
                click.echo(line, err=True)
            click.confirm("Revoke for good?", abort=True, err=True)
        why = f"revoked by hand ({reason}){f': {comment}' if comment else ''}"
        try:
            report = revoke(settings, database, held, reason=_reason(reason), why=why, who=who, now=utc_now)
        except LifecycleError as error:
            raise Misuse(str(error)) from error
    # A running agent would find out by itself, some seconds later: too late for a stolen key.
    with suppress(KeyServiceError):
        AdminClient(Path(settings.keyd.admin_path)).reload()
    _tell(report, settings, as_json=as_json)


def _tell(report: Report, settings: Settings, *, as_json: bool) -> None:
    done = [result for result in report.results if result.sentence == Status.REVOKED.value]
    if as_json:
        _print_json(report_values(report))
    else:
        for result in report.results:
            held = result.action.held
            serial = held.serial if held is not None else ""
            click.echo(printable(f"{result.action.address}, serial {serial}: {result.sentence}"))
            if result.sentence == Status.WITHDRAWN.value:
                click.echo(
                    "  The key is gone, but its authority takes no revocations from here: ask it to revoke."
                )
        for sentence in report.trouble:
            click.echo(printable(sentence), err=True)
        if done and settings.lifecycle.share_keys_with:
            click.echo(
                "The other mail servers drop the key with their next sync, or when keyd is reloaded there."
            )
    raise SystemExit(0 if len(done) == len(report.results) and not report.trouble else 1)


def _reason(word: str) -> Reason:
    return next(reason for reason in Reason if reason.value.lower() == word.lower())


def _found(overview: Overview, which: str) -> list[Known]:
    found = overview.found(which)
    if not found:
        raise Misuse(
            f"the database knows no certificate of {which}; `mailsigil keys list` shows those it knows"
        )
    return found


def _public(overview: Overview, addresses: list[str]) -> Iterator[tuple[Known, bytes]]:
    for address in addresses:
        for each in overview.certificates(address=address, statuses=[Status.ISSUED]):
            yield each, overview.public(each)


def _written(known: Known, der: bytes, path: Path | None) -> dict[str, str]:
    """A certificate as an entry; with ``path``, its file is there then."""
    pem = x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM).decode("ascii")
    held = known.held
    entry = {"address": held.address, "source": held.source, "serial": held.serial, "key_id": held.key_id}
    if path is None:
        return {**entry, "pem": pem}
    try:
        path.write_text(pem, encoding="ascii")
        path.chmod(0o644)
    except OSError as error:
        raise Misuse(f"{path} cannot be written: {error.strerror}") from error
    return {**entry, "file": str(path)}


def _file_of(known: Known, folder: Path, times: Mapping[str, int]) -> Path:
    """The file of an address; who has certificates of several sources gets one of each."""
    path = folder / address_file_name(known.held.address)
    return path if times[known.held.address] == 1 else path.with_name(f"{path.stem}.{known.held.source}.pem")


def _inside(der: bytes) -> dict[str, Any]:
    if not der:
        return {}
    certificate = x509.load_der_x509_certificate(der)
    return {
        "subject": certificate.subject.rfc4514_string(),
        "sha256": certificate.fingerprint(hashes.SHA256()).hex(),
    }


def _at_hand(settings: Settings, address: str) -> list[ListedKey]:
    try:
        keys = AdminClient(Path(settings.keyd.admin_path)).listed()
        return [key for key in keys if not address or fold(address) in key.addresses]
    except KeyServiceError as error:
        raise Misuse(str(error)) from error


def _is_meant(key: ListedKey, which: str) -> bool:
    word = fold(which)
    return word in key.addresses or word in (key.serial, key.key_id)


def _key_form(address: str) -> str:
    if not address:
        return ""
    try:
        return Address.parse(address).key
    except AddressError as error:
        raise Misuse(f"{address} is no mail address: {error}") from error


def _print_json(value: object) -> None:
    click.echo(json_text(value))
