"""What the conformance test found, as values, as lines for people and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any


class Outcome(Enum):
    """How one operation went."""

    PASSED = "passed"
    FAILED = "FAILED"
    NOTE = "note"
    """It works, and there is something to know about it."""
    PENDING = "pending"
    """The source took the request and has not decided yet: neither passed nor failed."""
    NOT_OFFERED = "not offered"
    """The protocol does not know this operation, and mailsigil can do without."""
    SKIPPED = "skipped"
    """It could not be tried, because another one failed or is pending."""


class Conclusion(Enum):
    """What the whole test says."""

    PASSED = "passed"
    PENDING = "pending"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One operation. Sentences end without a full stop."""

    operation: str
    outcome: Outcome
    detail: str
    mend: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The whole test of one source."""

    source: str
    kind: str
    address: str
    lines: tuple[Line, ...]

    @property
    def conclusion(self) -> Conclusion:
        """Failed when anything did, or nothing was tried; pending when a decision is still to come."""
        outcomes = {line.outcome for line in self.lines}
        if Outcome.FAILED in outcomes or not outcomes & {Outcome.PASSED, Outcome.PENDING}:
            return Conclusion.FAILED
        if Outcome.PENDING in outcomes:
            return Conclusion.PENDING
        done = Outcome.SKIPPED not in outcomes and Outcome.PASSED in outcomes
        return Conclusion.PASSED if done else Conclusion.FAILED

    @property
    def passed(self) -> bool:
        """Nothing failed or is pending, and something was tried."""
        return self.conclusion is Conclusion.PASSED

    def text(self) -> str:
        """The lines for people."""
        return "\n".join(self._texts())

    def json(self) -> dict[str, Any]:
        """The same for programs."""
        return {
            "source": self.source,
            "kind": self.kind,
            "address": self.address,
            "conclusion": self.conclusion.value,
            "passed": self.passed,
            "lines": [
                {
                    "operation": line.operation,
                    "outcome": line.outcome.value.lower(),
                    "detail": line.detail,
                    "mend": line.mend,
                    "seconds": round(line.seconds, 3),
                }
                for line in self.lines
            ],
        }

    def _texts(self) -> Iterator[str]:
        yield f'Source "{self.source}" ({self.kind}), tested with {self.address}'
        for line in self.lines:
            time = f", {line.seconds:.2f} s" if line.seconds >= 0.005 else ""
            yield f"  {line.outcome.value:<14} {line.operation:<12} {line.detail}{time}"
            if line.mend:
                yield f"{'':30}mend: {line.mend}"
        failed = sum(line.outcome is Outcome.FAILED for line in self.lines)
        match self.conclusion:
            case Conclusion.PASSED:
                yield "Everything that mailsigil needs works: the source is integrated."
            case Conclusion.PENDING:
                yield "Nothing failed so far: a decision is pending, and the rest is tried after it."
            case Conclusion.FAILED:
                yield f"{failed} of {len(self.lines)} operations failed: the source is not integrated yet."
