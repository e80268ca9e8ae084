"""How much work something is. A clock on the wall also counts what else the machine does meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def work_of_less_than(seconds: float, what: str = "") -> Iterator[None]:
    """Holds what this thread does to ``seconds`` of a processor."""
    begun = time.thread_time()
    yield
    took = time.thread_time() - begun
    assert took < seconds, f"{what} took {took:.2f} seconds of work"
