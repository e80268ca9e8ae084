"""DKIM results that a trusted server in front of us has written down already (RFC 8601)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence

from mailsigil.dkim.signature import a_labels
from mailsigil.dkim.words import DkimResult, DkimWord
from mailsigil.message.fields import Field

MAX_FIELD = 16384
"""Octets of an Authentication-Results value that are read."""

_TRACE = frozenset(
    {
        *(b"received", b"return-path", b"delivered-to", b"received-spf", b"authentication-results"),
        *(b"dkim-signature", b"arc-seal", b"arc-message-signature", b"arc-authentication-results"),
        *(b"dkim-filter", b"dmarc-filter", b"arc-filter"),
    }
)
"""RFC 5322 3.6.7, RFC 8601 5, and what filters put there beside it; ``X-`` fields as well."""

_PIECE = re.compile(r'"(?:[^"\\]|\\.)*"|\\.|[()]|[^"\\()]+', re.DOTALL)
# The text is divided here as by _PIECE: a quote behind a backslash begins no string. One without end is taken
# as well, so that each letter is looked at once.
_PART = re.compile(r'(?:"(?:[^"\\]|\\.)*+"?|\\.|[^;"\\])+', re.DOTALL)
_SERVER = re.compile(r'\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"=]+))(?:\s+[0-9]+)?\s*')
_RESULT = re.compile(r"\s*dkim(?:\s*/\s*[0-9]+)?\s*=\s*([a-z]+)(?![^\s])", re.IGNORECASE)
# A quoted-string that is not the value of such a property is passed over as a whole.
_PROPERTY = re.compile(
    r'\sheader\s*\.\s*([dis])\s*=\s*(?:"((?:[^"\\]|\\.)*+)"|([^\s;"]+))|"(?:[^"\\]|\\.)*+"?|\\.',
    re.IGNORECASE | re.DOTALL,
)
_WORDS = {word.value: word for word in DkimWord}
_REASON = "a trusted server says so"


def upstream_results(
    fields: Sequence[Field], servers: Collection[str], *, most: int
) -> tuple[DkimResult, ...] | None:
    """Take over the DKIM results of the topmost ``Authentication-Results`` of a trusted server.

    ``servers`` are authserv-ids in lower case. Gives None when no such server has spoken of DKIM: then
    the signatures have to be verified here. The topmost field alone counts, because a server writes above
    what others wrote in its name before, and only among what servers write on the way: what stands below
    the first field of the author came with the mail. At most ``most`` results are taken.
    """
    for field in fields:
        if field.key not in _TRACE and not field.key.startswith(b"x-"):
            return None
        if field.key != b"authentication-results":
            continue
        text = _readable(field.value)
        if text is None:
            continue
        server, *parts = _PART.findall(text) or [""]
        name = _SERVER.fullmatch(server)
        if name is None or (name[1] or name[2]).lower().rstrip(".") not in servers:
            continue
        results = [result for part in parts for result in _result(part)]
        if not results:
            return None
        return tuple(result for result in results if result.word is not DkimWord.NONE)[:most]
    return None


def _readable(value: bytes) -> str | None:
    """The text without its comments (RFC 5322 3.2.2); None when its quotes and comments do not end."""
    if len(value) > MAX_FIELD or not value.isascii():
        return None
    kept: list[str] = []
    depth = position = 0
    text = value.replace(b"\r\n", b"").decode("ascii")
    # Inside of a comment quotes mean nothing, so pieces are cut anew there.
    while position < len(text):
        match = (_COMMENT_PIECE if depth else _PIECE).match(text, position)
        if match is None:
            return None
        position = match.end()
        if match[0] == "(":
            depth += 1
        elif match[0] == ")":
            if depth == 0:
                return None
            depth -= 1
            kept.append(" ")
        elif depth == 0:
            kept.append(match[0])
    return "".join(kept) if depth == 0 else None


_COMMENT_PIECE = re.compile(r"\\.|[()]|[^\\()]+", re.DOTALL)


def _result(part: str) -> Iterator[DkimResult]:
    match = _RESULT.match(part)
    word = _WORDS.get(match[1].lower()) if match else None
    if match is None or word is None:
        return
    found: dict[str, str] = {}
    for name, quoted, plain in _PROPERTY.findall(part, match.end()):
        if name:
            found.setdefault(name.lower(), quoted or plain)
    domain = found.get("d") or found.get("i", "").rpartition("@")[2]
    reason = "" if word is DkimWord.PASS else _REASON
    yield DkimResult(word, _label(domain), _label(found.get("s", "")), reason)


def _label(text: str) -> str:
    return a_labels(text.encode("ascii"))
