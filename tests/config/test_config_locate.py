"""The locator finds every key that tomllib finds, and on its line."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailsigil.config.locate import KeyPath, locate


def _paths(value: Any, path: KeyPath = ()) -> set[KeyPath]:
    found = {path} if path else set()
    if isinstance(value, dict):
        for key, inner in value.items():
            found |= _paths(inner, (*path, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            found |= _paths(inner, (*path, number))
    return found


@pytest.mark.parametrize(
    ("text", "path", "line"),
    [
        pytest.param("a = 1", ("a",), 1, id="top"),
        pytest.param("\n\n[s]\n\na = 1", ("s", "a"), 5, id="in-table"),
        pytest.param("\n[s]\n", ("s",), 2, id="table"),
        pytest.param("[a.b]\nc = 1", ("a",), 1, id="implied-table"),
        pytest.param("[a]\n[a.b]\nc = 1", ("a",), 1, id="table-before-its-child"),
        pytest.param("a.b.c = 1\na.b.d = 2", ("a", "b", "d"), 2, id="dotted"),
        pytest.param("[[p]]\nn=1\n[[p]]\nn=2", ("p", 1, "n"), 4, id="second-of-array"),
        pytest.param("[[p]]\n[[p]]", ("p",), 1, id="array-stands-at-its-first"),
        pytest.param("[[p]]\n[p.q]\nx=1\n[[p]]\n[p.q]\nx=2", ("p", 1, "q", "x"), 6, id="table-in-array"),
        pytest.param("[[p]]\n[[p.q]]\n[[p.q]]\n[[p]]\n[[p.q]]\n", ("p", 1, "q", 0), 5, id="array-in-array"),
        pytest.param("a = [\n  1, # one\n  2,\n]", ("a", 1), 3, id="list-element"),
        pytest.param("a = [\n [1,\n2],\n]\nb = 1", ("b",), 5, id="behind-nested-list"),
        pytest.param("a = [{b = 1},\n {b = 2}]", ("a", 1, "b"), 2, id="inline-table-in-list"),
        pytest.param('a = """\nb = 1\n"""\nb = 2', ("b",), 4, id="behind-multi-line-text"),
        pytest.param('a = """\n""\\"" x """""\nb = 2', ("b",), 3, id="quotes-in-multi-line-text"),
        pytest.param("a = '''\n'' # ]\n'''''\nb = 2", ("b",), 4, id="quotes-in-multi-line-literal"),
        pytest.param('a = "# [x] \\" = "\nb = 2', ("b",), 2, id="text-that-looks-like-toml"),
        pytest.param("a = '[\"'\nb = 2", ("b",), 2, id="literal-with-quote"),
        pytest.param('"a b" = 1\n"\\u00e9" = 2', ("é",), 2, id="escaped-key"),
        pytest.param("'a.b'.\"c\" . d = 1", ("a.b", "c", "d"), 1, id="quoted-dotted-key"),
        pytest.param("a = 1979-05-27 07:32:00\nb = 1", ("b",), 2, id="date-with-space"),
        pytest.param("a = [] # [\nb = {} # {\nc = 1", ("c",), 3, id="brackets-in-comments"),
        pytest.param("[ a . b ] # x\nc = 1", ("a", "b", "c"), 2, id="spaces-in-heading"),
    ],
)
def test_line_of_a_key(text: str, path: KeyPath, line: int) -> None:
    tomllib.loads(text)
    assert locate(text)[path] == line


def test_nothing_in_an_empty_text() -> None:
    assert locate("") == locate("# only a comment") == {}


MARKS = ("[", "]", "[[", "]]", "{", "}", ", ", ".", " = ", '"', "'", '"""', "'''", "\\", "#", " ")
WORDS = ("a", "b", '"c d"', "'e'", "1", "true", '"x"', "1.5", "2026-11-22")
STARTS = ("\n", "\n[a]\n", "\n[[p]]\n", "\na = ", "\nb = [")
PIECES = st.sampled_from(MARKS + WORDS + STARTS)


@settings(max_examples=400, deadline=None)
@given(st.lists(PIECES, max_size=25).map("".join))
def test_agrees_with_tomllib_on_arbitrary_text(text: str) -> None:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    assert set(locate(text)) == _paths(data)


KEYS = st.sampled_from(["a", "b", '"c.d"', "'e f'"])
SIMPLE = ("1", "inf", '"x # y"', "'[z'", "[]", "{}", "[\n]", "2026-11-22 10:00:00Z")
MULTI_LINE = ('"""\n[a]\n"q" \\""""', "'''\nb = 1\n'''")
NESTED = ("[1, [2,\n 3], # no\n]", "{ x = 1, y.z = [{}] }", "[ { a = 1 }, { a = 2 } ]")
VALUES = st.sampled_from(SIMPLE + MULTI_LINE + NESTED)
LINES = st.one_of(
    st.builds("{} = {}".format, KEYS, VALUES),
    st.builds("{}.{} = {}".format, KEYS, KEYS, VALUES),
    st.builds("[{}]".format, KEYS),
    st.builds("[{}.{}]".format, KEYS, KEYS),
    st.builds("[[{}]]".format, KEYS),
    st.builds("[[{}.{}]] # c".format, KEYS, KEYS),
    st.just("   # comment = [") | st.just(""),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(LINES, max_size=12))
def test_agrees_with_tomllib_on_likely_text(lines: list[str]) -> None:
    kept: list[str] = []
    for line in lines:  # keep what makes a valid document
        try:
            tomllib.loads("\n".join([*kept, line]))
        except tomllib.TOMLDecodeError:
            continue
        kept.append(line)
    text = "\n".join(kept)
    found = locate(text)
    assert set(found) == _paths(tomllib.loads(text))
    for path, line in found.items():
        if isinstance(path[-1], str):
            assert path[-1] in text.split("\n")[line - 1]
