"""Which mail domains the sources look after. What is outside of these is left alone, and told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from mailsigil.directory.api import Listed
from mailsigil.lifecycle.actions import Held, Note
from mailsigil.lifecycle.workplace import Workplace


class Served:
    """Looks at people and certificates as they pass, and leaves out what no source looks after.

    Nobody left where a domain is missing in the settings: a slip in "domains" must not look like it.
    """

    def __init__(self, places: Mapping[str, Workplace]) -> None:
        self._domains = {name: place.rules.domains for name, place in places.items()}
        self._all = frozenset().union(*self._domains.values())
        self._people = Counter[str]()
        self._left_alone = Counter[tuple[str, str]]()

    def people(self, listed: Iterable[Listed]) -> Iterator[Listed]:
        """Give all people, as they come."""
        for each in listed:
            self._people.update({_domain(own.address) for own in each.addresses[:1]})
            yield each

    def held(self, certificates: Iterable[Held]) -> Iterator[Held]:
        """Give the certificates that are looked after, as they come."""
        for each in certificates:
            domain = _domain(each.address)
            if domain in self._domains[each.source]:
                yield each
            else:
                self._left_alone[domain, each.source] += 1

    def notes(self) -> Iterator[Note]:
        """Tell of the others, once all have come."""
        if not self._all & self._people.keys():
            for domain, count in sorted(self._people.items()):
                sentence = (
                    f'{count} people get nothing: no [[source]] that certifies has this domain in "domains"'
                )
                yield Note(source="", address=f"*@{domain}", sentence=sentence)
        for (domain, source), count in sorted(self._left_alone.items()):
            sentence = f'{count} certificates stay as they are: "domains" of the source has not this domain'
            yield Note(source=source, address=f"*@{domain}", sentence=sentence)


def _domain(address: str) -> str:
    return address.rpartition("@")[2]
