"""From settings to a working whole: builds the parts, hands them in, and takes messages.

This is the only place that knows which directory, which keys and which DNS a message meets.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from mailsigil.clock import utc_now as utc_now
from mailsigil.cms.content import CipherKind
from mailsigil.cms.enveloped import EnvelopeLimits
from mailsigil.cms.parse import CmsLimits
from mailsigil.config.reading import ReadText, read_text
from mailsigil.config.settings import Settings
from mailsigil.config.trust import TrustSettings
from mailsigil.decryption import DecryptionParts
from mailsigil.delivery import DeliveryParts, Unauthenticated
from mailsigil.delivery_choice import Choice, PolicyChoice
from mailsigil.direction import Direction, DirectionRules, direction_of
from mailsigil.directory.api import Directory
from mailsigil.directory.opening import open_directory
from mailsigil.dkim.resolver import make_txt_lookup
from mailsigil.inbound import InboundParts, inbound
from mailsigil.keys.client import KeyAgentClient
from mailsigil.keys.decryption_client import DecryptionClient
from mailsigil.message.fields import Field
from mailsigil.message.mime import MimeLimits
from mailsigil.message.spool import Spool
from mailsigil.outbound import OutboundParts, outbound
from mailsigil.pki.anchors import AnchorSet, RevocationMode, TrustStore, load_anchor_file
from mailsigil.pki.document_store import DocumentStore
from mailsigil.pki.fetch import HttpFetch
from mailsigil.pki.library import Library, LocalLists
from mailsigil.pki.lookup import Lookup
from mailsigil.pki.path import PathValidator
from mailsigil.pki.policies import Level
from mailsigil.pki.revocation import RevocationChecker
from mailsigil.plan import Envelope, Event, Outcome, Plan
from mailsigil.signing import Keys, levels_under
from mailsigil.verification import VerificationParts


@dataclass(frozen=True, slots=True)
class Service:
    """Takes one message after another; immutable, so that a reload swaps it whole."""

    rules: DirectionRules
    outbound_parts: OutboundParts
    inbound_parts: InboundParts

    def handle(
        self, envelope: Envelope, fields: tuple[Field, ...], body: Spool, *, over_limit: str = ""
    ) -> Plan:
        """Decides about one message; ``over_limit`` names a bound that it passed."""
        if over_limit:
            # What was not kept was not looked at, so it cannot go on: it may hold forged fields.
            return Plan(event=Event.REFUSED, outcome=Outcome.REFUSE_SIZE, reason=f"limit {over_limit}")
        if direction_of(envelope, self.rules) is Direction.OUTBOUND:
            return outbound(envelope, fields, body, self.outbound_parts)
        return inbound(fields, body, self.inbound_parts, client=envelope.client_address)


def build_service(settings: Settings, read: ReadText = read_text) -> Service:
    """Builds everything from settings; ``read`` reads the policy file.

    Raises ``ConfigError`` for the policy file and ``AnchorError`` for a file of anchors.
    """
    directory = open_directory(settings, read=read)
    trust = trust_store(settings)
    keys = KeyAgentClient(settings.keyd.socket, timeout=settings.keyd.timeout)
    return Service(
        rules=DirectionRules(
            inbound_daemons=frozenset(settings.inbound.daemons),
            outbound_daemons=frozenset(settings.outbound.daemons),
            trusted_networks=settings.outbound.networks,
        ),
        outbound_parts=outbound_parts(settings, directory=directory, keys=keys, trust=trust),
        inbound_parts=inbound_parts(settings, trust),
    )


def outbound_parts(
    settings: Settings,
    *,
    directory: Directory,
    keys: Keys,
    trust: TrustStore | None = None,
    now: Callable[[], datetime] | None = None,
) -> OutboundParts:
    """What the outbound way is handed, with this directory and these keys.

    ``trust`` tells what policies of private authorities stand for.
    """
    return OutboundParts(
        directory=directory,
        keys=keys,
        now=now or utc_now,
        new_boundary=lambda: f"mailsigil-{secrets.token_hex(16)}",
        authserv_id=settings.inbound.authserv_id,
        mime_limits=_mime_limits(settings),
        levels_of=levels_under(trust or TrustStore()),
        new_spool=new_spool(settings),
    )


def inbound_parts(
    settings: Settings, trust: TrustStore, *, now: Callable[[], datetime] | None = None
) -> InboundParts:
    """What the inbound way is handed."""
    return InboundParts(
        verification=verification_parts(settings, trust, now=now),
        txt=make_txt_lookup(settings.dns.servers, settings.dns.port, settings.dns.timeout),
        now=now or utc_now,
        authserv_id=settings.inbound.authserv_id,
        dkim_max_bytes=settings.dkim.max_bytes,
        dkim_max_signatures=settings.dkim.max_signatures,
        arc_max_sets=settings.dkim.max_arc_sets,
        trusted_authserv_ids=frozenset(
            name.lower().rstrip(".") for name in settings.inbound.trusted_authserv_ids
        ),
        trusted_relays=settings.inbound.relays,
        dns_seconds=settings.dkim.seconds,
    )


def delivery_parts(
    settings: Settings,
    trust: TrustStore,
    *,
    now: Callable[[], datetime] | None = None,
    read: ReadText = read_text,
) -> DeliveryParts:
    """What the way of an encrypted message at delivery is handed.

    Raises ``ConfigError`` for the policy file.
    """
    chosen = settings.delivery
    given = inbound_parts(settings, trust, now=now)
    ciphers = {CipherKind.AES_CBC, CipherKind.AES_GCM}
    return DeliveryParts(
        decryption=DecryptionParts(
            keys=DecryptionClient(chosen.key_socket, timeout=settings.keyd.timeout),
            mime_limits=_mime_limits(settings),
            envelope_limits=EnvelopeLimits(
                recipients=chosen.recipients, rest_bytes=settings.limits.cms_bytes
            ),
            layers=chosen.layers,
            content_bytes=chosen.message_bytes,
            ciphers=frozenset(ciphers | {CipherKind.TRIPLE_DES_CBC} if chosen.legacy_ciphers else ciphers),
            new_spool=new_spool(settings),
        ),
        # The mail server waits: what is not looked up in time is not known. And nobody says here which
        # client a mail came from, so that no other server's results can be believed.
        inbound=replace(
            given,
            trusted_authserv_ids=frozenset(),
            dns_seconds=min(given.dns_seconds, chosen.seconds / 2),
            verification=replace(given.verification, seconds=min(given.verification.seconds, chosen.seconds)),
        ),
        choice=_delivery_choice(settings, now or utc_now, read),
    )


def _delivery_choice(settings: Settings, now: Callable[[], datetime], read: ReadText) -> Choice:
    chosen = settings.delivery
    most = Unauthenticated(chosen.unauthenticated)

    def base(address: str) -> Unauthenticated | None:
        return most if chosen.wanted(address) else None

    if not chosen.by_policy:
        return base
    directory = open_directory(settings, read=read)
    return PolicyChoice(directory=directory, base=base, excepted=chosen.except_users, now=now)


def verification_parts(
    settings: Settings, trust: TrustStore, *, now: Callable[[], datetime] | None = None
) -> VerificationParts:
    """What verification is handed."""
    limits = settings.limits
    return VerificationParts(
        validator=PathValidator(trust),
        revocation=revocation_checker(settings, now=now or utc_now),
        mime_limits=_mime_limits(settings),
        cms_limits=CmsLimits(
            signers=limits.signers, certificates=limits.certificates, rest_bytes=limits.cms_bytes
        ),
        seconds=limits.seconds,
        signature_checks=limits.signature_checks,
        content_bytes=limits.content_bytes,
        new_spool=new_spool(settings),
    )


def revocation_checker(settings: Settings, *, now: Callable[[], datetime]) -> RevocationChecker:
    """What tells whether a certificate was revoked. No thread starts before it is asked."""
    chosen = settings.revocation
    store = DocumentStore(Path(chosen.cache_folder), chosen.cache_bytes) if chosen.cache_folder else None
    library = Library(store)
    local = LocalLists([Path(file) for entry in settings.trust for file in entry.crls])
    lookup = Lookup(
        fetch=HttpFetch(
            timeout=chosen.timeout,
            redirects=chosen.redirects,
            allow_private_addresses=chosen.allow_private_addresses,
        ),
        library=library,
        now=now,
        prefetch=timedelta(minutes=chosen.prefetch_minutes),
        max_crl=chosen.max_bytes,
        local=local,
    )
    return RevocationChecker(
        now=now,
        library=library,
        local=local,
        lookup=lookup if chosen.fetch else None,
        patience=chosen.patience,
    )


def new_spool(settings: Settings) -> Callable[[], Spool]:
    """Makes the maker of spools within the configured memory."""
    return partial(
        Spool,
        memory_limit=settings.limits.memory_bytes,
        directory=settings.limits.spool_directory or None,
    )


def trust_store(settings: Settings) -> TrustStore:
    """Loads all trust anchors. Raises ``AnchorError`` with the file and what is wrong."""
    return TrustStore(tuple(_anchor_set(entry) for entry in settings.trust))


def _anchor_set(entry: TrustSettings) -> AnchorSet:
    certificates = [certificate for file in entry.files for certificate in load_anchor_file(file)]
    return AnchorSet(
        name=entry.name,
        certificates=tuple(certificates),
        asserts=frozenset(entry.asserts),
        oids={oid: Level(level) for oid, level in entry.oids.items()},
        level=Level(entry.level) if entry.level else None,
        domains=frozenset(entry.domains),
        domain_signatures=entry.domain_signatures,
        revocation=RevocationMode(entry.revocation),
    )


def _mime_limits(settings: Settings) -> MimeLimits:
    return MimeLimits(depth=settings.limits.mime_depth, parts=settings.limits.mime_parts)
