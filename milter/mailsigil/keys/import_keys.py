"""Existing keys and certificates brought into a key folder: checked as the agent would, then copied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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


def import_bundle(
    bundle: Bundle,
    folder: Path,
    *,
    domains: frozenset[str],
    passphrase: bytes | None,
    replace: bool,
    now: datetime,
) -> Imported:
    """Checks one bundle and copies it into the folder, as one file of mode 0600 that appears at once.

    ``domains`` are those of the source, all if empty. A file that is there already is only replaced with
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
    if not replace and any(target.with_suffix(suffix).exists() for suffix in (".pem", *_PKCS12)):
        raise _taken(target)
    content = files[0].data if pkcs12 else b"".join(_pem(file) for file in files)
    try:
        # The passphrase first: without it the agent could not open what appears next.
        if passphrase is not None:
            write_private(target.with_suffix(".pass"), passphrase + b"\n", replace=replace)
        write_private(target, content, replace=replace)
        for suffix in {".pem", *_PKCS12} - {target.suffix}:
            target.with_suffix(suffix).unlink(missing_ok=True)
    except FileExistsError as error:
        raise KeyFileError(
            target,
            "there is a key for this address already",
            "Give --replace to put the new one in its place",
        ) from error
    except OSError as error:
        raise KeyFileError(
            target, f"it cannot be written: {error.strerror}", "Run this as root or as the key agent's user"
        ) from error
    return Imported(target, tuple(sorted(key.addresses)), key.valid_until)


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
