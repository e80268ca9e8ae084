"""What to mend where the operating system refuses a file: a full disk needs something else than a mode."""

from __future__ import annotations

import errno
import os
import pwd
from pathlib import Path
from typing import Final

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_DENIED: Final = frozenset({errno.EACCES, errno.EPERM})


def mend_of(error: OSError, path: Path, *, otherwise: str) -> str:
    """Say what to do about an error with a file or folder, without a full stop."""
    if error.errno in _FULL:
        return f"Make room on the disk of {path}"
    if error.errno == errno.EFBIG:
        return "Lift the limit on the size of files: ulimit -f, or LimitFSIZE= of the unit"
    if error.errno == errno.EROFS:
        return f"Let its disk be written to, and the service by ReadWritePaths={path} in its unit"
    if error.errno in _DENIED:
        return f"Run it as root or as the owner; where it is {own_name()}'s: chown -R {own_name()} '{path}'"
    return otherwise


def own_name() -> str:
    """The user that this process is."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
