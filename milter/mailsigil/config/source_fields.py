"""The types of values that stand in ``[[source]]``."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator

CREDENTIAL: Final = "credential:"
"""Before the name of a systemd credential, where else the path of a file stands."""

_SECRET: Final = re.compile(r"credential:[A-Za-z0-9_.@-]{1,200}|/[^\0]*")
_MAILBOX: Final = re.compile(r"[a-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}")


def _secret(text: str) -> str:
    if text and not _SECRET.fullmatch(text):
        # The value is not repeated: it may be the secret itself.
        raise ValueError(
            'secrets do not stand in this file: give the path of a file, or "credential:NAME" for a systemd'
            " credential"
        )
    return text


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("https", "http") and parts.hostname and (parts.port or 1)
    except ValueError:
        usable = False
    if not usable or not text.isprintable() or " " in text or parts.username or parts.query or parts.fragment:
        raise ValueError(f'"{text}" is no URL; write one like "https://ca.bank.example/path"')
    return text.rstrip("/")


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError(f'"{text}" is no name of a source; use letters, digits, spaces and ". _ -"')
    return text


def _mailbox(text: str) -> str:
    if not _MAILBOX.fullmatch(text):
        raise ValueError(f'"{text}" is no local part of an address in lower case')
    return text


Secret = Annotated[str, AfterValidator(_secret)]
Url = Annotated[str, AfterValidator(_url)]
SourceName = Annotated[str, AfterValidator(_name)]
Mailbox = Annotated[str, AfterValidator(_mailbox)]

KeyKindName = Literal["p256", "p384", "rsa2048", "rsa3072", "rsa4096", "ed25519"]
