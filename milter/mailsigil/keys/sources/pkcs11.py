"""PKCS#11: keys on an HSM or a token, which sign there and never leave it.

Each process of the agent opens its own session after it was forked, and one call at a time goes through it:
libraries of makers are not safe for threads, and none survives a fork (PKCS#11 v2.40, 6.7.6).
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pkcs11
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass, exceptions

from mailsigil.cms.algorithms import Family, Scheme
from mailsigil.keys.answers import Question
from mailsigil.keys.bound_key import BoundKey, bind
from mailsigil.keys.certificate_folder import CertificateFolder, Group
from mailsigil.keys.errors import SourceAnswer, SourceError, SourceRefused, SourceUnavailable
from mailsigil.keys.fitness import Unfit, signing_addresses
from mailsigil.keys.secret_files import SecretFile
from mailsigil.keys.sources import token_pins

log = logging.getLogger("mailsigil.keyd")

MAX_OBJECTS: Final = 100_000
_SCHEMES: Final = frozenset(scheme for scheme in Scheme if scheme is not Scheme.ED25519)
_DIGEST_INFO: Final = {
    # RFC 8017 9.2, note 1: the DER before the digest. Tokens know CKM_RSA_PKCS; few know one with a hash.
    "sha256": bytes.fromhex("3031300d060960864801650304020105000420"),
    "sha384": bytes.fromhex("3041300d060960864801650304020205000430"),
    "sha512": bytes.fromhex("3051300d060960864801650304020305000440"),
}
_PSS: Final = {
    "sha256": (Mechanism.SHA256, pkcs11.MGF.SHA256, 32),
    "sha384": (Mechanism.SHA384, pkcs11.MGF.SHA384, 48),
    "sha512": (Mechanism.SHA512, pkcs11.MGF.SHA512, 64),
}

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
    """Keys on one token: a Lookup of ``remote.py``. ``now`` gives the time, aware, in UTC."""

    def __init__(self, source: str, place: TokenPlace, *, now: Callable[[], datetime]) -> None:
        self._source = source
        self._place = place
        self._now = now
        self._lock = threading.Lock()
        self._session: Any = None
        self._groups: dict[str, list[Group]] = {}
        self._handles: dict[x509.Certificate, Any] = {}
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
        with self._lock:
            self._close()

    def _bound(self, address: str, group: Group) -> BoundKey:
        question = Question(source=self._source, address=address, now=self._now())
        public = group[0].public_key()

        def sign(scheme: Scheme, data: bytes) -> bytes:
            with self._using() as session:
                handle = self._handles.get(group[0])
                if handle is None:
                    handle = self._handles[group[0]] = self._private_key(session, question, group[0])
                return _sign(handle, public, scheme, data)

        return bind(question, group, sign, only=_SCHEMES)

    def _private_key(self, session: Any, question: Question, certificate: x509.Certificate) -> Any:
        """Finds a certificate's private key: RSA by its modulus, EC by the identifier of its public key."""
        public = certificate.public_key()
        if isinstance(public, rsa.RSAPublicKey):
            modulus = public.public_numbers().n
            wanted = {
                Attribute.CLASS: ObjectClass.PRIVATE_KEY,
                Attribute.MODULUS: modulus.to_bytes((modulus.bit_length() + 7) // 8, "big"),
            }
            found = next(iter(_objects(session, wanted)), None)
        else:
            found = next(self._elliptic(session, certificate), None)
        if found is None:
            raise question.wrong(
                "the token holds no private key for the certificate",
                "Put the key on the token that the certificate was issued for, or remove the certificate",
            )
        return found

    def _elliptic(self, session: Any, certificate: x509.Certificate) -> Iterator[Any]:
        for identifier in _identifiers(session, certificate):
            yield from _objects(
                session,
                {
                    Attribute.CLASS: ObjectClass.PRIVATE_KEY,
                    Attribute.KEY_TYPE: KeyType.EC,
                    Attribute.ID: identifier,
                },
            )

    @contextlib.contextmanager
    def _using(self) -> Iterator[Any]:
        """The session, for one call at a time; trouble closes it, so that it is opened anew."""
        with self._lock:
            try:
                if self._session is None:
                    self._open()
                yield self._session
            except exceptions.PKCS11Error as error:
                self._close()
                name = type(error).__name__
                log.info('source "%s": the token answers %s', self._source, name)
                raise SourceUnavailable(
                    self._source,
                    f'the token "{self._place.token}" does not do its work: {name}',
                    "See that it is plugged in or reachable; it is opened anew by itself when it is back",
                ) from error

    def _open(self) -> None:
        try:
            library = pkcs11.lib(self._place.module)
            # A library lists the tokens that were there when it was initialised.
            library.reinitialize()
        except (RuntimeError, exceptions.PKCS11Error) as error:
            raise SourceUnavailable(
                self._source,
                f"the PKCS#11 library {self._place.module} cannot be used: {error or type(error).__name__}",
                "Correct module, or install the library of the token's maker",
            ) from error
        try:
            token = library.get_token(token_label=self._place.token)
        except (exceptions.NoSuchToken, exceptions.TokenNotPresent) as error:
            raise SourceUnavailable(
                self._source,
                f'there is no token of the label "{self._place.token}"',
                "Plug it in, or correct token; `pkcs11-tool --list-token-slots` shows the labels",
            ) from error
        self._session = self._login(token)

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
                return token.open(user_pin=pin.decode("utf-8", "surrogateescape"))
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
        session, self._session = self._session, None
        self._groups = {}
        self._handles = {}
        if session is not None:
            with contextlib.suppress(exceptions.PKCS11Error):
                session.close()

    def _read_certificates(self) -> None:
        if self._folder is not None:
            self._folder.refresh()
        elif not self._groups:
            self._groups = self._on_token()

    def _on_token(self) -> dict[str, list[Group]]:
        own: list[x509.Certificate] = []
        others: list[x509.Certificate] = []
        for item in _objects(self._session, {Attribute.CLASS: ObjectClass.CERTIFICATE}):
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


def _objects(session: Any, template: dict[Any, Any]) -> list[Any]:
    # A search that is not read to its end stays open, and the next one fails (PKCS#11 v2.40, 5.7).
    return list(session.get_objects(template))[:MAX_OBJECTS]


def _sign(key: Any, public: object, scheme: Scheme, data: bytes) -> bytes:
    digest = hashlib.new(scheme.digest, data).digest()
    if scheme.family is Family.RSA_PKCS1:
        info = _DIGEST_INFO[scheme.digest] + digest
        return bytes(key.sign(info, mechanism=Mechanism.RSA_PKCS))
    if scheme.family is Family.RSA_PSS:
        return bytes(key.sign(digest, mechanism=Mechanism.RSA_PKCS_PSS, mechanism_param=_PSS[scheme.digest]))
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise ValueError("the certificate's key is no elliptic curve")
    # FIPS 186-5 6.4.1: of a digest that is longer than the curve, the first bits count.
    raw = key.sign(digest[: (public.curve.key_size + 7) // 8], mechanism=Mechanism.ECDSA)
    half = len(raw) // 2
    return encode_dss_signature(int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big"))


def _identifiers(session: Any, certificate: x509.Certificate) -> Iterator[bytes]:
    """The CKA_IDs under which the private key may lie: its public key's, its certificate's."""
    public = certificate.public_key()
    if isinstance(public, ec.EllipticCurvePublicKey):
        numbers = public.public_numbers()
        size = (public.curve.key_size + 7) // 8
        point = b"\x04" + numbers.x.to_bytes(size, "big") + numbers.y.to_bytes(size, "big")
        # PKCS#11 v2.40, 2.3.3: an OCTET STRING around the point; some tokens leave the wrapping out.
        length = bytes([len(point)]) if len(point) < 128 else b"\x81" + bytes([len(point)])
        for form in (b"\x04" + length + point, point):
            for item in _objects(
                session, {Attribute.CLASS: ObjectClass.PUBLIC_KEY, Attribute.EC_POINT: form}
            ):
                yield item[Attribute.ID]
    for item in _objects(session, {Attribute.CLASS: ObjectClass.CERTIFICATE}):
        with contextlib.suppress(ValueError, KeyError):
            if item[Attribute.VALUE] == certificate.public_bytes(Encoding.DER):
                yield item[Attribute.ID]
