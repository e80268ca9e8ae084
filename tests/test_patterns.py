"""Regular expressions: none takes more time than in step with its input. One that does holds up all mail of
its process, since Python's engine lets go of nothing while it searches.

The patterns, and how each is used, are read from the source. From the structure of each come inputs that
lead it as far as each of its parts and go on with what could be read again and again. Work of this thread is
counted, not time, and a pattern has hundreds of times what a good one needs.
"""

from __future__ import annotations

import ast
import importlib
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import mailsigil
from mailsigil.message.encoded_words import EncodedWordError, decode_words
from stopwatch import work_of_less_than

pytestmark = pytest.mark.integration  # takes seconds

PACKAGE = Path(mailsigil.__file__).parent
TEXT_OF_ADMINISTRATORS = frozenset({"cli", "config", "demo", "directory", "keys", "km", "lifecycle", "usage"})
"""Rooms whose patterns meet no octets of a stranger's mail."""
WITHIN_BOUNDS = {
    "message/fields.py:_PIECE": "a text of ours, without white space around it",
    "division.py:_OPENING": "one line that is cut to a boundary's length",
    "division.py:_CLOSING": "the same",
    "message/encoded_words.py:_WORD": "a text that ends where a word can end: tried below",
}

METHODS = frozenset({"search", "match", "fullmatch", "finditer", "findall", "sub", "split"})
SIZE = 8000
ENOUGH = 0.04
"""Seconds of a processor. In step with these letters it is below 0.001; in their square, above 0.06."""

USUAL = ' \t\r\nx0"\\=?:;,@.()<>-\xff'
parse_pattern = importlib.import_module("re._parser").parse


def _constant(node: ast.Call) -> ast.Constant | None:
    """The pattern of ``re.search("...", ...)`` where it is written there."""
    function = node.func
    named = isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name)
    if not named or function.value.id != "re" or function.attr not in METHODS:  # type: ignore[attr-defined]
        return None
    return node.args[0] if isinstance(node.args[0], ast.Constant) else None


