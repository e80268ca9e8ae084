"""PKCS#11: keys on an HSM or a token, which sign there and never leave it.

Each process of the agent opens its own session after it was forked: no library survives a fork (PKCS#11
v2.40, 6.7.6). One call at a time goes through a library (pkcs11_library.py).
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pkcs11
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from pkcs11 import Attribute, ObjectClass, exceptions

from mailsigil.cms.algorithms import Scheme
from mailsigil.keys.answers import Question
from mailsigil.keys.bound_key import BoundKey, bind
from mailsigil.keys.certificate_folder import CertificateFolder, Group
from mailsigil.keys.errors import SourceAnswer, SourceError, SourceRefused, SourceUnavailable
from mailsigil.keys.fitness import Unfit, public_key_of, signing_addresses
from mailsigil.keys.newkey import PlacedKey
from mailsigil.keys.profile import KeyKind
from mailsigil.keys.secret_files import SecretFile
from mailsigil.keys.sources import pkcs11_objects as objects
from mailsigil.keys.sources import token_pins
from mailsigil.keys.sources.pkcs11_decryption import TokenOperation
from mailsigil.keys.sources.pkcs11_library import library_of
from mailsigil.keys.subject import SubjectRequest

log = logging.getLogger("mailsigil.keyd")

_PIN_ERRORS: Final = (
    exceptions.PinIncorrect,
    exceptions.PinInvalid,
    exceptions.PinLenRange,
    exceptions.PinLocked,
    exceptions.PinExpired,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPlace:
    """Where the keys are."""

    module: str
    token: str
    pin: SecretFile
    certificates: str = ""
    """Folder of certificates; empty: they are on the token."""


class Token:
    """Keys on one token: a Lookup of ``remote.py``, and a KeyPlace of ``placed_keyring.py``.

    ``now`` gives the time, aware, in UTC.
    """

    def __init__(self, source: str, place: TokenPlace, *, now: Callable[[], datetime]) -> None:
        self._source = source
        self._place = place
        self._now = now
        self._library = library_of(place.module)
        self._session: Any = None
        self._generation = -1
        self._schemes: frozenset[Scheme] = frozenset()
        self._groups: dict[str, list[Group]] = {}
        self._handles: dict[bytes, Any] = {}
        self._folder = CertificateFolder(source, Path(place.certificates)) if place.certificates else None

    def lookup(self, address: str) -> tuple[BoundKey, ...]:
        """Gives the keys whose certificate names an address, the newest first. Raises SourceError."""
        with self._using():
            self._read_certificates()
        groups = self._folder.find(address) if self._folder is not None else self._groups.get(address, [])
        keys: list[BoundKey] = []
        trouble: SourceError | None = None
        for group in groups:
            try:
                keys.append(self._bound(address, group))
            except SourceAnswer as error:
                trouble = error
        if trouble is not None and not keys:
            raise trouble
        return tuple(keys)

    def reload(self) -> None:
        """Opens the token anew with the next call, and reads its certificates anew."""
        with self._library.turn():
            self._close()
            self._library.distrust()

    def make_key(self, request: SubjectRequest, kind: KeyKind) -> PlacedKey:
        """Makes a key pair on the token. Raises SourceError."""
        with self._using() as session:
            # Sessions of one process share the login (PKCS#11 v2.40, 6.7.4); only this one may write.
            writing = session.token.open(rw=True)
            try:
                spki = objects.generate(writing, kind, f"mailsigil {request.address}"[:64])
            except exceptions.MechanismInvalid as error:
                raise SourceRefused(
                    self._source,
                    f'the token "{self._place.token}" makes no keys of the kind {kind}',
                    "Choose another kind in key of [source.enrolment]",
                ) from error
            finally:
                writing.close()
        log.info('source "%s": the token made a key for %s', self._source, request.address)
        return self._placed(request, spki)

    def key_of(self, request: SubjectRequest, spki: bytes) -> PlacedKey | None:
        """Gives the key with a public key; None where the token has it no more. Raises SourceError."""
        with self._using() as session:
            if objects.private_key(session, spki) is None:
                return None
        return self._placed(request, spki)

    def _placed(self, request: SubjectRequest, spki: bytes) -> PlacedKey:
        question = Question(source=self._source, address=request.address, now=self._now(), spki=spki)
        return PlacedKey(request, spki, lambda scheme, data: self._sign(question, spki, scheme, data))

    def _bound(self, address: str, group: Group) -> BoundKey:
        question = Question(source=self._source, address=address, now=self._now(), encryption=True)
        spki = public_key_of(group[0])
        own = group[0].public_bytes(Encoding.DER)
        return bind(
            question,
            group,
            lambda scheme, data: self._sign(question, spki, scheme, data, certificate=own),
            only=self._schemes,
            decryption=TokenOperation(lambda: self._key(question, spki, own), group[0].public_key()),
        )

    def _sign(
        self, question: Question, spki: bytes, scheme: Scheme, data: bytes, *, certificate: bytes = b""
    ) -> bytes:
        with self._key(question, spki, certificate) as handle:
            return objects.sign(handle, spki, scheme, data)

    @contextlib.contextmanager
    def _key(self, question: Question, spki: bytes, certificate: bytes) -> Iterator[Any]:
        """The private key of a public one, for one call at a time."""
        with self._using() as session:
            handle = self._handles.get(spki)
            if handle is None:
                handle = objects.private_key(session, spki, certificate)
                if handle is None:
                    raise question.wrong(
                        "the token holds no private key for the certificate",
                        "Put the key on the token that the certificate was issued for, or remove the"
                        " certificate",
                    )
                self._handles[spki] = handle
            yield handle

    @contextlib.contextmanager
    def _using(self) -> Iterator[Any]:
        """The session, for one call at a time; trouble closes it, so that it is opened anew."""
        with self._library.turn():
            try:
                if self._generation != self._library.generation:
                    self._forget()
                if self._session is None:
                    self._open()
                yield self._session
            except exceptions.PKCS11Error as error:
                self._close()
                self._library.distrust()
                name = type(error).__name__
                log.info('source "%s": the token answers %s', self._source, name)
                raise SourceUnavailable(
                    self._source,
                    f'the token "{self._place.token}" does not do its work: {name}',
                    "See that it is plugged in or reachable; it is opened anew by itself when it is back",
                ) from error

    def _open(self) -> None:
        token = self._found()
        self._session = self._login(token)
        self._generation = self._library.generation
        self._schemes = objects.schemes_of(token)

    def _found(self) -> Any:
        try:
            return self._library.token(self._place.token, self)
        except (exceptions.NoSuchToken, exceptions.TokenNotPresent) as error:
            raise SourceUnavailable(
                self._source,
                f'there is no token of the label "{self._place.token}"',
                "Plug it in, or correct token; `pkcs11-tool --list-token-slots` shows the labels",
            ) from error
        except (RuntimeError, exceptions.PKCS11Error) as error:
            why = str(error) or type(error).__name__
            raise SourceUnavailable(
                self._source,
                f"the PKCS#11 library {self._place.module} cannot be used: {why}",
                "Correct module, or install the library of the token's maker",
            ) from error

    def _login(self, token: Any) -> Any:
        """Tries a PIN once: what a token refused is not tried again before the PIN's file changes."""
        pin = self._place.pin.read()
        mark = token_pins.mark_of(self._place.module, self._place.token, self._place.pin)
        with token_pins.one_process(self._place.pin.path):
            if token_pins.was_refused(mark):
                raise self._wrong_pin()
            # The token says how near it is to its lock; the last try is left to a person.
            if token.flags & (pkcs11.TokenFlag.USER_PIN_FINAL_TRY | pkcs11.TokenFlag.USER_PIN_LOCKED):
                raise SourceRefused(
                    self._source,
                    f'the token "{self._place.token}" is one wrong PIN away from its lock, or locked',
                    "Log in by hand once with the right PIN (pkcs11-tool --login --test), then reload",
                )
            try:
                return self._library.session(token, pin)
            except _PIN_ERRORS as error:
                token_pins.refused(mark)
                raise self._wrong_pin() from error

    def _wrong_pin(self) -> SourceRefused:
        return SourceRefused(
            self._source,
            f'the token "{self._place.token}" refused the PIN; it is not tried again, so as not to lock it',
            f"Write the right PIN into {self._place.pin.path}",
        )

    def _close(self) -> None:
        session, generation = self._session, self._generation
        self._forget()
        self._library.left_by(self)
        if session is not None and generation == self._library.generation:
            with contextlib.suppress(exceptions.PKCS11Error):
                session.close()

    def _forget(self) -> None:
        self._session = None
        self._groups = {}
        self._handles = {}

    def _read_certificates(self) -> None:
        if self._folder is not None:
            self._folder.refresh()
        elif not self._groups:
            self._groups = self._on_token()

    def _on_token(self) -> dict[str, list[Group]]:
        own: list[x509.Certificate] = []
        others: list[x509.Certificate] = []
        for item in objects.objects(self._session, {Attribute.CLASS: ObjectClass.CERTIFICATE}):
            try:
                certificate = x509.load_der_x509_certificate(item[Attribute.VALUE])
                signing_addresses(certificate)
            except Unfit:
                others.append(certificate)
            except (ValueError, UnsupportedAlgorithm, KeyError) as error:
                log.warning('source "%s": a certificate on the token cannot be read: %s', self._source, error)
            else:
                own.append(certificate)
        own.sort(key=lambda each: each.not_valid_before_utc, reverse=True)
        groups: dict[str, list[Group]] = {}
        for certificate in own:
            for address in signing_addresses(certificate):
                groups.setdefault(address, []).append((certificate, *others[:30]))
        return groups
