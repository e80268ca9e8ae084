"""Load the settings."""

from __future__ import annotations

from pathlib import Path

from mailsigil.config.combinations import impossible
from mailsigil.config.document import load_document
from mailsigil.config.errors import ConfigError, Finding
from mailsigil.config.reading import ReadText, read_text
from mailsigil.config.settings import DEFAULT_PATH, Settings

__all__ = ["ConfigError", "Finding", "load_settings"]


def load_settings(path: Path | str = DEFAULT_PATH, *, read: ReadText = read_text) -> Settings:
    """Read the configuration file; raises :class:`ConfigError` with every finding at once.

    Looks at nothing but this one file: whether the files and users that it names exist is for
    ``mailsigil check``.
    """
    document = load_document(Path(path), Settings, read=read)
    document.refuse(impossible(document.value))
    return document.value
