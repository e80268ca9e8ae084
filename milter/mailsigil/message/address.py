"""A mail address, parsed once and compared in one way everywhere."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

import idna

from mailsigil.folding import fold

MAX_LOCAL = 64  # octets, RFC 5321 4.5.3.1.1
MAX_DOMAIN = 255  # octets, RFC 5321 4.5.3.1.2
MAX_ADDRESS = 320

# RFC 5322 3.2.3, with the non-ASCII characters of RFC 6532 3.2.
_ATEXT = r"[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~\u0080-\U0010ffff]"
DOT_ATOM = rf"{_ATEXT}+(?:\.{_ATEXT}+)*"
QUOTED_STRING = r'"(?:[^"\\]|\\.)*"'
_ADDRESS = re.compile(rf"(?:({DOT_ATOM})|({QUOTED_STRING}))@([^@\s]+)", re.DOTALL)
_PLAIN_LOCAL = re.compile(DOT_ATOM)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
# RFC 5321 4.1.2, RFC 1035 2.3.4: letters, digits and inner hyphens, 63 at most in a label.
_DOMAIN = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*")
_SPECIALS = re.compile(r"[\s@<>,;:()\[\]\"\\]")


class AddressError(ValueError):
    """The text is not one usable mail address; the message says why in a sentence."""


@dataclass(frozen=True, slots=True)
class Address:
    """A mailbox. ``local`` keeps its case and has no quoting; ``domain`` is lower-case A-labels."""

    local: str
    domain: str

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read ``local@domain``, with or without angle brackets, and nothing else (RFC 5321 4.1.2, 6531 3.3).

        Domain literals, source routes, comments and names are refused. Raises AddressError.
        """
        # The same few addresses come with each mail, three times over.
        return _remembered(text) if len(text) <= MAX_ADDRESS else cls._read(text)

    @classmethod
    def _read(cls, text: str) -> Address:
        text = text.strip(" ")
        if text.startswith("<") and text.endswith(">"):
            text = text[1:-1]
        if len(text) > 2 * MAX_ADDRESS:  # quoting may double the local part
            raise AddressError("The address is too long.")
        match = _ADDRESS.fullmatch(text)
        if match is None:
            raise AddressError("This is not an address of the form local@domain.")
        plain, quoted, domain = match.groups()
        local = _ESCAPE.sub(r"\1", quoted[1:-1]) if plain is None else plain
        _check_local(local)
        return cls(local, _clean_domain(domain))

    def __str__(self) -> str:
        """Give the address as it stands in SMTP and header fields, quoted where it has to be."""
        if _PLAIN_LOCAL.fullmatch(self.local):
            return f"{self.local}@{self.domain}"
        local = self.local.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{local}"@{self.domain}'

    @property
    def key(self) -> str:
        """The form for comparisons and look-ups: the local part folded, too (``folding``)."""
        return f"{fold(self.local)}@{self.domain}"

    def same_mailbox(self, other: Address) -> bool:
        """Tell whether both name one mailbox; letter case does not count, as in every mail system in use."""
        return self.domain == other.domain and fold(self.local) == fold(other.local)


_remembered = lru_cache(maxsize=4096)(Address._read)


def key_of(text: str) -> str:
    """Give the comparable form of an address; what cannot be read gives nothing, and equals nobody's."""
    try:
        return Address.parse(text).key
    except AddressError:
        return ""


def _check_local(local: str) -> None:
    if not local:
        raise AddressError("The local part of the address is empty.")
    if local.isascii():
        if not local.isprintable():
            raise AddressError("The local part of the address has control characters.")
    elif not _is_visible(local) or _SPECIALS.search(unicodedata.normalize("NFKC", local)):
        raise AddressError("The local part of the address has characters that mislead or cannot be seen.")
    if len(local.encode("utf-8")) > MAX_LOCAL:
        raise AddressError(f"The local part of the address is longer than {MAX_LOCAL} octets.")


def _is_visible(local: str) -> bool:
    # isprintable() leaves out the categories Cc, Cf (zero-width, bidirectional), Cs, Co, Cn, Zl, Zp, Zs.
    return local.isprintable()


def _clean_domain(domain: str) -> str:
    if not domain.isascii():
        domain = _to_a_labels(domain)
    domain = domain.lower()
    if len(domain) > MAX_DOMAIN:
        raise AddressError(f"The domain of the address is longer than {MAX_DOMAIN} octets.")
    if not _DOMAIN.fullmatch(domain):
        raise AddressError("The part after the @ is not a domain name.")
    return domain


def _to_a_labels(domain: str) -> str:
    # Compatibility characters, such as full-width letters, are shown as one name and mean another.
    # Those without ink vanish in an A-label, and stay in what a reader copies and compares.
    if not domain.isprintable() or unicodedata.normalize("NFKC", domain) != unicodedata.normalize(
        "NFC", domain
    ):
        raise AddressError("The domain of the address has characters that mislead.")
    try:
        return idna.encode(domain, uts46=True, std3_rules=True).decode("ascii")  # RFC 5891 4
    except UnicodeError as error:
        raise AddressError(
            f"The domain of the address is not a valid international name: {error}."
        ) from error
