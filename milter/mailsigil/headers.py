"""The three header fields that tell a reader who sent a mail, and the removal of forged ones.

``Authentication-Results`` is for programs (RFC 8601, RFC 7281), ``Verified-Identity`` for mail clients
that can read MIME parameters, ``Verified-Identity-Text`` for people in any client.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from datetime import UTC
from functools import lru_cache

import idna

from mailsigil.dkim.arc import ArcResult
from mailsigil.dkim.verdict import DkimResult, DkimWord, aligned, best
from mailsigil.header_syntax import fold, is_plain, is_token, parameter, quoted, unstructured
from mailsigil.message.fields import Field
from mailsigil.pki.level import identity_text
from mailsigil.pki.names import CertificateNames, clean_name
from mailsigil.plan import DeleteField
from mailsigil.verdict import Identity, Note, Reason, SmimeWord, Status, Verdict

RESULTS = "Authentication-Results"
IDENTITY = "Verified-Identity"
TEXT = "Verified-Identity-Text"

MAX_RESULTS = 20
"""DKIM signatures that are told of."""
MAX_VALUE = 400
"""Characters of one value in ``Authentication-Results``; a longer one is left out, since a cut name
would be another name."""

_LETTERS = re.compile(r"[^a-z]")
_USUAL_NAME = 64
"""Octets of a field name that is met again and again."""
_PLAIN_ADDRESS = re.compile(r"[A-Za-z0-9!#$%&'*+^_`{|}~.-]+@[A-Za-z0-9.-]+")
_UNCHECKED_SENTENCE = "The message was not checked."


def strip_forged(fields: Sequence[Field], authserv_id: str) -> tuple[DeleteField, ...]:
    """Find the fields that only we may write: every ``Verified-Identity*``, and each
    ``Authentication-Results`` that speaks in our name or in a name that cannot be read. A field with one of
    these behind a stray line break, where some readers see a field of its own, is one of them.

    Gives deletions in the order of the fields, with occurrences counted before any edit.
    """
    own = _own_name(authserv_id)
    seen: Counter[bytes] = Counter()
    found: list[DeleteField] = []
    for field in fields:
        seen[field.key] += 1
        if _is_ours(field.name, field.value, own) or _hides_ours(field.value, own):
            found.append(DeleteField(field.name.rstrip(b" \t"), seen[field.key]))
    return tuple(found)


def identity_fields(
    verdict: Verdict,
    dkim: Sequence[DkimResult],
    authserv_id: str,
    *,
    author_domain: str = "",
    arc: ArcResult | None = None,
) -> tuple[Field, Field, Field]:
    """Write ``Authentication-Results``, ``Verified-Identity`` and ``Verified-Identity-Text``.

    ``author_domain`` is the domain of the one author, lower-case A-labels, empty where there is none:
    ``dkim=`` in ``Verified-Identity`` speaks of that domain only. ``arc`` is told of when the message has a
    chain. An identity is shown only beside
    ``SmimeWord.PASS`` and ``Status.TRUSTED``, whatever else a verdict holds.
    """
    identity = verdict.identity
    if verdict.word is not SmimeWord.PASS or verdict.status is not Status.TRUSTED:
        identity = None
    if identity is None:
        parts, text = _nobody(verdict)
    else:
        identity = _clean(identity)
        parts, text = _somebody(verdict, identity), _text(verdict, identity)
    parts.append([f"dkim={_author_word(dkim, author_domain).value}"])
    return (
        fold(RESULTS, _results(verdict, identity, dkim, arc, authserv_id, author_domain)),
        fold(IDENTITY, _listed(parts)),
        fold(TEXT, unstructured(TEXT, text)),
    )


# --- Verified-Identity, Verified-Identity-Text ---------------------------------------------------------


def _clean(identity: Identity) -> Identity:
    """Names come cleaned; a second time costs nothing and does not trust."""
    return Identity(
        level=identity.level,
        name=clean_name(identity.name),
        org=clean_name(identity.org),
        title=clean_name(identity.title),
        address=clean_name(identity.address, limit=320),
        issuer=clean_name(identity.issuer),
    )


def _somebody(verdict: Verdict, identity: Identity) -> list[list[str]]:
    parts = [[identity.level.name], [f"status={Status.TRUSTED.value}"]]
    texts = {
        "name": identity.name,
        "org": identity.org,
        "title": identity.title,
        "address": identity.address,
        "issuer": identity.issuer,
        "signed": verdict.signed.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if verdict.signed else "",
        "note": ", ".join(note.token for note in verdict.notes),
    }
    parts += [parameter(name, text) for name, text in texts.items() if text]
    return parts


def _nobody(verdict: Verdict) -> tuple[list[list[str]], str]:
    # A verdict that says "trusted" of nobody is one that nobody reached.
    status = Status.UNCHECKED if verdict.status is Status.TRUSTED else verdict.status
    parts = [["none"], [f"status={status.value}"]]
    if verdict.reason.token:
        parts.append([f"reason={verdict.reason.token}"])
    if verdict.reason in (Reason.UNSIGNED, Reason.NONE) and status is Status.UNSIGNED:
        return parts, "Not signed"
    return parts, f"Identity Not Verified: {verdict.reason.sentence or _UNCHECKED_SENTENCE}"


def _text(verdict: Verdict, identity: Identity) -> str:
    names = CertificateNames(
        full_name=identity.name,
        organisation=identity.org,
        title=identity.title,
        issuer=identity.issuer,
        addresses=(identity.address,),
    )
    text = identity_text(identity.level, names)
    if verdict.signed is None or Note.SIGNED_EARLIER not in verdict.notes:
        return text
    # Most readers see this line alone, beside a date that anybody may have written.
    return f"{text}, signed on {verdict.signed.astimezone(UTC):%Y-%m-%d}"


def _author_word(dkim: Sequence[DkimResult], author_domain: str) -> DkimWord:
    ours = [result for result in dkim if aligned(result.domain, author_domain)]
    found = best(ours, author_domain)
    if found is None:
        return DkimWord.NONE
    return found.word


# --- Authentication-Results ----------------------------------------------------------------------------


def _results(
    verdict: Verdict,
    identity: Identity | None,
    dkim: Sequence[DkimResult],
    arc: ArcResult | None,
    authserv_id: str,
    author_domain: str,
) -> list[str]:
    """RFC 8601 2.2: the server's name, then one result after another, with semicolons before them."""
    parts = [[authserv_id if is_token(authserv_id) else quoted(clean_name(authserv_id))]]
    parts.append(_smime(verdict, identity))
    parts += [_dkim(result, author_domain) for result in dkim[:MAX_RESULTS]] or [["dkim=none"]]
    if arc is not None and arc.word is not DkimWord.NONE:
        reason = [f"reason={quoted(arc.reason)}"] if arc.reason else []
        parts.append([f"arc={arc.word.value}", *reason])  # RFC 8617 10.2
    return _listed(parts)


