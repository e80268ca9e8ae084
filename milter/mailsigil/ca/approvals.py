"""Requests that a person decides (RFC 7030 4.2.3: 202 until then): one small file for each, in the folder.

A decision is for exactly what was asked: the same user, the same key, the same names. The server writes new
requests, and ``mailsigil ca pending`` writes decisions.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from mailsigil.keys.authority_files import AuthorityError, write
from mailsigil.keys.profile import Subject

FOLDER: Final = "pending"
MOST: Final = 1000
"""Requests that are kept altogether."""
MOST_OF_USER: Final = 200
KEPT: Final = timedelta(days=30)
"""So long a request is remembered, decided or not."""
MAX_FILE: Final = 16_384
MAX_REASON: Final = 200
_IDENTIFIER: Final = re.compile(r"[0-9a-f]{16}")


class State(StrEnum):
    """What became of a request."""

    WAITING = "waiting"
    APPROVED = "approved"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """One request."""

    identifier: str
    user: str
    address: str
    level: str
    given_name: str
    surname: str
    organisation: str
    title: str
    key: str
    """SHA-256 of the public key, hexadecimal; empty where the server makes the key."""
    peer: str
    asked: datetime
    state: State = State.WAITING
    reason: str = ""
    """Why it was refused; the client is told."""


class Full(Exception):
    """Too many requests wait; the message goes to the client."""


class Approvals:
    """The queue of one authority. ``now`` gives the time, aware, in UTC. Raises AuthorityError."""

    def __init__(self, directory: Path, *, now: Callable[[], datetime]) -> None:
        self._folder = directory / FOLDER
        self._now = now

    def decision(self, *, user: str, subject: Subject, spki: bytes, peer: str) -> Waiting:
        """Gives what was decided about a request, which waits from now on when it is new. Raises Full."""
        key = hashlib.sha256(spki).hexdigest() if spki else ""
        asked = Waiting(
            identifier="",
            user=user,
            address=subject.mailbox,
            level=subject.level.value,
            given_name=subject.given_name,
            surname=subject.surname,
            organisation=subject.organisation,
            title=subject.title,
            key=key,
            peer=peer,
            asked=self._now(),
        )
        asked = replace(asked, identifier=_identifier(asked))
        known = self._read(self._path(asked.identifier))
        if known is not None and known.asked > self._now() - KEPT:
            if _wish(known) != _wish(asked):
                # The name is short: with patience a client finds two requests of one name.
                raise AuthorityError(f"another request has the name {asked.identifier}, too")
            return known
        kept = self.entries()
        if len(kept) >= MOST or sum(each.user == user for each in kept) >= MOST_OF_USER:
            raise Full("too many requests wait for a decision; ask again when some are decided")
        self._write(asked)
        return asked

    def done(self, one: Waiting) -> None:
        """Forgets an approved request, because its certificate was issued."""
        self._path(one.identifier).unlink(missing_ok=True)

    def entries(self) -> list[Waiting]:
        """Gives all requests, the oldest first; those that are too old are removed."""
        found = []
        try:
            paths = sorted(self._folder.glob("*.json")) if self._folder.is_dir() else []
        except OSError as error:
            raise AuthorityError(f"{self._folder} cannot be read: {error.strerror}") from error
        for path in paths:
            one = self._read(path)
            if one is None:
                continue
            if one.asked <= self._now() - KEPT:
                path.unlink(missing_ok=True)
            else:
                found.append(one)
        return sorted(found, key=lambda one: one.asked)

    def decide(self, identifier: str, state: State, *, reason: str = "") -> Waiting:
        """Approves or refuses a request that waits."""
        one = self._read(self._path(identifier)) if _IDENTIFIER.fullmatch(identifier) else None
        if one is None:
            raise AuthorityError(
                f"no request {identifier!r} waits here; mailsigil ca pending list shows those that do"
            )
        if one.state is not State.WAITING:
            raise AuthorityError(f"the request {identifier} is {one.state.value} already")
        if len(reason) > MAX_REASON or not reason.isprintable():
            raise AuthorityError(f"a reason is one line of at most {MAX_REASON} characters")
        decided = replace(one, state=state, reason=reason)
        self._write(decided)
        return decided

    def _path(self, identifier: str) -> Path:
        return self._folder / f"{identifier}.json"

    def _write(self, one: Waiting) -> None:
        fields = {**asdict(one), "asked": one.asked.isoformat()}
        content = json.dumps(fields, ensure_ascii=False, indent=1).encode() + b"\n"
        write(self._path(one.identifier), content, replace=True, make_folder=True)

    def _read(self, path: Path) -> Waiting | None:
        try:
            with path.open("rb") as file:
                content = file.read(MAX_FILE + 1)
            if len(content) > MAX_FILE:
                raise ValueError("too large")
            fields: dict[str, Any] = json.loads(content)
            asked = datetime.fromisoformat(fields.pop("asked")).astimezone(UTC)
            one = Waiting(**{**fields, "asked": asked, "state": State(fields["state"])})
            if one.identifier != path.stem or one.identifier != _identifier(one):
                raise ValueError("its name is not that of its content")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise AuthorityError(f"{path} cannot be read: {error.strerror}") from error
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise AuthorityError(f"{path} is damaged; remove it, and the client asks anew") from error
        return one


def _identifier(one: Waiting) -> str:
    """Names a request by what it asks for."""
    return hashlib.sha256("\0".join(_wish(one)).encode()).hexdigest()[:16]


def _wish(one: Waiting) -> tuple[str, ...]:
    """What a decision is for."""
    return (
        one.user,
        one.address,
        one.level,
        one.given_name,
        one.surname,
        one.organisation,
        one.title,
        one.key,
    )
