"""Lines of a header block that only some readers see."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mailsigil.message.fields import Field

# RFC 5322 4.5 lets white space stand before the colon; to some readers such a line ends the header.
_NAME = re.compile(rb"[!-9;-~]+")
_FOLD = re.compile(rb"\r\n(?=[ \t])")
_ODD = re.compile(rb"[\r\n\0]")
_NAMES = re.compile(rb"[!-9;-~]*")
_BLANK_LINE = re.compile(rb"\r\n[ \t]*(?:\r\n|\Z)")


def header_fault(fields: Sequence[Field]) -> str:
    """Tell what in a header only some readers see: another end, another line, another name; or nothing.

    Takes no account of what the fields say.
    """
    # Most headers have nothing of the kind, and are looked at as a whole.
    values = b"".join([field.value for field in fields])
    names = [field.name for field in fields]
    plain = b"\r" not in values and b"\n" not in values and b"\0" not in values
    if plain and b"" not in names and _NAMES.fullmatch(b"".join(names)):
        return ""
    for field in fields:
        # A From field of this kind is a second author, which says more.
        if not _NAME.fullmatch(field.name) and field.key != b"from":
            return "a field name with characters that it must not have"  # RFC 5322 2.2, 4.5
        value = field.value
        if b"\r" not in value and b"\n" not in value and b"\0" not in value:
            continue
        if _ODD.search(_FOLD.sub(b"", value)):
            return f"a stray line break or NUL in {_name(field)}"
        # RFC 5322 3.2.2: a line of white space alone ends the header for some readers.
        if _BLANK_LINE.search(value):
            return f"an empty line in {_name(field)}"
    return ""


def _name(field: Field) -> str:
    return field.name[:40].decode("ascii", "replace")
