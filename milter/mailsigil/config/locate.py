"""On which line of a TOML text each key stands.

``tomllib`` reads the values and gives no positions, and neither do its relatives. This reads the same text a
second time for nothing but the positions. It relies on ``tomllib`` having accepted the text before, so it
neither repeats the checks nor interprets values.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from typing import Final

KeyPath = tuple[str | int, ...]
"""Where a value stands: ``("trust", 1, "files", 0)`` is the first file of the second ``[[trust]]``."""

_BLANK: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE: Final = re.compile(r"[ \t]*")
_KEY: Final = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'""")
_VALUE: Final = re.compile(
    r'"""(?:[^"\\]|\\[\s\S]|"{1,2}(?!"))*"{3,5}'
    r"|'''(?:[^']|'{1,2}(?!'))*'{3,5}"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'"
    r"|[^,\]}#\n\"'\[{]+"
)


def locate(text: str) -> dict[KeyPath, int]:
    """Map every table, key, array element to its line, counted from 1.

    ``text`` must have been accepted by ``tomllib.loads``; ``ValueError`` where this is found untrue.
    """
    return _Locator(text).run()


class _Locator:
    """One walk over one text. ``_at`` is the offset that is read next."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line_starts = [0, *(match.end() for match in re.finditer("\n", text))]
        self._lines: dict[KeyPath, int] = {}
        self._tables_of: dict[KeyPath, int] = {}
        """How many ``[[...]]`` there are so far of each path."""

    def run(self) -> dict[KeyPath, int]:
        table: KeyPath = ()
        self._skip(_BLANK)
        while self._at < len(self._text):
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table)
            self._skip(_BLANK)
        return self._lines

    def _header(self) -> KeyPath:
        line = self._line()
        array = self._text.startswith("[[", self._at)
        self._at += 2 if array else 1
        keys = self._keys()
        self._expect("]]" if array else "]")
        path: KeyPath = ()
        for key in keys[:-1]:
            path = self._latest((*path, key))
            self._lines.setdefault(path, line)
        path = (*path, keys[-1])
        self._lines.setdefault(path, line)
        if array:
            number = self._tables_of.get(path, 0)
            self._tables_of[path] = number + 1
            path = (*path, number)
            self._lines[path] = line
        return path

    def _latest(self, path: KeyPath) -> KeyPath:
        # A table below an array of tables belongs to the array's last element.
        return (*path, self._tables_of[path] - 1) if path in self._tables_of else path

    def _pair(self, table: KeyPath) -> None:
        line = self._line()
        path = table
        for key in self._keys():
            path = (*path, key)
            self._lines.setdefault(path, line)
        self._expect("=")
        self._value(path)

    def _keys(self) -> list[str]:
        keys = [self._key()]
        while self._text.startswith(".", self._at):
            self._at += 1
            keys.append(self._key())
        return keys

    def _key(self) -> str:
        self._skip(_SPACE)
        token = self._match(_KEY)
        self._skip(_SPACE)
        if token[0] == '"':
            return str(tomllib.loads(f"key = {token}")["key"])
        return token[1:-1] if token[0] == "'" else token

    def _value(self, path: KeyPath) -> None:
        self._skip(_SPACE)
        opening = self._text[self._at : self._at + 1]
        if opening == "[":
            self._array(path)
        elif opening == "{":
            self._inline_table(path)
        else:
            self._match(_VALUE)

    def _array(self, path: KeyPath) -> None:
        self._at += 1
        self._skip(_BLANK)
        number = 0
        while not self._closed("]"):
            self._lines[(*path, number)] = self._line()
            self._value((*path, number))
            number += 1
            self._comma()

    def _inline_table(self, path: KeyPath) -> None:
        self._at += 1
        self._skip(_BLANK)
        while not self._closed("}"):
            self._pair(path)
            self._comma()

    def _closed(self, bracket: str) -> bool:
        if not self._text.startswith(bracket, self._at):
            return False
        self._at += 1
        return True

    def _comma(self) -> None:
        self._skip(_BLANK)
        if self._text.startswith(",", self._at):
            self._at += 1
            self._skip(_BLANK)

    def _line(self) -> int:
        return bisect_right(self._line_starts, self._at)

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self._text, self._at)
        self._at = match.end() if match else self._at

    def _match(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if not match:
            raise ValueError(f"no TOML on line {self._line()}")
        self._at = match.end()
        return match.group()

    def _expect(self, token: str) -> None:
        if not self._text.startswith(token, self._at):
            raise ValueError(f'no "{token}" on line {self._line()}')
        self._at += len(token)
