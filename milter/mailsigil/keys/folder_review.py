"""What is in a folder of keys, for ``mailsigil check``: what the key agent would log when it reads it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime
from pathlib import Path

from mailsigil.config.settings import Settings
from mailsigil.config.surroundings import Remark, Severity, uid_of
from mailsigil.keys.folder import KeyFolder
from mailsigil.keys.secret_files import SecretFile


def key_files(settings: Settings, *, told: Collection[str], now: datetime) -> Iterator[Remark]:
    """Open each key as the key agent would: the folder of ``[keyd]``, and each source of kind "folder".

    ``told`` are the files and folders that something was said about already. A file that cannot be used is a
    warning: the agent starts, and goes on without it.
    """
    keyd = settings.keyd
    found = [(Path(keyd.folder), "keyd", keyd.passphrase_file)]
    found += [
        (Path(source.folder.path), source.name, source.folder.passphrase_file)
        for source in settings.source
        if source.folder is not None
    ]
    count, readable = 0, True
    for path, name, place in found:
        if not _readable(path):
            readable = False
            continue
        folder = KeyFolder(
            path,
            agent_uid=uid_of(keyd.user) if keyd.user else None,
            passphrase=SecretFile(name, place) if place else None,
            tell=lambda _: None,
        )
        folder.reload()
        count += folder.count()
        for finding in folder.findings(now):
            if str(finding.path) not in told and finding.path != path:
                yield Remark(Severity.WARNING, str(finding.path), finding.sentence, finding.mend)
    if readable and not count and not _elsewhere(settings):
        yield Remark(
            Severity.WARNING,
            "keyd.folder",
            f"there is no key in {keyd.folder}, so nobody's mail can be signed",
            "put a key with its certificate there (mailsigil keys import, mailsigil ca issue), or add a"
            " [[source]]",
        )


def _readable(path: Path) -> bool:
    try:
        next(path.iterdir(), None)
    except OSError:
        return False  # a remark of its own
    return True


def _elsewhere(settings: Settings) -> bool:
    return any(source.folder is None for source in settings.source)
