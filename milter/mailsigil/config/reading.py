"""Reading the text of configuration files, and reading again exactly what was read before.

A supervisor reads files and finds them good; its workers must not read them a second time, when somebody may
just be writing them. So it keeps what it read, and they read that.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

from mailsigil.config.errors import ConfigError, Finding

MAX_FILE: Final = 64 * 1024 * 1024
"""Octets. A policy file with 100,000 people has about 15 million."""

ReadText = Callable[[Path], str]
"""Gives the text of a file; raises ``ConfigError``."""


def read_text(path: Path) -> str:
    """Read a file as UTF-8, with LF line ends; raises ``ConfigError``."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        sentence = f"cannot be read: {error.strerror}; correct the path or the file's rights"
        raise ConfigError(Finding.of(path, 0, sentence)) from error
    if len(data) > MAX_FILE:
        sentence = f"is larger than {MAX_FILE} octets; name the right file, or move people to a directory"
        raise ConfigError(Finding.of(path, 0, sentence))
    try:
        # Windows editors put a byte order mark in front, which TOML does not know.
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(Finding.of(path, line, "is not UTF-8; save the file as UTF-8")) from error


class Kept:
    """Reads files, each once, and keeps their text."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def __call__(self, path: Path) -> str:
        """Give the text of a file; raises ``ConfigError``."""
        if str(path) not in self._texts:
            self._texts[str(path)] = read_text(path)
        return self._texts[str(path)]

    def packed(self) -> bytes:
        """All of it, for :func:`unpacked`."""
        return json.dumps(self._texts).encode()


def unpacked(packed: bytes) -> ReadText:
    """Give what reads the texts that were kept, and no others."""
    texts: dict[str, str] = json.loads(packed)

    def read(path: Path) -> str:
        try:
            return texts[str(path)]
        except KeyError:
            raise ConfigError(Finding.of(path, 0, "was not read with the rest; reload again")) from None

    return read
