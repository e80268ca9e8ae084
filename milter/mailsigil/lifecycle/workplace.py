"""One source that certifies, as the lifecycle uses it: its authority, its key files, its settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from mailsigil.config.lifecycle import LifecycleSettings
from mailsigil.config.sources import EnrolmentSettings, SourceSettings
from mailsigil.keys.keyring import StateFolder
from mailsigil.keys.placed_keyring import KeyPlace
from mailsigil.keys.profile import KeyKind
from mailsigil.keys.source import ChoosesKind, Issuer, KeyMaker
from mailsigil.keys.sources.build import build_issuing, build_place, state_folder
from mailsigil.lifecycle.actions import Rules
from mailsigil.lifecycle.desired import SourceRules
from mailsigil.lifecycle.key_files import KeyFiles
from mailsigil.pki.policies import Level


@dataclass(frozen=True, slots=True, kw_only=True)
class Workplace:
    """Where the certificates of some mail domains are made."""

    rules: SourceRules
    issuer: Issuer
    state: StateFolder
    kind: KeyKind
    maker: KeyMaker | None = None
    keys: KeyPlace | None = None
    """Where keys are made that do not lie in files."""
    renew_before: timedelta = timedelta(days=30)

    @property
    def name(self) -> str:
        """The source's name."""
        return self.rules.name

    @property
    def files(self) -> KeyFiles:
        """Its key files on this machine."""
        return KeyFiles(self.state, self.keys)

    def key_kind(self) -> KeyKind:
        """The kind of key to make. Raises SourceError."""
        return self.issuer.kind_for(self.kind) if isinstance(self.issuer, ChoosesKind) else self.kind


def workplaces(sources: Sequence[SourceSettings], *, now: Callable[[], datetime]) -> dict[str, Workplace]:
    """Give all sources that certify, by name; nobody is asked anything yet."""
    return {one.name: _workplace(one, now) for one in sources if one.issues}


def rules_of(settings: LifecycleSettings, places: Mapping[str, Workplace], *, node: str) -> Rules:
    """Give what the settings say about when and how."""
    return Rules(
        node=node,
        renew_before={name: place.renew_before for name, place in places.items()},
        jitter=timedelta(days=settings.jitter_days),
        on_departure=settings.on_departure,
        on_lapse=settings.on_lapse,
        shares_keys=bool(settings.share_keys_with),
    )


def _workplace(source: SourceSettings, now: Callable[[], datetime]) -> Workplace:
    enrolment = source.enrolment or EnrolmentSettings()
    issuing = build_issuing(source, now=now)
    mailboxes = source.domains if source.domain_certificate else ()
    return Workplace(
        rules=SourceRules(
            name=source.name,
            domains=frozenset(source.domains),
            level=Level(enrolment.level),
            organisation=enrolment.organisation,
            domain_addresses=tuple(f"{source.domain_mailbox}@{domain}" for domain in mailboxes),
        ),
        issuer=issuing.issuer,
        maker=issuing.maker,
        keys=build_place(source, state_folder(source), now=now),
        state=StateFolder(
            source.name, state_folder(source), keep_former=timedelta(days=enrolment.decrypt_days)
        ),
        kind=KeyKind(enrolment.key),
        renew_before=timedelta(days=enrolment.renew_days),
    )
