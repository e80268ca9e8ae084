"""Existing keys and certificates brought into a key folder: checked as the agent would, then copied.

All of them, or none: what cannot be used is found before anything is written, and when writing fails what
was written is taken back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from mailsigil.keys.errors import KeyFileError
from mailsigil.keys.files import address_file_name, write_private
from mailsigil.keys.key_files import (
    MAX_PASSPHRASE,
    KeyFile,
    keys_from,
    read_key_file,
    read_passphrase,
)
from mailsigil.keys.soft_key import SoftKey

_PKCS12: Final = (".p12", ".pfx")
_BEGIN: Final = b"-----BEGIN "


@dataclass(frozen=True, slots=True)
class Bundle:
    """Files that belong together, because they share a name up to the last dot; a PKCS#12 stands alone."""

    files: tuple[Path, ...]

    @property
    def opener(self) -> Path:
        """Where the passphrase stands, if there is one: beside the files, as in a key folder."""
        return self.files[0].with_suffix(".pass")


@dataclass(frozen=True, slots=True)
class Imported:
    """What was copied, and whose it is."""

    path: Path
    addresses: tuple[str, ...]
    valid_until: datetime


def bundles(paths: Sequence[Path]) -> tuple[Bundle, ...]:
    """Puts the files that belong together side by side, in the order in which they are named."""
    groups: dict[Path, list[Path]] = {}
    for path in paths:
        alone = path.suffix.lower() in _PKCS12
        groups.setdefault(path if alone else path.with_suffix(""), []).append(path)
    return tuple(Bundle(tuple(group)) for group in groups.values())


@dataclass(frozen=True, slots=True)
class Planned:
    """One key that was checked, and the files that it will be. ``repr`` tells no secret."""

    imported: Imported
    files: Mapping[Path, bytes] = field(repr=False)
    """In the order in which they are written."""
    gone: tuple[Path, ...] = ()
    """Files of the predecessor, to be removed."""
    replace: bool = False
    """A file that is there may be written over."""


def plan_import(
    bundle: Bundle,
    folder: Path,
    *,
    domains: frozenset[str],
    passphrase: bytes | None,
    replace: bool,
    now: datetime,
) -> Planned:
    """Checks one bundle, and says which files it will be; nothing is written.

    ``domains`` are those of the source, all if empty. A key that is there already is only replaced with
    ``replace``. Raises KeyFileError with what is wrong and how to mend it.
    """
    files = [read_key_file(path) for path in bundle.files]
    if passphrase is None and bundle.opener.exists():
        passphrase = read_passphrase(read_key_file(bundle.opener, limit=MAX_PASSPHRASE))
    keys, faults = keys_from(files, passphrase=passphrase)
    if not keys:
        raise faults[0]
    key = _usable(keys, domains, bundle.files[0], now)
    pkcs12 = bundle.files[0].suffix.lower() in _PKCS12
    name = address_file_name(min(key.addresses))
    target = folder / (name.removesuffix(".pem") + ".p12" if pkcs12 else name)
    there = [path for path in map(target.with_suffix, (".pem", *_PKCS12, ".pass")) if path.exists()]
    if not replace and any(path.suffix != ".pass" for path in there):
        raise _taken(target)
    # The passphrase first: without it the agent could not open what appears next.
    written = {target.with_suffix(".pass"): passphrase + b"\n"} if passphrase is not None else {}
    written[target] = files[0].data if pkcs12 else b"".join(_pem(file) for file in files)
    return Planned(
        Imported(target, tuple(sorted(key.addresses)), key.valid_until),
        written,
        tuple(path for path in there if path not in written),
        replace,
    )


def carry_out(planned: Sequence[Planned]) -> None:
    """Writes the files of all keys, each with mode 0600 and at once; on a failure none of them stays.

    Raises KeyFileError.
    """
    targets: dict[Path, Planned] = {}
    for one in planned:
        target = one.imported.path.with_suffix("")
        if target in targets:
            raise KeyFileError(
                one.imported.path,
                f"two of the keys are for {one.imported.addresses[0]}",
                "Import one of them",
            )
        targets[target] = one
    before: dict[Path, bytes | None] = {}
    try:
        for one in planned:
            for path, content in one.files.items():
                before[path] = _content(path)
                write_private(path, content, replace=one.replace)
            for path in one.gone:
                before[path] = _content(path)
                path.unlink(missing_ok=True)
    except FileExistsError as error:
        # Of this moment: the check found none. It is not ours to take back.
        _take_back({kept: content for kept, content in before.items() if kept != path})
        raise _taken(one.imported.path) from error
    except OSError as error:
        _take_back(before)
        raise KeyFileError(
            one.imported.path,
            f"it cannot be written, so nothing was imported: {error.strerror}",
            "Run this as root or as the key agent's user, with room on the disk",
        ) from error


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _take_back(before: dict[Path, bytes | None]) -> None:
    """Makes the folder what it was, as far as the disk lets it."""
    for path, content in reversed(before.items()):
        with contextlib.suppress(OSError):
            if content is None:
                path.unlink(missing_ok=True)
            else:
                write_private(path, content, replace=True)


def _taken(target: Path) -> KeyFileError:
    return KeyFileError(
        target, "there is a key for this address already", "Give --replace to put the new one in its place"
    )


def _usable(keys: Sequence[SoftKey], domains: frozenset[str], path: Path, now: datetime) -> SoftKey:
    newest = max(keys, key=lambda key: key.valid_until)
    if newest.valid_until < now:
        raise KeyFileError(
            path,
            f"the certificate expired on {newest.valid_until:%Y-%m-%d}",
            "Have it renewed; an expired one signs nothing",
        )
    if domains and not any(address.rpartition("@")[2] in domains for address in newest.addresses):
        raise KeyFileError(
            path,
            f"the certificate is for {', '.join(sorted(newest.addresses)[:3])}, in no domain of this source",
            f"Choose another source, or add the domain to this one; it serves {', '.join(sorted(domains))}",
        )
    return newest


def _pem(file: KeyFile) -> bytes:
    """The file as PEM: in one file all parts appear at once."""
    if _BEGIN in file.data:
        return file.data.rstrip(b"\n") + b"\n"
    try:
        return x509.load_der_x509_certificate(file.data).public_bytes(Encoding.PEM)
    except ValueError as error:
        raise KeyFileError(
            file.path,
            "a private key in DER is not imported",
            "Convert it: openssl pkey -in FILE -out FILE.pem",
        ) from error
