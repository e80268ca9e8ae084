"""A look at an embedded authority's folder: may the key agent use it, and is its register whole?"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mailsigil.config.authority import SETTINGS_FILE
from mailsigil.config.surroundings import Remark, Severity, may, uid_of
from mailsigil.keys.authority import Authority, AuthorityError
from mailsigil.keys.os_errors import own_name

_READ, _WRITE, _SEARCH = 4, 2, 1
_FILES: Final = {
    "root.pem": _READ,
    "root.key": _READ,
    "issuing.pem": _READ,
    "issuing.key": _READ,
    SETTINGS_FILE: _READ,
    "index.jsonl": _READ | _WRITE,
}


def review_authority(subject: str, folder: Path, user: str) -> Iterator[Remark]:
    """Give all findings. ``user`` is the key agent's, empty for the present one."""
    try:
        denied = list(_denied(subject, folder.resolve(), user))
    except OSError:
        denied = []
        is_seen = False
    else:
        is_seen = os.geteuid() in (0, uid_of(user) if user else os.geteuid())
    if denied:
        yield from denied
    elif is_seen:
        yield from _content(subject, folder)
    else:
        yield Remark(
            Severity.WARNING,
            subject,
            f"{folder} cannot be looked into as this user, so the authority is not checked",
            "run mailsigil check as root or as the key agent's user",
        )


def _denied(subject: str, folder: Path, user: str) -> Iterator[Remark]:
    """What the user may not do. Raises OSError where the present one may not look."""
    who = user or own_name()
    for parent in reversed(folder.parents):
        if parent.exists() and not may(parent.stat(), user, _SEARCH):
            sentence = f'the user "{who}" may not pass {parent}, so the authority in {folder} is out of reach'
            yield Remark(Severity.ERROR, subject, sentence, f"let {who} pass there: chmod o+x {parent}")
            return
    wanted = {folder: _READ | _WRITE | _SEARCH, **{folder / name: right for name, right in _FILES.items()}}
    for path, right in wanted.items():
        if path.exists() and not may(path.stat(), user, right):
            what = "read and write" if right & _WRITE else "read"
            sentence = f'the user "{who}" may not {what} {path}, so it certifies nothing'
            yield Remark(Severity.ERROR, subject, sentence, f"chown -R {who} {folder}")
            return


def _content(subject: str, folder: Path) -> Iterator[Remark]:
    try:
        register = Authority.load(folder).register
        for cut in reversed(register.cut_lines()):  # So the numbers stay true for who mends one by one.
            where = f"{subject}: {register.path}"
            yield Remark(Severity.WARNING, where, f"{cut} and is skipped", cut.mend(register.path))
    except AuthorityError as error:
        mend = error.mend or "see to the authority's folder, as the key agent's user"
        yield Remark(Severity.ERROR, subject, error.sentence, mend)
