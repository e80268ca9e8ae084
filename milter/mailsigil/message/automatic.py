"""Mail that programs send in answer to mail: reports (RFC 6522), and what says that it is one (RFC 3834)."""

from __future__ import annotations

from collections.abc import Sequence

from mailsigil.message.fields import Field, named
from mailsigil.message.media_type import parse_media_type


def is_automatic(fields: Sequence[Field]) -> bool:
    """Tell whether a message is a delivery report, a read receipt, or an answer that a program made."""
    types = named(fields, b"content-type")
    if len(types) == 1 and parse_media_type(types[0].value).full == "multipart/report":
        return True
    words = [_keyword(field) for field in named(fields, b"auto-submitted")]
    return bool(words) and not {"", "no"} & {*words}


def _keyword(field: Field) -> str:
    # RFC 3834 5.2: a keyword, then parameters; comments may stand anywhere.
    return field.unfolded.decode("ascii", "replace").partition(";")[0].partition("(")[0].strip().lower()
