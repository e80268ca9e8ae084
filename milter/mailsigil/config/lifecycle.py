"""The settings of ``[lifecycle]``: a certificate for everybody in the directory, by itself."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, Field

from mailsigil.config.section import Section
from mailsigil.config.sources import Secret

SQLITE: Final = "sqlite:///"
POSTGRESQL: Final = "postgresql"

_NODE: Final = re.compile(r"[A-Za-z0-9._-]{0,64}")
_EXAMPLES: Final = (
    '"sqlite:////var/lib/mailsigil/keyd/lifecycle.db" or "postgresql://mailsigil@db.bank.example/mailsigil"'
)


def _database(text: str) -> str:
    if text.startswith(SQLITE):
        if not text.removeprefix(SQLITE).startswith("/") or not text.isprintable() or "?" in text:
            raise ValueError(f'"{text}" names no file by its whole path; write one like {_EXAMPLES}')
        return text
    try:
        parts = urlsplit(text)
        usable = (
            parts.scheme == POSTGRESQL
            and parts.path.count("/") == 1
            and len(parts.path) > 1
            and parts.port != 0
        )
        secret = parts.password is not None or "password" in unquote(parts.query).lower()
    except ValueError:
        usable = secret = False
    if secret:
        # The value is not repeated: it holds the password.
        raise ValueError('passwords do not stand in this file: name a file in "password_file"')
    if not usable or not text.isprintable() or " " in text:
        raise ValueError(f'"{text}" is no database; write {_EXAMPLES}')
    return text


def _node(text: str) -> str:
    if not _NODE.fullmatch(text):
        raise ValueError(f'"{text}" is no name of a mail server; use letters, digits and ". _ -"')
    return text


NodeName = Annotated[str, AfterValidator(_node)]
DatabaseUrl = Annotated[str, AfterValidator(_database)]


class LifecycleSettings(Section):
    """A certificate for everybody in the directory, by itself: issued, renewed, replaced, revoked.

    The certificates come from the [[source]] of their mail domain that certifies keys. `mailsigil sync` shows
    what is to be done, and does it; the key agent does the same every now and then.
    """

    enabled: bool = Field(
        default=False,
        description="true: the key agent looks after the certificates of everybody in the directory.",
    )
    every_minutes: float = Field(
        default=60.0,
        ge=0,
        le=10_080,
        description="Minutes from one look at the directory to the next. 0: only `mailsigil sync` does it.",
    )
    database: DatabaseUrl = Field(
        default="sqlite:////var/lib/mailsigil/keyd/lifecycle.db",
        description='Where is kept what was issued, to whom and why: "sqlite:///" and the path of a file on'
        ' this machine, or "postgresql://USER@HOST/DATABASE" for several mail servers. More of PostgreSQL\'s'
        ' parameters may follow, such as "?sslmode=verify-full".',
    )
    password_file: Secret = Field(
        default="", description='File with the password for PostgreSQL, or "credential:NAME".'
    )
    share_keys_with: Secret = Field(
        default="",
        description="File with 32 random octets in base64, the same on all mail servers of one database:"
        " private keys are kept in it, encrypted with this secret, so that each server can sign. Empty: a key"
        " stays on the server that made it.",
    )
    node: NodeName = Field(
        default="",
        description="Name of this mail server in the database. Empty: its host name.",
    )
    aliases: bool = Field(
        default=False,
        description="true: a certificate for each further address of a person, too. false: such an address"
        " gets one with its first mail.",
    )
    jitter_days: float = Field(
        default=7.0,
        ge=0,
        le=365,
        description='Days by which renewals are spread out, before the "renew_days" of the source: an address'
        " keeps its place.",
    )
    keep_keys: bool = Field(
        default=False, description="true: renew with the same key. false: a new key each."
    )
    overlap_days: float = Field(
        default=7.0,
        ge=0,
        le=365,
        description="Days that the old certificate stays good after one with another name or title has taken"
        " its place; then it is revoked. One that was renewed as it is runs out by itself.",
    )
    on_departure: Literal["revoke", "hold"] = Field(
        default="revoke",
        description='Who has left the directory or is disabled: "revoke" the certificate for good, or "hold"'
        " it until the person is back, where the authority can.",
    )
    on_lapse: Literal["revoke", "hold"] = Field(
        default="hold",
        description='The organisation\'s validation has lapsed: "hold" V3 and V4 certificates until it is'
        ' renewed, where the authority can, or "revoke" them. Nobody signs with them in either case.',
    )
    max_revoked_percent: float = Field(
        default=5.0,
        ge=0,
        le=100,
        description="Of all good certificates, so many in a hundred may be taken from people by one run;"
        " beyond that a directory may have gone wrong, and a person is asked.",
    )
    max_revoked: int = Field(
        default=5, ge=0, le=1_000_000, description="So many may be taken in any case, in small houses."
    )
    per_second: float = Field(
        default=200.0, gt=0, le=10_000, description="Requests a second that an authority gets, at most."
    )
    at_once: int = Field(default=4, ge=1, le=64, description="Requests to authorities that wait at a time.")
    lease_minutes: float = Field(
        default=10.0,
        ge=2,
        le=1440,
        description="Minutes after which another mail server takes over the people whom one that died was at"
        " work on. A server that starts again takes over its own at once.",
    )
    provision_seconds: float = Field(
        default=3.0,
        gt=0,
        le=60,
        description="Seconds that the first mail of a person waits for a certificate. After that it is signed"
        " or not as the policy says.",
    )
    clock_days: float = Field(
        default=45.0,
        gt=0,
        le=3650,
        description="If the last run is longer ago, the clock is doubted, and a person is asked.",
    )
