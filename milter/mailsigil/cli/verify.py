"""``mailsigil verify``: who signed a message?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

import click

from mailsigil.cli.messages import message_argument, read, settings_and_trust, verification_options
from mailsigil.dkim.resolver import make_txt_lookup
from mailsigil.dkim.verdict import DkimResult, verify_dkim
from mailsigil.pki.level import identity_text
from mailsigil.pki.names import CertificateNames
from mailsigil.service import utc_now, verification_parts
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
    verdict = verify(
        message.fields,
        message.body,
        verification_parts(settings, store),
        at=time,
        with_identity=not no_identity,
        damage=message.damage,
    )
    dkim = verify_dkim(
        message.fields,
        message.body,
        txt=make_txt_lookup(settings.dns.servers, settings.dns.port, settings.dns.timeout),
        max_bytes=settings.dkim.max_bytes,
        max_signatures=settings.dkim.max_signatures,
        at=time,
    )
    click.echo(_as_json(verdict, dkim) if as_json else _as_text(verdict, dkim))
    raise SystemExit(0 if verdict.word is SmimeWord.PASS else 1)


def _as_json(verdict: Verdict, dkim: Sequence[DkimResult]) -> str:
    identity = verdict.identity
    found = {
        "result": verdict.word.value,
        "status": verdict.status.value,
        "reason": verdict.reason.token,
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
        "signed": verdict.signed and verdict.signed.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "serial": verdict.serial,
        "dkim": [
            {
                "result": result.word.value,
                "domain": result.domain,
                "selector": result.selector,
                "reason": result.reason,
            }
            for result in dkim
        ],
    }
    return json.dumps(found, indent=2, ensure_ascii=False)


def _as_text(verdict: Verdict, dkim: Sequence[DkimResult]) -> str:
    lines = [f"{verdict.word.value}: {_sentence(verdict)}"]
    if verdict.detail:
        lines.append(f"  {verdict.detail}")
    if verdict.signers:
        lines.append(f"signed by: {', '.join(verdict.signers)}")
    if verdict.signed:
        lines.append(f"signed at: {verdict.signed:%Y-%m-%d %H:%M:%S} UTC, as the signer says")
    lines += [f"dkim: {result.word.value} {result.domain} {result.reason}".rstrip() for result in dkim]
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
