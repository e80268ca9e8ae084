"""What is written down: requests, certificates that came, their next status, and what happened to whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, bindparam, delete, insert, literal, update

from mailsigil.keys.errors import one_line
from mailsigil.keys.register import Reason
from mailsigil.keys.subject import SubjectRequest
from mailsigil.lifecycle.actions import Held, Seat
from mailsigil.lifecycle.rows import READ, Facts, held_of, request_columns
from mailsigil.lifecycle.tables import OVER, Status, certificates, copies, events, materials


@dataclass(frozen=True, slots=True)
class Copy:
    """A key file of this machine, as it was when it was looked into."""

    key_id: str
    mark: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCertificate:
    """A certificate that came, for the request with this ``id``."""

    id: int
    held: Held
    """The request, as it was written down."""
    request: SubjectRequest
    """What was asked for to get it, which may have been something else before."""
    facts: Facts
    sealed: bytes | None
    mark: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A certificate whose key lay in a state folder, and that nobody knew."""

    held: Held
    facts: Facts
    sealed: bytes | None
    mark: str
    why: str
    revoke_at: datetime | None = None
    """Another has taken its place already; None: it signs."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A certificate's next status."""

    held: Held
    status: Status
    why: str
    revoke_at: datetime | None = None
    told: Reason | None = None
    """What the authority is to be told then."""


@dataclass(slots=True)
class Changes:
    """What one transaction writes down."""

    turns: list[Turn] = field(default_factory=list)
    news: list[NewCertificate] = field(default_factory=list)
    files: list[tuple[Seat, Copy | None]] = field(default_factory=list)
    """Key files that were written (or removed: None)."""
    sealed: list[tuple[int, bytes]] = field(default_factory=list)
    remarks: list[tuple[Held, str, str]] = field(default_factory=list)
    """What happened beside a change of status: the certificate, a word, and why."""
    seats: list[Seat] = field(default_factory=list)
    """Whose claims are given back."""


