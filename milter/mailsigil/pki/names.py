"""The names in a certificate, cleaned of everything that could mislead an eye or break a header."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import idna
from cryptography import x509
from cryptography.x509.oid import NameOID

from mailsigil.pki.oids import SMTP_UTF8_MAILBOX

NAME_LIMIT: Final = 128
"""Characters of a name that are shown."""
MAX_ADDRESSES: Final = 100
"""Mail addresses that are read from one certificate."""
UNREADABLE: Final = (ValueError, TypeError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)
"""What `cryptography` raises for extensions that it cannot read."""
_MAX_ADDRESS: Final = 320
_MARKS: Final = 3
"""Combining marks on one character. Living scripts need two or three; more only smear the line."""

# Characters without ink that are no format characters by category: fillers, joiners, variation selectors.
_INKLESS: Final = frozenset(
    [
        *(0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0),
        *range(0x180B, 0x1810),
        *range(0xFE00, 0xFE10),
        *range(0xE0000, 0xE1000),
    ]
)


def clean_name(text: str, *, limit: int = NAME_LIMIT) -> str:
    """Make a text from a certificate fit to be shown on one line.

    Line breaks and other white space become single spaces. Controls, bidirectional overrides, zero-width
    and other characters without ink go, so do unassigned ones. The rest is brought into Unicode form NFC
    and cut to ``limit`` characters, the last of which is then an ellipsis.
    """
    kept: list[str] = []
    marks = 0
    # Hostile text is cut before the costly steps; cleaning only ever shortens what is in front.
    for character in text[: limit * 16]:
        category = unicodedata.category(character)
        if character.isspace() or category in ("Zs", "Zl", "Zp"):
            kept.append(" ")
            marks = 0
        elif category[0] == "C" or ord(character) in _INKLESS:
            continue
        elif category in ("Mn", "Me"):
            marks += 1
            if marks <= _MARKS:
                kept.append(character)
        else:
            marks = 0
            kept.append(character)
    cleaned = " ".join(unicodedata.normalize("NFC", "".join(kept)).split())
    return cleaned if len(cleaned) <= limit else cleaned[: limit - 1].rstrip() + "…"


def talks_like_us(name: str) -> bool:
    """Tell whether a name holds the words with which a reader is told of identities.

    Behind such a name the line would promise more than its level does, or the line of another person.
    """
    letters = (letter for letter in unicodedata.normalize("NFKC", name).casefold() if letter.isalpha())
    return _OUR_WORDS.search("".join(letters)) is not None


_OUR_WORDS: Final = re.compile("identity(?:not)?(?:validated|verified)|validatedandtrusted|emailvalidated")


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateNames:
    """Who a certificate speaks of. Texts are clean; an absent one is empty."""

    full_name: str = ""
    """Given name and surname, else the pseudonym, else a common name that names a person."""
    organisation: str = ""
    title: str = ""
    common_name: str = ""
    issuer: str = ""
    """The issuing authority's common name, else its organisation."""
    addresses: tuple[str, ...] = ()
    """Mail addresses: local part as it stands, domain in lower case and A-labels."""

    @classmethod
    def from_certificate(cls, certificate: x509.Certificate) -> CertificateNames:
        """Read the names. What cannot be read is left out, it never raises."""
        return _read_names(certificate)


# One message asks several times.
@lru_cache(maxsize=128)
def _read_names(certificate: x509.Certificate) -> CertificateNames:
    subject = _Attributes(certificate, "subject")
    organisation = subject.first(NameOID.ORGANIZATION_NAME)
    common_name = subject.first(NameOID.COMMON_NAME)
    issuer = _Attributes(certificate, "issuer")
    return CertificateNames(
        full_name=_full_name(subject, common_name, organisation),
        organisation=organisation,
        title=subject.first(NameOID.TITLE),
        common_name=common_name,
        issuer=issuer.first(NameOID.COMMON_NAME) or issuer.first(NameOID.ORGANIZATION_NAME),
        addresses=certificate_addresses(certificate),
    )


class _Attributes:
    """The attributes of a distinguished name; empty where the name cannot be read."""

    def __init__(self, certificate: x509.Certificate, which: str) -> None:
        try:
            self._name = certificate.subject if which == "subject" else certificate.issuer
        except ValueError:
            self._name = x509.Name([])

    def first(self, oid: x509.ObjectIdentifier) -> str:
        """Give the first value of a kind, clean; nothing where it talks like our own text."""
        values = self.all(oid)
        name = clean_name(values[0]) if values else ""
        return "" if talks_like_us(name) else name

    def all(self, oid: x509.ObjectIdentifier) -> list[str]:
        """Give all values of a kind that are text, as they stand."""
        values = (attribute.value for attribute in self._name.get_attributes_for_oid(oid))
        return [value for value in values if isinstance(value, str)]


