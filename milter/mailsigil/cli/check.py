"""``mailsigil check``: configuration and surroundings, with a mend for every finding."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from mailsigil.cli.database import acting_as
from mailsigil.cli.misuse import Misuse
from mailsigil.cli.options import WRONG_USE, config_option
from mailsigil.cli.printable import printable
from mailsigil.config.errors import ConfigError
from mailsigil.config.loading import load_settings
from mailsigil.config.settings import Settings
from mailsigil.config.surroundings import Remark, Severity, remarks
from mailsigil.config.trust import TrustSettings
from mailsigil.directory.file import FileDirectory
from mailsigil.directory.opening import ldap_directory, open_directory, servers_of, source_names
from mailsigil.directory.review import has_place_for, review
from mailsigil.dovecot.ask_doveconf import dovecot_remarks
from mailsigil.keys.folder_review import key_files
from mailsigil.keys.sources.review import review as review_sources
from mailsigil.lifecycle.review import review as review_lifecycle
from mailsigil.lifecycle.review import review_secret
from mailsigil.pki.anchors import AnchorError, load_anchor_file
from mailsigil.policy.model import SigningMode


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs: one JSON object.")
@click.option(
    "--doveconf",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="What `doveconf -n` printed, where Dovecot runs elsewhere.",
)
@config_option
def command(config: Path, as_json: bool, doveconf: Path | None) -> None:
    """Check the configuration and what it names: files, folders, users, certificates, services.

    Changes nothing, and tries no PIN. Each finding comes with its mend. Exit status 0 where there is no
    error (warnings may remain), 2 where there is one.
    """
    found = list(everything(config, now=datetime.now(UTC), doveconf=doveconf))
    if as_json:
        click.echo(json.dumps({"findings": [asdict(remark) for remark in found]}, indent=2))
    else:
        click.echo(_as_text(config, found))
    if any(remark.severity is Severity.ERROR for remark in found):
        raise click.exceptions.Exit(WRONG_USE)


def everything(config: Path, *, now: datetime, doveconf: Path | None = None) -> Iterator[Remark]:
    """Give all findings. Where the configuration file itself cannot be used, there are no others."""
    try:
        settings = load_settings(config)
    except ConfigError as error:
        yield from _mistakes(error)
        return
    yield from _policy(settings)
    directories = list(_directories(settings, now))
    yield from directories
    yield from _trust(settings, now)
    around = list(remarks(settings))
    yield from around
    yield from key_files(settings, told={remark.subject for remark in around}, now=now)
    yield from review_sources(settings.source, user=settings.keyd.user, now=now)
    is_told = any(remark.severity is Severity.ERROR for remark in directories)
    yield from _lifecycle(settings, now, is_told=is_told)
    yield from dovecot_remarks(settings, doveconf)


def _mistakes(error: ConfigError) -> Iterator[Remark]:
    for finding in error.findings:
        place = f"{finding.path}:{finding.line}" if finding.line else finding.path
        mend = f"edit {finding.path}" + (f", line {finding.line}" if finding.line else "")
        yield Remark(Severity.ERROR, place, finding.sentence, mend)


def _policy(settings: Settings) -> Iterator[Remark]:
    try:
        directory = FileDirectory.load(settings.policy.file, sources=source_names(settings))
    except ConfigError as error:
        yield from _mistakes(error)
        return
    entries = [
        directory.default_entry,
        *directory.domain_entries.values(),
        *directory.person_entries.values(),
        *(rule.entry for rule in directory.group_rules),
    ]
    elsewhere = any(one.policy_base for one in settings.directory)
    if not elsewhere and all(entry.signing in {None, SigningMode.NEVER} for entry in entries):
        yield Remark(
            Severity.WARNING,
            settings.policy.file,
            "nobody's mail is signed, as no entry says so",
            'write signing = "required" or "preferred" under [default], a [[domain]] or a [[person]]',
        )


def _directories(settings: Settings, now: datetime) -> Iterator[Remark]:
    named = _named_groups(settings)
    elsewhere = dict(named)
    for one in settings.directory:
        servers = servers_of(one)
        directory = ldap_directory(one, servers, sources=source_names(settings))
        yield from review(directory, servers, at=now, named=named)
        servers.close()
        elsewhere = {
            group: place for group, place in elsewhere.items() if not has_place_for(directory, group)
        }
    for group, place in elsewhere.items():
        yield Remark(
            Severity.WARNING,
            place,
            f'applies to the group "{group}", which stands below the group_base of no [[directory]]',
            "correct the name of the group, or add its [[directory]]",
        )


def _named_groups(settings: Settings) -> dict[str, str]:
    try:
        return FileDirectory.load(settings.policy.file).named_groups()
    except ConfigError:
        return {}  # That finding was told already.


def _lifecycle(settings: Settings, now: datetime, *, is_told: bool) -> Iterator[Remark]:
    try:
        directory = open_directory(settings) if settings.lifecycle.enabled else None
    except ConfigError:
        directory = None
    yield from review_lifecycle(settings, directory, now=now, is_told=is_told)
    yield from _shared_secret(settings)


def _shared_secret(settings: Settings) -> list[Remark]:
    """The secret for shared keys, as the user sees it that runs read it as."""
    if not settings.lifecycle.enabled or not settings.lifecycle.share_keys_with:
        return []
    try:
        with acting_as(settings):
            return list(review_secret(settings.lifecycle))
    except Misuse:
        # There is no such user, which is told where users are looked at.
        return list(review_secret(settings.lifecycle))


def _trust(settings: Settings, now: datetime) -> Iterator[Remark]:
    if not settings.trust:
        yield Remark(
            Severity.WARNING,
            "trust",
            "no authority is trusted, so no sender is shown as identified",
            "add a [[trust]] section with the authorities' certificates",
        )
    for trust in settings.trust:
        for file in trust.files:
            yield from _anchors(trust, file, now)


def _anchors(trust: TrustSettings, file: str, now: datetime) -> Iterator[Remark]:
    try:
        certificates = load_anchor_file(file)
    except AnchorError as error:
        mend = f'correct the file, or "files" of [[trust]] "{trust.name}"'
        yield Remark(Severity.ERROR, file, error.sentence, mend)
        return
    for certificate in certificates:
        if certificate.not_valid_after_utc < now:
            yield Remark(
                Severity.WARNING,
                file,
                f"{certificate.subject.rfc4514_string()} expired on"
                f" {certificate.not_valid_after_utc:%Y-%m-%d}",
                "ask the authority for its present certificate",
            )


def _as_text(config: Path, found: list[Remark]) -> str:
    lines = []
    for remark in found:
        lines.append(printable(f"{remark.severity}: {remark.subject}: {remark.sentence}"))
        if remark.mend:
            lines.append(f"  mend: {printable(remark.mend)}")
    severities = [remark.severity for remark in found]
    errors, warnings = severities.count(Severity.ERROR), severities.count(Severity.WARNING)
    if errors or warnings:
        lines.append(f"{_count(errors, 'error')}, {_count(warnings, 'warning')}")
    else:
        lines.append(f"{config}: everything is in order")
    return "\n".join(lines)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
