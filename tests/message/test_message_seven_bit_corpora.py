"""Published odd and broken mail: every message gets a 7-bit form with the same tree, or a sentence.

The messages are read as they would come through SMTP: CRLF line ends, no mbox line. The tree is that of
Python's email package, with the differences that ``mime_trees`` evens out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mailsigil.message.cleanliness import is_clean
from mailsigil.message.mime import MimeLimitError
from mailsigil.message.seven_bit import Unsignable, to_seven_bit
from mime_trees import crlf, octets, split, tree

CORPORA = {"mimekit": 20, "stalwart-mail-parser": 90, "mime4j": 60, "mikel-mail": 90, "cpython-email": 40}
"""The least number of messages that must come out signable, so that refusing everything is no way out."""

MESSAGES = (".eml", ".msg", ".txt", "")

REFUSED = {
    # A boundary line after the closing one: some readers would show what follows.
    "msg_15.txt": ("cpython-email", "parts-after-end"),
    "005.eml": ("stalwart-mail-parser", "parts-after-end"),
    # Content-Type fields that disagree, above 8-bit octets.
    "multi-bad.msg": ("mime4j", "ambiguous-part"),
    "020.eml": ("stalwart-mail-parser", "ambiguous-part"),
    "021.eml": ("stalwart-mail-parser", "ambiguous-part"),
    # An encoding called "plain", and uuencode, above octets that are not ASCII.
    "content_transfer_encoding_plain.eml": ("mikel-mail", "unknown-encoding"),
    "026.eml": ("stalwart-mail-parser", "unknown-encoding"),
    # A boundary that does not fit into a line of 998.
    "very-very-long-boundary.msg": ("mime4j", "broken-multipart"),
    # Octets in a Content-Type that belong to no parameter.
    "010.eml": ("stalwart-mail-parser", "header-field"),
}
"""Every refusal by the name of its file, with its corpus and reason."""


def messages(folder: Path) -> Iterator[tuple[Path, bytes]]:
    for path in sorted(folder.rglob("*")):
        if (
            not path.is_file()
            or path.suffix not in MESSAGES
            or "decoded" in path.name
            or "LICENSE" in path.name
        ):
            continue
        raw = crlf(path.read_bytes())
        if raw.startswith((b"From ", b">From ")):
            raw = raw.partition(b"\r\n")[2]
        yield path, raw


@pytest.mark.parametrize(("name", "least"), CORPORA.items(), ids=CORPORA.keys())
def test_every_message_keeps_its_tree_or_is_refused(
    name: str, least: int, corpus: Callable[[str], Path]
) -> None:
    signable = 0
    refused: dict[str, str] = {}
    for path, raw in messages(corpus(name)):
        fields, body = split(raw)
        try:
            entity = octets(to_seven_bit(fields, body))
        except (Unsignable, MimeLimitError) as error:
            refused[path.name] = getattr(error, "reason", "limit")
            continue
        signable += 1
        assert is_clean(entity), path
        assert tree(entity) == tree(raw), path
    assert refused == {file: reason for file, (source, reason) in REFUSED.items() if source == name}
    assert signable >= least
