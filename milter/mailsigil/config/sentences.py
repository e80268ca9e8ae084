"""From an error of pydantic or tomllib to a sentence that an administrator can act on."""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from mailsigil.config.locate import KeyPath

MAX_SHOWN: Final = 60
"""Letters of a wrong value that are repeated in the sentence about it."""

_TYPES: Final[Mapping[str, str]] = {
    "string_type": 'a text in quotes ("...")',
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "tuple_type": "a list in brackets ([...])",
    "dict_type": "a table ({ key = value })",
    "model_type": "a section",
    "model_attributes_type": "a section",
}
"""What was meant, by pydantic's name of the error."""

_BOUNDS: Final[Mapping[str, tuple[str, str]]] = {
    "greater_than_equal": ("ge", "at least"),
    "greater_than": ("gt", "more than"),
    "less_than_equal": ("le", "at most"),
    "less_than": ("lt", "less than"),
}

_SYNTAX: Final = (
    ("Cannot overwrite a value", "this key was given before in the same section"),
    ("Cannot declare", "this section was given before; write its keys under one heading"),
    ("Cannot mutate immutable", "this section was given before in another way"),
    ("Cannot redefine", "this section was given before in another way"),
    ("Invalid value", 'this value cannot be read; texts stand in quotes: "..."'),
    ("Expected '=' after a key", 'behind a key stands "=" and a value'),
    (
        "Expected newline or end of document",
        'there is more on this line than one key and its value; texts stand in quotes: "..."',
    ),
    ("Unclosed array", 'a list misses its closing "]"'),
    ("Unterminated string", "a text misses its closing quote"),
    ("Illegal character", "a text misses its closing quote, or holds a control character"),
    ("Unescaped '\\'", "write a backslash twice, or the whole text in single quotes"),
    ("Expected ']'", 'a section heading misses its closing "]"'),
    ("Expected ']]'", 'a section heading misses its closing "]]"'),
    ("Invalid initial character for a key part", "here should stand a key, and none can be read"),
    ("Invalid statement", "here should stand a key or a [section], and neither can be read"),
)
"""How tomllib's messages begin, and what we say in their place."""


def syntax_sentence(message: str) -> tuple[int, str]:
    """Give line and sentence for the message of a ``tomllib.TOMLDecodeError``; line 0 means the last."""
    place = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)$", message)
    line = int(place[1]) if place and place[1] else 0
    message = message[: place.start()] if place else message
    if not line:
        return 0, 'the file ends in the middle of a value; a list may miss its closing "]"'
    for beginning, sentence in _SYNTAX:
        if message.startswith(beginning):
            return line, sentence
    return line, f"this is no valid TOML: {message}"


def model_sentence(error: ErrorDetails, model: type[BaseModel]) -> str:
    """Give the sentence for one error of validating a TOML document against ``model``."""
    kind = error["type"]
    # pydantic marks a fault in a key, not in its value, by one more step.
    path: KeyPath = error["loc"][:-1] if error["loc"][-1:] == ("[key]",) else error["loc"]
    subject = f'"{_key(path)}"{_within(path)}'
    if kind == "extra_forbidden":
        return _unknown(path, model)
    if kind == "missing":
        return f"the key {subject} is missing"
    if kind in {"tuple_type", "model_type"} and len(path) == 1 and isinstance(error["input"], dict | list):
        return _brackets(str(path[0]), error["input"])
    if kind == "value_error":
        return f"{subject}: {error['ctx']['error']}"
    return f"{subject} must be {_wanted(error)}, and is {shown(error['input'])}{_hint(error)}"


def shown(value: object) -> str:
    """Repeat a wrong value as it would stand in the file, cut to a sane length."""
    match value:
        case bool():
            text = "true" if value else "false"
        case str():
            text = f'"{value}"'
        case list():
            return "a list" if value else "an empty list"
        case dict():
            return "a section"
        case _:
            text = str(value)
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"


def choice(values: Sequence[str]) -> str:
    """``"a", "b" or "c"``"""
    quoted = [f'"{value}"' for value in values]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} or {quoted[-1]}"


def suggestion(word: str, known: Sequence[str]) -> str:
    """``; did you mean "workers"?`` where a known word is near, else nothing."""
    folded = {one.lower(): one for one in known}
    near = difflib.get_close_matches(word.lower(), folded, n=1, cutoff=0.6)
    return f'; did you mean "{folded[near[0]]}"?' if near else ""


def _wanted(error: ErrorDetails) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind in _TYPES:
        return _TYPES[kind]
    if kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        return f"{words} {context[name]:g}"
    if kind == "too_short":
        return f"a list with at least {context['min_length']} {_entries(context['min_length'])}"
    if kind == "too_long":
        return f"a list with at most {context['max_length']} {_entries(context['max_length'])}"
    if kind in {"literal_error", "enum"}:
        return choice(_choices(error))
    return error["msg"]


def _entries(count: int) -> str:
    return "entry" if count == 1 else "entries"


def _choices(error: ErrorDetails) -> list[str]:
    # An empty text stands for "not given", and needs no recommending.
    return [word for word in re.findall(r"'([^']*)'", str(error["ctx"]["expected"])) if word]


def _hint(error: ErrorDetails) -> str:
    if error["type"] in {"literal_error", "enum"} and isinstance(error["input"], str):
        return suggestion(error["input"], _choices(error))
    return ""


def _key(path: KeyPath) -> str:
    """The key that an administrator sees: elements of a list are spoken of by the list's name."""
    names = [part for part in path if isinstance(part, str)]
    return names[-1] if names else ""


def _within(path: KeyPath) -> str:
    """`` in [milter]``, `` in [[trust]]``, or nothing at the top."""
    last = max((index for index, part in enumerate(path) if isinstance(part, str)), default=0)
    parents = path[:last]
    if not parents:
        return ""
    name = ".".join(part for part in parents if isinstance(part, str))
    return f" in [[{name}]]" if isinstance(parents[-1], int) else f" in [{name}]"


def _unknown(path: KeyPath, model: type[BaseModel]) -> str:
    name = _key(path)
    known = known_keys(model, path[:-1])
    hint = suggestion(name, known) or _home(name, model) or f"; known are: {', '.join(known)}"
    if len(path) == 1:
        return f'unknown section or key "{name}"{hint}'
    return f'unknown key "{name}"{_within(path)}{hint}'


def _home(name: str, model: type[BaseModel]) -> str:
    """Where a key belongs that stands in the wrong section."""
    homes = [
        f"[[{section}]]" if _is_list(field.annotation) else f"[{section}]"
        for section, field in model.model_fields.items()
        if (inner := _model_in(field.annotation)) and name in inner.model_fields
    ]
    return f"; it belongs in {' or '.join(homes)}" if homes else ""


def _brackets(section: str, value: object) -> str:
    if isinstance(value, dict):
        return f"[{section}] must be written [[{section}]], as there may be several"
    return f"[[{section}]] must be written [{section}], as there is only one"


def _is_list(annotation: Any) -> bool:
    return get_origin(annotation) is tuple


def known_keys(model: type[BaseModel], path: KeyPath) -> list[str]:
    """The keys that the table at ``path`` may have."""
    for part in path:
        if isinstance(part, str):
            inner = _model_in(model.model_fields[part].annotation)
            if inner is None:
                return []
            model = inner
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that a field holds, be it alone, optional, or in a tuple."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in {tuple, Annotated, Union, types.UnionType}:
        return next((model for part in get_args(annotation) if (model := _model_in(part))), None)
    return None
