"""What is decrypted of somebody's mail: as the settings say, and before them the recipient's policy."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from mailsigil.delivery import Unauthenticated
from mailsigil.directory.api import Directory
from mailsigil.message.address import Address, AddressError
from mailsigil.policy.model import Decryption
from mailsigil.policy.resolve import resolve

_SAID: Final = {
    Decryption.NEVER: None,
    Decryption.SIGNED: Unauthenticated.SIGNED,
    Decryption.INERT: Unauthenticated.INERT,
    Decryption.ANY: Unauthenticated.ANY,
}

Choice = Callable[[str], Unauthenticated | None]
"""From an address (folded) to what is decrypted of its mail; None: nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyChoice:
    """Asks the directory. Safe to share between threads, as directories are."""

    directory: Directory
    base: Choice
    """What holds where no policy speaks."""
    excepted: Collection[str]
    """Addresses whose mail nobody decrypts, whatever a policy says."""
    now: Callable[[], datetime]

    def __call__(self, address: str) -> Unauthenticated | None:
        """Tells what is decrypted of the mail of an address. Raises DirectoryUnavailable."""
        if address in self.excepted:
            return None
        try:
            parsed = Address.parse(address)
        except AddressError:
            return self.base(address)
        # The policy for everyone is for the own people, and not for whatever an alias leads to.
        if parsed.domain not in self.directory.own_domains():
            return self.base(address)
        said = resolve(self.directory.policies(parsed.key), at=self.now()).decryption.value
        return self.base(address) if said is Decryption.DEFAULT else _SAID[said]
