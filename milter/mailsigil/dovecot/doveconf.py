"""What ``doveconf -n`` prints, as values: settings, and blocks inside blocks, in their order. 2.3 and 2.4."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

MAX_TEXT: Final = 4_194_304
"""Octets that are read; real ones have a few thousand."""
MAX_DEPTH: Final = 20
_VERSION: Final = re.compile(r"# ([0-9]+\.[0-9]+)\.[0-9]")
_OPENING: Final = re.compile(r"(\S+)(?: (.*?))? \{")
_SETTING: Final = re.compile(r"(\S+) ?=(?: (.*))?")


class DoveconfError(ValueError):
    """A text that ``doveconf -n`` did not print."""


@dataclass(frozen=True, slots=True)
class Block:
    """A block: its kind ("service"), its name ("imap"; may be empty), and what is in it."""

    kind: str = ""
    name: str = ""
    settings: dict[str, str] = field(default_factory=dict)
    blocks: list[Block] = field(default_factory=list)

    def get(self, name: str) -> str:
        """The value of a setting; empty where it has its default, which ``doveconf -n`` leaves out."""
        return self.settings.get(name, "")

    def all(self, kind: str) -> list[Block]:
        """The blocks of a kind, in their order."""
        return [block for block in self.blocks if block.kind == kind]

    def one(self, kind: str, name: str) -> Block:
        """The block of a kind and name; an empty one where there is none. Of several the last counts."""
        found = [block for block in self.all(kind) if block.name == name]
        return found[-1] if found else Block(kind, name)

    def walk(self) -> Iterator[Block]:
        """This block and all within."""
        yield self
        for block in self.blocks:
            yield from block.walk()


@dataclass(frozen=True, slots=True)
class Doveconf:
    """A whole configuration."""

    version: str
    """"2.3", "2.4"; empty where the text does not tell."""
    top: Block

    def of_protocol(self, name: str, protocol: str) -> str:
        """A setting as it counts for a protocol: what is set there counts more than what is set for all."""
        inner = self.top.one("protocol", protocol).settings
        return inner[name] if name in inner else self.top.get(name)

    def plugins_of(self, protocol: str) -> set[str]:
        """The names of the mail plugins of a protocol."""
        inner = self.top.one("protocol", protocol)
        if "mail_plugins" in inner.settings:
            return set(inner.get("mail_plugins").strip('"').split())
        found = set(self.top.get("mail_plugins").strip('"').split())
        # 2.4: a block of names that are switched on or off, the protocol's after the general one.
        for block in (*self.top.all("mail_plugins"), *inner.all("mail_plugins")):
            for name, value in block.settings.items():
                (found.add if value == "yes" else found.discard)(name)
        return found


def parse(text: str) -> Doveconf:
    """Reads the output of ``doveconf -n``. Raises DoveconfError with the number of the line."""
    if len(text) > MAX_TEXT:
        raise DoveconfError(f"the text is longer than {MAX_TEXT} octets")
    version = ""
    stack = [Block()]
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            found = _VERSION.match(line)
            version = version or (found[1] if found else "")
        elif line == "}":
            if len(stack) == 1:
                raise DoveconfError(f"line {number} closes a block that was not opened")
            stack.pop()
        elif opening := _OPENING.fullmatch(line):
            if len(stack) > MAX_DEPTH:
                raise DoveconfError(f"line {number}: more than {MAX_DEPTH} blocks inside one another")
            block = Block(opening[1], opening[2] or "")
            stack[-1].blocks.append(block)
            stack.append(block)
        elif setting := _SETTING.fullmatch(line):
            stack[-1].settings[setting[1]] = setting[2] or ""
        elif not stack[-1].settings:
            raise DoveconfError(f"line {number} is none that doveconf -n prints: {line[:60]!r}")
        # Else it is the next line of a value with several, such as an inline key.
    if len(stack) > 1:
        raise DoveconfError("the text ends inside a block")
    return Doveconf(version, stack[0])
