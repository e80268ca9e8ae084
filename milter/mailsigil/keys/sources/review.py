"""A look at each [[source]], for ``mailsigil check`` and before a reload: files first, then who answers.

Nothing is enrolled, and no PIN is tried: a wrong one counts towards the lock of a token.
"""

from __future__ import annotations

import os
import socket
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pkcs11
from cryptography import x509
from pkcs11 import TokenFlag, exceptions

from mailsigil.config.openbao import BaoLogin
from mailsigil.config.source_fields import CREDENTIAL
from mailsigil.config.sources import (
    CmpSource,
    EmbeddedSource,
    EstSource,
    Pkcs11Source,
    SourceSettings,
    TokenStore,
)
from mailsigil.config.surroundings import Remark, Severity, key_folder, writable_folder
from mailsigil.keys.answers import read_certificates
from mailsigil.keys.errors import KeyFileError, SourceError
from mailsigil.keys.guard import Breaker, Guard
from mailsigil.keys.key_files import MAX_PASSPHRASE, Custody, identity_from, read_key_file, read_passphrase
from mailsigil.keys.sources.authority_review import review_authority
from mailsigil.keys.sources.build import build_bao_client, build_est_http, state_folder
from mailsigil.keys.sources.pkcs11_library import library_of
from mailsigil.process.privileges import PrivilegeError, find_user

_SECRETS: Final = (
    "pin_file",
    "token_file",
    "secret_id_file",
    "passphrase_file",
    "password_file",
    "secret_file",
)
_CERTIFICATES: Final = ("ca_file", "trusted")
_PIN_STATES: Final = (
    (TokenFlag.USER_PIN_LOCKED, Severity.ERROR, "the PIN is locked", "Have the token's officer unlock it"),
    (
        TokenFlag.USER_PIN_FINAL_TRY,
        Severity.ERROR,
        "one more wrong PIN locks it, so the key agent does not try its own",
        "Log in by hand once with the right PIN: pkcs11-tool --login --test",
    ),
    (
        TokenFlag.USER_PIN_COUNT_LOW,
        Severity.WARNING,
        "a wrong PIN was tried lately",
        "See that pin_file holds the right one, before it locks",
    ),
)


def review(sources: Sequence[SourceSettings], *, user: str, now: datetime) -> Iterator[Remark]:
    """Give all findings. ``user`` is the key agent's, empty for the present one."""
    yield from shared_domains(sources)
    for source in sources:
        local = list(files(source, user=user, now=now))
        yield from local
        if not any(remark.severity is Severity.ERROR for remark in local):
            yield from answers(source)


def shared_domains(sources: Sequence[SourceSettings]) -> Iterator[Remark]:
    """Tell which domains have several sources."""
    names: dict[str, list[str]] = defaultdict(list)
    for source in sources:
        for domain in source.domains:
            names[domain].append(f'"{source.name}"')
    for domain, several in names.items():
        if len(several) > 1:
            yield Remark(
                Severity.NOTE,
                f"source: {domain}",
                f"it has {len(several)} sources, so each sender may have a certificate of each:"
                f" {', '.join(several)}",
                "say in the policy which of them signs, or leave the domain to one",
            )


def files(source: SourceSettings, *, user: str, now: datetime) -> Iterator[Remark]:
    """Give what is wrong with the files and folders that a source needs; nobody is asked."""
    subject = _subject(source)
    for section in _sections(source):
        for name in _SECRETS:
            if place := getattr(section, name, ""):
                yield from _secret(subject, name, place, user)
        for name in _CERTIFICATES:
            if path := getattr(section, name, ""):
                yield from _certificates(subject, name, Path(path), now)
        if getattr(section, "client_certificate", ""):
            yield from _identity(subject, section)
        if isinstance(section, Pkcs11Source | TokenStore) and not Path(section.module).is_file():
            mend = "correct module, or install the library of the token's maker"
            yield Remark(Severity.ERROR, subject, f"there is no library {section.module}", mend)
        if folder := getattr(section, "certificates", ""):
            yield from _readable_folder(subject, Path(folder))
        if isinstance(section, EmbeddedSource):
            yield from review_authority(subject, Path(section.folder), user)
    if source.folder is not None:
        yield from key_folder(subject, Path(source.folder.path), user)
    if source.issues:
        yield from writable_folder(subject, state_folder(source), user)


def answers(source: SourceSettings) -> Iterator[Remark]:
    """Ask the service of a source, without changing anything there."""
    guard = Guard(source.name, timeout=source.timeout, breaker=Breaker(failures=1_000_000, pause=0))
    for section in _sections(source):
        ask = _question(source, section)
        if ask is None:
            continue
        try:
            yield from guard.call(ask)
        except SourceError as error:
            yield Remark(Severity.ERROR, _subject(source), error.sentence, error.mend)


