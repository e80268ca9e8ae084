"""Why a certificate cannot be read, in words: the libraries say it in theirs."""

from __future__ import annotations

import re
from typing import Final

_PARSE_ERROR: Final = re.compile(r"ParseError \{ kind: (\w+)")
_LOCATION: Final = re.compile(r'"([\w:]+)"')
_OID: Final = re.compile(r"'?(\d+(?:\.\d+){3,})'?")
_KINDS: Final = {
    "EncodedDefault": "it writes out a value that DER leaves out because it is the default",
    "ShortData": "it ends too early",
    "ExtraData": "octets follow where it should end",
    "UnexpectedTag": "it has an element of another kind than belongs there",
    "InvalidLength": "it writes a length in a way that DER does not allow",
    "InvalidTag": "it writes the kind of an element in a way that DER does not allow",
    "InvalidValue": "it has a value that is not allowed there",
    "InvalidSetOrdering": "it has a set in another order than DER demands",
    "IntegerOverflow": "it has a number that is too large there",
    "OidTooLong": "it has an object identifier that is too long",
    "InvalidSize": "it has a list with too few or too many elements",
}
_LONGEST: Final = 200


def why_unreadable(error: Exception) -> str:
    """Turn what a parser raised into a sentence without a capital letter and a full stop."""
    text = " ".join(str(error).split())
    parsed = _PARSE_ERROR.search(text)
    if parsed is not None:
        places = _LOCATION.findall(text)
        where = f" ({places[-1].replace('::', ', ')})" if places else ""
        return _KINDS.get(parsed[1], f"it is no DER: {parsed[1]}") + where
    if isinstance(error, KeyError):
        # asn1crypto looks algorithms up by their identifiers.
        oid = _OID.fullmatch(text)
        if oid is not None:
            return f"its key or signature is of a kind that is not known here ({oid[1]})"
    return text[:_LONGEST] or type(error).__name__
