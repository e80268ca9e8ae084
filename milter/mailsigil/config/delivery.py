"""The settings of ``[delivery]``: encrypted mail that is decrypted when it is stored."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from mailsigil.config.directories import MailDomain
from mailsigil.config.fields import AbsolutePath, List, OptionalUser, UserName
from mailsigil.config.section import Section
from mailsigil.folding import fold

_ADDRESS: Final = re.compile(r"[^\s@\x00-\x1f\x7f]{1,64}@[a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9_])?")


def _address(text: str) -> str:
    if not _ADDRESS.fullmatch(text) or text != fold(text):
        raise ValueError(f'"{text}" is no mail address in lower case; write one like "bob@bank.example"')
    return text


MailAddress = Annotated[str, AfterValidator(_address)]


class DeliverySettings(Section):
    """Decryption at delivery: `mailsigil delivery`, which Dovecot's Sieve asks for each encrypted mail.

    Whoever is not listed here gets encrypted mail as it came. The keys are those of the key agent, where
    their certificates name the recipient's address and allow encryption.
    """

    domains: List[MailDomain] = Field(
        default=(),
        description="Mail domains whose users get their encrypted mail decrypted. None by default.",
    )
    users: List[MailAddress] = Field(default=(), description="Further users, by address.")
    except_users: List[MailAddress] = Field(
        default=(), description="Users of these domains who get their mail as it came."
    )
    by_policy: bool = Field(
        default=False,
        description='true: the policy file and the directory are asked, too ("decryption"). What they say of'
        " a user goes before this section, except for except_users; while they do not answer, mail is stored"
        " as it came.",
    )
    unauthenticated: Literal["signed", "inert", "any"] = Field(
        default="inert",
        description="What is decrypted of mail that somebody may have altered on its way, which is all that"
        ' was encrypted in CBC mode: "signed": what a signature inside protects; "inert": plain text without'
        ' attachments, too; "any": everything, HTML as well. Mail in GCM mode is always decrypted.',
    )
    legacy_ciphers: bool = Field(default=False, description="true: Triple DES, too. RC2 is never read.")
    socket: AbsolutePath = Field(
        default="/run/mailsigil-delivery/mailsigil-decrypt",
        description="Path of the unix socket where Dovecot finds the service: sieve_filter_socket_dir and the"
        " name of the filter in the Sieve script.",
    )
    allowed_users: List[UserName] = Field(
        default=("vmail",),
        min_length=1,
        description="Users who may have mail decrypted, anybody's: those whom Dovecot stores mail as, and no"
        " account that a person logs in to.",
    )
    user: OptionalUser = Field(
        default="",
        description="User that the service becomes when it is started as root. Give it one of its own: it"
        " alone may ask the key agent to decrypt. Empty: stay as started.",
    )
    key_socket: AbsolutePath = Field(
        default="/run/mailsigil/keyd-decrypt.sock",
        description="Path of the unix socket between the service and the key agent.",
    )
    processes: int = Field(default=2, ge=1, le=64, description="Processes that decrypt and verify.")
    connections: int = Field(
        default=16, ge=1, le=1024, description="Messages that one process takes at a time."
    )
    seconds: float = Field(
        default=8.0,
        gt=0,
        le=300,
        description="Seconds for the look-ups and the verification of one mail. Keep it below Dovecot's"
        " sieve_filter_exec_timeout (10s), or raise that.",
    )
    layers: int = Field(default=2, ge=1, le=10, description="Envelopes in one another that are opened.")
    recipients: int = Field(
        default=1000, ge=1, le=10_000, description="Recipients of one mail; more leave it closed."
    )
    message_bytes: int = Field(
        default=104_857_600,
        ge=10_000,
        le=2_147_483_647,
        description="Octets of a mail, and of what is inside; a larger one is stored as it came.",
    )

    @property
    def enabled(self) -> bool:
        """Somebody's mail is to be decrypted, or may be."""
        return bool(self.domains or self.users or self.by_policy)

    def wanted(self, address: str) -> bool:
        """Whether an address's mail (in lower case) is to be decrypted."""
        if address in self.except_users:
            return False
        return address in self.users or address.rpartition("@")[2] in self.domains
