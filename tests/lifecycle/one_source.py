"""A bank with one source that certifies, whichever it is, and what its mail server makes of it."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from sqlalchemy import select

from lifecycle.town import Bank
from mailsigil.cms.algorithms import Scheme, verify_with
from mailsigil.config.lifecycle import LifecycleSettings
from mailsigil.config.openbao import TransitStore
from mailsigil.config.settings import PolicySettings, Settings
from mailsigil.config.sources import EnrolmentSettings, SourceSettings, TokenStore
from mailsigil.directory.opening import open_directory
from mailsigil.keys.enrolment import Managed
from mailsigil.keys.sources.build import build_source
from mailsigil.lifecycle.carry_out import Report
from mailsigil.lifecycle.database import connect
from mailsigil.lifecycle.run import begin, open_house
from mailsigil.lifecycle.tables import certificates

Stores = dict[str, TokenStore | TransitStore]


@dataclass
class Site:
    """A bank, its mail server and one source that certifies."""

    folder: Path
    source: SourceSettings
    bank: Bank
    keep_keys: bool = False
    ahead: dt.timedelta = dt.timedelta(0)

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def now(self) -> dt.datetime:
        return dt.datetime.now(dt.UTC) + self.ahead

    def sync(self) -> Report:
        """One run, as the command does it."""
        (self.folder / "policy.toml").write_text(self.bank.policy())
        settings = Settings(
            policy=PolicySettings(file=str(self.folder / "policy.toml")),
            source=(self.source,),
            lifecycle=LifecycleSettings(
                enabled=True,
                database=f"sqlite:///{self.folder}/db/l.db",
                node="mx1",
                overlap_days=0,
                keep_keys=self.keep_keys,
            ),
        )
        house = open_house(settings, open_directory(settings), now=self.now)
        try:
            with begin(house, who="test") as run:
                return run.carry_out(run.plan(), allowed=10)
        finally:
            house.close()

    def signs_with(self, uid: str) -> x509.Certificate | None:
        """What the key agent signs with, after it has tried it; None where there is nothing."""

        keys = build_source(self.source, now=self.now, managed=Managed(lambda address: None, 5))
        try:
            keys.refresh()
            found = keys.find(f"{uid}@bank.example")
            if not found:
                return None
            certificate = x509.load_der_x509_certificate(found[0].credential.certificate)
            for scheme in found[0].credential.schemes:
                signature = found[0].sign(scheme, b"a mail")
                verify_with(certificate.public_key(), Scheme(scheme), signature, b"a mail")
            return certificate
        finally:
            keys.close()

    def statuses(self, uid: str) -> list[str]:
        """What became of somebody's certificates."""
        query = select(certificates.c.status).where(certificates.c.address == f"{uid}@bank.example")
        settings = LifecycleSettings(database=f"sqlite:///{self.folder}/db/l.db")
        with connect(settings) as database, database.look() as connection:
            return list(connection.execute(query.order_by(certificates.c.id)).scalars())


def one_source(folder: Path, store: Stores, **issuer: object) -> Site:
    """A bank of two, whose source has this section, and perhaps another place for its keys."""
    key_store = {"token": "pkcs11", "transit": "transit"}.get(next(iter(store), ""), "files")
    source = SourceSettings(
        name="ca",
        kind=next(iter(issuer)),
        domains=("bank.example",),
        timeout=20,
        enrolment=EnrolmentSettings(state=str(folder / "state"), key_store=key_store),
        **store,
        **issuer,
    )
    bank = Bank()
    bank.hire("alice", "Alice Example", title="Clerk")
    bank.hire("bob", "Bob Sample")
    return Site(folder, source, bank)