class Records:
    """Writes as one mail server (``node``); ``who`` is by whose hand things happen."""

    def __init__(self, *, node: str, who: str) -> None:
        self._node = node
        self._who = who[:100]

    def ask(
        self,
        connection: Connection,
        wanted: Sequence[tuple[SubjectRequest, str, str, int | None]],
        *,
        now: datetime,
    ) -> list[Held]:
        """Write down what is about to be asked for: request, source, why, and what it replaces."""
        rows = [
            {
                "source": source,
                "address": request.address,
                "status": Status.REQUESTED,
                "node": self._node,
                "replaces": replaces,
                "created_at": now,
                "changed_at": now,
                "reason": one_line(why),
                **request_columns(request),
            }
            for request, source, why, replaces in wanted
        ]
        if not rows:
            return []
        statement = insert(certificates).returning(*READ, sort_by_parameter_order=True)
        held = [held_of(row) for row in connection.execute(statement, rows)]
        self._tell(connection, [(one, Status.REQUESTED.value, one.reason) for one in held], now)
        return held

    def ask_again(
        self, connection: Connection, held: Sequence[tuple[Held, SubjectRequest]], *, now: datetime
    ) -> None:
        """Take over requests that were left open, for what is wanted today."""
        if held:
            statement = (
                update(certificates)
                .where(certificates.c.id == bindparam("its_id"))
                .values(node=self._node, changed_at=now)
            )
            connection.execute(
                statement.values({name: bindparam(name) for name in request_columns(held[0][1])}),
                [{"its_id": one.id, **request_columns(request)} for one, request in held],
            )

    def adopt(self, connection: Connection, found: Sequence[Found], *, now: datetime) -> list[Held]:
        """Take in what lay in a state folder."""
        rows = [
            {
                "source": one.held.source,
                "address": one.held.address,
                "status": Status.ISSUED if one.revoke_at is None else Status.SUPERSEDED,
                "node": self._node,
                "revoke_at": one.revoke_at,
                "created_at": now,
                "changed_at": now,
                "reason": one_line(one.why),
                **request_columns(one.held.request),
                **one.facts.columns,
            }
            for one in found
        ]
        if not rows:
            return []
        statement = insert(certificates).returning(*READ, sort_by_parameter_order=True)
        made = [held_of(row) for row in connection.execute(statement, rows)]
        pairs = list(zip(made, found, strict=True))
        self._keep(connection, [(held.id, one.facts.der, one.sealed) for held, one in pairs])
        self.note_files(
            connection,
            [((held.address, held.source), Copy(held.key_id, one.mark)) for held, one in pairs],
        )
        self._tell(connection, [(held, "adopted", held.reason) for held in made], now)
        return made

    def write(self, connection: Connection, changes: Changes, *, now: datetime) -> None:
        """Write down what was done."""
        self._turn(connection, changes.turns, now)
        self._take_in(connection, changes.news, now)
        self.note_files(connection, changes.files)
        if changes.sealed:
            statement = (
                update(materials)
                .where(materials.c.certificate_id == bindparam("its_id"))
                .values(sealed=bindparam("its_key"))
            )
            rows = [{"its_id": number, "its_key": sealed} for number, sealed in changes.sealed]
            connection.execute(statement, rows)
        self._tell(connection, changes.remarks, now)

    def note_files(self, connection: Connection, files: Sequence[tuple[Seat, Copy | None]]) -> None:
        """Write down which key files this machine has."""
        if not files:
            return
        statement = delete(copies).where(
            copies.c.node == literal(self._node),
            copies.c.source == bindparam("its_source"),
            copies.c.address == bindparam("its_address"),
        )
        connection.execute(
            statement, [{"its_address": address, "its_source": source} for (address, source), _ in files]
        )
        rows = [
            {
                "node": self._node,
                "source": source,
                "address": address,
                "key_id": copy.key_id,
                "mark": copy.mark,
            }
            for (address, source), copy in dict(files).items()
            if copy is not None
        ]
        if rows:
            connection.execute(insert(copies), rows)

    def _turn(self, connection: Connection, turns: Sequence[Turn], now: datetime) -> None:
        if not turns:
            return
        statement = (
            update(certificates)
            .where(certificates.c.id == bindparam("its_id"))
            .values(
                status=bindparam("its_status"),
                reason=bindparam("its_reason"),
                revoke_at=bindparam("its_end"),
                told=bindparam("its_word"),
                changed_at=now,
            )
        )
        # What signs until now makes room first: one certificate signs for a seat.
        ordered = sorted(turns, key=lambda turn: turn.status is Status.ISSUED)
        connection.execute(
            statement,
            [
                {
                    "its_id": turn.held.id,
                    "its_status": turn.status,
                    "its_reason": one_line(turn.why),
                    "its_end": turn.revoke_at,
                    "its_word": turn.told.value if turn.told is not None else "",
                }
                for turn in ordered
            ],
        )
        over = [{"its_id": turn.held.id} for turn in ordered if turn.status in OVER]
        if over:
            # Nobody needs the key any more, so the database does not keep it either.
            gone = update(materials).where(materials.c.certificate_id == bindparam("its_id"))
            connection.execute(gone.values(sealed=None), over)
        self._tell(connection, [(turn.held, turn.status.value, turn.why) for turn in ordered], now)

    def _take_in(self, connection: Connection, news: Sequence[NewCertificate], now: datetime) -> None:
        if not news:
            return
        first = {**news[0].facts.columns, **request_columns(news[0].request)}
        statement = (
            update(certificates)
            .where(certificates.c.id == bindparam("its_id"))
            .values(status=Status.ISSUED, changed_at=now, **{name: bindparam(name) for name in first})
        )
        connection.execute(
            statement,
            [{"its_id": new.id, **new.facts.columns, **request_columns(new.request)} for new in news],
        )
        self._keep(connection, [(new.id, new.facts.der, new.sealed) for new in news])
        self.note_files(
            connection,
            [((new.held.address, new.held.source), Copy(new.facts.key_id, new.mark)) for new in news],
        )
        self._tell(
            connection,
            [(new.held, "issued", new.why) for new in news],
            now,
            [new.facts.serial for new in news],
        )

    def _keep(self, connection: Connection, made: Sequence[tuple[int, bytes, bytes | None]]) -> None:
        rows = [{"certificate_id": number, "certificate": der, "sealed": key} for number, der, key in made]
        connection.execute(insert(materials), rows)

    def _tell(
        self,
        connection: Connection,
        told: Sequence[tuple[Held, str, str]],
        now: datetime,
        serials: Sequence[str] = (),
    ) -> None:
        if not told:
            return
        rows = [
            {
                "at": now,
                "node": self._node,
                "who": self._who,
                "source": held.source,
                "address": held.address,
                "certificate_id": held.id or None,
                "serial": serial,
                "what": what,
                "why": one_line(why),
            }
            for (held, what, why), serial in zip(
                told, serials or [held.serial for held, _, _ in told], strict=True
            )
        ]
        connection.execute(insert(events), rows)