def _full_name(subject: _Attributes, common_name: str, organisation: str) -> str:
    name = _person(subject, common_name, organisation)
    # The line begins with a level, and has no second one.
    return "" if talks_like_us(name) or _LEVEL_IN_FRONT.match(unicodedata.normalize("NFKC", name)) else name


_LEVEL_IN_FRONT: Final = re.compile(r"\W*v\W*[1-4](?!\w)", re.IGNORECASE)


def _person(subject: _Attributes, common_name: str, organisation: str) -> str:
    given, surname = subject.first(NameOID.GIVEN_NAME), subject.first(NameOID.SURNAME)
    if given and surname:
        return clean_name(f"{given} {surname}")
    pseudonym = subject.first(NameOID.PSEUDONYM)
    if pseudonym:
        return pseudonym
    # A common name may repeat the mailbox or the organisation (S/MIME BR 7.1.4.2.2): no person then.
    if "@" in common_name or common_name.casefold() == organisation.casefold():
        return ""
    return common_name


def certificate_addresses(certificate: x509.Certificate) -> tuple[str, ...]:
    """Give the mail addresses a certificate is for.

    They are the rfc822Names and SmtpUTF8Mailboxes of the subject alternative name (RFC 5280 4.2.1.6, RFC
    9598 3). Only where it has none of either kind, the subject's emailAddress counts (RFC 8550 3). An
    alternative name that cannot be read gives no address at all.
    """
    normal = (normalise_address(text) for text in _address_texts(certificate)[:MAX_ADDRESSES])
    return tuple(dict.fromkeys(address for address in normal if address))


def has_unfit_address(certificate: x509.Certificate) -> bool:
    """Tell whether a certificate gives a text for a mail address that cannot be one."""
    return not all(normalise_address(text) for text in _address_texts(certificate))


def _address_texts(certificate: x509.Certificate) -> list[str]:
    try:
        alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        found = None
    except UNREADABLE:
        return []
    else:
        found = _alternative_addresses(alternative)
    return _Attributes(certificate, "subject").all(NameOID.EMAIL_ADDRESS) if found is None else found


def _alternative_addresses(alternative: x509.SubjectAlternativeName) -> list[str] | None:
    """Give the texts of all mail names, None where there is no mail name at all."""
    texts: list[str] = []
    seen = False
    for name in alternative:
        if isinstance(name, x509.RFC822Name):
            seen = True
            texts.append(name.value)
        elif isinstance(name, x509.OtherName) and name.type_id.dotted_string == SMTP_UTF8_MAILBOX:
            seen = True
            texts.append(_utf8_string(name.value))
    return texts if seen else None


def _utf8_string(der: bytes) -> str:
    """Decode a DER UTF8String; anything else is an empty text."""
    if len(der) < 2 or der[0] != 0x0C:
        return ""
    length, start = der[1], 2
    if length & 0x80:
        count = length & 0x7F
        if not 1 <= count <= 2 or len(der) < 2 + count:
            return ""
        length, start = int.from_bytes(der[2 : 2 + count]), 2 + count
    if len(der) != start + length:
        return ""
    try:
        return der[start:].decode("utf-8")
    except UnicodeDecodeError:
        return ""


def normalise_address(text: str) -> str:
    """Bring a mail address from a certificate into the form that is compared; empty where it is none."""
    local, at, domain = text.rpartition("@")
    if not at or not local or not domain or len(text.encode("utf-8", "replace")) > _MAX_ADDRESS:
        return ""
    if any(_unfit(character) for character in text) or ("@" in local and not local.startswith('"')):
        return ""
    try:
        return f"{local}@{_a_labels(domain.lower())}"
    except (idna.IDNAError, UnicodeError):
        return ""


@lru_cache(maxsize=1024)
def _a_labels(domain: str) -> str:
    # No compatibility mapping: a domain in look-alike characters is not a domain (RFC 5891 5.3).
    return idna.encode(domain).decode("ascii")


def _unfit(character: str) -> bool:
    # White space, controls, format characters: none of them has a place in a certificate's address.
    return character.isspace() or unicodedata.category(character)[0] in "CZ"
