"""When two spellings name one mailbox: the one folding of addresses, for all rooms.

Who signs, whose key it is and whose policy holds is decided by comparing addresses in several processes. If
two of them compared in two ways, somebody could be one person here and another one there.
"""

from __future__ import annotations


def fold(address: str) -> str:
    """Give an address, or a part of one, in the form that is compared: in lower case.

    A character outside ASCII never becomes one inside: the Kelvin sign is no k here, because otherwise a
    mailbox with it would be somebody else's. Domains have to be A-labels before.
    """
    if address.isascii():
        return address.lower()
    return "".join(map(_lower, address))


def is_key(address: str) -> bool:
    """Tell whether an address is in the form that is compared (``Address.key``)."""
    local, _, domain = address.rpartition("@")
    return bool(local and domain) and domain.isascii() and address == fold(address)


def _lower(sign: str) -> str:
    low = sign.lower()
    return low if low.isascii() == sign.isascii() else sign
