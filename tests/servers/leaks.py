"""Where private keys must not be: in any file of the servers that a test ran, in whatever writing.

A test registers keys (``Secrets.add``) and has folders searched. Of each key its secret numbers count: as
octets, as hex, and within PEM or other base64, whatever stood in front of them, and once more in base64, as
Dovecot's settings carry PEM.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

_PIECE: Final = 24
"""Octets of a number that are looked for; that they stand somewhere by chance cannot happen."""
_LINE: Final = 48
"""Octets in a line of PEM."""
_FORMATS: Final = (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL)

_PEM: Final = re.compile(
    rb"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----\n?", re.DOTALL
)

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


class Secrets:
    """The keys of a test, each under a name."""

    def __init__(self) -> None:
        self._needles: dict[bytes, str] = {}

    def add(self, name: str, key: PrivateKey) -> None:
        """Registers a key."""
        for needle in _writings(key):
            self._needles[needle] = name

    def add_pem(self, name: str, text: str | bytes) -> None:
        """Registers all private keys in PEM, of which there has to be one."""
        data = text.encode() if isinstance(text, str) else text
        blocks = _PEM.findall(data)
        assert blocks, f"{name}: there is no private key"
        for block in blocks:
            key = load_pem_private_key(block, password=None)
            assert isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey)
            self.add(name, key)

    def found(self, *folders: Path, but: Iterable[Path] = ()) -> list[str]:
        """Tells which keys stand in which files below the folders, ``but`` in these files and folders."""
        spared = tuple(but)
        told = []
        for path in sorted({path for folder in folders for path in folder.rglob("*")}):
            if path.is_symlink() or not path.is_file() or any(path.is_relative_to(each) for each in spared):
                continue
            data = path.read_bytes()
            # PEM has line ends, and JSON and logs write them as two characters.
            joined = re.sub(rb"\s|\\n|\\r", b"", data)
            names = {name for needle, name in self._needles.items() if needle in data or needle in joined}
            told += [f"{name} in {path}" for name in sorted(names)]
        return told


def _writings(key: PrivateKey) -> Iterator[bytes]:
    for number in _secret_numbers(key):
        for piece in (number[:_PIECE], number[-_PIECE:]):
            yield piece
            yield piece.hex().encode()
            yield piece.hex().upper().encode()
            yield from _base64(piece)
    for form in _FORMATS:
        yield from _lines(key, form)


def _lines(key: PrivateKey, form: PrivateFormat) -> Iterator[bytes]:
    """Those lines of PEM in which there is something secret; others are the public key's, too."""
    der = key.private_bytes(Encoding.DER, form, NoEncryption())
    first = next(_secret_numbers(key))
    start = der.index(first)
    end = start + len(first) if isinstance(key, ec.EllipticCurvePrivateKey) else len(der)
    pem = key.private_bytes(Encoding.PEM, form, NoEncryption())
    for number, line in enumerate(pem.splitlines()[1:-1]):
        begin = number * _LINE
        # Part of a line is looked for as a number; here it has to be a good deal of it.
        if min(end, begin + _LINE) - max(start, begin) >= _PIECE // 2 and len(line) >= 2 * _PIECE:
            yield line
            yield from _base64(line)


def _secret_numbers(key: PrivateKey) -> Iterator[bytes]:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        yield key.private_numbers().private_value.to_bytes((key.key_size + 7) // 8, "big")
        return
    numbers = key.private_numbers()
    for number in (numbers.d, numbers.p, numbers.q):
        yield number.to_bytes((number.bit_length() + 7) // 8, "big")


def _base64(octets: bytes) -> Iterator[bytes]:
    """What of the base64 of these octets does not hang on what stands around them, for each offset."""
    for before in range(3):
        text = base64.b64encode(b"\0" * before + octets)
        start = (before * 8 + 5) // 6
        yield text[start : (before + len(octets)) * 8 // 6]
