"""Who makes storage keys: this machine, or an EST server, which may keep a copy in its own escrow."""

from __future__ import annotations

from mailsigil.keys.errors import SourceAnswer
from mailsigil.keys.sources.est import EstAuthority
from mailsigil.keys.storage.key import StorageKey, StorageKeyKind, generate, read_pem_keys
from mailsigil.keys.subject import SubjectRequest


class OwnMaker:
    """Makes keys here, from the system's randomness."""

    def __init__(self, kind: StorageKeyKind) -> None:
        self._kind = kind

    def make(self, address: str) -> StorageKey:
        """Makes a key; the address does not matter."""
        return generate(self._kind)


class EstMaker:
    """Has keys made by an EST server (RFC 7030 4.4), which certifies them for the address, too."""

    def __init__(self, authority: EstAuthority) -> None:
        self._authority = authority

    def make(self, address: str) -> StorageKey:
        """Has a key made. Its certificate was checked: it names the address. Raises SourceError."""
        new, _ = self._authority.make(SubjectRequest(address=address))
        (key, *others) = read_pem_keys(self._authority.name, new.private_pem())
        if others:
            raise SourceAnswer(
                self._authority.name, "it gave more than one key", "Ask the administrator of that service"
            )
        return key