def _smime(verdict: Verdict, identity: Identity | None) -> list[str]:
    pieces = [f"smime={verdict.word.value}"]
    if verdict.word not in (SmimeWord.PASS, SmimeWord.NONE) and verdict.reason.token:
        pieces.append(f"reason={quoted(verdict.reason.token)}")
    signer = identity.address if identity else next(iter(verdict.signers), "")
    # RFC 7281 3.2
    pieces += _property("body.smime-identifier", signer)
    pieces += _property("body.smime-serial", verdict.serial)
    pieces += _property("body.smime-issuer", _escaped_name(verdict.issuer), always_quoted=True)
    return pieces


def _dkim(result: DkimResult, author_domain: str) -> list[str]:
    pieces = [f"dkim={result.word.value}"]
    if result.reason and is_plain(result.reason):
        pieces.append(f"reason={quoted(result.reason)}")
    pieces += _property("header.d", result.domain)
    pieces += _property("header.s", result.selector)
    if result.domain and author_domain:
        # RFC 8601 2.3: "policy" is for what this host finds by rules of its own.
        pieces.append(f"policy.aligned={'yes' if aligned(result.domain, author_domain) else 'no'}")
    return pieces


def _property(name: str, value: str, *, always_quoted: bool = False) -> list[str]:
    """RFC 8601 2.2: ptype.property=pvalue; left out where there is nothing that can be written."""
    # What looks like an encoded-word may be legal here, and is too good a bait to repeat.
    if not value or not is_plain(value) or "=?" in value or len(value) > MAX_VALUE:
        return []
    if not always_quoted and (is_token(value) or _PLAIN_ADDRESS.fullmatch(value)):
        return [f"{name}={value}"]
    return [f"{name}={quoted(value)}"]


