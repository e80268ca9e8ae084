"""``mailsigil trust``: the authorities that are believed, listed, added and looked at."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from cryptography.hazmat.primitives.serialization import Encoding

from mailsigil.cli.misuse import Misuse
from mailsigil.cli.options import config_errors_shown, settings_option
from mailsigil.config.example import toml_value
from mailsigil.config.loading import load_settings
from mailsigil.config.settings import DEFAULT_PATH, Settings
from mailsigil.pki.anchor_review import (
    AnchorFacts,
    AnchorRemark,
    Weight,
    anchor_facts,
    review_anchors,
)
from mailsigil.pki.anchors import AnchorError, AnchorSet, TrustStore, load_anchor_file
from mailsigil.pki.list_review import review_lists
from mailsigil.service import trust_store

_json = click.option("--json", "as_json", is_flag=True, help="For programs: one JSON object.")


@click.group()
def command() -> None:
    """The authorities that are believed: [[trust]] in the configuration.

    `list` shows them, `check` says what is wrong with them, `add` prepares a new one.
    """


@command.command("list")
@_json
@settings_option
def list_(settings: Settings, as_json: bool) -> None:
    """List every authority with what it may assert."""
    now = datetime.now(UTC)
    rows = [
        (anchors, anchor_facts(anchors, certificate, now=now))
        for anchors in _store(settings).sets
        for certificate in anchors.certificates
    ]
    if as_json:
        click.echo(json.dumps({"anchors": [_fields(*row) for row in rows]}, indent=2, ensure_ascii=False))
    elif not rows:
        click.echo("No authority is trusted; add one with mailsigil trust add NAME FILE.")
    else:
        click.echo(_table(rows))


@command.command()
@_json
@settings_option
def check(settings: Settings, as_json: bool) -> None:
    """Look at every authority: validity, strength, purpose, duplicates, its revocation lists.

    Exit status 1 where there is a problem; notes alone are none.
    """
    now = datetime.now(UTC)
    store = _store(settings)
    found = [*review_anchors(store.sets, now=now), *_lists(settings, store, now)]
    if as_json:
        remarks = [asdict(remark) | {"weight": remark.weight.value} for remark in found]
        click.echo(json.dumps({"remarks": remarks}, indent=2, ensure_ascii=False))
    else:
        for remark in found:
            click.echo(f"{remark.weight.value}: [{remark.anchor_set}] {remark.subject} {remark.sentence}")
        count = sum(len(anchors.certificates) for anchors in store.sets)
        click.echo(f"{count} authorities, {len(found)} remarks")
    if any(remark.weight is Weight.PROBLEM for remark in found):
        raise click.exceptions.Exit(1)


@command.command()
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--asserts", type=click.Choice(["br", "mailsigil"]), multiple=True, help="Policies that count.")
@click.option("--level", type=click.Choice(["V1", "V2", "V3", "V4"]), help="One level for all.")
@click.option("--domain", "domains", multiple=True, help="Mail domain it may vouch for; repeat for more.")
@click.option("--revocation", type=click.Choice(["off", "prefer", "require"]), help="[default: prefer]")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    default=DEFAULT_PATH,
    show_default=True,
    envvar="MAILSIGIL_CONFIG",
    show_envvar=True,
    help="The configuration file; the copy goes into the folder trust beside it.",
)
def add(
    name: str,
    file: Path,
    asserts: tuple[str, ...],
    level: str | None,
    domains: tuple[str, ...],
    revocation: str | None,
    config: Path,
) -> None:
    """Prepare an authority: check FILE, copy it, and print the [[trust]] section to add.

    The configuration itself is not touched. Compare the fingerprints with what the authority publishes
    before you add the section.
    """
    try:
        certificates = load_anchor_file(file)
    except AnchorError as error:
        raise Misuse(str(error)) from error
    _require_new(config, name)
    anchors = AnchorSet(name=name, certificates=tuple(certificates))
    for certificate in certificates:
        facts = anchor_facts(anchors, certificate, now=datetime.now(UTC))
        click.echo(f"# {facts.subject}: {facts.key}, until {facts.not_after:%Y-%m-%d}", err=True)
        click.echo(f"#   SHA-256 {facts.sha256}", err=True)
    for remark in review_anchors([anchors], now=datetime.now(UTC)):
        click.echo(f"{remark.weight.value}: {remark.subject} {remark.sentence}", err=True)
    target = _copy(config, name, b"".join(one.public_bytes(Encoding.PEM) for one in certificates))
    given: dict[str, object] = {
        "name": name,
        "files": (str(target),),
        "asserts": asserts,
        "level": level,
        "domains": domains,
        "revocation": revocation,
    }
    lines = [f"{key} = {toml_value(value)}" for key, value in given.items() if value]
    click.echo("\n".join(["[[trust]]", *lines]))


def _store(settings: Settings) -> TrustStore:
    try:
        return trust_store(settings)
    except AnchorError as error:
        raise Misuse(str(error)) from error


def _fields(anchors: AnchorSet, facts: AnchorFacts) -> dict[str, Any]:
    return asdict(facts) | {
        "not_before": facts.not_before.isoformat(),
        "not_after": facts.not_after.isoformat(),
        "asserts": sorted(anchors.asserts),
        "level": anchors.level.value if anchors.level else None,
        "oids": {oid: level.value for oid, level in anchors.oids.items()},
        "domains": sorted(anchors.domains),
        "revocation": anchors.revocation.value,
    }


def _table(rows: list[tuple[AnchorSet, AnchorFacts]]) -> str:
    cells = [("SET", "ASSERTS", "DOMAINS", "REVOCATION", "KEY", "UNTIL", "AUTHORITY")]
    for anchors, facts in rows:
        asserts = [*sorted(anchors.asserts), *sorted(anchors.oids)]
        cells.append(
            (
                anchors.name,
                anchors.level.value if anchors.level else ", ".join(asserts) or "-",
                ", ".join(sorted(anchors.domains)) or "all",
                anchors.revocation.value,
                facts.key,
                f"{facts.not_after:%Y-%m-%d}",
                facts.subject,
            )
        )
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )


def _lists(settings: Settings, store: TrustStore, now: datetime) -> Iterator[AnchorRemark]:
    """What is to be said about revocation lists in files, and where nothing can be found out at all."""
    for entry, anchors in zip(settings.trust, store.sets, strict=True):
        yield from review_lists(anchors, [Path(file) for file in entry.crls], now=now)
        if entry.revocation == "require" and not entry.crls and not settings.revocation.fetch:
            sentence = (
                'has revocation = "require", no crls, and nothing is fetched: only mail that carries its'
                " revocation gets an identity"
            )
            yield AnchorRemark(Weight.PROBLEM, entry.name, "this entry", sentence)


def _require_new(config: Path, name: str) -> None:
    if not config.exists():
        return
    with config_errors_shown():
        settings = load_settings(config)
    if any(entry.name == name for entry in settings.trust):
        raise Misuse(f'{config} has a [[trust]] of the name "{name}" already; choose another name')


def _copy(config: Path, name: str, pem: bytes) -> Path:
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "authority"
    folder = config.absolute().parent / "trust"
    target = folder / f"{slug}.pem"
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        with os.fdopen(descriptor, "wb") as copy:
            copy.write(pem)
    except FileExistsError as error:
        raise Misuse(f"{target} is there already; remove it, or choose another name") from error
    except OSError as error:
        raise Misuse(f"{target} cannot be written: {error.strerror}") from error
    return target
