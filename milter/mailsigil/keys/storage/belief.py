"""Whose keys did a store give? An entry that fits what was pinned is believed, any other not at all."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from mailsigil.keys.errors import SourceAnswer
from mailsigil.keys.storage.key import Entry, StorageKey

log = logging.getLogger("mailsigil.keyd")

_LOOK: Final = "See whose keys lie there; where they are right: mailsigil storage pin"


def believed(
    source: str, address: str, entry: Entry, *, pinned: Sequence[bytes], adopt: bool
) -> tuple[StorageKey, ...]:
    """Gives the keys of an address, the newest first; pinned ones stand in the order of the pins.

    Raises SourceAnswer when the entry is another user's, lacks the key that mail is encrypted to now, or
    holds one that nobody pinned. With ``adopt`` such keys are taken when the entry records the address.
    """
    # 1. What the entry itself says.
    if entry.owners and address not in entry.owners:
        raise SourceAnswer(
            source,
            f"the keys that it gives for {address} are those of {', '.join(sorted(entry.owners)[:3])}",
            "Correct key_path, or the entry",
        )
    if not entry.keys:
        if pinned:
            raise SourceAnswer(
                source,
                f"it has no keys for {address}, whose mail is encrypted",
                "Restore the entry from its older versions or from the backup",
            )
        return ()
    # 2. What was pinned.
    by_public = {key.public: key for key in entry.keys}
    unknown = [key for key in by_public.values() if key.public not in set(pinned)]
    if unknown and not (adopt and address in entry.owners):
        raise SourceAnswer(
            source,
            f"a private key that it gives for {address} fits none of the public keys pinned here"
            f" (fingerprint {unknown[0].fingerprint[:16]})",
            f"{_LOOK} {address}",
        )
    # 3. The key that mail is encrypted to now.
    if pinned and pinned[0] not in by_public:
        raise SourceAnswer(
            source,
            f"the newest key of {address}, which mail is encrypted to, is not among those that it gives",
            "Restore the entry from its older versions or from the backup",
        )
    missing = sum(public not in by_public for public in pinned)
    if missing:
        log.warning('source "%s": %d older storage keys of %s are missing', source, missing, address)
    return (*unknown, *(by_public[public] for public in pinned if public in by_public))
