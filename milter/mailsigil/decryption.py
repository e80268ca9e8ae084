"""Opening an encrypted message: from the envelope to the MIME entity inside, and nothing beyond it.

RFC 8551 3.3 and 3.4 (enveloped and authenticated-enveloped mail), RFC 5652 6, RFC 5083. What is inside is
as hostile as any mail. Its own signature alone can make it trusted: an envelope does not say who closed it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import field as with_default
from enum import Enum
from typing import Final, Protocol

from cryptography import x509

from mailsigil.cms import oids
from mailsigil.cms.ber import CmsError
from mailsigil.cms.content import CipherKind, DecryptionFailed, content_cipher, decrypt_content
from mailsigil.cms.enveloped import Enveloped, EnvelopeLimits, parse_enveloped
from mailsigil.cms.parse import ContentKind, content_kind
from mailsigil.cms.recipients import KeyScheme, RecipientIdentifier, WrappedKey
from mailsigil.cms.values import certificate_identity
from mailsigil.keys.decryption_protocol import DecryptionCertificate
from mailsigil.keys.errors import KeyAgentRefused, KeyServiceError, Refusal
from mailsigil.message.address import Address, AddressError
from mailsigil.message.decoding import decode_transfer
from mailsigil.message.field_lines import header_fault
from mailsigil.message.fields import Field
from mailsigil.message.mime import MimeLimitError, MimeLimits, parse_mime
from mailsigil.message.protection import Protection, protection_of
from mailsigil.message.reader import Message, MessageLimitError, read_message
from mailsigil.message.spool import Spool

MAX_TRIES: Final = 4
"""Private key operations that one layer of one message may cost."""
_ENVELOPES: Final = (ContentKind.ENVELOPED_DATA, ContentKind.AUTH_ENVELOPED_DATA)
_THEIR_ANSWER: Final = (Refusal.UNKNOWN_KEY, Refusal.DECRYPTION)


class NotOpened(Enum):
    """Why a message stays closed: a word for the log. Nobody outside is told."""

    NOT_ENCRYPTED = "not-encrypted"
    STRUCTURE = "structure"
    """It is no structure that can be read, or one beyond the bounds."""
    CIPHER = "cipher"
    """Its content is encrypted with an algorithm that is not read here."""
    NO_KEY = "no-key"
    """It is for none of the keys that are there."""
    UNDECRYPTABLE = "undecryptable"
    """A key or the content did not decrypt, or not to mail. Which of these is not told apart."""
    LAYERS = "layers"
    """There are envelopes in envelopes, and too many of them."""
    KEY_SERVICE = "key-service"
    """The key agent or the source of the key did not answer: a later try may succeed."""


class Closed(Exception):
    """The message could not be opened."""

    def __init__(self, reason: NotOpened, detail: str = "") -> None:
        super().__init__(reason.value)
        self.reason = reason
        self.detail = detail


class ContentKeys(Protocol):
    """Who unwraps: the key agent's client. Its methods raise KeyServiceError."""

    def find(self, address: str) -> tuple[DecryptionCertificate, ...]:
        """Gives the certificates that mail to an address can be encrypted to."""
        ...

    def unwrap(self, *, address: str, key_id: str, wrapped: WrappedKey, size: int) -> bytes:
        """Gives the key of a content."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DecryptionParts:
    """What opening is handed."""

    keys: ContentKeys
    mime_limits: MimeLimits
    envelope_limits: EnvelopeLimits = with_default(default_factory=EnvelopeLimits)
    layers: int = 2
    """Envelopes in one another that are opened."""
    content_bytes: int = 0
    """Octets of what is inside, at most; 0 for no bound but that of the message around it."""
    ciphers: frozenset[CipherKind] = frozenset({CipherKind.AES_CBC, CipherKind.AES_GCM})
    new_spool: Callable[[], Spool] = Spool


@dataclass(frozen=True, slots=True)
class Opened:
    """What was inside."""

    entity: Message
    """Its header fields and its body, in a spool that the caller closes."""
    ciphers: tuple[CipherKind, ...]
    """The cipher of each layer, the outermost first."""

    @property
    def authenticated(self) -> bool:
        """No layer could be altered on its way without the key (RFC 8551 6)."""
        return all(cipher is CipherKind.AES_GCM for cipher in self.ciphers)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """One way to the key of a content: our key, and how it was wrapped for it."""

    address: str
    key_id: str
    wrapped: WrappedKey


def open_message(
    fields: Sequence[Field], body: Spool, addresses: Sequence[str], parts: DecryptionParts
) -> Opened:
    """Opens a message with the keys of its recipient, who may have several addresses. Raises Closed."""
    ciphers: list[CipherKind] = []
    entity = Message(tuple(fields), body)
    try:
        while len(ciphers) < parts.layers:
            inner = _open_layer(entity, addresses, parts, ciphers)
            if entity.body is not body:
                entity.body.close()
            entity = inner
            if not _is_envelope(entity, parts):
                return Opened(entity, tuple(ciphers))
        raise Closed(NotOpened.LAYERS)
    except BaseException:
        if entity.body is not body:
            entity.body.close()
        raise


def _open_layer(
    message: Message, addresses: Sequence[str], parts: DecryptionParts, ciphers: list[CipherKind]
) -> Message:
    with parts.new_spool() as store:
        _decode(message, store, parts)
        if content_kind(store) not in _ENVELOPES:
            raise Closed(NotOpened.NOT_ENCRYPTED)
        try:
            enveloped = parse_enveloped(store, limits=parts.envelope_limits)
            cipher = content_cipher(enveloped.algorithm)
        except CmsError as error:
            reason = NotOpened.CIPHER if error.reason == "cipher" else NotOpened.STRUCTURE
            raise Closed(reason, error.sentence) from error
        if cipher.kind not in parts.ciphers:
            raise Closed(NotOpened.CIPHER, cipher.kind.value)
        if enveloped.content_type != oids.DATA:
            raise Closed(NotOpened.STRUCTURE, "something else than mail is inside")  # RFC 8551 2.4.3
        ciphers.append(cipher.kind)
        candidates = _candidates(enveloped, addresses, parts.keys)
        if not candidates:
            raise Closed(NotOpened.NO_KEY)
        for candidate in candidates[:MAX_TRIES]:
            entity = _tried(enveloped, candidate, cipher.key_size, parts)
            if entity is not None:
                return entity
    raise Closed(NotOpened.UNDECRYPTABLE)


def _decode(message: Message, store: Spool, parts: DecryptionParts) -> None:
    if protection_of(message.fields, message.body) is not Protection.SMIME:
        raise Closed(NotOpened.NOT_ENCRYPTED)
    try:
        root = parse_mime(message.fields, message.body, limits=parts.mime_limits)
    except MimeLimitError as error:
        raise Closed(NotOpened.STRUCTURE, str(error)) from error
    if root.faults or message.damage:
        # Two readers might find two different messages in it.
        raise Closed(NotOpened.STRUCTURE, ", ".join(root.faults) or message.damage)
    for chunk in decode_transfer(message.body, root):
        store.write(chunk)


def _is_envelope(message: Message, parts: DecryptionParts) -> bool:
    if protection_of(message.fields, message.body) is not Protection.SMIME:
        return False
    with parts.new_spool() as store:
        try:
            _decode(message, store, parts)
        except Closed:
            return False  # A signature or something odd: the verification will say so.
        return content_kind(store) in _ENVELOPES


def _candidates(enveloped: Enveloped, addresses: Sequence[str], keys: ContentKeys) -> list[_Candidate]:
    """Our keys among the recipients', the newest certificate first."""
    found: list[_Candidate] = []
    for address in _keys_of(addresses):
        for ours in _certificates(address, keys):
            names = _names_of(ours.certificate)
            found.extend(
                _Candidate(address, ours.key_id, recipient.wrapped)
                for recipient in enveloped.recipients
                if recipient.identifier in names and recipient.wrapped.scheme is not KeyScheme.UNKNOWN
            )
    return found


