"""Other people's odd and broken messages: a verdict for each, soon."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mailsigil.message.author import Author, AuthorFault, parse_author
from mailsigil.message.fields import named, parse_fields
from mailsigil.message.media_type import parse_media_type
from mailsigil.message.reader import read_message
from stopwatch import work_of_less_than

CORPORA = ["mimekit", "stalwart-mail-parser", "mime4j", "mikel-mail", "cpython-email"]


@pytest.mark.parametrize("name", CORPORA)
def test_reading_never_fails_nor_hangs(corpus: Callable[[str], Path], name: str) -> None:
    files = [path for path in sorted(corpus(name).rglob("*")) if path.is_file()]
    assert len(files) > 20
    authors = 0
    for path in files:
        with work_of_less_than(0.5, path.name):
            with path.open("rb") as stream:
                message = read_message(stream)
            with message.body:
                author = parse_author(message.fields)
                for field in named(message.fields, b"content-type"):
                    parse_media_type(field.value)
                fields, offset = parse_fields(message.body.read(0, 65536))
                assert sum(len(field.raw) for field in fields) <= offset + 4
        assert isinstance(author, Author | AuthorFault), path.name
        authors += isinstance(author, Author)
    assert authors > len(files) // 10
