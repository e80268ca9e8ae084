"""TXT lookups for DKIM keys, on dnspython, with a small cache."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

import dns.exception
import dns.name
import dns.rdatatype
import dns.rdtypes.ANY.TXT
import dns.resolver

TxtLookup = Callable[[bytes], bytes | None]
"""Gives the TXT record of an absolute name, its strings joined; None when there is none.
Raises :class:`DnsTrouble` when that cannot be told now."""

MAX_ENTRIES = 1024
MAX_RECORD = 16384
"""Octets of a record that is kept; a longer one is no key and counts as none."""
MAX_TTL = 3600.0
"""Seconds that an answer is kept at most, whatever its TTL."""
NEGATIVE_TTL = 60.0
"""Seconds that "there is none" is kept."""


class DnsTrouble(Exception):
    """DNS gave no answer in time, or an answer that says nothing. A later try may help."""


def make_txt_lookup(
    servers: Sequence[str],
    port: int,
    timeout: float,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> TxtLookup:
    """Make a lookup that may be shared by threads.

    ``servers`` are IP addresses; none means those of the system, whose port is 53. ``timeout`` bounds
    one lookup in all, in seconds. ``clock`` gives seconds for the age of cached answers.
    """
    try:
        resolver = _resolver(servers, port, timeout)
    except dns.resolver.NoResolverConfiguration:
        return _no_servers
    return _CachedLookup(resolver, clock)


def _resolver(servers: Sequence[str], port: int, timeout: float) -> dns.resolver.Resolver:
    resolver = dns.resolver.Resolver(configure=not servers)
    if servers:
        resolver.nameservers = list(servers)
        resolver.port = port
    resolver.lifetime = timeout
    resolver.timeout = min(timeout, 2.0)  # for one try; a lost packet is asked again
    return resolver


def _no_servers(name: bytes) -> bytes | None:
    raise DnsTrouble("no DNS servers are configured")


def within(txt: TxtLookup, seconds: float, clock: Callable[[], float]) -> TxtLookup:
    """Bound the time that all lookups of one message take together.

    The last one may take its own time beyond that; every further one is :class:`DnsTrouble`.
    """
    end = clock() + seconds

    def bounded(name: bytes) -> bytes | None:
        if clock() > end:
            raise DnsTrouble("the time for the lookups of this message is over")
        return txt(name)

    return bounded


class _CachedLookup:
    def __init__(self, resolver: dns.resolver.Resolver, clock: Callable[[], float]) -> None:
        self._resolver = resolver
        self._clock = clock
        self._lock = threading.Lock()
        self._answers: OrderedDict[bytes, tuple[float, bytes | None]] = OrderedDict()

    def __call__(self, name: bytes) -> bytes | None:
        key = name.lower()
        with self._lock:
            known = self._answers.get(key)
            if known is not None and known[0] > self._clock():
                self._answers.move_to_end(key)
                return known[1]
        # Not under the lock: one slow name must not hold up the others.
        value, ttl = self._ask(key)
        with self._lock:
            self._answers[key] = (self._clock() + ttl, value)
            self._answers.move_to_end(key)
            while len(self._answers) > MAX_ENTRIES:
                self._answers.popitem(last=False)
        return value

    def _ask(self, name: bytes) -> tuple[bytes | None, float]:
        try:
            wanted = dns.name.from_text(name.decode("ascii"))
        except (dns.exception.DNSException, UnicodeError):
            return None, NEGATIVE_TTL  # such a name cannot exist
        try:
            answer = self._resolver.resolve(wanted, dns.rdatatype.TXT, raise_on_no_answer=False, search=False)
        except dns.resolver.NXDOMAIN:
            return None, NEGATIVE_TTL
        except (dns.exception.DNSException, OSError) as error:
            # Time-outs, SERVFAIL from all servers, answers that cannot be read.
            raise DnsTrouble(str(error)) from error
        if answer.rrset is None:
            return None, NEGATIVE_TTL
        return _choose(answer.rrset), min(float(answer.rrset.ttl), MAX_TTL)


def _choose(records: Iterable[object]) -> bytes | None:
    """Give the one record that is a key.

    Several are an error of the domain (RFC 6376 3.6.2.2); then a fixed one is taken, whatever their
    order in the answer was.
    """
    texts = [b"".join(record.strings) for record in records if isinstance(record, dns.rdtypes.ANY.TXT.TXT)]
    texts = sorted(text for text in texts if len(text) <= MAX_RECORD)
    keys = [text for text in texts if text.startswith(b"v=DKIM1")]
    return next(iter(keys or texts), None)