def _keys_of(addresses: Sequence[str]) -> tuple[str, ...]:
    """The addresses as the key agent wants them, each once; what is none has no certificate."""
    found: dict[str, None] = {}
    for address in addresses:
        with suppress(AddressError):
            found[Address.parse(address).key] = None
    return tuple(found)


def _certificates(address: str, keys: ContentKeys) -> tuple[DecryptionCertificate, ...]:
    try:
        return keys.find(address)
    except KeyServiceError as error:
        raise Closed(NotOpened.KEY_SERVICE, str(error)) from error


def _names_of(certificate: bytes) -> frozenset[RecipientIdentifier]:
    """The two ways in which an envelope can name a certificate (RFC 5652 6.2.1)."""
    try:
        issuer, serial = certificate_identity(certificate)
        names = {RecipientIdentifier(issuer=issuer, serial=serial)}
        loaded = x509.load_der_x509_certificate(certificate)
        key = loaded.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
        return frozenset({*names, RecipientIdentifier(subject_key_id=key)})
    except x509.ExtensionNotFound:
        return frozenset(names)
    except (CmsError, ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return frozenset()


def _tried(enveloped: Enveloped, candidate: _Candidate, size: int, parts: DecryptionParts) -> Message | None:
    """The entity inside, when this key gives it."""
    try:
        key = parts.keys.unwrap(
            address=candidate.address, key_id=candidate.key_id, wrapped=candidate.wrapped, size=size
        )
    except KeyAgentRefused as refused:
        if refused.reason in _THEIR_ANSWER:
            return None
        raise Closed(NotOpened.KEY_SERVICE, str(refused)) from refused
    except KeyServiceError as error:
        raise Closed(NotOpened.KEY_SERVICE, str(error)) from error
    spool = parts.new_spool()
    try:
        stream = io.BufferedReader(_Chunks(decrypt_content(enveloped, key)))
        entity = read_message(stream, max_bytes=parts.content_bytes or None, spool=spool)
    except (DecryptionFailed, MessageLimitError, CmsError):
        spool.close()
        return None
    except BaseException:
        spool.close()
        raise
    # A wrong key opens one CBC content in some hundreds to noise, and noise must not take the mail's place.
    # These fields come into the message's own header: with a stray line break one would bring others along.
    described = [field for field in entity.fields if field.key.startswith(b"content-")]
    if entity.damage or not described or header_fault(described):
        spool.close()
        return None
    return entity


class _Chunks(io.RawIOBase):
    """An iterator of octets as a stream."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._left:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._left = chunk
        size = min(len(buffer), len(self._left))
        buffer[:size] = self._left[:size]
        self._left = self._left[size:]
        return size
