"""What an admin should mend in a key folder, as values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mailsigil.keys.errors import KeyFileError
from mailsigil.keys.soft_key import SoftKey


@dataclass(frozen=True, slots=True, order=True)
class FolderFinding:
    """Something in the folder that an admin should mend."""

    path: Path
    sentence: str
    mend: str

    def __str__(self) -> str:
        return f"{self.path}: {self.sentence}. {self.mend}."


def validity_findings(key: SoftKey, now: datetime) -> Iterable[FolderFinding]:
    """Give what the time makes of a key: its certificate ran out, or is not good yet."""
    if now > key.valid_until:
        yield FolderFinding(
            key.origin,
            f"the certificate expired on {key.valid_until:%Y-%m-%d}, so it signs no more",
            "Replace it with a renewed one, or remove it",
        )
    elif now < key.valid_from:
        yield FolderFinding(
            key.origin,
            f"the certificate is not valid before {key.valid_from:%Y-%m-%d %H:%M} UTC",
            "Leave it if that is meant: it signs from then on",
        )


def finding_of(fault: KeyFileError) -> FolderFinding:
    """Give a fault of a file as a finding."""
    return FolderFinding(fault.path, fault.sentence, fault.mend)