def _uses(tree: ast.AST) -> dict[str, set[str]]:
    """Which methods are taken of which name."""
    found: dict[str, set[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in METHODS and isinstance(node.value, ast.Name):
            found.setdefault(node.value.id, set()).add(node.attr)
    return found


@cache
def _patterns() -> dict[str, tuple[re.Pattern[Any], frozenset[str]]]:
    """Each pattern with the methods that are called; both ways of search where that cannot be seen."""
    found: dict[str, tuple[re.Pattern[Any], frozenset[str]]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        place = path.relative_to(PACKAGE)
        if place.parts[0] in TEXT_OF_ADMINISTRATORS or path.name in ("__init__.py", "__main__.py"):
            continue
        tree = ast.parse(path.read_text())
        uses = _uses(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and (constant := _constant(node)):
                method = frozenset({node.func.attr})  # type: ignore[attr-defined]
                found[f"{place}:{node.lineno}"] = re.compile(constant.value), method  # type: ignore[type-var]
        module = importlib.import_module(".".join(("mailsigil", *place.with_suffix("").parts)))
        for name, value in vars(module).items():
            if isinstance(value, re.Pattern):
                found[f"{place}:{name}"] = value, frozenset(uses.get(name, {"search", "fullmatch"}))
    return found


def _below(operation: str, value: Any) -> Sequence[Any]:
    """The sequences inside of one element of a parsed pattern."""
    match operation:
        case "SUBPATTERN":
            return [value[-1]]
        case "ATOMIC_GROUP":
            return [value]
        case "BRANCH":
            return list(value[1])
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
            return [value[2]]
        case "ASSERT" | "ASSERT_NOT":
            return [value[1]]
    return []


def _letters(items: Any) -> Iterator[str]:
    """Letters that a pattern names."""
    for operation, value in items:
        match str(operation):
            case "LITERAL" | "NOT_LITERAL":
                yield chr(value)
            case "RANGE":
                yield from map(chr, value)
            case "IN":
                yield from _letters(value)
            case kind:
                for below in _below(kind, value):
                    yield from _letters(below)


def _fitting(items: Any, alphabet: str) -> str:
    """A text that fits these elements, each taken as often as it must be, and once at least."""
    text = ""
    for operation, value in items:
        match str(operation):
            case "LITERAL":
                text += chr(value)
            case "ANY" | "NOT_LITERAL" | "IN" as kind:
                element = re.compile(_class(kind, value), re.DOTALL)
                text += next((letter for letter in "x" + alphabet if element.match(letter)), "x")
            case kind if not kind.startswith("ASSERT"):
                times = min(max(value[0], 1), 5) if kind.endswith("REPEAT") else 1
                text += "".join(_fitting(below, alphabet) for below in _below(kind, value)[:1]) * times
    return text


def _class(kind: str, value: Any) -> str:
    """A class of letters, written as a pattern again."""
    if kind == "ANY":
        return "."
    if kind == "NOT_LITERAL":
        return f"[^{re.escape(chr(value))}]"
    words = {"SPACE": r"\s", "NOT_SPACE": r"\S", "DIGIT": r"\d", "NOT_DIGIT": r"\D", "WORD": r"\w"}
    written = ""
    for operation, each in value:
        match str(operation):
            case "NEGATE":
                written += "^"
            case "LITERAL":
                written += re.escape(chr(each))
            case "RANGE":
                written += "-".join(re.escape(chr(end)) for end in each)
            case _:
                written += words.get(str(each).removeprefix("CATEGORY_"), r"\W")
    return f"[{written}]"


def _ways_in(items: Any, alphabet: str, before: str = "") -> Iterator[str]:
    """Texts that lead as far as each element."""
    items = list(items)
    for number, (operation, value) in enumerate(items):
        if str(operation) == "LITERAL":
            continue
        here = before + _fitting(items[:number], alphabet)
        yield here
        for below in _below(str(operation), value):
            yield from _ways_in(below, alphabet, here)
    yield before + _fitting(items, alphabet)


def _hostile(pattern: re.Pattern[Any], size: int) -> Iterator[str]:
    tree = parse_pattern(pattern.pattern, pattern.flags)
    alphabet = "".join(dict.fromkeys(letter for letter in (*_letters(tree), *USUAL) if letter <= "\xff"))
    ways = dict.fromkeys(_ways_in(tree, alphabet))
    for way in ways:
        for letter in alphabet:
            yield way + letter * size
        if way:
            for repeated in (way, *(way + letter for letter in alphabet[:12])):
                yield repeated * (size // len(repeated))


def _work(pattern: re.Pattern[Any], method: str, text: str) -> float:
    given: Any = text.encode("latin-1") if isinstance(pattern.pattern, bytes) else text
    call = getattr(pattern, method)
    begun = time.thread_time()
    if method == "sub":
        call(given[:0], given)
    else:
        found = call(given)
        if method == "finditer":
            list(found)
    return time.thread_time() - begun


def _first_slow(pattern: re.Pattern[Any], method: str) -> str:
    # Small ones first, so that one that is worse than a square comes to an end as well.
    for size in (24, 400, SIZE):
        for text in _hostile(pattern, size):
            # Mostly fits up to its last letter. What else the machine does can count once, not three times.
            if all(_work(pattern, method, text + "\0") > ENOUGH for _ in range(3)):
                return f"{method} in {size} letters such as {text[:40]!r}"
    return ""


@pytest.mark.parametrize("name", sorted(_patterns()))
def test_patterns_work_in_step_with_their_input(name: str) -> None:
    pattern, methods = _patterns()[name]
    slow = [_first_slow(pattern, method) for method in sorted(methods)] if name not in WITHIN_BOUNDS else []
    assert not any(slow), f"{name}: {slow}"


@pytest.mark.parametrize(
    ("slow", "method"),
    [
        (rb"[\r\n][^!-~]*from[^!-~]*:", "search"),
        (rb":[^\0]*?\n[ \t\r]*\n\s*\S", "search"),
        (rb"boundary[ \t]*\*?[0-9]*\*?[ \t]*=", "search"),
        (r'(?:"(?:[^"\\]|\\.)*"|[^;"])+', "findall"),
        (r"(?:a+)+b", "search"),
    ],
)
def test_slow_patterns_are_found(slow: bytes | str, method: str) -> None:
    assert _first_slow(re.compile(slow), method)  # type: ignore[type-var]


@pytest.mark.parametrize(
    "piece", ["=?", "=?a?q?", "=?a?q?b", "?=", "=?a?q?b?=", "=?a?x?=", "=?a?q?b?= ", "?"]
)
@pytest.mark.parametrize("end", ["", "?=", "=?a?q?"])
def test_encoded_words_are_searched_in_step_with_the_text(piece: str, end: str) -> None:
    with work_of_less_than(0.5), suppress(EncodedWordError):
        decode_words(piece * (200_000 // len(piece)) + end)


def test_exceptions_are_there() -> None:
    assert set(WITHIN_BOUNDS) <= set(_patterns())
