"""Files with private content: written whole or not at all, readable by their owner only."""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path
from typing import Final
from urllib.parse import quote

from mailsigil.folding import fold

_LONGEST: Final = 200
"""Characters of a file name; file systems take 255 octets."""


def address_file_name(address: str) -> str:
    """Make a file name out of a mail address, the same for every spelling of it that ``fold`` makes one.

    Letters, digits and ``@ . _ - ~ + =`` stand for themselves, everything else is percent-encoded, also a
    dot in front. A name that would be too long is cut and told apart by a digest.
    """
    encoded = quote(fold(address), safe="@+=")
    if encoded.startswith("."):
        encoded = "%2E" + encoded[1:]
    if len(encoded) > _LONGEST:
        digest = hashlib.sha256(fold(address).encode("utf-8")).hexdigest()[:32]
        encoded = f"{encoded[: _LONGEST - 33]}~{digest}"
    return f"{encoded}.pem"


def write_private(path: Path, content: bytes, *, replace: bool = False) -> None:
    """Write a file of mode 0600 that appears complete under its name, or not at all.

    Without ``replace`` an existing file makes this fail with ``FileExistsError``. Root writes the file for
    the owner of the folder, so that a key agent with a user of its own can read what root put there.
    """
    temporary = path.with_name(f".{path.name[:80]}.{secrets.token_hex(8)}.part")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if os.geteuid() == 0:
                folder = path.parent.stat()
                os.fchown(file.fileno(), folder.st_uid, folder.st_gid)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            temporary.replace(path)
        else:
            path.hardlink_to(temporary)  # unlike a rename, this never overwrites
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """A new file is there after a crash once its folder says so on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
