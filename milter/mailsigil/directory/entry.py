"""One entry of an LDAP directory, and its values as Python's. What is none of a kind is said, not guessed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

MAX_VALUES: Final = 10_000
"""Values of one attribute that are read."""
MAX_VALUE: Final = 4096
"""Octets of one value that are read."""

_TIME: Final = re.compile(
    r"(\d{4})(\d\d)(\d\d)(\d\d)(?:(\d\d)(?:(\d\d))?)?(?:[.,]\d{1,9})?(Z|[+-]\d\d(?:\d\d)?)"
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A distinguished name and attributes by their names in lower case."""

    dn: str
    attributes: Mapping[str, tuple[bytes, ...]]

    def texts(self, names: Iterable[str]) -> tuple[str, ...]:
        """Give the readable values of several attributes, one after the other, each once."""
        found: dict[str, None] = {}
        for name in names:
            for value in self.attributes.get(name.lower(), ())[:MAX_VALUES]:
                text = _text(value)
                if text:
                    found[text] = None
        return tuple(found)

    def all_texts(self, names: Iterable[str]) -> Iterator[str]:
        """Give the readable values of several attributes, however many there are."""
        for name in names:
            yield from filter(None, map(_text, self.attributes.get(name.lower(), ())))

    def text(self, names: Iterable[str]) -> str:
        """Give the first value, or an empty text."""
        return next(iter(self.texts(names)), "")

    def has(self, name: str) -> bool:
        """Tell whether an attribute is there at all."""
        return bool(self.attributes.get(name.lower()))


def _text(value: bytes) -> str:
    """A value as text; empty where it is none that an administrator can have meant."""
    if len(value) > MAX_VALUE:
        return ""
    try:
        text = value.decode("utf-8").strip()
    except UnicodeDecodeError:
        return ""
    return text if text.isprintable() else ""


def parse_time(text: str) -> datetime:
    """Read a GeneralizedTime (RFC 4517 3.3.13), aware; raises ValueError with a sentence."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f'"{text}" is no time; write one like 20271231235959Z')
    year, month, day, hour, minute, second, zone = match.groups()
    try:
        return datetime(
            int(year), int(month), int(day), int(hour), int(minute or 0), int(second or 0), tzinfo=_zone(zone)
        )
    except ValueError as error:
        raise ValueError(f'"{text}" is no time: {error}') from error


def _zone(text: str) -> timezone:
    if text == "Z":
        return UTC
    offset = timedelta(hours=int(text[1:3]), minutes=int(text[3:5] or 0))
    return timezone(-offset if text[0] == "-" else offset)
