"""When two spellings name one mailbox: the one folding of addresses, for all rooms.

Who signs, whose key it is and whose policy holds is decided by comparing addresses in several processes. If
two of them compared in two ways, somebody could be one person here and another one there.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_ASCII_LOOK: Final = re.compile("([\u037e\u1fef\u212a])")
"""What Unicode makes an ASCII character of: Greek question mark and varia, and the Kelvin sign (a K)."""


def fold(address: str) -> str:
    """Give an address, or a part of one, in the form that is compared: lower case and NFC.

    A character outside ASCII never becomes one inside: the Kelvin sign is no k here, because otherwise a
    mailbox with it would be somebody else's. Domains have to be A-labels before.
    """
    if address.isascii():
        return address.lower()
    # Composed once more, because some letters have a composed form in lower case only.
    return _composed("".join(map(_lower, _composed(address))))


def is_key(address: str) -> bool:
    """Tell whether an address is in the form that is compared (``Address.key``)."""
    local, _, domain = address.rpartition("@")
    return bool(local and domain) and domain.isascii() and address == fold(address)


def _lower(sign: str) -> str:
    low = sign.lower()
    return low if low.isascii() == sign.isascii() else sign


def _composed(text: str) -> str:
    pieces = _ASCII_LOOK.split(text)
    return "".join(
        piece if _ASCII_LOOK.fullmatch(piece) else unicodedata.normalize("NFC", piece) for piece in pieces
    )