def _question(source: SourceSettings, section: object) -> Callable[[], list[Remark]] | None:
    """How one service is asked."""
    subject = _subject(source)
    if isinstance(section, BaoLogin):
        bao = section

        def log_in() -> list[Remark]:
            build_bao_client(source.name, bao, source.timeout).ask("GET", "auth/token/lookup-self")
            return [Remark(Severity.NOTE, f"{subject}: {bao.url}", "answers, and the login is accepted", "")]

        return log_in
    if isinstance(section, EstSource):
        est = section

        def cacerts() -> list[Remark]:
            answer = build_est_http(source.name, est, source.timeout).request("GET", "/cacerts")
            read_certificates(source.name, answer.body)
            return [Remark(Severity.NOTE, f"{subject}: {est.url}", "answers with its certificates", "")]

        return cacerts
    if isinstance(section, CmpSource):
        cmp = section
        return lambda: _reached(subject, cmp.url, source.timeout)
    if isinstance(section, Pkcs11Source | TokenStore):
        held = section
        return lambda: _token(subject, held)
    return None


def _reached(subject: str, url: str, timeout: float) -> list[Remark]:
    """CMP has no question that needs no login: that somebody listens has to do."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), timeout).close()
    except OSError as error:
        mend = "see that the service runs, and that no firewall is between"
        return [Remark(Severity.ERROR, subject, f"{url} cannot be reached: {error}", mend)]
    return [Remark(Severity.NOTE, f"{subject}: {url}", "is reached; nothing was asked of it", "")]


def _token(subject: str, place: Pkcs11Source | TokenStore) -> list[Remark]:
    library = library_of(place.module)
    with library.turn():
        try:
            token = library.token(place.token, library)
        except (exceptions.NoSuchToken, exceptions.TokenNotPresent):
            mend = "plug it in, or correct token; `pkcs11-tool --list-token-slots` shows the labels"
            return [Remark(Severity.ERROR, subject, f'there is no token of the label "{place.token}"', mend)]
        except (RuntimeError, pkcs11.PKCS11Error) as error:
            why = str(error) or type(error).__name__
            sentence = f"the PKCS#11 library {place.module} cannot be used: {why}"
            return [Remark(Severity.ERROR, subject, sentence, "install the library of the token's maker")]
        finally:
            library.left_by(library)
        for flag, severity, sentence, mend in _PIN_STATES:
            if token.flags & flag:
                return [Remark(severity, f'{subject}: token "{place.token}"', sentence, mend)]
    sentence = "is there; its PIN is not tried here, because a wrong one counts: mailsigil km test tries it"
    return [Remark(Severity.NOTE, f'{subject}: token "{place.token}"', sentence, "")]


def _secret(subject: str, name: str, place: str, user: str) -> Iterator[Remark]:
    if place.startswith(CREDENTIAL):
        return  # systemd hands it to the agent alone.
    path = Path(place)
    try:
        file = read_key_file(path, limit=MAX_PASSPHRASE)
        Custody(_uid(user)).check(path, file.status, secret=True)
        read_passphrase(file)
    except KeyFileError as fault:
        yield Remark(Severity.ERROR, f"{subject}: {name}", f"{path}: {fault.sentence}", fault.mend)


def _certificates(subject: str, name: str, path: Path, now: datetime) -> Iterator[Remark]:
    try:
        found = read_certificates(subject, read_key_file(path).data)
    except KeyFileError as fault:
        yield Remark(Severity.ERROR, f"{subject}: {name}", f"{path}: {fault.sentence}", fault.mend)
        return
    except SourceError as error:
        sentence = f"{path}: {error.sentence.replace('the answer', 'the file')}"
        yield Remark(Severity.ERROR, f"{subject}: {name}", sentence, "name a file of certificates, PEM")
        return
    yield from _expired(f"{subject}: {name}", path, found, now)


def _expired(subject: str, path: Path, found: Sequence[x509.Certificate], now: datetime) -> Iterator[Remark]:
    for certificate in found:
        if certificate.not_valid_after_utc < now:
            name, end = certificate.subject.rfc4514_string(), certificate.not_valid_after_utc
            yield Remark(
                Severity.WARNING,
                subject,
                f"{path}: {name} expired on {end:%Y-%m-%d}",
                "ask the authority for its present certificate",
            )


def _identity(subject: str, section: object) -> Iterator[Remark]:
    paths = (getattr(section, name, "") for name in ("client_certificate", "client_key"))
    try:
        identity_from([read_key_file(Path(path)) for path in dict.fromkeys(filter(None, paths))])
    except KeyFileError as fault:
        yield Remark(
            Severity.ERROR, f"{subject}: client_certificate", f"{fault.path}: {fault.sentence}", fault.mend
        )


def _readable_folder(subject: str, folder: Path) -> Iterator[Remark]:
    if not folder.is_dir():
        mend = f"install -d {folder}, and put the certificates there"
        yield Remark(Severity.ERROR, f"{subject}: certificates", f"there is no folder {folder}", mend)


def _sections(source: SourceSettings) -> Iterator[object]:
    parts = (source.pkcs11, source.openbao, source.est, source.cmp, source.embedded)
    return (part for part in (*parts, source.token, source.transit) if part is not None)


def _subject(source: SourceSettings) -> str:
    return f'source "{source.name}"'


def _uid(user: str) -> int:
    try:
        return find_user(user).pw_uid if user else os.geteuid()
    except PrivilegeError:
        return os.geteuid()  # That the user does not exist is a remark of its own.
