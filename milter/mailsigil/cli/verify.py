"""``mailsigil verify``: who signed a message?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

import click

from mailsigil.cli.messages import message_argument, read, settings_and_trust, verification_options
from mailsigil.dkim.arc import ArcResult
from mailsigil.dkim.verdict import DkimResult, DkimWord
from mailsigil.inbound import alignment, domain_results
from mailsigil.message.author import Author, parse_author
from mailsigil.pki.level import identity_text
from mailsigil.pki.names import CertificateNames
from mailsigil.service import inbound_parts, utc_now
from mailsigil.verdict import Identity, SmimeWord, Verdict
from mailsigil.verification import verify


@click.command()
@message_argument
@click.option("--json", "as_json", is_flag=True, help="For programs: one JSON object.")
@click.option(
    "--no-identity",
    is_flag=True,
    help="Judge signature and certificate path alone; compare no author and give no identity.",
)
@verification_options
def command(
    file: BinaryIO,
    as_json: bool,
    no_identity: bool,
    config: Path | None,
    at: datetime | None,
    trust: tuple[Path, ...],
) -> None:
    """Tell who signed the message in FILE (standard input without one).

    Exit status 0 when the result is "pass", 1 with any other result.
    """
    settings, store = settings_and_trust(config, trust)
    message = read(file, settings)
    time = at or utc_now()
    parts = inbound_parts(settings, store)
    verdict = verify(
        message.fields,
        message.body,
        parts.verification,
        at=time,
        with_identity=not no_identity,
        damage=message.damage,
    )
    dkim, arc = domain_results(message.fields, message.body, parts, at=time)
    author = parse_author(message.fields)
    domain = author.address.domain if isinstance(author, Author) else ""
    domains = Domains(dkim, arc, alignment(verdict, dkim, domain))
    click.echo(_as_json(verdict, domains) if as_json else _as_text(verdict, domains))
    raise SystemExit(0 if verdict.word is SmimeWord.PASS else 1)


@dataclass(frozen=True, slots=True)
class Domains:
    """Which domains vouch for the message, and what agrees with the author's own domain."""

    dkim: Sequence[DkimResult]
    arc: ArcResult
    aligned: Sequence[str]


def _as_json(verdict: Verdict, domains: Domains) -> str:
    identity = verdict.identity
    found = {
        "result": verdict.word.value,
        "status": verdict.status.value,
        "reason": verdict.reason.token,
        "explanation": verdict.reason.sentence,
        "detail": verdict.detail or verdict.reason.sentence,
        "identity": identity
        and {
            "level": identity.level.value,
            "name": identity.name,
            "org": identity.org,
            "title": identity.title,
            "address": identity.address,
            "issuer": identity.issuer,
        },
        "signers": list(verdict.signers),
        "notes": [{"note": note.token, "detail": note.sentence} for note in verdict.notes],
        "signed": verdict.signed and verdict.signed.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "serial": verdict.serial,
        "dkim": [
            {
                "result": result.word.value,
                "domain": result.domain,
                "selector": result.selector,
                "reason": result.reason,
            }
            for result in domains.dkim
        ],
        "arc": {
            "result": domains.arc.word.value,
            "domain": domains.arc.domain,
            "sets": domains.arc.sets,
            "reason": domains.arc.reason,
        },
        "aligned": list(domains.aligned),
    }
    return json.dumps(found, indent=2, ensure_ascii=False)


def _as_text(verdict: Verdict, domains: Domains) -> str:
    lines = [f"{verdict.word.value}: {_sentence(verdict)}"]
    if verdict.detail:
        lines.append(f"  {verdict.detail}")
    if verdict.signers:
        lines.append(f"signed by: {', '.join(verdict.signers)}")
    if verdict.signed:
        lines.append(f"signed at: {verdict.signed:%Y-%m-%d %H:%M:%S} UTC, as the signer says")
    lines += [f"note: {note.sentence}" for note in verdict.notes]
    lines += [
        f"dkim: {result.word.value} {result.domain} {result.reason}".rstrip() for result in domains.dkim
    ]
    if domains.arc.word is not DkimWord.NONE:
        lines.append(f"arc: {domains.arc.word.value} {domains.arc.domain} {domains.arc.reason}".rstrip())
    return "\n".join(lines)


def _sentence(verdict: Verdict) -> str:
    if verdict.identity is not None:
        return _identity_sentence(verdict.identity)
    return verdict.reason.sentence or "The signature holds and its certificate is trusted."


def _identity_sentence(identity: Identity) -> str:
    names = CertificateNames(
        full_name=identity.name,
        organisation=identity.org,
        title=identity.title,
        common_name="",
        issuer=identity.issuer,
        addresses=(identity.address,),
    )
    return identity_text(identity.level, names)
