"""Read one TOML file into one model, and collect everything that is wrong with it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from mailsigil.config.errors import ConfigError, Finding
from mailsigil.config.locate import KeyPath, locate
from mailsigil.config.reading import ReadText, read_text
from mailsigil.config.sentences import model_sentence, syntax_sentence

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Document(Generic[M]):
    """A file that fits its model, and where its keys stand."""

    path: Path
    value: M
    lines: dict[KeyPath, int]

    def line(self, path: KeyPath) -> int:
        """The line of a key; where the file leaves it out, the line of what it would stand in, or 0."""
        return _line(self.lines, path)

    def refuse(self, mistakes: Iterable[tuple[KeyPath, str]]) -> None:
        """Raise ``ConfigError`` where there is any mistake; each is a place and a sentence."""
        findings = [Finding.of(self.path, self.line(path), sentence) for path, sentence in mistakes]
        if findings:
            raise ConfigError(*findings)


def load_document(path: Path, model: type[M], *, read: ReadText = read_text) -> Document[M]:
    """Read a TOML file; raises ``ConfigError`` with all findings at once."""
    text = read(path)
    data, lines = _parse(path, text)
    try:
        value = model.model_validate(data)
    except ValidationError as error:
        raise ConfigError(
            *(
                Finding.of(path, _line(lines, one["loc"]), model_sentence(one, model))
                for one in error.errors()
                if not _echo(one)
            )
        ) from None
    return Document(path, value, lines)


def _echo(error: ErrorDetails) -> bool:
    """A list is called too short when its elements were refused, which is told of each of them."""
    return error["type"] == "too_short" and len(error["input"]) >= error["ctx"]["min_length"]


def _line(lines: dict[KeyPath, int], path: KeyPath) -> int:
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 0)


def _parse(path: Path, text: str) -> tuple[dict[str, object], dict[KeyPath, int]]:
    try:
        return tomllib.loads(text), locate(text)
    except tomllib.TOMLDecodeError as error:
        line, sentence = syntax_sentence(str(error))
        line = line or text.rstrip().count("\n") + 1
        raise ConfigError(Finding.of(path, line, sentence)) from error
    except RecursionError as error:
        raise ConfigError(Finding.of(path, 0, "lists or tables stand too deep in one another")) from error
