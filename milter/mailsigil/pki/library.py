"""Revocation lists and OCSP responses that are at hand: in files of the administrator, fetched before, or
sent along with a message. A list is parsed and its signature checked once, however many certificates ask.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from mailsigil.pki.crl import CheckedCrl, check_crl, judge_crl
from mailsigil.pki.document_store import DocumentStore
from mailsigil.pki.evidence import Evidence, Link, Unusable
from mailsigil.pki.ocsp import judge_ocsp
from mailsigil.pki.published import Kind, Source

_LISTS: Final = 256
_LIST_BYTES: Final = 134_217_728
"""Octets of lists that a process keeps in memory; a list that is larger is kept alone."""
_MAX_FILE: Final = 256 * 1024 * 1024


class Library:
    """Judges documents and keeps them. May be used from several threads."""

    def __init__(self, store: DocumentStore | None = None) -> None:
        self.store = store
        self._checked: OrderedDict[tuple[bytes, bytes], CheckedCrl | Unusable] = OrderedDict()
        self._lock = threading.Lock()

    def judge(self, kind: Kind, data: bytes, link: Link, *, at: datetime, digest: bytes = b"") -> Evidence:
        """Give what a document says about a certificate. Raises ``Unusable``.

        ``digest`` is that of one of our own, which is asked often.
        """
        if kind is Kind.OCSP:
            return judge_ocsp(data, link, at=at)
        key = (digest or hashlib.sha256(data).digest(), link.issuer.key)
        with self._lock:
            checked = self._checked.get(key)
            if checked is not None:
                self._checked.move_to_end(key)
        if checked is None:
            try:
                checked = check_crl(data, link.issuer)
            except Unusable as error:
                if not digest:
                    raise  # a sender's: remembering these would push out lists that are of use
                checked = error
            self._remember(key, checked)
        if isinstance(checked, Unusable):
            raise Unusable(*checked.args)
        return judge_crl(checked, link)

    def _remember(self, key: tuple[bytes, bytes], checked: CheckedCrl | Unusable) -> None:
        with self._lock:
            self._checked[key] = checked
            self._checked.move_to_end(key)
            while len(self._checked) > _LISTS or (self._size() > _LIST_BYTES and len(self._checked) > 1):
                self._checked.popitem(last=False)

    def _size(self) -> int:
        return sum(len(one.octets) for one in self._checked.values() if isinstance(one, CheckedCrl))

    def keep(self, source: Source, data: bytes) -> None:
        """Keep a document that proved good, for this process and the next."""
        if self.store is not None:
            self.store.write(source.name, data)

    def kept(self, source: Source, link: Link, *, at: datetime) -> Evidence | None:
        """Give what a kept document says, if there is one and it says something."""
        if self.store is None:
            return None
        data = self.store.read(source.name)
        if data is None:
            return None
        try:
            return self.judge(source.kind, data, link, at=at)
        except Unusable:
            return None


class LocalLists:
    """Revocation lists in files, read again when they change."""

    def __init__(self, paths: Sequence[Path] = ()) -> None:
        self._paths = tuple(paths)
        self._read: dict[Path, tuple[tuple[int, int], bytes, bytes]] = {}
        self._lock = threading.Lock()

    def judge(self, library: Library, link: Link, *, at: datetime) -> Iterator[Evidence]:
        """Give what these lists say about a certificate."""
        for digest, data in self.documents():
            try:
                yield library.judge(Kind.CRL, data, link, at=at, digest=digest)
            except Unusable:
                continue

    def documents(self) -> list[tuple[bytes, bytes]]:
        """Give digest and DER of each file that can be read now."""
        found = []
        for path in self._paths:
            try:
                status = path.stat()
                version = (status.st_mtime_ns, status.st_size)
                with self._lock:
                    known = self._read.get(path)
                if known is None or known[0] != version:
                    data = read_list(path)
                    known = (version, hashlib.sha256(data).digest(), data)
                    with self._lock:
                        self._read[path] = known
            except (OSError, ValueError):
                continue
            found.append(known[1:])
        return found


def read_list(path: Path) -> bytes:
    """Read one revocation list, PEM or DER, as DER. Raises ``OSError`` or ``ValueError``."""
    with path.open("rb") as file:
        data = file.read(_MAX_FILE + 1)
    if len(data) > _MAX_FILE:
        raise ValueError(f"{path} is larger than {_MAX_FILE} octets")
    if data.startswith(b"-----BEGIN"):
        return x509.load_pem_x509_crl(data).public_bytes(Encoding.DER)
    return data
