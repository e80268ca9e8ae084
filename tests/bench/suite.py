"""The whole of ``make bench``: rounds of all subjects in turn, memory, one table, the targets.

Exit status 0 when everything was measured, whatever the figures are; 1 when a subject did not do its
work; a figure of work that was not done would be worth nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.load import send, write_message
from bench.memory import measure_memory
from bench.processes import cpu_seconds
from bench.proof import Count, check_sample, sample
from bench.report import Measurement, Results, print_memory, print_table, print_targets
from bench.subjects import Bench, Subject, bench
from mailsigil.demo.programs import DemoError

MESSAGE_OCTETS = 5000
_WARM_UP = 48


def main() -> int:
    """Measures and prints; see ``--help``."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="rounds of all subjects (default 7)")
    parser.add_argument("--messages", type=int, default=500, help="messages of a run (default 500)")
    parser.add_argument("--no-memory", action="store_true", help="leave out the mails of 100 MB")
    arguments = parser.parse_args()
    try:
        with bench() as everything:
            _measure(everything, arguments.rounds, arguments.messages, memory=not arguments.no_memory)
    except DemoError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


def _measure(everything: Bench, rounds: int, count: int, *, memory: bool) -> None:
    plain = write_message(everything.folder / "plain.eml", size=MESSAGE_OCTETS)
    # What is verified is what mailsigil signed; first alone, then with OpenDKIM behind it.
    signed = sample(everything, everything.signing[-1], plain)
    signed_twice = sample(everything, everything.both, plain)
    plan = [(subject, plain) for subject in everything.signing]
    plan += zip(everything.verifying, (signed, signed_twice), strict=True)
    for subject, message in plan:
        check_sample(everything, subject, sample(everything, subject, message))
        _run(everything, subject, message, _WARM_UP)
    results = _rounds(everything, plan, rounds, count)
    print_table(results, rounds=rounds, count=count)
    growths = []
    if memory:
        _say("memory: three mails of 100 MB")
        growths = list(measure_memory(everything, plain, signed))
        print_memory(growths)
    print_targets(results, growths)


def _rounds(everything: Bench, plan: Sequence[tuple[Subject, Path]], rounds: int, count: int) -> Results:
    results: Results = {(subject.name, subject.workers): [] for subject, _ in plan}
    for number in range(rounds):
        _say(f"round {number + 1} of {rounds}: {len(plan)} subjects, {count} messages each")
        for subject, message in plan:
            results[subject.name, subject.workers].append(_run(everything, subject, message, count))
    return results


def _run(everything: Bench, subject: Subject, message: Path, count: int) -> Measurement:
    postfix = everything.postfix.master_pid
    if postfix is None:
        raise DemoError("Postfix has gone away")
    roots = [subject.root] if subject.root else []
    milter, host = sum(map(cpu_seconds, roots)), cpu_seconds(postfix)
    counted = Count(everything, subject)
    sending = send(subject.port, message, count=count)
    counted.check(count)
    milter, host = sum(map(cpu_seconds, roots)) - milter, cpu_seconds(postfix) - host
    return Measurement(
        rate=count / sending.elapsed,
        milter_ms=milter * 1000 / count,
        total_ms=(milter + host + sending.cpu) * 1000 / count,
    )


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)
