"""The way of an encrypted message with the bank's trust and somebody's keys. No servers."""

from __future__ import annotations

from pathlib import Path

from bank import HOST, NOW, no_dns, verification
from envelopes import Person
from mailsigil.decryption import DecryptionParts
from mailsigil.delivery import DeliveryParts, Unauthenticated
from mailsigil.inbound import InboundParts
from mailsigil.keys.decryption_desk import DecryptionDesk
from mailsigil.keys.decryption_protocol import DecryptionCertificate, UnwrapRequest
from mailsigil.keys.errors import KeyAgentUnavailable
from mailsigil.keys.local import FixedKeys
from mailsigil.message.mime import MimeLimits


class Keys:
    """The key agent's desk without a socket."""

    def __init__(self, folder: Path, *people: Person) -> None:
        self.desk = DecryptionDesk(lambda: [FixedKeys([each.soft_key(folder) for each in people])])
        self.away = False
        self.unwrapped = 0

    def find(self, address: str) -> tuple[DecryptionCertificate, ...]:
        if self.away:
            raise KeyAgentUnavailable("gone")
        return self.desk.find(address)

    def unwrap(self, **values: object) -> bytes:
        self.unwrapped += 1
        return self.desk.unwrap(UnwrapRequest(**values), peer_uid=0)  # type: ignore[arg-type]


def parts(keys: Keys, **more: object) -> DeliveryParts:
    decryption = {name: more.pop(name) for name in ("layers", "ciphers", "content_bytes") if name in more}
    return DeliveryParts(
        decryption=DecryptionParts(keys=keys, mime_limits=MimeLimits(), **decryption),  # type: ignore[arg-type]
        inbound=InboundParts(
            verification=verification(),
            txt=no_dns,
            now=lambda: NOW,
            authserv_id=HOST,
            dkim_max_bytes=1_000_000,
            dkim_max_signatures=5,
        ),
        **{"choice": lambda address: Unauthenticated.INERT, **more},  # type: ignore[arg-type]
    )
