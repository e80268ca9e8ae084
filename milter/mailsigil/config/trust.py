"""The settings of ``[[trust]]`` and ``[revocation]``: whom to believe, and whether that still holds."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mailsigil.config.fields import AbsolutePath, List, Oid, OptionalPath, TrustDomain
from mailsigil.config.section import Section

LevelName = Literal["V1", "V2", "V3", "V4"]


class TrustSettings(Section):
    """Whom to believe: certification authorities, and what each may say about a sender.

    There may be several. An authority that asserts no level can still show that a mailbox is genuine: V1.
    """

    name: str = Field(min_length=1, max_length=100, description="A name for logs and messages.")
    files: List[AbsolutePath] = Field(
        min_length=1, description="Certificates of the authorities, PEM (any number in a file) or DER."
    )
    asserts: List[Literal["mailsigil", "br"]] = Field(
        default=(),
        description='Families of policies that decide the level: "br" for public authorities (CA/Browser'
        ' Forum), "mailsigil" for the embedded one.',
    )
    level: Literal["", "V1", "V2", "V3", "V4"] = Field(
        default="", description="One level for all certificates of these authorities, in place of policies."
    )
    oids: dict[Oid, LevelName] = Field(
        default={}, description="Policies of a private authority, and the level that each stands for."
    )
    domains: List[TrustDomain] = Field(
        default=(),
        description="Mail domains that these authorities may vouch for; empty for all."
        ' "*.bank.example" means the domains below it.',
    )
    domain_signatures: bool = Field(
        default=False,
        description="true: a certificate for domain-signing-authority@DOMAIN (RFC 3183) speaks for everybody"
        " of that domain, as its organisation (V3) and never as a person. The authorities must give such a"
        " certificate to nobody but the domain's owner.",
    )
    revocation: Literal["off", "prefer", "require"] = Field(
        default="prefer",
        description='Whether a certificate was revoked: "require" shows no identity until that is known,'
        ' "prefer" shows it and says so in the log, "off" does not ask.',
    )
    crls: List[AbsolutePath] = Field(
        default=(),
        description="Revocation lists of these authorities on this machine, DER or PEM; those of the embedded"
        " authority, for example. They are read again when they change.",
    )


class RevocationSettings(Section):
    """Where it is looked up whether a certificate was revoked: CRL and OCSP."""

    fetch: bool = Field(
        default=True,
        description="Fetch lists and ask responders. Without it, only what mail carries counts, and the"
        ' "crls" of [[trust]].',
    )
    cache_folder: OptionalPath = Field(
        default="/var/cache/mailsigil",
        description="Folder for what was fetched, so that a restart finds it. Empty: memory alone.",
    )
    cache_bytes: int = Field(
        default=268_435_456, ge=1_000_000, description="Octets of that folder, at most; the oldest go first."
    )
    patience: float = Field(
        default=3.0,
        ge=0,
        le=60,
        description="Seconds that one mail waits for all look-ups together; the rest goes on behind it."
        " 0 does not wait.",
    )
    timeout: float = Field(default=15.0, gt=0, le=300, description="Seconds for one look-up altogether.")
    max_bytes: int = Field(
        default=20_971_520, ge=10_000, le=1_073_741_824, description="Octets of one revocation list."
    )
    redirects: int = Field(default=3, ge=0, le=20, description="Redirects that one look-up follows.")
    allow_private_addresses: bool = Field(
        default=False,
        description="Fetch from loopback, private and link-local addresses too. Addresses to fetch from stand"
        " in certificates: allow this only where your own authority publishes on such an address.",
    )
    prefetch_minutes: int = Field(
        default=60, ge=0, le=10_080, description="Minutes before it runs out that a new answer is fetched."
    )
