"""The key agent's third socket: what an administrator asks of it. No keys are used here, only looked at.

Frames are those of ``protocol.py``. A request has an ``op``: ``list`` (from ``offset`` on), ``status`` or
``reload``; an answer is one object, with ``refused`` and ``sentence`` where the agent says no.
"""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

from cryptography import x509

from mailsigil.keys.connection import Connection
from mailsigil.keys.errors import KeyAgentRefused, KeyAgentUnavailable, ProtocolError, Refusal, SourceError
from mailsigil.keys.source import KeySource, SigningKey, source_name
from mailsigil.pki.level import asserted_levels, claimed_level

log = logging.getLogger("mailsigil.keyd")

PAGE: Final = 100
"""Keys in one answer; a frame holds them with long names."""
MAX_REQUEST: Final = 1024
MAX_SHOWN: Final = 4
"""Addresses of one key that are listed."""
_TIMEOUT: Final = 10.0


@runtime_checkable
class Holding(Protocol):
    """A source that can tell which keys it has at hand."""

    def held(self) -> Sequence[SigningKey]:
        """Gives the keys in memory."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedKey:
    """One key, as it is shown."""

    key_id: str
    source: str
    addresses: tuple[str, ...]
    level: str
    serial: str
    valid_from: str
    valid_until: str
    schemes: tuple[str, ...]


class AdminDesk:
    """Answers an administrator, in each process of the agent.

    ``sources`` gives those in force; ``reload`` has all processes read everything anew.
    """

    def __init__(
        self,
        sources: Callable[[], Sequence[KeySource]],
        *,
        reload: Callable[[], None],
        started: datetime,
        now: Callable[[], datetime],
        processes: int,
    ) -> None:
        self._sources = sources
        self._reload = reload
        self._started = started
        self._now = now
        self._processes = processes

    def answer(self, payload: bytes, *, peer_uid: int) -> bytes:
        """Answers one request payload. Never raises: trouble is an answer too."""
        try:
            return _dump(self._answer(_load(payload, MAX_REQUEST), peer_uid))
        except ProtocolError as error:
            return _dump({"refused": Refusal.MALFORMED.value, "sentence": str(error)})
        except Exception as error:
            # The one catch-all of the desk, as in agent.py.
            log.exception("request failed: %s", type(error).__name__)
            sentence = "the key agent could not do it, its log tells why"
            return _dump({"refused": Refusal.FAILED.value, "sentence": sentence})

    def _answer(self, request: dict[str, Any], peer_uid: int) -> dict[str, Any]:
        match request.get("op"):
            case "list":
                return self._list(request.get("offset", 0))
            case "status":
                return self._status()
            case "reload":
                log.info("reload asked for by peer_uid=%d", peer_uid)
                self._reload()
                return {"done": True}
        raise ProtocolError("the request is none that the key agent knows")

    def _list(self, offset: object) -> dict[str, Any]:
        if not isinstance(offset, int) or offset < 0:
            raise ProtocolError("the offset is no number")
        keys = [(name, key) for name, source in self._named() for key in _held(source)]
        page = [asdict(_listed(name, key)) for name, key in keys[offset : offset + PAGE]]
        following = offset + PAGE
        return {"keys": page, "next": following if following < len(keys) else 0}

    def _named(self) -> Iterator[tuple[str, KeySource]]:
        return ((source_name(each), each) for each in self._sources())

    def _status(self) -> dict[str, Any]:
        now = self._now()
        return {
            "processes": self._processes,
            "started": self._started.isoformat(),
            "sources": [
                {
                    "name": name,
                    "keys": _count(source),
                    "expired": sum(key.valid_until < now for key in _held(source)),
                }
                for name, source in self._named()
            ],
        }


class AdminClient:
    """Asks the agent on its admin socket. Raises KeyAgentUnavailable and KeyAgentRefused."""

    def __init__(self, path: Path, *, timeout: float = _TIMEOUT) -> None:
        self._path = path
        self._timeout = timeout

    def listed(self) -> Iterator[ListedKey]:
        """Gives all keys that the agent has at hand."""
        offset = 0
        while True:
            answer = self._ask({"op": "list", "offset": offset})
            for entry in answer["keys"]:
                lists = {name: tuple(entry[name]) for name in ("addresses", "schemes")}
                yield ListedKey(**{**entry, **lists})
            if answer["next"] <= offset:
                return
            offset = answer["next"]

    def status(self) -> dict[str, Any]:
        """Gives processes, start and sources."""
        return self._ask({"op": "status"})

    def reload(self) -> None:
        """Has the agent read everything anew."""
        self._ask({"op": "reload"})

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as end:
            try:
                end.connect(str(self._path))
                connection = Connection(end)
                connection.send(_dump(request), within=self._timeout)
                payload = connection.receive(wait=self._timeout, within=self._timeout)
            except (OSError, ProtocolError) as error:
                reason = getattr(error, "strerror", None) or str(error)
                raise KeyAgentUnavailable(
                    f"the key agent does not answer on {self._path}: {reason}; see that mailsigil keyd runs,"
                    " and ask as root or as its user"
                ) from error
        if payload is None:
            raise KeyAgentUnavailable(f"the key agent closed the connection on {self._path}")
        answer = _load(payload, len(payload))
        if "refused" in answer:
            raise KeyAgentRefused(Refusal(answer["refused"]), str(answer.get("sentence", "")))
        return answer


def _held(source: KeySource) -> Sequence[SigningKey]:
    """A gate's keys are those of what is behind it."""
    inner = getattr(source, "source", source)
    for each in (source, inner):
        if isinstance(each, Holding):
            return each.held()
    return ()


def _count(source: KeySource) -> int:
    try:
        return source.count()
    except SourceError:
        return 0


def _listed(name: str, key: SigningKey) -> ListedKey:
    credential = key.credential
    certificate = x509.load_der_x509_certificate(credential.certificate)
    return ListedKey(
        key_id=credential.key_id,
        source=name,
        addresses=tuple(sorted(key.addresses)[:MAX_SHOWN]),
        level=claimed_level(asserted_levels(certificate)).level.value,
        serial=f"{certificate.serial_number:x}",
        valid_from=key.valid_from.isoformat(),
        valid_until=key.valid_until.isoformat(),
        schemes=credential.schemes[:2],
    )


def _dump(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _load(payload: bytes, limit: int) -> dict[str, Any]:
    if len(payload) > limit:
        raise ProtocolError("the request is too long")
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("a frame holds no JSON") from error
    if not isinstance(value, dict):
        raise ProtocolError("a frame holds JSON that is no object")
    return value
