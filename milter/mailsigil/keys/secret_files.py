"""Secrets of the configuration: files of their own, or systemd credentials; read when they are needed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from mailsigil.config.credentials import CredentialError, credential_path
from mailsigil.config.source_fields import CREDENTIAL
from mailsigil.keys.errors import KeyFileError, SourceRefused
from mailsigil.keys.key_files import MAX_PASSPHRASE, Custody, read_key_file, read_passphrase


@dataclass(frozen=True, slots=True)
class SecretFile:
    """Where a secret stands: a path, or ``credential:NAME`` (systemd.exec(5), LoadCredential=)."""

    source: str
    """Name of the source, for errors."""
    place: str

    @property
    def path(self) -> Path:
        """The file. Raises SourceRefused for a credential that systemd did not pass to the key agent."""
        if not self.place.startswith(CREDENTIAL):
            return Path(self.place)
        try:
            return credential_path(self.place.removeprefix(CREDENTIAL))
        except CredentialError as error:
            raise SourceRefused(self.source, error.sentence, error.mend) from error

    def read(self) -> bytes:
        """Gives the first line. Raises SourceRefused with what is wrong with the file."""
        path = self.path
        try:
            file = read_key_file(path, limit=MAX_PASSPHRASE)
            if not self.place.startswith(CREDENTIAL):  # systemd keeps its own from others.
                Custody(os.geteuid()).check(path, file.status, secret=True)
            return read_passphrase(file)
        except KeyFileError as fault:
            raise SourceRefused(self.source, f"{path}: {fault.sentence}", fault.mend) from fault

    def mark(self) -> bytes:
        """Gives something that differs when the file was changed; the content shows nowhere."""
        try:
            status = self.path.stat()
        except (OSError, SourceRefused):
            return b""
        return f"{status.st_ino}:{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}".encode()
