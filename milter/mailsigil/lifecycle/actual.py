"""What is: the database's certificates, and the key files of this machine. Only changed files are read."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from mailsigil.keys.errors import SourceRefused
from mailsigil.keys.files import address_file_name
from mailsigil.lifecycle.actions import Action, Held, Kind, Seat
from mailsigil.lifecycle.ledger import Ledger
from mailsigil.lifecycle.rows import facts_of, held_of, request_in
from mailsigil.lifecycle.tables import OVER, Status
from mailsigil.lifecycle.turnover import seat_of
from mailsigil.lifecycle.workplace import Workplace

log = logging.getLogger("mailsigil.lifecycle")


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalFiles:
    """The key files of this machine, and what is known of them."""

    present: Mapping[Seat, str]
    """The key_id of what lies there for a seat."""
    found: tuple[Held, ...]
    """Certificates that the database does not know, by address and source."""
    aside: frozenset[str]
    """The key_ids of what was set aside."""
    moved: tuple[tuple[Seat, str], ...] = ()
    """Known certificates whose files are new here, and their key_ids."""


def local_files(ledger: Ledger, places: Mapping[str, Workplace]) -> LocalFiles:
    """Look at the state folders. Raises SourceRefused, DatabaseError."""
    copies = ledger.copies()
    present: dict[Seat, str] = {}
    unknown: list[Held] = []
    for name, place in places.items():
        marks = place.files.marks()
        for seat, copy in copies.items():
            if seat[1] == name and marks.get(file := address_file_name(seat[0])) == copy.mark:
                present[seat] = copy.key_id
                del marks[file]
        unknown.extend(one for file in sorted(marks) if (one := read_file(place, file)) is not None)
    known = ledger.by_key_id(each.key_id for each in unknown)
    moved = []
    found = []
    for each in unknown:
        seat = (each.address, each.source)
        present[seat] = each.key_id
        if each.key_id in known:
            moved.append((seat, each.key_id))
        else:
            found.append(each)
    return LocalFiles(
        present=present,
        found=tuple(sorted(found, key=lambda each: (each.address, each.source))),
        aside=frozenset().union(*(place.files.aside() for place in places.values())),
        moved=tuple(moved),
    )


def actual(ledger: Ledger, places: Mapping[str, Workplace], files: LocalFiles) -> Iterator[Held]:
    """Give all certificates that something may happen to, by address and source."""
    waiting = iter(files.found)
    found = next(waiting, None)
    for row in ledger.open_certificates(places):
        seat = (row["address"], row["source"])
        while found is not None and (found.address, found.source) < seat:
            yield found
            found = next(waiting, None)
        yield held_of(
            row,
            is_shared=bool(row["is_shared"]),
            is_aside=row["key_id"] in files.aside,
            file_key=files.present.get(seat, ""),
            waits=row["status"] == Status.REQUESTED and places[row["source"]].files.waits(row["address"]),
        )
    while found is not None:
        yield found
        found = next(waiting, None)


def strays(ledger: Ledger, files: LocalFiles) -> list[Action]:
    """Give the keys here that must go: another mail server revoked their certificates, or suspended them.

    What was set aside goes as well, once its certificate does not come back.
    """
    known = ledger.by_key_id({*files.present.values(), *files.aside})
    steps = []
    for (address, source), key_id in sorted(files.present.items()):
        held = known.get(key_id)
        if held is not None and (held.status in OVER or held.status is Status.HELD):
            steps.append(_discard(replace(held, address=address, source=source, file_key=key_id)))
    for key_id in sorted(files.aside):
        held = known.get(key_id)
        if held is not None and held.status in OVER and files.present.get(seat_of(held)) != key_id:
            steps.append(_discard(held))
    return steps


def _discard(held: Held) -> Action:
    reason = f"the certificate is {held.status}: {held.reason}"
    return Action(kind=Kind.DISCARD, source=held.source, address=held.address, reason=reason, held=held)


def read_file(place: Workplace, name: str) -> Held | None:
    """Give the certificate in a key file; None for a file that is none of an address.

    One that cannot be read is told, and is in nobody else's way.
    """
    try:
        address = place.files.address_of(name)
        chain = place.files.chain(address) if address else ()
    except SourceRefused as error:
        log.warning("%s", error)
        return None
    if not chain:
        return None
    facts = facts_of(chain[0])
    return Held(
        id=0,
        source=place.name,
        address=address,
        status=Status.ISSUED,
        request=request_in(facts.der, address),
        valid_from=facts.valid_from,
        valid_until=facts.valid_until,
        key_id=facts.key_id,
        serial=facts.serial,
        file_key=facts.key_id,
    )
