"""What is wrong with a file, told to the administrator who wrote it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One mistake in one file."""

    path: str
    line: int
    """From 1; 0 where the mistake has no line, as with a file that is absent."""
    sentence: str
    """What is wrong and what was meant, without a full stop."""

    @classmethod
    def of(cls, path: object, line: int, sentence: str) -> Finding:
        """Make a finding whose sentence may repeat text from the file: what cannot be seen becomes ``?``."""
        return cls(str(path), line, "".join(sign if sign.isprintable() else "?" for sign in sentence))

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}" if self.line else self.path
        return f"{place}: {self.sentence}"


class ConfigError(Exception):
    """A configuration or policy file cannot be used. Holds every finding, in the order of their lines."""

    def __init__(self, *findings: Finding) -> None:
        self.findings = tuple(sorted(set(findings)))
        super().__init__("\n".join(str(finding) for finding in self.findings))
