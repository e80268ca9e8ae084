"""Keys from files that a person names, used in this process: for trying things out."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from mailsigil.keys.agent import KeyAgent
from mailsigil.keys.key_files import keys_from, read_key_file
from mailsigil.keys.protocol import Credential
from mailsigil.keys.soft_key import SoftKey


def _utc_now() -> datetime:
    return datetime.now(UTC)


class FixedKeys:
    """A source of keys that never changes."""

    def __init__(self, keys: Sequence[SoftKey]) -> None:
        self._keys = tuple(sorted(keys, key=lambda key: key.valid_from, reverse=True))

    def find(self, address: str) -> tuple[SoftKey, ...]:
        """Gives the keys for an address (key form)."""
        return tuple(key for key in self._keys if key.credential.schemes and address in key.addresses)

    def decrypting(self, address: str) -> tuple[SoftKey, ...]:
        """Gives the keys to decrypt an address's mail with."""
        return tuple(key for key in self._keys if key.decrypts and address in key.addresses)

    def get(self, key_id: str) -> SoftKey | None:
        """Gives the key of a name."""
        return next((key for key in self._keys if key.credential.key_id == key_id), None)

    def count(self) -> int:
        """Tells how many keys there are."""
        return len(self._keys)

    def refresh(self) -> None:
        """Does nothing: nothing changes."""

    def reload(self) -> None:
        """Does nothing: nothing changes."""


class LocalKeys:
    """The key agent's client without an agent: the same methods and the same checks."""

    def __init__(self, keys: Sequence[SoftKey], *, now: Callable[[], datetime] = _utc_now) -> None:
        self._agent = KeyAgent([FixedKeys(keys)], now=now)
        self.addresses = tuple(sorted({address for key in keys for address in key.addresses}))
        """The addresses (key form) that can be signed for."""

    @classmethod
    def load(
        cls,
        certificate: str | os.PathLike[str],
        key: str | os.PathLike[str] | None = None,
        *,
        passphrase: bytes | None = None,
        now: Callable[[], datetime] = _utc_now,
    ) -> LocalKeys:
        """Reads PEM, DER or PKCS#12; ``key`` may be left out where one file holds both.

        The files are the caller's own: who else may read them is not checked. Raises KeyFileError.
        """
        paths = dict.fromkeys(Path(path) for path in (certificate, key) if path is not None)
        keys, faults = keys_from([read_key_file(path) for path in paths], passphrase=passphrase)
        if not keys:
            raise faults[0]
        return cls(keys, now=now)

    def find(self, address: str, *, source: str = "", without: str = "") -> tuple[Credential, ...]:
        """Gives the credentials that are valid now for an address (key form), the newest first.

        There is no ``source`` to choose: the caller named the files of the one certificate that is to sign.
        """
        return self._agent.find(address)

    def sign(self, *, key_id: str, address: str, scheme: str, data: bytes) -> bytes:
        """Signs ``data``. Raises KeyAgentRefused."""
        return self._agent.sign(
            key_id=key_id, address=address, scheme=scheme, data=data, peer_uid=os.geteuid()
        )
