"""Secrets that systemd hands to a service (systemd.exec(5), LoadCredential=); a shell has them as well."""

from __future__ import annotations

import os
import stat
from pathlib import Path

UNIT_FOLDER = Path("/run/credentials/mailsigil-keyd.service")
"""Where systemd keeps those of the running key agent. Its user and root may read them."""


class CredentialError(Exception):
    """There is no such credential for this process. Texts end without a full stop."""

    def __init__(self, sentence: str, mend: str) -> None:
        super().__init__(f"{sentence}. {mend}")
        self.sentence = sentence
        self.mend = mend


def credential_path(name: str, *, folder: Path | None = None) -> Path:
    """Give the file of a credential: this service's own, else that of the key agent's unit (``folder``).

    Raises CredentialError.
    """
    own = os.environ.get("CREDENTIALS_DIRECTORY")
    if own:
        return Path(own) / name
    place = folder or UNIT_FOLDER
    path = place / name
    try:
        _require_private(place)
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CredentialError(
            f'there is no systemd credential "{name}"',
            f"Start mailsigil-keyd, whose unit has LoadCredential={name}:PATH, and run this as root; another"
            " service needs the line in its own unit",
        ) from error
    except OSError as error:
        raise CredentialError(
            f'the systemd credential "{name}" may not be read by this user: {path}: {error.strerror}',
            "Run this as root or as the key agent's user; a service needs"
            f" LoadCredential={name}:PATH in its own unit",
        ) from error
    if not stat.S_ISREG(status.st_mode):
        raise CredentialError(f"{path} is no file of systemd", f"Remove {place}, and restart mailsigil-keyd")
    return path


def _require_private(folder: Path) -> None:
    """Nobody but root puts a folder there, and it is open to root and the unit's user alone.

    It belongs to root, with an access list whose mask shows as the group's rights; or, where the file system
    has no access lists (ramfs), to the unit's user.
    """
    above, own = folder.parent.stat(), folder.stat()
    if above.st_uid not in (0, os.geteuid()) or above.st_mode & 0o022:
        raise CredentialError(
            f"others than root may exchange {folder}",
            f"Run: chown root {folder.parent}; chmod 755 {folder.parent}",
        )
    if own.st_mode & 0o027:
        raise CredentialError(
            f"{folder} is open to others (mode {stat.S_IMODE(own.st_mode):04o})",
            "Restart mailsigil-keyd, and replace the secrets in it",
        )
