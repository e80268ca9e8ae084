"""A small bank whose certificates are looked after: policy file, embedded authority, database, clock."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from sqlalchemy import select

from mailsigil.config.lifecycle import LifecycleSettings
from mailsigil.config.settings import PolicySettings, Settings
from mailsigil.config.sources import EmbeddedSource, EnrolmentSettings, SourceSettings
from mailsigil.directory.opening import open_directory
from mailsigil.keys.authority import Authority
from mailsigil.keys.folder import KeyFolder
from mailsigil.keys.newkey import CertifiableKey
from mailsigil.keys.register import Reason
from mailsigil.keys.source import HeldKey
from mailsigil.keys.sources.embedded import EmbeddedIssuer
from mailsigil.keys.subject import SubjectRequest
from mailsigil.lifecycle.by_hand import revoke
from mailsigil.lifecycle.carry_out import Report
from mailsigil.lifecycle.database import Database, connect
from mailsigil.lifecycle.overview import Known, Overview
from mailsigil.lifecycle.plan import Plan
from mailsigil.lifecycle.run import House, Run, begin, open_house
from mailsigil.lifecycle.tables import Status, certificates, events
from mailsigil.lifecycle.workplace import Workplace
from mailsigil.pki.level import asserted_levels
from mailsigil.pki.names import CertificateNames

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@dataclass
class Bank:
    """Who works there."""

    people: dict[str, dict[str, Any]] = field(default_factory=dict)
    valid_until: str = "2038-01-01"
    signing: str = "required"
    more: str = ""

    def hire(self, uid: str, name: str, **more: Any) -> None:
        """One more employee, validated as V4."""
        self.people[uid] = {"name": name, "validated_level": "V4", **more}

    def policy(self) -> str:
        """The policy file."""
        lines = [
            f'[default]\nsigning = "{self.signing}"\n[[organisation]]\nname = "Example Bank"\n'
            f'domains = ["bank.example"]\nvalidated_until = {self.valid_until}\n{self.more}\n'
        ]
        for uid, values in self.people.items():
            lines.append(f'[[person]]\naddress = "{uid}@bank.example"\n')
            lines += [f"{key} = {json.dumps(value)}\n" for key, value in values.items()]
        return "".join(lines)


class Town:
    """The bank with one mail server; ``issuer`` may be put in the place of the authority's own."""

    def __init__(
        self, folder: Path, settings: LifecycleSettings, *, node: str = "mx1", ca: Path | None = None
    ):
        self.folder = folder
        self.bank = Bank()
        self.now = NOW
        self.state = folder / f"state-{node}"
        self.ca = ca or folder / "ca"
        if not self.ca.exists():
            Authority.init(self.ca, organisation="Example Bank", now=NOW)
        folder.mkdir(parents=True, exist_ok=True)
        self.issuer: EmbeddedIssuer | None = None
        self.lifecycle = settings.model_copy(update={"node": node, "per_second": 10_000.0})

    @property
    def settings(self) -> Settings:
        """The whole configuration."""
        source = SourceSettings(
            name="ca",
            kind="embedded",
            domains=("bank.example",),
            embedded=EmbeddedSource(folder=str(self.ca)),
            enrolment=EnrolmentSettings(state=str(self.state)),
        )
        return Settings(
            policy=PolicySettings(file=str(self.folder / "policy.toml")),
            source=(source,),
            lifecycle=self.lifecycle,
        )

    def open(self) -> House:
        """Everything that a run needs."""
        (self.folder / "policy.toml").write_text(self.bank.policy())
        house = open_house(self.settings, open_directory(self.settings), now=lambda: self.now)
        self.in_time(house.database)
        if self.issuer is None:
            return house
        places = {name: _with_issuer(place, self.issuer) for name, place in house.places.items()}
        return House(
            settings=house.settings,
            database=house.database,
            directory=house.directory,
            places=places,
            seal=house.seal,
            now=house.now,
        )

    def in_time(self, database: Database) -> Database:
        """A database whose machine, where it has one of its own, has the town's clock."""
        if database.is_shared:
            setattr(database, "clock", lambda: self.now)  # noqa: B010
        return database

    def sync(
        self, *, allowed: int | None = 1000, only: str = "", before: Callable[[Run, Plan], None] | None = None
    ) -> Report:
        """One run, as the command does it."""
        house = self.open()
        try:
            with begin(house, who="test") as run:
                run.check_clock()
                plan = run.plan(only=only)
                if before is not None:
                    before(run, plan)
                return run.carry_out(plan, allowed=allowed)
        finally:
            house.close()

    def revoke_by_hand(self, *known: Known, address: str = "") -> Report:
        """What `keys revoke` does; of all that sign now, or sign for one address, where none are named."""
        with self.in_time(connect(self.lifecycle)) as database:
            signing = Overview(database, now=self.now).certificates(address=address, statuses=[Status.ISSUED])
            return revoke(
                self.settings,
                database,
                [each.held for each in known or signing],
                reason=Reason.KEY_COMPROMISE,
                why="laptop stolen",
                who="root",
                now=lambda: self.now,
            )

    def plan(self) -> Plan:
        """What a run would do."""
        house = self.open()
        try:
            with begin(house, who="test") as run:
                return run.plan()
        finally:
            house.close()

    def steps(self) -> list[str]:
        """What a run would do, in short."""
        return [f"{one.kind} {one.address.partition('@')[0]}" for one in self.plan().actions]

    def rows(self, uid: str = "") -> list[tuple[str, str, str]]:
        """Address, status and level of all certificates, the oldest first."""
        query = select(certificates).order_by(certificates.c.id)
        with connect(self.lifecycle) as database, database.look() as connection:
            return [
                (row.address.partition("@")[0], row.status, row.level)
                for row in connection.execute(query)
                if not uid or row.address == f"{uid}@bank.example"
            ]

    def events(self, uid: str) -> list[str]:
        """What happened to somebody."""
        query = select(events.c.what).where(events.c.address == f"{uid}@bank.example").order_by(events.c.id)
        with connect(self.lifecycle) as database, database.look() as connection:
            return list(connection.execute(query).scalars())

    def signers(self) -> dict[str, str]:
        """What the key agent would sign with: for each employee, what the certificate says."""
        folder = KeyFolder(self.state)
        folder.reload()
        found = {}
        for key in folder.held():
            certificate = x509.load_der_x509_certificate(key.credential.certificate)
            names = CertificateNames.from_certificate(certificate)
            (level,) = {one.level for one in asserted_levels(certificate)}
            parts = (level.value, names.full_name if level in ("V2", "V4") else "", names.title or "")
            found[min(key.addresses).partition("@")[0]] = " ".join(filter(None, parts))
        return found

    def issued(self) -> int:
        """How many certificates the authority has issued so far."""
        return len(Authority.load(self.ca).register.entries())

    def revoked(self) -> dict[int, str]:
        """What the authority's list says: serials and reasons."""
        path = self.ca / "issuing.crl"
        if not path.exists():
            return {}
        crl = x509.load_der_x509_crl(path.read_bytes())
        return {
            one.serial_number: one.extensions.get_extension_for_class(x509.CRLReason).value.reason.value
            for one in crl
        }


class Moody(EmbeddedIssuer):
    """The embedded authority, with a say before and after each request."""

    def __init__(
        self,
        town: Town,
        *,
        before: Callable[[SubjectRequest], None] = lambda request: None,
        after: Callable[[SubjectRequest], None] = lambda request: None,
    ) -> None:
        super().__init__("ca", town.ca, now=lambda: town.now)
        self._before, self._after = before, after

    def enrol(self, request: SubjectRequest, new: CertifiableKey) -> tuple[bytes, ...]:
        self._before(request)
        chain = super().enrol(request, new)
        self._after(request)
        return chain

    def renew(self, request: SubjectRequest, new: CertifiableKey, *, current: HeldKey) -> tuple[bytes, ...]:
        self._before(request)
        chain = super().renew(request, new, current=current)
        self._after(request)
        return chain


def _with_issuer(place: Workplace, issuer: EmbeddedIssuer) -> Workplace:
    return Workplace(
        rules=place.rules,
        issuer=issuer,
        state=place.state,
        kind=place.kind,
        maker=place.maker,
        keys=place.keys,
        renew_before=place.renew_before,
    )
