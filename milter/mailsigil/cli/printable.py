"""Texts from outside (directories, authorities, mail), made fit for a terminal."""

from __future__ import annotations

import json


def printable(text: str) -> str:
    """A text that shows as it reads: each control, line break and bidirectional mark is a "?".

    What steers a terminal, or turns what is read around, would let whoever wrote it write the rest of the
    screen, too.
    """
    return text if text.isprintable() else "".join(sign if sign.isprintable() else "?" for sign in text)


def json_text(value: object) -> str:
    """A value for programs, whole: what a terminal would obey is escaped, and the text stays the same."""
    lines = json.dumps(value, ensure_ascii=False, indent=2, default=str).split("\n")
    return "\n".join(line if line.isprintable() else "".join(map(_escaped, line)) for line in lines)


def _escaped(sign: str) -> str:
    # JSON itself asks for no more than the controls of ASCII (RFC 8259 7).
    return sign if sign.isprintable() else json.dumps(sign)[1:-1]
