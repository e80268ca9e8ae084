"""Where Dovecot's configuration comes from: a file that was handed in, or ``doveconf -n`` of this machine."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mailsigil.config.settings import Settings
from mailsigil.config.surroundings import Remark, Severity
from mailsigil.dovecot.delivery_review import review_delivery
from mailsigil.dovecot.doveconf import DoveconfError, parse
from mailsigil.dovecot.review import review_dovecot

_SECONDS: Final = 20


def dovecot_remarks(settings: Settings, handed: Path | None) -> Iterator[Remark]:
    """Looks at Dovecot's configuration where it is used: for storage keys, for decryption; or handed in."""
    if handed is None and not settings.storage and not settings.delivery.enabled:
        return
    if settings.storage:
        yield from _public_keys(settings)
    try:
        text = _printed() if handed is None else handed.read_text(encoding="utf-8", errors="replace")
    except (OSError, subprocess.SubprocessError) as error:
        yield Remark(
            Severity.WARNING,
            "dovecot",
            f"its configuration cannot be looked at: {error}",
            "run doveconf -n where Dovecot runs, and hand its output in: mailsigil check --doveconf FILE",
        )
        return
    try:
        conf = parse(text)
    except DoveconfError as error:
        yield Remark(
            Severity.ERROR, str(handed or "doveconf -n"), str(error), "hand in what doveconf -n prints"
        )
        return
    if settings.storage or not settings.delivery.enabled:
        yield from review_dovecot(conf, settings.dovecot)
    if settings.delivery.enabled:
        yield from review_delivery(conf, settings.delivery)


def _public_keys(settings: Settings) -> Iterator[Remark]:
    folder = Path(settings.dovecot.public_keys)
    owner = f"-o {settings.keyd.user} " if settings.keyd.user else ""
    try:
        open_to_others = folder.stat().st_mode & 0o022
    except OSError as error:
        yield Remark(
            Severity.ERROR,
            "dovecot.public_keys",
            f"the folder {folder} cannot be used: {error.strerror}; logins are refused, mail is deferred",
            f"install -d -m 0700 {owner}{folder}",
        )
        return
    if open_to_others:
        yield Remark(
            Severity.ERROR,
            "dovecot.public_keys",
            f"others than its owner may put public keys into {folder}, and so read new mail",
            f"chmod go-w {folder}",
        )


def _printed() -> str:
    program = shutil.which("doveconf") or "/usr/bin/doveconf"
    done = subprocess.run(
        [program, "-n"], capture_output=True, stdin=subprocess.DEVNULL, timeout=_SECONDS, check=True
    )
    return done.stdout.decode("utf-8", "replace")
