"""The files in an authority's folder: made private, written whole, read with care for who else may."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from mailsigil.config.authority import SETTINGS_FILE, AuthoritySettings
from mailsigil.config.document import load_document
from mailsigil.config.errors import ConfigError
from mailsigil.keys import files
from mailsigil.keys.os_errors import mend_of
from mailsigil.keys.profile import Issuer, PrivateKey

_OWN: Final = frozenset({"root.pem", "root.key", "issuing.pem", "issuing.key", "index.jsonl"})


class AuthorityError(Exception):
    """The authority cannot do what it was asked for; the message tells what to mend."""

    def __init__(self, sentence: str, mend: str = "") -> None:
        super().__init__(f"{sentence}. {mend}" if mend else sentence)
        self.sentence = sentence.rstrip(".")
        self.mend = mend
        """Empty where the sentence says it."""


def prepare_folder(directory: Path) -> None:
    """Makes a folder ready for a new authority. Raises AuthorityError for one that holds an authority."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        entries = {entry.name for entry in directory.iterdir()}
        taken = sorted(entries & _OWN)
        if taken:
            raise AuthorityError(
                f"{directory} holds an authority already ({taken[0]}); choose another folder"
            )
        if not entries:
            directory.chmod(0o700)
        elif directory.stat().st_mode & 0o077:
            raise AuthorityError(f"{directory} is open to other users; run chmod 700 {directory}")
    except OSError as error:
        raise AuthorityError(f"{directory} cannot be used: {error.strerror}") from error


def write(path: Path, content: bytes, *, replace: bool = False, make_folder: bool = False) -> None:
    """Writes a file of mode 0600, whole or not at all. Raises AuthorityError."""
    try:
        if make_folder:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.write_private(path, content, replace=replace)
    except FileExistsError as error:
        raise AuthorityError(f"{path} exists already and is left as it is") from error
    except OSError as error:
        mend = mend_of(error, path.parent, otherwise="See to its folder")
        raise AuthorityError(f"{path} cannot be written: {error.strerror}", mend) from error


def is_there(path: Path) -> bool:
    """Tells whether there is such a file. Raises AuthorityError where this user may not know."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise _unreadable(path, error) from error
    return True


def load_settings(directory: Path) -> AuthoritySettings:
    """Reads the settings in the folder; without a file the built-in ones. Raises AuthorityError."""
    path = directory / SETTINGS_FILE
    if not is_there(path):
        return AuthoritySettings()
    try:
        return load_document(path, AuthoritySettings).value
    except ConfigError as error:
        raise AuthorityError(str(error)) from error


def load_issuer(directory: Path, stem: str) -> Issuer:
    """Reads an authority's certificate and key. Raises AuthorityError."""
    path = directory / f"{stem}.pem"
    key_path = directory / f"{stem}.key"
    try:
        if key_path.stat().st_mode & 0o077:
            raise AuthorityError(f"{key_path} is open to other users; run chmod 600 {key_path}")
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        key = serialization.load_pem_private_key(key_path.read_bytes(), password=None)
    except OSError as error:
        raise _unreadable(path, error) from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise AuthorityError(f"{path} or {key_path} is damaged; put back the copy from a backup") from error
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
        raise AuthorityError(f"{key_path} holds a kind of key that cannot sign certificates here")
    if key.public_key() != certificate.public_key():
        raise AuthorityError(f"{key_path} does not belong to {path}; restore both from one backup")
    return Issuer(certificate, key)


def _unreadable(path: Path, error: OSError) -> AuthorityError:
    mend = mend_of(error, path.parent, otherwise="Put back the copy from a backup")
    return AuthorityError(f"{error.filename or path} cannot be read: {error.strerror}", mend)


def key_pem(key: PrivateKey) -> bytes:
    """PKCS#8 without a passphrase: the file's mode protects it."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """A certificate in PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)
