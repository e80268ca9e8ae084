"""How much the processes of mailsigil grow by one message of 100 MB."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.load import Queue, send, write_message
from bench.processes import command_line, forget_peak, memory_kib, tree
from bench.proof import Count, sample
from bench.subjects import Bench, Subject, start

SIZE = 100_000_000
_WARM_UP = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """Of the process that grew most; MiB."""

    what: str
    before: float
    peak: float
    process: str
    seconds: float

    @property
    def growth(self) -> float:
        return self.peak - self.before


def measure_memory(bench: Bench, small: Path, small_signed: Path) -> Iterator[Growth]:
    """Each message goes through a service that is fresh, except for small mail in both directions."""
    warm_up = (small, small_signed)
    text = write_message(bench.folder / "big-7bit.eml", size=SIZE)
    yield _through(bench, "signs 100 MB, 7-bit", bench.big[0], text, warm_up)
    with ExitStack() as stack:
        start(bench.memory, stack)
        signed = sample(bench, bench.big[0], text)
    text.unlink()
    yield _through(bench, "verifies 100 MB", bench.big[1], signed, warm_up)
    signed.unlink()
    text = write_message(bench.folder / "big-8bit.eml", size=SIZE, eight_bit=True)
    yield _through(bench, "signs 100 MB, 8-bit", bench.big[0], text, warm_up)
    text.unlink()


def _through(bench: Bench, what: str, subject: Subject, message: Path, warm_up: tuple[Path, Path]) -> Growth:
    with ExitStack() as stack:
        service = start(bench.memory, stack)
        for direction, small in zip(bench.big, warm_up, strict=True):
            queue = Queue(bench.postfix.log)
            send(direction.port, small, count=_WARM_UP)
            queue.drained(_WARM_UP)
        pids = tree(service.daemon.pid)
        for pid in pids:
            forget_peak(pid)
        before = {pid: memory_kib(pid, "VmRSS") for pid in pids}
        count = Count(bench, subject)
        sending = send(subject.port, message)
        peak = {pid: memory_kib(pid, "VmHWM") for pid in pids}
        count.check(1)
        most = max(pids, key=lambda pid: peak[pid] - before[pid])
        return Growth(
            what=what,
            before=before[most] / 1024,
            peak=peak[most] / 1024,
            process=f"{command_line(most).split()[3]} {most}",
            seconds=sending.elapsed,
        )
