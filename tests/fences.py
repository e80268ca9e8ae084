"""The fenced blocks of a Markdown file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^```(?P<language>[a-z]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Fence:
    """One block: its language ("" where none is named), its text, and the line it begins at."""

    language: str
    text: str
    line: int


def fences(path: Path) -> tuple[Fence, ...]:
    """All blocks of a file, in order."""
    content = path.read_text(encoding="utf-8")
    return tuple(
        Fence(found["language"], found["text"], content.count("\n", 0, found.start()) + 1)
        for found in _FENCE.finditer(content)
    )
