"""The Sieve scripts of contrib/dovecot/sieve in a private Dovecot, with the configuration beside them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conftest import ROOT
from mailsigil.demo.dovecot import Dovecot

SIEVE = ROOT / "contrib" / "dovecot" / "sieve"
SCRIPTS = ("mailsigil-decrypt.sieve", "mailsigil-tags.sieve")
FILTERS = "filters"
"""Folder of the filter's socket, below that of the Dovecot."""


def sieve_dovecot(folder: Path, users: dict[str, str], *, host: str, root: Path | None = None) -> Dovecot:
    """A Dovecot that runs the scripts; ``host`` is the milter's authserv_id."""
    scripts, filters = folder / "sieve", folder / FILTERS
    for each in (scripts, filters):
        each.mkdir(mode=0o755)
    for name in SCRIPTS:
        (scripts / name).write_text((SIEVE / name).read_text().replace("mx.bank.example", host))
    dovecot = Dovecot(folder, users, root=root)
    release = "2.4" if dovecot.version >= (2, 4, 0) else "2.3"
    text = (SIEVE / f"mailsigil-sieve-{release}.conf").read_text()
    text = text.replace("/etc/dovecot/sieve", str(scripts)).replace("../mailsigil-delivery", f"../{FILTERS}")
    dovecot.more += text
    return dovecot


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that Dovecot's users can reach: pytest's own is closed again by each run that starts."""
    with tempfile.TemporaryDirectory(prefix="mailsigil-sieve-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def compile_scripts(dovecot: Dovecot) -> None:
    """Compiles the scripts as an administrator does."""
    for name in SCRIPTS:
        dovecot.sievec(dovecot.folder / "sieve" / name)
