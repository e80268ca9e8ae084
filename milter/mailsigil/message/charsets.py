"""Character sets that mail uses, decoded within bounds."""

from __future__ import annotations

# A fixed table: asking Python for every name a stranger writes would fill its cache of failed
# look-ups without end, and would open codecs of quadratic cost (punycode, idna). Left out as well: what
# clients read in two ways (UTF-16 without byte order) or mostly do not know (HZ, ISO-2022-KR).
_CODECS = {
    "": "utf-8",
    "us-ascii": "ascii",
    "ascii": "ascii",
    "ansi_x3.4-1968": "ascii",
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "utf-7": "utf-7",
    "unicode-1-1-utf-7": "utf-7",
    "utf-16le": "utf-16-le",
    "utf-16be": "utf-16-be",
    "latin1": "cp1252",
    "latin-1": "cp1252",
    # What is labelled ISO-8859-1 is read as windows-1252 by browsers and mail clients alike.
    "iso-8859-1": "cp1252",
    "iso-8859-9": "cp1254",
    "iso-8859-11": "iso8859-11",
    "tis-620": "tis-620",
    "windows-874": "cp874",
    "koi8-r": "koi8-r",
    "koi8-u": "koi8-u",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "cp936": "gb18030",
    "gb18030": "gb18030",
    "big5": "cp950",
    "big5-hkscs": "big5hkscs",
    "iso-2022-jp": "iso-2022-jp-ext",
    "shift_jis": "cp932",
    "shift-jis": "cp932",
    "sjis": "cp932",
    "windows-31j": "cp932",
    "cp932": "cp932",
    "euc-jp": "euc-jp",
    "euc-kr": "cp949",
    "ks_c_5601-1987": "cp949",
    "cp949": "cp949",
    "macintosh": "mac-roman",
    "ibm437": "cp437",
    "ibm850": "cp850",
    "cp850": "cp850",
    "ibm852": "cp852",
    "cp866": "cp866",
}
_CODECS |= {f"iso-8859-{n}": f"iso8859-{n}" for n in (2, 3, 4, 5, 6, 7, 8, 10, 13, 14, 15, 16)}
_CODECS |= {f"windows-125{n}": f"cp125{n}" for n in range(9)}
_CODECS |= {f"cp125{n}": f"cp125{n}" for n in range(9)}

# Clients show something for the few octets that these two leave undefined, as Latin-1 would: a strict
# failure here would hide that text from us.
_LENIENT = frozenset({"cp1252", "cp1254"})


def decode_charset(data: bytes, charset: str) -> str | None:
    """Decode octets of a named character set.

    None means that the name is unknown or that the octets do not fit it, so that what a client shows
    cannot be foreseen. ISO-8859-1 and -9 never fail.
    """
    codec = _CODECS.get(charset.lower())
    if codec is None:
        return None
    try:
        return data.decode(codec)
    except ValueError:
        return data.decode("latin-1") if codec in _LENIENT else None