def _escaped_name(name: str) -> str:
    """Bring an RFC 4514 string to US-ASCII by that standard's own escapes, octet by octet (2.4)."""
    return "".join(
        character
        if is_plain(character) and character != "?"  # no "=?", which looks like an encoded-word
        else "".join(f"\\{octet:02X}" for octet in character.encode("utf-8", "replace"))
        for character in name[: MAX_VALUE + 1]
    )


def _listed(parts: Sequence[Sequence[str]]) -> list[str]:
    """Put a semicolon behind each part but the last."""
    pieces: list[str] = []
    for part in parts[:-1]:
        pieces += [*part[:-1], part[-1] + ";"]
    return [*pieces, *parts[-1]]


# --- Whose field is it? --------------------------------------------------------------------------------


def _is_ours(name: bytes, value: bytes, own: str) -> bool:
    skeleton = _known_skeleton(name) if len(name) <= _USUAL_NAME else _skeleton(name)
    return skeleton.startswith("verifiedidentity") or (
        skeleton == "authenticationresults" and _speaks_for(value) in (own, None)
    )


def _hides_ours(value: bytes, own: str) -> bool:
    if b"\r" not in value and b"\n" not in value:
        return False
    lines = (line.partition(b":") for line in _STRAY.split(_FOLD.sub(b"", value))[1:])
    return any(colon and _is_ours(name, rest, own) for name, colon, rest in lines)


_FOLD = re.compile(rb"\r\n(?=[ \t])")
_STRAY = re.compile(rb"[\r\n]")


def _skeleton(name: bytes) -> str:
    """Reduce a field name to its letters: underscores, doubled hyphens and the like change nothing."""
    return _LETTERS.sub("", _compatible(name.decode("utf-8", "replace")).lower())


def _compatible(text: str) -> str:
    """NFKC, a piece at a time: it sorts combining marks, in the square of the time that their number asks."""
    pieces = (text[start : start + _PIECE] for start in range(0, len(text), _PIECE))
    return "".join(unicodedata.normalize("NFKC", piece) for piece in pieces)


_PIECE = 64


_known_skeleton = lru_cache(maxsize=1024)(_skeleton)
"""The same names come with each mail; longer ones than usual are not kept."""


@lru_cache(maxsize=16)
def _own_name(authserv_id: str) -> str:
    return _comparable(authserv_id)


def _comparable(authserv_id: str) -> str:
    text = _compatible(authserv_id).lower().rstrip(".")
    try:
        return text if text.isascii() else idna.encode(text, uts46=True).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        return text


def _speaks_for(value: bytes) -> str | None:
    """Give the authserv-id of an ``Authentication-Results`` value; None when it cannot be read.

    RFC 8601 2.2: ``[CFWS] authserv-id [CFWS authres-version] (";" ...)``; the id is a token or a
    quoted-string.
    """
    text = value.decode("utf-8", "replace").replace("\r\n", "")
    position = _skip_comments(text, 0)
    if position is None:
        return None
    if text.startswith('"', position):
        name, position = _read_quoted(text, position)
    else:
        match = _AUTHSERV_TOKEN.match(text, position)
        name, position = (match.group(), match.end()) if match else ("", position)
    if not name or (position < len(text) and text[position] not in " \t(;"):
        return None
    return _comparable(name)


_AUTHSERV_TOKEN = re.compile(r"[^\x00-\x20\x7f\s()<>@,;:\\\"/\[\]?=]+")  # RFC 2045 5.1, RFC 6532 for the rest


def _skip_comments(text: str, position: int) -> int | None:
    """Skip CFWS; None where a comment does not end."""
    depth = 0
    while position < len(text):
        character = text[position]
        if character == "\\" and depth:
            position += 1
        elif character == "(":
            depth += 1
        elif character == ")" and depth:
            depth -= 1
        elif not depth and character not in " \t":
            return position
        position += 1
    return None if depth else position


def _read_quoted(text: str, position: int) -> tuple[str, int]:
    """Read a quoted-string; an empty name where it does not end."""
    match = _QUOTED.match(text, position)
    if not match:
        return "", position
    return re.sub(r"\\(.)", r"\1", match.group(1)), match.end()


_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
