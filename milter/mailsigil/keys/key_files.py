"""Reads certificates and private keys from PEM and PKCS#12 files, with care for who else may do so."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    load_der_private_key,
    load_pem_private_key,
    pkcs12,
)

from mailsigil.cms.algorithms import Scheme, sign_with
from mailsigil.keys.errors import KeyFileError
from mailsigil.keys.fitness import issuers_of
from mailsigil.keys.soft_key import PrivateKey, SoftKey, belongs_to, soft_key

MAX_FILE: Final = 1_048_576
MAX_PASSPHRASE: Final = 1024
MAX_CERTIFICATES: Final = 32
"""Certificates in the files of one key."""
_SECRET_SUFFIXES: Final = (".key", ".p12", ".pfx", ".pass")
_BEGIN: Final = b"-----BEGIN "
_DASHES: Final = b"-----"
_MAX_LABEL: Final = 40


@dataclass(frozen=True, slots=True)
class Custody:
    """Whose files are taken: the agent's own and root's, and no secret that others can read."""

    agent_uid: int

    def check(self, path: Path, status: os.stat_result, *, secret: bool) -> None:
        """Raises KeyFileError unless owner and mode of a file are what the agent may rely on."""
        mode = stat.S_IMODE(status.st_mode)
        if status.st_uid not in (0, self.agent_uid):
            raise KeyFileError(
                path,
                f"the file belongs to user {status.st_uid}, who could exchange it",
                f"Run: chown {self.agent_uid} '{path}'",
            )
        if secret and mode & 0o077:
            raise KeyFileError(
                path,
                f"others than its owner may use this secret file (mode {mode:04o})",
                f"Run: chmod 600 '{path}', and replace the key if others could read it",
            )
        if mode & 0o022:
            raise KeyFileError(
                path,
                f"others than its owner may write to the file (mode {mode:04o})",
                f"Run: chmod go-w '{path}'",
            )
        if secret and status.st_uid != self.agent_uid and self.agent_uid != 0:
            raise KeyFileError(
                path,
                "the file belongs to root, so the key agent cannot read it",
                f"Run: chown {self.agent_uid} '{path}'",
            )


@dataclass(frozen=True, slots=True, repr=False)
class KeyFile:
    """One file that was read. ``data`` may be a secret, so there is no telling repr."""

    path: Path
    data: bytes
    status: os.stat_result

    @property
    def is_secret(self) -> bool:
        """The file holds, or by its name should hold, what only the agent may know."""
        return self.path.suffix.lower() in _SECRET_SUFFIXES or b"PRIVATE KEY" in self.data


def read_key_file(path: Path, *, inside: Path | None = None, limit: int = MAX_FILE) -> KeyFile:
    """Reads a regular file of at most ``limit`` octets. Raises KeyFileError.

    With ``inside``, a symbolic link may not lead out of that folder.
    """
    try:
        real = path.resolve(strict=True)
        if inside is not None and not real.is_relative_to(inside.resolve()):
            raise KeyFileError(
                path, "the file is a link that leaves the folder", "Put the file itself into the folder"
            )
        # Before it is opened too: to open a device can have effects, and a socket cannot be opened.
        _require_regular(path, real.stat())
        # O_NONBLOCK: a named pipe must not make the agent wait for a writer.
        handle = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise KeyFileError(
            path, f"the file cannot be opened: {reason}", "Let the key agent's user read it, or remove it"
        ) from error
    try:
        status = os.fstat(handle)
        _require_regular(path, status)
        data = _read(handle, limit + 1)
    except OSError as error:
        raise KeyFileError(
            path, f"the file cannot be read: {error.strerror}", "Replace it with an undamaged copy"
        ) from error
    finally:
        os.close(handle)
    if len(data) > limit:
        raise KeyFileError(path, f"the file is larger than {limit} octets", "Remove it: it is no key")
    return KeyFile(path, data, status)


def _require_regular(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise KeyFileError(path, "this is no regular file", "Remove it from the folder")


def _read(handle: int, limit: int) -> bytes:
    parts: list[bytes] = []
    while limit > 0:
        part = os.read(handle, limit)
        if not part:
            break
        parts.append(part)
        limit -= len(part)
    return b"".join(parts)


def read_passphrase(file: KeyFile) -> bytes:
    """Gives the first line of a passphrase file; raises KeyFileError when it is empty."""
    passphrase = file.data.split(b"\n", 1)[0].removesuffix(b"\r")
    if not passphrase:
        raise KeyFileError(
            file.path, "the passphrase file is empty", "Write the passphrase into its first line"
        )
    return passphrase


def keys_from(
    files: Sequence[KeyFile], *, passphrase: bytes | None
) -> tuple[list[SoftKey], list[KeyFileError]]:
    """Makes the keys of files that belong together: one private key, its certificates, its chain.

    Two certificates for the same key make two keys. What is wrong with one certificate comes back
    beside the keys; KeyFileError is raised when there is no pair at all.
    """
    private: list[tuple[PrivateKey, Path]] = []
    certificates: list[x509.Certificate] = []
    for file in files:
        found, others = _contents(file, passphrase)
        private.extend((key, file.path) for key in found)
        certificates.extend(others)
    if len(certificates) > MAX_CERTIFICATES:
        raise KeyFileError(
            files[0].path,
            f"more than {MAX_CERTIFICATES} certificates stand beside one key",
            "Keep the employee's and its issuers'",
        )
    key, origin = _only_key(private, files)
    own = [certificate for certificate in dict.fromkeys(certificates) if belongs_to(key, certificate)]
    if not own:
        raise _no_certificate(origin, len(certificates))
    keys: list[SoftKey] = []
    faults: list[KeyFileError] = []
    for certificate in own:
        try:
            keys.append(soft_key(key, certificate, certificates, origin=origin))
        except KeyFileError as fault:
            faults.append(fault)
    return keys, faults


def identity_from(files: Sequence[KeyFile]) -> tuple[tuple[bytes, ...], Callable[[Scheme, bytes], bytes]]:
    """Gives chain (DER, the certificate first) and signer of files that say who this gateway is.

    Unlike an employee's certificate it need not be for mail. Raises KeyFileError.
    """
    private: list[tuple[PrivateKey, Path]] = []
    certificates: list[x509.Certificate] = []
    for file in files:
        found, others = _contents(file, None)
        private.extend((key, file.path) for key in found)
        certificates.extend(others)
    key, origin = _only_key(private, files)
    own = next((certificate for certificate in certificates if belongs_to(key, certificate)), None)
    if own is None:
        raise _no_certificate(origin, len(certificates))
    chain = (own, *issuers_of(own, certificates[:MAX_CERTIFICATES]))
    return tuple(each.public_bytes(Encoding.DER) for each in chain), partial(sign_with, key)


def _only_key(
    private: Sequence[tuple[PrivateKey, Path]], files: Sequence[KeyFile]
) -> tuple[PrivateKey, Path]:
    if not private:
        path = files[0].path
        raise KeyFileError(
            path, "there is no private key for this certificate", f"Put it beside, as {path.stem}.key"
        )
    if len(private) > 1:
        raise KeyFileError(
            private[1][1], "there is more than one private key", "Give each key a file of its own"
        )
    return private[0]


def _no_certificate(origin: Path, count: int) -> KeyFileError:
    if not count:
        return KeyFileError(
            origin, "there is no certificate for this private key", f"Put it beside, as {origin.stem}.crt"
        )
    return KeyFileError(
        origin,
        "the private key belongs to none of the certificates beside it",
        "Put key and certificate that were issued together side by side",
    )


_Contents = tuple[list[PrivateKey], list[x509.Certificate]]


def _contents(file: KeyFile, passphrase: bytes | None) -> _Contents:
    if file.path.suffix.lower() in (".p12", ".pfx"):
        return _pkcs12(file, passphrase)
    if _BEGIN in file.data:
        return _pem(file, passphrase)
    return _der(file, passphrase)


def _pem(file: KeyFile, passphrase: bytes | None) -> _Contents:
    keys: list[PrivateKey] = []
    certificates: list[x509.Certificate] = []
    for label, block in _pem_blocks(file):
        if label == b"CERTIFICATE":
            certificates.append(_certificate(file.path, block, pem=True))
            if len(certificates) > MAX_CERTIFICATES:
                break
        elif label.endswith(b"PRIVATE KEY") and len(keys) < 2:
            encrypted = label.startswith(b"ENCRYPTED") or b"Proc-Type: 4,ENCRYPTED" in block
            keys.append(_private_key(file.path, block, passphrase if encrypted else None))
    if not keys and not certificates:
        raise KeyFileError(
            file.path, "the file holds neither a certificate nor a private key", "Replace or remove it"
        )
    return keys, certificates


def _pem_blocks(file: KeyFile) -> Iterator[tuple[bytes, bytes]]:
    """RFC 7468 2, in one pass over the file."""
    data, begin = file.data, file.data.find(_BEGIN)
    while begin >= 0:
        label_start = begin + len(_BEGIN)
        label_end = data.find(_DASHES, label_start, label_start + _MAX_LABEL)
        label = data[label_start:label_end] if label_end > 0 else b""
        closing = _DASHES + b"END " + label + _DASHES
        end = data.find(closing, begin) if label else -1
        if end < 0:
            raise KeyFileError(file.path, "a PEM block is cut off", "Replace the file with an undamaged copy")
        yield label, data[begin : end + len(closing)] + b"\n"
        begin = data.find(_BEGIN, end + len(closing))


def _der(file: KeyFile, passphrase: bytes | None) -> _Contents:
    if file.path.suffix.lower() == ".key":
        return [_private_key(file.path, file.data, passphrase)], []
    return [], [_certificate(file.path, file.data, pem=False)]


def _certificate(path: Path, data: bytes, *, pem: bool) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(data) if pem else x509.load_der_x509_certificate(data)
    except ValueError as error:
        raise KeyFileError(
            path, "a certificate cannot be read", "Replace the file with an undamaged copy"
        ) from error


def _private_key(path: Path, data: bytes, passphrase: bytes | None) -> PrivateKey:
    load = load_pem_private_key if data.startswith(_BEGIN) else load_der_private_key
    try:
        # The primality tests of RSA take 40 ms a key; soft_key tries out what the key signs instead.
        key = load(data, passphrase, unsafe_skip_rsa_key_validation=True)
    except TypeError as error:
        # One of key and caller has a passphrase, the other has none; in DER that shows only here.
        if passphrase is None:
            raise _locked(path) from error
        return _private_key(path, data, None)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _unreadable(path, passphrase) from error
    return _usable(path, key)


def _pkcs12(file: KeyFile, passphrase: bytes | None) -> _Contents:
    try:
        bag = pkcs12.load_pkcs12(file.data, passphrase)
    except UnsupportedAlgorithm as error:
        raise KeyFileError(
            file.path,
            "the file uses an encryption that is no longer supported",
            "Export it anew with AES encryption",
        ) from error
    except (ValueError, TypeError) as error:
        raise (_locked(file.path) if passphrase is None else _unreadable(file.path, passphrase)) from error
    if bag.key is None:
        raise KeyFileError(file.path, "the file holds no private key", "Export it anew together with its key")
    certificates = [entry.certificate for entry in (bag.cert, *bag.additional_certs) if entry is not None]
    return [_usable(file.path, bag.key)], certificates


def _usable(path: Path, key: object) -> PrivateKey:
    if isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
        return key
    raise KeyFileError(
        path, "the private key is of a kind that does not sign mail", "Use RSA, P-256, P-384 or Ed25519"
    )


def _locked(path: Path) -> KeyFileError:
    return KeyFileError(
        path,
        "the private key needs a passphrase, or the file is damaged",
        f"Write the passphrase into {path.stem}.pass beside it (mode 0600)",
    )


def _unreadable(path: Path, passphrase: bytes | None) -> KeyFileError:
    if passphrase is None:
        return KeyFileError(path, "the private key cannot be read", "Replace the file with an undamaged copy")
    return KeyFileError(
        path,
        "the passphrase does not open the private key, or the file is damaged",
        f"Correct {path.stem}.pass",
    )
